"""Links by hand (linking.md, "By hand")."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from maillinkd.directory.item import LINKABLE_KINDS, SLOT_KINDS, ItemKind, ItemRef
from maillinkd.ingest.desk import Desk, File
from maillinkd.ingest.office import Office
from maillinkd.linker.decision import Origin, Reason, Slot, Trigger
from maillinkd.store import batches, items, journal, mailroom
from maillinkd.store.database import Connection
from maillinkd.store.links import Act


class Refused(Exception):
    """A change that cannot be made, with the reason in a sentence. Nothing has changed."""


class NotPermitted(Refused):
    """L17: this user may not change this thread."""


async def link(
    connection: Connection, office: Office, user: str, threads: Sequence[int], ref: ItemRef, *, instance: str
) -> list[dict[str, Any]]:
    """Links threads (by number) to an item (L18, L19): all of them, or none. Returns the decision lines.

    Raises NotPermitted or Refused, naming each thread that is in the way; see also `chosen`.
    """
    item = await chosen(connection, ref)
    return await change(connection, office, user, "link", dict.fromkeys(threads, item), instance=instance)


async def unlink(
    connection: Connection, office: Office, user: str, threads: Sequence[int], ref: ItemRef, *, instance: str
) -> list[dict[str, Any]]:
    """Takes the link to an item from threads (by number): from all of them, or none. Returns the decision lines.

    Raises NotPermitted or Refused, naming each thread that is in the way, such as one that is not linked to the item.
    """
    known = await items.read(connection, [ref])
    item = await _as_deal(connection, known[ref].ref if ref in known else ref)
    return await change(connection, office, user, "unlink", dict.fromkeys(threads, item), instance=instance)


async def chosen(connection: Connection, ref: ItemRef) -> ItemRef:
    """The item that a hand means (L18): closed or open, old or new, but not deleted; a converted lead means its deal.

    Raises Refused for one that is unknown or deleted, or that nothing is linked to.
    """
    if ref.kind not in LINKABLE_KINDS:
        raise Refused(f"nothing can be linked to {ref.kind}s, only to {', '.join(sorted(LINKABLE_KINDS))}s")
    known = (await items.read(connection, [ref])).get(ref)
    if known is None:
        raise Refused(f"there is no {ref}: import it first (maillinkd import items)")
    meant = await _as_deal(connection, known.ref)
    if meant == known.ref and known.deleted:
        raise Refused(f"{ref} is deleted")
    return meant


async def _as_deal(connection: Connection, ref: ItemRef) -> ItemRef:
    if ref.kind is not ItemKind.LEAD:
        return ref
    return (await items.converted(connection, [ref.key])).get(ref.key, ref)


async def change(
    connection: Connection,
    office: Office,
    user: str,
    command: str,
    choices: Mapping[int, ItemRef],
    *,
    batch: int | None = None,
    instance: str,
) -> list[dict[str, Any]]:
    """Links threads (by number) to these items, or with the command `unlink` takes the links away: all, or none.

    `batch` goes on with a batch; else `command` opens one. Returns the decision lines. Raises NotPermitted, Refused.
    """
    by_scope = await permitted(connection, office, user, choices)
    if batch is None:
        batch = await journal.open_batch(connection, command, user, datetime.now(UTC))
    lines = []
    refusals: list[str] = []
    for (owner, channel), numbers in sorted(by_scope.items()):
        scope = await mailroom.lock_scope(connection, owner, channel)
        desk = Desk(connection, scope, office, instance=instance, actor=user)
        labels = await batches.labels_of(connection, numbers)  # asked again: none can be merged from now on
        meant = {choices[number] for number in numbers}
        slots = {item for item in meant if item.kind in SLOT_KINDS}
        await desk.open(set(labels.values()), named=slots, refs=meant - slots)
        files = []
        for label, item in {labels[number]: choices[number] for number in numbers}.items():
            file = desk.files[label]
            refusal = (_unlink if command == "unlink" else _link)(file, item)
            if refusal is not None:
                refusals.append(refusal)
                continue
            desk.decide(file)
            file.trigger = Trigger.MANUAL
            files.append(file)
        lines += await desk.put_back(files, batch=batch)
    if refusals:
        raise Refused("\n".join(refusals))
    return lines


async def permitted(
    connection: Connection, office: Office, user: str, threads: Collection[int]
) -> dict[tuple[str, str], list[int]]:
    """L17: the threads by owner and channel. Raises NotPermitted, or Refused for unknown ones."""
    if user not in office.settings.users:
        raise NotPermitted(f"there is no user {user!r} in the configuration")
    labels = await batches.labels_of(connection, threads)
    scopes = await mailroom.scopes_of(connection, set(labels.values()))
    found = defaultdict[tuple[str, str], list[int]](list)
    for number in threads:
        if number in labels:
            found[scopes[labels[number]]].append(number)
    foreign = {number: owner for (owner, _), some in found.items() for number in some}
    foreign = {number: owner for number, owner in foreign.items() if not office.may_change(user, owner)}
    if foreign:
        raise NotPermitted(
            "\n".join(f"{user} may not change thread {n}: it is {owner}'s" for n, owner in sorted(foreign.items()))
        )
    if unknown := [number for number in threads if number not in labels]:
        raise Refused("\n".join(f"there is no thread {number}" for number in unknown))
    return found


def _link(file: File, item: ItemRef) -> str | None:
    state = file.state
    if item.kind in SLOT_KINDS:
        slot = Slot(item, Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        file.state = state._replace(slot=slot, slot_lost=False)
        return None
    acts = (*(act for act in state.acts if act.ref != item), Act(item, 0, Origin.HAND))
    tombstones = tuple(act for act in state.tombstones if act.ref != item)
    file.state = state._replace(acts=acts, tombstones=tombstones)
    return None


def _unlink(file: File, item: ItemRef) -> str | None:
    """L18: what is not linked cannot be unlinked, and leaves no tombstone. Returns why it is refused."""
    state = file.state
    if item.kind in SLOT_KINDS:
        if state.slot.item != item:
            return f"thread {state.number} is not linked to {item}"
        file.state = state._replace(slot=Slot(origin=Origin.HAND), slot_lost=False)
        return None
    if item not in state.links:
        return f"thread {state.number} is not linked to {item}"
    acts = tuple(act for act in state.acts if act.ref != item)
    tombstones = (*state.tombstones, Act(item, 0, Origin.HAND))
    file.state = state._replace(acts=acts, tombstones=tombstones)
    return None

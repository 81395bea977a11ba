"""Links by hand (linking.md, "By hand")."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from maillinkd.directory.item import LINKABLE_KINDS, SLOT_KINDS, ItemKind, ItemRef
from maillinkd.ingest.desk import Desk, File
from maillinkd.ingest.office import Office
from maillinkd.linker.decision import Origin, Reason, Slot, Trigger
from maillinkd.store import items, journal, links, mailroom
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

    Raises NotPermitted, or Refused for an unknown thread or item, a deleted item, or one that nothing is linked to.
    """
    item = await _chosen(connection, ref)
    return await _change(connection, office, user, "link", threads, item, instance)


async def unlink(
    connection: Connection, office: Office, user: str, threads: Sequence[int], ref: ItemRef, *, instance: str
) -> list[dict[str, Any]]:
    """Takes the link to an item from threads (by number): from all of them, or none. Returns the decision lines.

    Raises NotPermitted, or Refused for an unknown thread, or one that is not linked to the item.
    """
    known = await items.read(connection, [ref])
    item = await _as_deal(connection, known[ref].ref if ref in known else ref)
    return await _change(connection, office, user, "unlink", threads, item, instance)


async def _chosen(connection: Connection, ref: ItemRef) -> ItemRef:
    """L18: closed or open, old or new; not a deleted one; a converted lead means its deal."""
    if ref.kind not in LINKABLE_KINDS:
        raise Refused(f"nothing can be linked to {ref.kind}s, only to {', '.join(sorted(LINKABLE_KINDS))}s")
    known = (await items.read(connection, [ref])).get(ref)
    if known is None:
        raise Refused(f"there is no {ref}: import it first (maillinkd import items)")
    chosen = await _as_deal(connection, known.ref)
    if chosen == known.ref and known.deleted:
        raise Refused(f"{ref} is deleted")
    return chosen


async def _as_deal(connection: Connection, ref: ItemRef) -> ItemRef:
    if ref.kind is not ItemKind.LEAD:
        return ref
    return (await items.converted(connection, [ref.key])).get(ref.key, ref)


async def _change(
    connection: Connection,
    office: Office,
    user: str,
    command: str,
    threads: Sequence[int],
    item: ItemRef,
    instance: str,
) -> list[dict[str, Any]]:
    if user not in office.settings.users:
        raise NotPermitted(f"there is no user {user!r} in the configuration")
    by_scope = defaultdict[tuple[str, str], list[int]](list)
    for number in dict.fromkeys(threads):
        label = await links.label_of(connection, number)
        if label is None:
            raise Refused(f"there is no thread {number}")
        owner, channel = (await mailroom.scopes_of(connection, [label]))[label]
        if not office.may_change(user, owner):
            raise NotPermitted(f"{user} may not change thread {number}: it is {owner}'s")
        by_scope[owner, channel].append(label)
    batch = await journal.open_batch(connection, command, user, datetime.now(UTC))
    lines = []
    for (owner, channel), labels in sorted(by_scope.items()):
        scope = await mailroom.lock_scope(connection, owner, channel)
        desk = Desk(connection, scope, office, instance=instance, actor=user)
        is_slot = item.kind in SLOT_KINDS
        await desk.open(labels, named=[item] if is_slot else (), refs=() if is_slot else [item])
        files = [desk.files[label] for label in dict.fromkeys(labels)]
        for file in files:
            (_link if command == "link" else _unlink)(file, item)
            desk.decide(file)
            file.trigger = Trigger.MANUAL
        lines += await desk.put_back(files, batch=batch)
    return lines


def _link(file: File, item: ItemRef) -> None:
    state = file.state
    if item.kind in SLOT_KINDS:
        slot = Slot(item, Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        file.state = replace(state, slot=slot, slot_lost=False)
        return
    acts = (*(act for act in state.acts if act.ref != item), Act(item, 0, Origin.HAND))
    tombstones = tuple(act for act in state.tombstones if act.ref != item)
    file.state = replace(state, acts=acts, tombstones=tombstones)


def _unlink(file: File, item: ItemRef) -> None:
    """L18: what is not linked cannot be unlinked, and leaves no tombstone."""
    state = file.state
    if item.kind in SLOT_KINDS:
        if state.slot.item != item:
            raise Refused(f"thread {state.number} is not linked to {item}")
        file.state = replace(state, slot=Slot(origin=Origin.HAND), slot_lost=False)
        return
    if item not in state.links:
        raise Refused(f"thread {state.number} is not linked to {item}")
    acts = tuple(act for act in state.acts if act.ref != item)
    tombstones = (*state.tombstones, Act(item, 0, Origin.HAND))
    file.state = replace(state, acts=acts, tombstones=tombstones)

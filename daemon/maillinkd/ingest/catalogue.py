"""Changes of the directory, and what follows from them for threads: L6, L10, and nothing else."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.directory.lines import Change
from maillinkd.ingest.desk import Desk, File
from maillinkd.ingest.office import Office
from maillinkd.linker.decision import Decision, Reason, Trigger
from maillinkd.linker.rules import follow_directory, hand_over
from maillinkd.store import items, links, mailroom
from maillinkd.store.database import Connection, lock_directory


async def apply(
    connection: Connection, office: Office, changes: Sequence[Change], now: datetime, *, instance: str
) -> tuple[list[Item], list[dict[str, Any]]]:
    """Changes items within the transaction of `connection`, and lets their threads follow.

    Returns the items as they are now and the decision lines.
    """
    await lock_directory(connection, alone=True)
    before = await items.read(connection, {change.ref for change in changes})
    by_key = {(ref.kind, ref.key): item for ref, item in before.items()}
    after: dict[tuple[ItemKind, str], Item] = {}
    for change in changes:
        key = (change.ref.kind, change.ref.key)
        after[key] = change.apply(after.get(key) or by_key.get(key), now)
    changed = [item for key, item in after.items() if item != by_key.get(key)]
    known = [by_key[key] for item in changed if (key := (item.ref.kind, item.ref.key)) in by_key]
    await items.write(connection, changed, known)
    threads = await _threads_to_follow(connection, office, changed, by_key)
    lines = await follow(connection, office, threads, instance=instance)
    return list(after.values()), lines


async def _threads_to_follow(
    connection: Connection, office: Office, changed: Sequence[Item], before: dict[tuple[ItemKind, str], Item]
) -> set[int]:
    """The threads (labels) of changed persons and organizations, and of leads that were converted."""
    linked, organizations = set[ItemRef](), set[ItemRef]()
    addresses, leads = set[str](), set[str]()
    for item in changed:  # to what is new no thread is linked yet
        known = before.get((item.ref.kind, item.ref.key))
        match item.ref.kind:
            case ItemKind.PERSON:
                if known is None:
                    addresses |= set(item.addresses)
                elif _matters(known) != _matters(item):
                    linked.add(item.ref)
                    addresses |= {*item.addresses, *known.addresses}
            case ItemKind.ORGANIZATION:
                if known is None:
                    organizations.add(item.ref)
                elif known.deleted != item.deleted:
                    organizations.add(item.ref)
                    linked.add(item.ref)
            case ItemKind.LEAD:
                leads.add(item.ref.key)
            case ItemKind.DEAL if item.converted_from:
                leads.add(item.converted_from.lower())
    linked |= await items.members(connection, [ref.key for ref in organizations])
    found = await links.threads_with(connection, addresses.union(map(office.compared, addresses)))
    found |= await links.threads_linked(connection, linked)
    deals = await items.converted(connection, leads)
    return found | await links.threads_linked(connection, [ItemRef(ItemKind.LEAD, key) for key in deals])


def _matters(person: Item) -> tuple[object, ...]:
    """What of a person L3 to L6 look at."""
    organization = person.organization and person.organization.lower()
    return set(person.addresses), organization, person.deleted


async def follow(
    connection: Connection, office: Office, threads: Collection[int], *, instance: str
) -> list[dict[str, Any]]:
    """L6, L10: brings the links of these threads (labels) in line with the directory. Returns the decision lines.

    Messages that an import has placed wait on for its end, when their threads are decided under L26.
    """
    lines = []
    for (owner, channel), labels in await mailroom.by_scope(connection, threads):
        scope = await mailroom.lock_scope(connection, owner, channel)
        desk = Desk(connection, scope, office, instance=instance)
        deals = await _deals_for(connection, labels)
        await desk.open(labels, named=deals.values())
        followed = [desk.files[label] for label in sorted(labels) if _follow(desk, desk.files[label], deals)]
        lines += await desk.put_back(followed, decides_messages=False)
    return lines


async def _deals_for(connection: Connection, labels: Collection[int]) -> dict[str, ItemRef]:
    states = await links.states(connection, labels)
    slots = [state.slot.item for state in states.values()]
    return await items.converted(connection, {ref.key for ref in slots if ref and ref.kind is ItemKind.LEAD})


def _follow(desk: Desk, file: File, deals: dict[str, ItemRef]) -> bool:
    if file.state.reason is None:  # placed by an import, and decided when that ends
        return False
    slot = file.state.slot
    deal = deals.get(slot.item.key) if slot.item and slot.item.kind is ItemKind.LEAD else None
    if deal is None:
        return desk.follow_directory(file)
    file.state = file.state._replace(slot=hand_over(slot, deal))
    snapshot = desk.look(file)
    reason = Reason.CONVERTED_LEAD_FOLLOWED
    desk.settle(file, snapshot, Decision(file.state.slot, reason, follow_directory(snapshot, reason)))
    file.trigger = Trigger.DIRECTORY
    return True

"""Older threads of an item's person that row 13 left empty, for linking in one go (linking.md L25)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maillinkd.directory.item import SLOT_KINDS, ItemKind, ItemRef
from maillinkd.ingest import hand
from maillinkd.ingest.desk import Desk
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.office import Office
from maillinkd.linker.directory import Directory
from maillinkd.linker.rules import company_of
from maillinkd.linker.snapshot import SlotItem
from maillinkd.store import batches, items, journal, mailroom, waiting
from maillinkd.store.database import Connection, chunks
from maillinkd.store.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Proposal:
    """A thread that might be linked to an item which came later."""

    item: ItemRef
    thread: int
    label: int


async def of_item(connection: Connection, office: Office, ref: ItemRef, owner: str | None = None) -> list[Proposal]:
    """The threads, oldest first, that might be linked to this item, which may be closed; a converted lead means its
    deal.

    Raises Refused for an item that is unknown or deleted, and for one that is no deal, lead or project.
    """
    item = await hand.chosen(connection, ref)
    if item.kind not in SLOT_KINDS:
        raise Refused(f"threads are proposed for deals, leads and projects: {item} is none")
    directory = await items.directory(connection, office.policy, (), (), [item])
    person = directory.items[item].person
    policy = office.policy
    broad = policy.include_participants or policy.include_organization_items or policy.single_contact
    found = await waiting.threads(
        connection, owner=owner, item=None if broad else item, person=None if broad else person
    )
    return [each for each in await _proposals(connection, office, found, item) if each.item == item]


async def of_all(connection: Connection, office: Office, owner: str | None = None) -> list[Proposal]:
    """For every open item the threads that might be linked to it, by item, oldest first."""
    found = await _proposals(connection, office, await waiting.threads(connection, owner=owner))
    return sorted(found, key=lambda each: each.item)


async def _proposals(
    connection: Connection, office: Office, threads: Sequence[Waiting], item: ItemRef | None = None
) -> list[Proposal]:
    """With `item` it is proposed although it may be closed."""
    if office.policy.single_contact:
        threads = await _with_all_persons(connection, office, threads)
    people = {ref for each in threads for ref in (*each.persons, *each.organizations)}
    candidates = {ref for each in threads for ref in each.candidates} | ({item} if item else set())
    leads = {ref.key for ref in candidates if ref.kind is ItemKind.LEAD}
    deals = await items.converted(connection, leads) if leads else {}
    directory = await items.directory(connection, office.policy, (), people, candidates | set(deals.values()))
    return [
        Proposal(ref, each.number, each.label)
        for each in threads
        for ref, known in _items_of(directory, office, each, deals).items()
        if known.open or ref == item
    ]


async def _with_all_persons(connection: Connection, office: Office, threads: Sequence[Waiting]) -> list[Waiting]:
    """With those persons too that take part and are not linked (L5, `single_contact`): their items count as well."""
    scopes = {(scope.owner, scope.channel): scope for scope in await journal.scopes(connection)}
    persons: dict[int, frozenset[ItemRef]] = {}
    for place, labels in await mailroom.by_scope(connection, [each.label for each in threads]):
        for some in chunks(labels):
            desk = Desk(connection, scopes[place], office, instance="")
            await desk.open(some)
            persons |= {file.label: company_of(desk.look(file)).persons for file in desk.files.values()}
    return [replace(each, persons=tuple(sorted({*each.persons, *persons[each.label]}))) for each in threads]


def _items_of(
    directory: Directory, office: Office, thread: Waiting, deals: Mapping[str, ItemRef]
) -> dict[ItemRef, SlotItem]:
    """What row 13 had listed, and what the thread's people have got since it started (L7)."""
    refs = {ref for person in thread.persons for ref in directory.by_person.get(person, ())}
    if office.policy.include_organization_items:
        refs |= {ref for each in thread.organizations for ref in directory.by_organization.get(each, ())}
    newer = {ref for ref in refs if directory.items[ref].added_at > thread.started_at}
    listed = {deals.get(ref.key, ref) if ref.kind is ItemKind.LEAD else ref for ref in thread.candidates}
    return {ref: directory.items[ref] for ref in sorted(newer | listed) if ref in directory.items}


def unambiguous(proposals: Sequence[Proposal]) -> tuple[dict[int, ItemRef], dict[int, list[ItemRef]]]:
    """The threads (numbers) that are proposed for one item alone, with it; and the others, with all of theirs."""
    found = defaultdict[int, list[ItemRef]](list)
    for each in proposals:
        found[each.thread].append(each.item)
    clear = {thread: refs[0] for thread, refs in found.items() if len(refs) == 1}
    return clear, {thread: refs for thread, refs in found.items() if len(refs) > 1}


async def link(
    connection: Connection,
    office: Office,
    user: str,
    choices: Mapping[int, ItemRef],
    batch: int | None,
    *,
    instance: str,
) -> list[dict[str, Any]]:
    """Links threads (by number) to the items that were proposed, by hand and as one batch; those that wait no longer
    are left. Returns the decision lines. Raises NotPermitted, or Refused."""
    labels = await batches.labels_of(connection, choices)
    waits = {each.label for each in await waiting.threads(connection, among=set(labels.values()))}
    still = {number: item for number, item in choices.items() if labels.get(number) in waits}
    if not still:
        return []
    return await hand.change(connection, office, user, "propose", still, batch=batch, instance=instance)

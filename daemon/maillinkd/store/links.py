"""What threads are linked to, what a hand unlinked, and where each thread stands."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Links, Origin, Reason, Slot
from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.bulk import Delete, Insert
from maillinkd.store.database import CHUNK, chunks
from maillinkd.store.schema import item, link, message_ref, participant, thread, thread_alias, tombstone
from maillinkd.store.schema import message as messages


class Act(NamedTuple):
    """A link to a person or organization, or its tombstone, with the decision that made it."""

    ref: ItemRef
    decision: int
    origin: Origin


class ThreadState(NamedTuple):
    """Where a thread stands: its row, its slot and its other links."""

    id: int
    number: int
    scope: int
    started_at: datetime
    last_message_at: datetime
    message_count: int
    id_count: int
    subject: str
    reason: Reason | None
    candidates: tuple[str, ...]
    flags: frozenset[str]
    slot_lost: bool
    decision: int | None
    slot: Slot = EMPTY
    acts: tuple[Act, ...] = ()
    tombstones: tuple[Act, ...] = ()

    @property
    def links(self) -> frozenset[ItemRef]:
        return frozenset(act.ref for act in self.acts)

    def of_kind(self, kind: ItemKind) -> frozenset[ItemRef]:
        return frozenset(act.ref for act in self.acts if act.ref.kind is kind)

    def by_hand(self, kind: ItemKind) -> frozenset[ItemRef]:
        return frozenset(act.ref for act in self.acts if act.ref.kind is kind and act.origin is Origin.HAND)


async def states(connection: AsyncConnection, threads: Collection[int]) -> dict[int, ThreadState]:
    """The threads of these labels as they stand."""
    if not threads:
        return {}
    rows: dict[int, Any] = {}
    acts = defaultdict[int, list[Act]](list)
    slots: dict[int, Slot] = {}
    dead = defaultdict[int, list[Act]](list)
    for some in chunks(sorted(threads)):
        for row in await connection.execute(select(thread).where(thread.c.id.in_(some))):
            rows[row.id] = row
        query = (
            select(link, item.c.id)
            .outerjoin(item, and_(item.c.kind == link.c.kind, item.c.key == link.c.key))
            .where(link.c.thread.in_(some))
        )
        for row in await connection.execute(query):
            ref, origin = ItemRef(ItemKind(row.kind), row.id or row.key), Origin(row.origin)
            if row.slot:
                added_at = None if row.added_at is None else moment(row.added_at)
                slots[row.thread] = Slot(ref, origin, added_at, row.decision, Reason(row.reason))
            else:
                acts[row.thread].append(Act(ref, row.decision, origin))
        query = (
            select(tombstone, item.c.id)
            .outerjoin(item, and_(item.c.kind == tombstone.c.kind, item.c.key == tombstone.c.key))
            .where(tombstone.c.thread.in_(some))
        )
        for row in await connection.execute(query):
            ref = ItemRef(ItemKind(row.kind), row.id or row.key)
            dead[row.thread].append(Act(ref, row.decision, Origin.HAND))
    return {
        label: _state(row, slots.get(label), tuple(acts[label]), tuple(dead[label])) for label, row in rows.items()
    }


def _state(row: Any, slot: Slot | None, acts: tuple[Act, ...], dead: tuple[Act, ...]) -> ThreadState:
    if slot is None:
        slot = Slot(origin=Origin.HAND) if row.unlinked_by_hand else EMPTY
    return ThreadState(
        id=row.id,
        number=row.number or row.id,
        scope=row.scope,
        started_at=moment(row.started_at),
        last_message_at=moment(row.last_message_at),
        message_count=row.message_count,
        id_count=row.id_count,
        subject=row.subject,
        reason=Reason(row.reason) if row.reason else None,
        candidates=tuple(json.loads(row.candidates)),
        flags=frozenset(json.loads(row.flags)),
        slot_lost=row.slot_lost,
        decision=row.decision,
        slot=slot,
        acts=acts,
        tombstones=dead,
    )


class Settled(NamedTuple):
    """What is written of a thread once it is decided."""

    state: ThreadState
    """As it stands now; a slot, acts and tombstones without a decision get the number of this one."""
    decision: int
    """0 for a thread that is placed and not yet decided."""
    is_new: bool
    """It has no links on the shelf yet."""
    keeps_decision: bool = False
    """This one is no slot decision: the last that was stays the one that the thread shows."""


async def write(connection: AsyncConnection, settled: Sequence[Settled]) -> None:
    """Writes the threads' rows, links and tombstones. A second deal, lead or project breaks a unique constraint."""
    if not settled:
        return
    await _THREAD(connection, [_thread_row(each) for each in settled])
    await forget_links(connection, sorted(each.state.id for each in settled if not each.is_new))
    await _LINK(connection, [row for each in settled for row in _link_rows(each)])
    await _TOMBSTONE(
        connection,
        [
            (each.state.id, act.ref.kind, act.ref.key, act.decision or each.decision)
            for each in settled
            for act in each.state.tombstones
        ],
    )


_THREAD_COLUMNS = (
    "started_at",
    "last_message_at",
    "message_count",
    "id_count",
    "subject",
    "reason",
    "candidates",
    "flags",
    "slot_lost",
    "unlinked_by_hand",
    "decision",
)
_THREAD = Insert(thread, ("id", "scope", *_THREAD_COLUMNS), key=("id",), update=_THREAD_COLUMNS)


def _thread_row(each: Settled) -> tuple[Any, ...]:
    """In the order of `_THREAD`."""
    state = each.state
    return (
        state.id,
        state.scope,
        micros(state.started_at),
        micros(state.last_message_at),
        state.message_count,
        state.id_count,
        state.subject,
        state.reason,
        json.dumps(state.candidates) if state.candidates else "[]",
        json.dumps(sorted(state.flags)) if state.flags else "[]",
        state.slot_lost,
        state.slot.unlinked_by_hand,
        state.decision if each.keeps_decision else each.decision or None,
    )


_LINK = Insert(link, ("thread", "kind", "key", "slot", "origin", "added_at", "reason", "decision"))
_TOMBSTONE = Insert(tombstone, ("thread", "kind", "key", "decision"))


def _link_rows(each: Settled) -> list[tuple[Any, ...]]:
    """In the order of `_LINK`."""
    state, slot = each.state, each.state.slot
    rows: list[tuple[Any, ...]] = [
        (state.id, act.ref.kind, act.ref.key, None, act.origin, None, state.reason, act.decision or each.decision)
        for act in state.acts
    ]
    if slot.item is not None:
        added_at = slot.added_at and micros(slot.added_at)
        made_by = slot.decision or each.decision
        rows.append((state.id, slot.item.kind, slot.item.key, 1, slot.origin, added_at, slot.reason, made_by))
    return rows


async def forget_links(connection: AsyncConnection, threads: Collection[int]) -> None:
    """Takes the links and tombstones of threads (labels): they are written anew, or another thread has them now."""
    await _LINKS_OF(connection, threads)
    await _TOMBSTONES_OF(connection, threads)


_LINKS_OF = Delete(link, key="thread")
_TOMBSTONES_OF = Delete(tombstone, key="thread")


def acts_after(state: ThreadState, links: Links) -> tuple[Act, ...]:
    """The links to persons and organizations that a decision leaves; those that were there keep their decision."""
    if not (state.acts or links.persons or links.organizations):
        return ()
    before = {act.ref: act for act in state.acts}
    wanted = sorted(links.persons | links.organizations)
    by_hand = [act for act in state.acts if act.origin is Origin.HAND and act.ref not in wanted]
    # a hand's link to what is deleted now is kept, unseen, for the day when it is there again
    return tuple(before.get(ref) or Act(ref, 0, Origin.AUTO) for ref in wanted) + tuple(by_hand)


async def threads_with(connection: AsyncConnection, addresses: Collection[str]) -> set[int]:
    """Threads (labels) in which one of these addresses takes part, with or without a tag."""
    found = set[int]()
    for some in chunks(sorted(addresses)):
        query = (
            select(message_ref.c.thread)
            .join(messages, messages.c.node == message_ref.c.node)
            .join(participant, participant.c.message == messages.c.id)
            .where(participant.c.address.in_(some))
            .distinct()
        )
        found |= set((await connection.execute(query)).scalars())
    return found


async def threads_linked(connection: AsyncConnection, refs: Collection[ItemRef]) -> set[int]:
    """Threads (labels) that are linked to one of these items, or were unlinked from it by a hand."""
    found = set[int]()
    by_kind = defaultdict[ItemKind, list[str]](list)
    for ref in refs:
        by_kind[ref.kind].append(ref.key)
    for kind, keys in by_kind.items():
        for some in chunks(sorted(keys)):
            for table in (link, tombstone):
                query = select(table.c.thread).where(table.c.kind == kind, table.c.key.in_(some))
                found |= set((await connection.execute(query)).scalars())
    return found


async def label_of(connection: AsyncConnection, number: int) -> int | None:
    """The label of the thread that people call by this number, or called so before it was merged."""
    return (await labels_of(connection, {number})).get(number)


async def labels_of(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, int]:
    """`label_of` for many; numbers that no thread is called by are absent."""
    found: dict[int, int] = {}
    for some in chunks(sorted(numbers)):
        for query in (
            select(thread_alias.c.number, thread_alias.c.thread).where(thread_alias.c.number.in_(some)),
            select(thread.c.id, thread.c.id).where(thread.c.id.in_(some), thread.c.number.is_(None)),
            select(thread.c.number, thread.c.id).where(thread.c.number.in_(some)),
        ):
            found.update((row[0], row[1]) for row in await connection.execute(query))
    return found


async def labels(connection: AsyncConnection, *, since: datetime | None, among: set[int] | None) -> list[int]:
    """Threads (labels), oldest first: with a message not older than `since`, and among those given."""
    query = select(thread.c.id).order_by(thread.c.id)
    if since is not None:
        query = query.where(thread.c.last_message_at >= micros(since))
    found = (await connection.execute(query)).scalars()
    return [label for label in found if among is None or label in among]


async def labels_by_scope(
    connection: AsyncConnection, *, since: datetime | None
) -> AsyncIterator[Sequence[tuple[int, int]]]:
    """Label and scope of every thread, oldest first, some thousands at once; `since`: with a message not older."""
    query = select(thread.c.id, thread.c.scope).order_by(thread.c.id)
    if since is not None:
        query = query.where(thread.c.last_message_at >= micros(since))
    async for some in (await connection.stream(query)).partitions(CHUNK):
        yield [(label, scope) for label, scope in some]

"""What threads are linked to, what a hand unlinked, and where each thread stands."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Links, Origin, Reason, Slot
from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.database import chunks
from maillinkd.store.schema import item, link, message_ref, participant, thread, thread_alias, tombstone
from maillinkd.store.schema import message as messages


@dataclass(frozen=True, slots=True)
class Act:
    """A link to a person or organization, or its tombstone, with the decision that made it."""

    ref: ItemRef
    decision: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class ThreadState:
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


@dataclass(frozen=True, slots=True)
class Settled:
    """What is written of a thread once it is decided."""

    state: ThreadState
    """As it stands now; a slot, acts and tombstones without a decision get the number of this one."""
    decision: int
    """0 for a thread that is placed and not yet decided."""
    is_new: bool
    """It has no links on the shelf yet."""


async def write(connection: AsyncConnection, settled: Sequence[Settled]) -> None:
    """Writes the threads' rows, links and tombstones. A second deal, lead or project breaks a unique constraint."""
    if not settled:
        return
    old = [each.state.id for each in settled if not each.is_new]
    for some in chunks(sorted(old)):
        await connection.execute(delete(link).where(link.c.thread.in_(some)))
        await connection.execute(delete(tombstone).where(tombstone.c.thread.in_(some)))
    links = [row for each in settled for row in _link_rows(each)]
    if links:
        await connection.execute(insert(link), links)
    dead = [
        {
            "thread": each.state.id,
            "kind": str(act.ref.kind),
            "key": act.ref.key,
            "decision": act.decision or each.decision,
        }
        for each in settled
        for act in each.state.tombstones
    ]
    if dead:
        await connection.execute(insert(tombstone), dead)
    await connection.execute(_UPDATE, [_thread_row(each) for each in settled])


_UPDATE = (
    update(thread)
    .where(thread.c.id == bindparam("label"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
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
        }
    )
)


def _thread_row(each: Settled) -> dict[str, Any]:
    state = each.state
    return {
        "label": state.id,
        "new_started_at": micros(state.started_at),
        "new_last_message_at": micros(state.last_message_at),
        "new_message_count": state.message_count,
        "new_id_count": state.id_count,
        "new_subject": state.subject,
        "new_reason": state.reason and str(state.reason),
        "new_candidates": json.dumps(state.candidates) if state.candidates else "[]",
        "new_flags": json.dumps(sorted(state.flags)) if state.flags else "[]",
        "new_slot_lost": state.slot_lost,
        "new_unlinked_by_hand": state.slot.unlinked_by_hand,
        "new_decision": state.decision or each.decision or None,
    }


def _link_rows(each: Settled) -> list[dict[str, Any]]:
    state = each.state
    rows: list[dict[str, Any]] = [
        {
            "thread": state.id,
            "kind": str(act.ref.kind),
            "key": act.ref.key,
            "slot": None,
            "origin": str(act.origin),
            "added_at": None,
            "reason": str(state.reason),
            "decision": act.decision or each.decision,
        }
        for act in state.acts
    ]
    slot = state.slot
    if slot.item is not None:
        rows.append(
            {
                "thread": state.id,
                "kind": str(slot.item.kind),
                "key": slot.item.key,
                "slot": 1,
                "origin": str(slot.origin),
                "added_at": slot.added_at and micros(slot.added_at),
                "reason": str(slot.reason),
                "decision": slot.decision or each.decision,
            }
        )
    return rows


async def forget_links(connection: AsyncConnection, threads: Collection[int]) -> None:
    """Takes the links and tombstones of threads that go up in another one; that one has them now."""
    await connection.execute(delete(link).where(link.c.thread.in_(threads)))
    await connection.execute(delete(tombstone).where(tombstone.c.thread.in_(threads)))


def acts_after(state: ThreadState, links: Links) -> tuple[Act, ...]:
    """The links to persons and organizations that a decision leaves; those that were there keep their decision."""
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
    direct = select(thread.c.id).where(
        (thread.c.number == number) | (and_(thread.c.id == number, thread.c.number.is_(None)))
    )
    found = (await connection.execute(direct)).scalar()
    if found is None:
        found = (
            await connection.execute(select(thread_alias.c.thread).where(thread_alias.c.number == number))
        ).scalar()
    return found


async def labels(connection: AsyncConnection, *, since: datetime | None, among: set[int] | None) -> list[int]:
    """Threads (labels), oldest first: with a message not older than `since`, and among those given."""
    query = select(thread.c.id).order_by(thread.c.id)
    if since is not None:
        query = query.where(thread.c.last_message_at >= micros(since))
    found = (await connection.execute(query)).scalars()
    return [label for label in found if among is None or label in among]

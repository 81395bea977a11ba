"""Read-only queries for showing: threads as people and programs see them, what lies in quarantine, and counts."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import TODO_REASONS, Flag
from maillinkd.linker.ranking import Candidate, ranked
from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.message import Participant, parse
from maillinkd.mail.tree import Branch, parents
from maillinkd.store import cursors, gmail, mailroom
from maillinkd.store.database import chunks
from maillinkd.store.gmail import Labelled
from maillinkd.store.mailroom import Stored
from maillinkd.store.schema import decision, folder, inbound, item, link, message_ref, occurrence, participant
from maillinkd.store.schema import lease as leases
from maillinkd.store.schema import message as messages
from maillinkd.store.schema import quarantine as held
from maillinkd.store.schema import scope as scopes
from maillinkd.store.schema import thread as threads

TOPIC = "topic"
"""A message that brings a new base subject into its thread (threading.md T13)."""

PAGE = 500
"""Threads that are read at once."""

_MARKS_OF_THREADS = frozenset({Flag.SMART_BCC_UNKNOWN_ITEM, Flag.SMART_BCC_DUPLICATE, Flag.SMART_BCC_CONFLICT})


class ThreadStatus(StrEnum):
    """contract.md, JSON: `--status`, but for what lies in quarantine."""

    LINKED = "linked"
    OPEN = "open"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class LinkedBy:
    """The decision that filled a slot."""

    decision: int
    reason: str


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread as `threads list` shows it (contract.md, JSON)."""

    id: int
    """Its number: what people call it."""
    label: int
    owner: str
    channel: str
    subject: str
    started_at: datetime
    last_message_at: datetime
    message_count: int
    message_ids: tuple[str, ...]
    """Normalised, in angle brackets; in order of sent time, then id."""
    participants: tuple[str, ...]
    """Every address of its messages, strangers' too, sorted."""
    slot: ItemRef | None
    slot_deleted: bool
    """L11: the item is deleted and keeps the thread."""
    persons: tuple[ItemRef, ...]
    """Without deleted ones (L6)."""
    organizations: tuple[ItemRef, ...]
    reason: str | None
    """Of the last slot decision; None while an import has not decided the thread yet."""
    flags: tuple[str, ...]
    candidates: tuple[str, ...]
    """The likeliest first (L12)."""
    decision: int | None
    linked_by: LinkedBy | None


@dataclass(frozen=True, slots=True)
class PlaceView:
    """Where a message lies."""

    mailbox: str
    folder: str | None
    """None for mail that came from a file."""
    uidvalidity: int | None
    uid: int | None
    gone: bool
    """The server no longer has it."""


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as `threads show` shows it."""

    id: int
    message_id: str
    made_id: bool
    """The mail has no Message-ID, and the one that is shown was made here (threading.md T5)."""
    sent_at: datetime
    received_at: datetime
    subject: str
    size: int
    participants: tuple[Participant, ...]
    evidence: Mapping[str, str]
    """Where the addresses of a forward were found (L15)."""
    flags: tuple[str, ...]
    names: str | None
    """The item to whose Smart Bcc address it was sent."""
    places: tuple[PlaceView, ...]
    gmail: Labelled | None
    """What Gmail says of it; None where it does not lie there."""
    answers: int | None
    """The number of the message that it answers (threading.md T16); None for a root."""


async def list_threads(
    connection: AsyncConnection,
    *,
    status: ThreadStatus | None = None,
    owner: str | None = None,
    linked_to: ItemRef | None = None,
    search: str | None = None,
) -> AsyncIterator[ThreadView]:
    """The threads that meet all conditions, the one with the newest message first.

    `search`: text in a subject, an address or a message-id of one of its messages, whatever the case.
    """
    conditions = [
        _has_status(status),
        true() if owner is None else scopes.c.owner == owner,
        true() if linked_to is None else _is_linked_to(linked_to),
        true() if not search else _holds(search),
    ]
    query = (
        select(threads.c.id)
        .join(scopes, scopes.c.id == threads.c.scope)
        .where(*conditions)
        .order_by(threads.c.last_message_at.desc(), threads.c.id.desc())
    )
    found = (await connection.execute(query)).scalars().all()
    for labels in chunks(found, PAGE):
        views = await read_threads(connection, labels)
        for label in labels:
            yield views[label]


def _has_status(status: ThreadStatus | None) -> ColumnElement[bool]:
    filled = select(link.c.thread).where(link.c.thread == threads.c.id, link.c.slot.is_not(None)).exists()
    match status:
        case ThreadStatus.LINKED:
            return filled
        case ThreadStatus.OPEN:
            return ~filled
        case ThreadStatus.TODO:  # L12, L21
            waits = and_(threads.c.reason.in_(sorted(TODO_REASONS)), ~filled)
            return or_(threads.c.slot_lost, waits)
    return true()


def _is_linked_to(ref: ItemRef) -> ColumnElement[bool]:
    return threads.c.id.in_(select(link.c.thread).where(link.c.kind == ref.kind, link.c.key == ref.key))


def _holds(text: str) -> ColumnElement[bool]:
    def like(column: ColumnElement[str], words: str) -> ColumnElement[bool]:
        return func.lower(column).contains(words, autoescape=True)

    lower, folded = text.lower(), text.casefold()
    in_message = (
        select(message_ref.c.thread)
        .join(messages, messages.c.node == message_ref.c.node)
        .where(
            or_(
                like(messages.c.subject, lower),
                messages.c.base_subject.contains(folded, autoescape=True),
                like(messages.c.message_id, lower.strip("<>")),
            )
        )
    )
    of_address = (
        select(message_ref.c.thread)
        .join(messages, messages.c.node == message_ref.c.node)
        .join(participant, participant.c.message == messages.c.id)
        .where(participant.c.address.contains(lower, autoescape=True))
    )
    return or_(threads.c.id.in_(in_message), threads.c.id.in_(of_address))


async def read_threads(connection: AsyncConnection, labels: Collection[int]) -> dict[int, ThreadView]:
    """The threads of these labels."""
    letters = await mailroom.messages_of(connection, labels)
    links = await _links_of(connection, labels)
    found: dict[int, ThreadView] = {}
    for some in chunks(sorted(labels)):
        query = (
            select(threads, scopes.c.owner, scopes.c.channel)
            .join(scopes, scopes.c.id == threads.c.scope)
            .where(threads.c.id.in_(some))
        )
        for row in await connection.execute(query):
            found[row.id] = _thread_view(row, letters.get(row.id, []), links[row.id])
    return await _ranked(connection, found)


async def _ranked(connection: AsyncConnection, found: dict[int, ThreadView]) -> dict[int, ThreadView]:
    """The same threads, the likeliest of several candidates first (L12)."""
    several = {label: view for label, view in found.items() if len(view.candidates) > 1}
    known = await candidates(connection, {ref for view in several.values() for ref in view.candidates})
    for label, view in several.items():
        in_order = [str(each.ref) for each in ranked(view.subject, (known[ref] for ref in view.candidates))]
        found[label] = replace(view, candidates=tuple(in_order))
    return found


async def candidates(connection: AsyncConnection, names: Collection[str]) -> dict[str, Candidate]:
    """What ranking looks at, by the names asked for; one that is unknown now has neither title nor age."""
    refs = {name: ItemRef.parse(name) for name in names}
    titles: dict[tuple[str, str], Any] = {}
    newest: dict[tuple[str, str], int] = {}
    for kind in sorted({ref.kind for ref in refs.values()}):
        for some in chunks(sorted({ref.key for ref in refs.values() if ref.kind is kind})):
            columns = (item.c.key, item.c.title, item.c.added_at, item.c.imported_at)
            query = select(*columns).where(item.c.kind == kind, item.c.key.in_(some))
            titles |= {(kind, row.key): row for row in await connection.execute(query)}
            last = (
                select(link.c.key, func.max(threads.c.last_message_at).label("at"))
                .join(threads, threads.c.id == link.c.thread)
                .where(link.c.kind == kind, link.c.key.in_(some))
                .group_by(link.c.key)
            )
            newest |= {(kind, row.key): row.at for row in await connection.execute(last)}
    return {
        name: _candidate(ref, titles.get((ref.kind, ref.key)), newest.get((ref.kind, ref.key)))
        for name, ref in refs.items()
    }


def _candidate(ref: ItemRef, row: Any, newest: int | None) -> Candidate:
    last_mail = None if newest is None else moment(newest)
    if row is None:
        return Candidate(ref, "", last_mail, moment(0))
    return Candidate(ref, row.title, last_mail, moment(row.imported_at if row.added_at is None else row.added_at))


@dataclass(frozen=True, slots=True)
class _Linked:
    ref: ItemRef
    is_slot: bool
    deleted: bool
    by: LinkedBy


async def _links_of(connection: AsyncConnection, labels: Collection[int]) -> defaultdict[int, list[_Linked]]:
    found = defaultdict[int, list[_Linked]](list)
    for some in chunks(sorted(labels)):
        query = (
            select(link, item.c.id, item.c.deleted)
            .outerjoin(item, and_(item.c.kind == link.c.kind, item.c.key == link.c.key))
            .where(link.c.thread.in_(some))
        )
        for row in await connection.execute(query):
            ref = ItemRef(ItemKind(row.kind), row.id or row.key)
            by = LinkedBy(row.decision, row.reason)
            found[row.thread].append(_Linked(ref, row.slot is not None, bool(row.deleted), by))
    return found


def _thread_view(row: Any, letters: Sequence[mailroom.Stored], links: Sequence[_Linked]) -> ThreadView:
    slot = next((each for each in links if each.is_slot), None)
    living = sorted(each.ref for each in links if not each.is_slot and not each.deleted)
    flags = {*json.loads(row.flags), *(mark for each in letters for mark in each.marks & _MARKS_OF_THREADS)}
    if row.slot_lost:
        flags.add(Flag.SLOT_LOST_IN_MERGE)
    return ThreadView(
        id=row.number or row.id,
        label=row.id,
        owner=row.owner,
        channel=row.channel,
        subject=row.subject,
        started_at=moment(row.started_at),
        last_message_at=moment(row.last_message_at),
        message_count=row.message_count,
        message_ids=tuple(_bracketed(each.message_id) for each in letters),
        participants=tuple(sorted({person.address for each in letters for person in each.participants})),
        slot=None if slot is None else slot.ref,
        slot_deleted=slot is not None and slot.deleted,
        persons=tuple(ref for ref in living if ref.kind is ItemKind.PERSON),
        organizations=tuple(ref for ref in living if ref.kind is ItemKind.ORGANIZATION),
        reason=row.reason,
        flags=tuple(sorted(map(str, flags))),
        candidates=tuple(json.loads(row.candidates)),
        decision=row.decision,
        linked_by=None if slot is None else slot.by,
    )


def _bracketed(message_id: str) -> str:
    return f"<{message_id}>"


async def messages_of(connection: AsyncConnection, label: int) -> list[MessageView]:
    """The messages of a thread, in order of sent time, then id."""
    letters = (await mailroom.messages_of(connection, [label])).get(label, [])
    places = await _places_of(connection, [each.id for each in letters])
    labelled = await gmail.of_messages(connection, [each.id for each in letters])
    extra: dict[int, Any] = {}
    for some in chunks([each.id for each in letters]):
        columns = (messages.c.id, messages.c.received_at, messages.c.size, messages.c.headers)
        query = select(*columns).where(messages.c.id.in_(some))
        extra |= {row.id: row for row in await connection.execute(query)}
    answers = parents([_branch(each, extra[each.id].headers) for each in letters])
    seen = set[str]()
    found = []
    for each in letters:
        new_topic = bool(seen) and each.base_subject not in seen
        seen.add(each.base_subject)
        found.append(
            MessageView(
                id=each.id,
                message_id=_bracketed(each.message_id),
                made_id=each.made_id,
                sent_at=each.sent_at,
                received_at=moment(extra[each.id].received_at),
                subject=each.subject,
                size=extra[each.id].size,
                participants=each.participants,
                evidence=each.evidence,
                flags=tuple(sorted(each.marks | ({TOPIC} if new_topic else set()))),
                names=None if each.names is None else str(each.names),
                places=tuple(places[each.id]),
                gmail=labelled.get(each.id),
                answers=answers[each.id],
            )
        )
    return found


def _branch(each: Stored, headers: bytes) -> Branch[int]:
    """What the message says that it answers, read from its headers again: the shelf keeps the ids in one list."""
    message = parse(headers, received_at=each.sent_at, size=0)
    ids = (each.message_id, *message.aliases)
    return Branch(each.id, ids, message.in_reply_to, message.references, each.sent_at)


async def aliases_of(connection: AsyncConnection, numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """By number of a message: the further ids that it bears (threading.md T10), read from its headers again."""
    found: dict[int, tuple[str, ...]] = {}
    for some in chunks(numbers):
        query = select(messages.c.id, messages.c.sent_at, messages.c.headers).where(messages.c.id.in_(some))
        for number, sent_at, headers in await connection.execute(query):
            found[number] = parse(headers, received_at=moment(sent_at), size=0).aliases
    return found


async def newest_thread(connection: AsyncConnection) -> int:
    """The highest label that a thread has; 0 if there is none."""
    return (await connection.execute(select(func.max(threads.c.id)))).scalar() or 0


async def _places_of(connection: AsyncConnection, numbers: Sequence[int]) -> defaultdict[int, list[PlaceView]]:
    found = defaultdict[int, list[PlaceView]](list)
    for some in chunks(numbers):
        query = (
            select(occurrence, folder.c.mailbox, folder.c.name)
            .join(folder, folder.c.id == occurrence.c.folder)
            .where(occurrence.c.message.in_(some))
            .order_by(folder.c.mailbox, folder.c.name, occurrence.c.uidvalidity, occurrence.c.uid)
        )
        for row in await connection.execute(query):
            found[row.message].append(_place(row))
    return found


def _place(row: Any) -> PlaceView:
    gone = row.disposition == cursors.GONE
    if row.name == cursors.IMPORTED:
        return PlaceView(row.mailbox, None, None, None, gone)
    return PlaceView(row.mailbox, row.name, row.uidvalidity, row.uid, gone)


# -- the journal


async def count_decisions(connection: AsyncConnection, after: int, instance: str) -> int:
    """How many decisions with higher numbers this instance has made."""
    query = select(func.count()).select_from(decision).where(decision.c.id > after, decision.c.instance == instance)
    return int((await connection.execute(query)).scalar_one())


# -- quarantine


@dataclass(frozen=True, slots=True)
class HeldView:
    """A mail in quarantine, without its bytes."""

    id: int
    message_id: str | None
    channel: str
    reason: str
    received_at: datetime
    held_at: datetime | None
    """None where a program of schema 0002 put it there."""
    size: int
    error: str
    author: str
    mailbox: str | None


async def list_held(connection: AsyncConnection) -> list[HeldView]:
    """All that lies in quarantine, oldest first. The bytes stay where they are."""
    query: Select[Any] = (
        select(
            held.c.id,
            held.c.message_id,
            held.c.channel,
            held.c.reason,
            held.c.received_at,
            held.c.held_at,
            held.c.size,
            held.c.error,
            held.c.author,
            folder.c.mailbox,
        )
        .outerjoin(folder, folder.c.id == held.c.folder)
        .order_by(held.c.id)
    )
    return [
        HeldView(
            id=row.id,
            message_id=_bracketed(row.message_id) if row.message_id else None,
            channel=row.channel,
            reason=row.reason,
            received_at=moment(row.received_at),
            held_at=None if row.held_at is None else moment(row.held_at),
            size=row.size,
            error=row.error,
            author=row.author,
            mailbox=row.mailbox,
        )
        for row in await connection.execute(query)
    ]


# -- status


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of everything."""

    messages: int
    threads: int
    linked: int
    todo: int
    quarantined: int
    inbound: int
    """Mail that was answered with 250 and is not yet filed."""
    decisions: int
    items: int


async def counts(connection: AsyncConnection) -> Counts:
    """Counts for `status`."""

    async def count(table: Any, *conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(table).where(*conditions)
        return int((await connection.execute(query)).scalar_one())

    return Counts(
        messages=await count(messages),
        threads=await count(threads),
        linked=await count(link, link.c.slot.is_not(None)),
        todo=await count(threads, _has_status(ThreadStatus.TODO)),
        quarantined=await count(held),
        inbound=await count(inbound),
        decisions=await count(decision),
        items=await count(item),
    )


async def reasons(connection: AsyncConnection) -> dict[str, int]:
    """How many threads stand under each reason."""
    query = select(threads.c.reason, func.count()).group_by(threads.c.reason).order_by(func.count().desc())
    return {row[0] or "undecided": row[1] for row in await connection.execute(query)}


async def owners(connection: AsyncConnection) -> dict[str, dict[str, int]]:
    """How many threads each owner has, by channel."""
    query = (
        select(scopes.c.owner, scopes.c.channel, func.count(threads.c.id))
        .outerjoin(threads, threads.c.scope == scopes.c.id)
        .group_by(scopes.c.owner, scopes.c.channel)
        .order_by(scopes.c.owner, scopes.c.channel)
    )
    found: dict[str, dict[str, int]] = {}
    for owner, channel, number in await connection.execute(query):
        found.setdefault(owner, {})[channel] = number
    return found


async def stored_in_folders(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    """How many stored messages each folder holds, by mailbox and folder (`cursors.IMPORTED` for mail from files)."""
    query = (
        select(folder.c.mailbox, folder.c.name, func.count(occurrence.c.message))
        .outerjoin(occurrence, occurrence.c.folder == folder.c.id)
        .group_by(folder.c.mailbox, folder.c.name)
    )
    return {(mailbox, name): number for mailbox, name, number in await connection.execute(query)}


async def holders(connection: AsyncConnection, now: datetime) -> dict[str, str]:
    """Which process follows each mailbox, by its lease."""
    query = select(leases.c.name, leases.c.holder).where(leases.c.until > micros(now))
    return {row.name: row.holder for row in await connection.execute(query)}

"""What holds of every database between two transactions, as `verify` looks for it (linking.md L24).

Everything is read within one transaction, in pages; what is found says where, and what it means.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, and_, case, except_, func, not_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import SLOT_KINDS, ItemRef
from maillinkd.linker.decision import Flag, Origin
from maillinkd.linker.snapshot import micros
from maillinkd.mail.address import without_plus_tag
from maillinkd.mail.threads import Known, copy_id, node
from maillinkd.store import cursors, links, mailroom
from maillinkd.store.database import chunks
from maillinkd.store.links import ThreadState
from maillinkd.store.schema import (
    decision,
    folder,
    link,
    message_ref,
    occurrence,
    participant,
    raw_message,
    thread,
    thread_alias,
)
from maillinkd.store.schema import message as messages

PAGE = 1_000
"""Threads or messages that are read at once."""

_HOLD_NOW = frozenset(
    {Flag.AMBIGUOUS_PERSON, Flag.STRANGER_JOINED, Flag.START_UNKNOWN, Flag.DUPLICATE_MESSAGE_ID},
)
"""Flags that a thread's row repeats from its newest decision."""
_REPLACED = ("?", "\ufffd")
"""What stands in a stored Message-ID for what a database cannot hold; its node was made before."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that ought not to be."""

    check: str
    """In a word: chain, line, facts, decision, slot, link, thread, message, uid, alias, raw or reference."""
    place: str
    problem: str


@dataclass
class Summary:
    """What was looked at."""

    decisions: int = 0
    made_again: int = 0
    """Decisions that the rules were asked about again."""
    erased: int = 0
    """Decisions whose facts were erased: only their place in the chain can be checked."""
    threads: int = 0
    messages: int = 0
    problems: int = 0


async def size(connection: AsyncConnection) -> int:
    """How many threads and messages there are."""
    found = 0
    for table in (thread, messages):
        found += int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
    return found


async def check(
    connection: AsyncConnection, summary: Summary, progress: Callable[[int], None]
) -> AsyncIterator[Problem]:
    """Whatever is wrong with tables other than the journal. `progress` hears of threads and messages."""
    for query, tell in _QUERIES:
        async for row in await connection.stream(query):
            yield tell(row)
    if connection.dialect.name == "sqlite":  # which does not check what was written with foreign_keys off
        for each in await connection.execute(text("PRAGMA foreign_key_check")):
            yield Problem(
                "reference", f"table {each[0]}, row {each[1]}", f"it points at a row of {each[2]} that is not there"
            )
    async for problem in _threads(connection, summary, progress):
        yield problem
    async for problem in _messages(connection, summary, progress):
        yield problem


# -- one statement for all ---------------------------------------------------------------------------------------


def _two_slots(row: Row[Any]) -> Problem:
    return Problem(
        "slot", f"label {row.thread}", f"it is linked to {row.number} deals, leads or projects, and may be to one"
    )


def _wrong_slot(row: Row[Any]) -> Problem:
    return Problem(
        "slot", f"label {row.thread}", f"its link to {row.kind}:{row.key} stands where one of another kind belongs"
    )


def _uid(row: Row[Any]) -> Problem:
    if row.message is None and row.disposition == cursors.STORED:
        said = "is said to be stored, and no message belongs to it"
    else:
        said = f"nobody knows what became of it: its disposition is {row.disposition!r}"
    return Problem("uid", f"{row.mailbox} {row.name}, UIDVALIDITY {row.uidvalidity}, UID {row.uid}", said)


def _cursor(row: Row[Any]) -> Problem:
    said = f"its cursor stands nowhere: top {row.top}, bottom {row.bottom}, before_since {row.before_since}"
    return Problem("uid", f"{row.mailbox} {row.name}", said)


def _raw(row: Row[Any]) -> Problem:
    return Problem("raw", f"raw message {row.sha256.hex()}", "no message has these bytes")


def _alias(row: Row[Any]) -> Problem:
    return Problem("alias", f"thread {row.number}", "its number leads to another thread as well")


_KNOWN = (cursors.STORED, cursors.QUARANTINED, cursors.GONE)
_QUERIES: tuple[tuple[Any, Callable[[Any], Problem]], ...] = (
    (
        select(link.c.thread, func.count().label("number"))
        .where(link.c.kind.in_(sorted(SLOT_KINDS)))
        .group_by(link.c.thread)
        .having(func.count() > 1),
        _two_slots,
    ),
    (
        select(link.c.thread, link.c.kind, link.c.key).where(
            link.c.slot.is_(None) == link.c.kind.in_(sorted(SLOT_KINDS))
        ),
        _wrong_slot,
    ),
    (
        select(
            folder.c.mailbox,
            folder.c.name,
            occurrence.c.uidvalidity,
            occurrence.c.uid,
            occurrence.c.message,
            occurrence.c.disposition,
        )
        .join(folder, folder.c.id == occurrence.c.folder)
        .where(
            or_(
                and_(occurrence.c.disposition == cursors.STORED, occurrence.c.message.is_(None)),
                and_(occurrence.c.disposition.not_in(_KNOWN), not_(occurrence.c.disposition.like("filtered:_%"))),
            )
        ),
        _uid,
    ),
    (
        select(folder).where(
            folder.c.uidvalidity >= 0,
            or_(
                folder.c.top < 0,
                folder.c.bottom < 0,
                folder.c.bottom > folder.c.top + 1,
                folder.c.before_since < 0,
                folder.c.before_since > folder.c.top,
            ),
        ),
        _cursor,
    ),
    (except_(select(raw_message.c.sha256), select(messages.c.raw)), _raw),
    (
        select(thread_alias.c.number)
        .join(thread, func.coalesce(thread.c.number, thread.c.id) == thread_alias.c.number)
        .where(thread.c.id != thread_alias.c.thread),
        _alias,
    ),
)


# -- threads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision, as far as rows point at it."""

    thread: int
    line: Mapping[str, Any]

    def names(self, ref: ItemRef) -> bool:
        """Whether it linked the thread to this item."""
        linked = (self.line.get("slot"), *self.line.get("persons", ()), *self.line.get("organizations", ()))
        return _key(ref) in {each.lower() for each in linked if each}


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the messages of a thread say of it."""

    messages: int = 0
    started_at: int = 0
    last_message_at: int = 0
    undecided: int = 0
    ids: int = 0
    scopes: int = 0
    scope: int = 0
    first_subjects: frozenset[str] = frozenset()


@dataclass
class _Page:
    states: dict[int, ThreadState]
    counted: dict[int, _Counted]
    numbers: dict[int, set[int]]
    """By label: every number that leads to the thread."""
    decisions: dict[int, _Made]
    newest: dict[int, int] = field(default_factory=dict)
    """By number of a thread: its newest decision."""


async def _threads(
    connection: AsyncConnection, summary: Summary, progress: Callable[[int], None]
) -> AsyncIterator[Problem]:
    after = 0
    while True:
        query = select(thread.c.id).where(thread.c.id > after).order_by(thread.c.id).limit(PAGE)
        labels = (await connection.execute(query)).scalars().all()
        if not labels:
            return
        after = labels[-1]
        page = await _page(connection, labels)
        for state in page.states.values():
            place = f"thread {state.number}"
            for problem in _counts(state, page.counted.get(state.id, _Counted())):
                yield Problem("thread", place, problem)
            for check_, problem in _decided(state, page):
                yield Problem(check_, place, problem)
        summary.threads += len(labels)
        progress(len(labels))


async def _page(connection: AsyncConnection, labels: Sequence[int]) -> _Page:
    states = await links.states(connection, labels)
    numbers = {state.id: {state.number} for state in states.values()}
    query = select(thread_alias.c.thread, thread_alias.c.number).where(thread_alias.c.thread.in_(labels))
    for label, number in await connection.execute(query):
        numbers[label].add(number)
    by_number = [state.number for state in states.values()]
    newest = select(decision.c.thread, func.max(decision.c.id)).where(decision.c.thread.in_(by_number))
    page = _Page(states, await _counted(connection, labels), numbers, {})
    page.newest = {row[0]: row[1] for row in await connection.execute(newest.group_by(decision.c.thread))}
    wanted = set(page.newest.values())
    for state in states.values():
        acts = (*state.acts, *state.tombstones)
        pointed = (state.decision, state.slot.decision, *(act.decision for act in acts))
        wanted |= {number for number in pointed if number}
    page.decisions = await _decisions(connection, wanted)
    return page


async def _counted(connection: AsyncConnection, labels: Sequence[int]) -> dict[int, _Counted]:
    of_threads = message_ref.c.thread.in_(labels)
    sums = (
        select(
            message_ref.c.thread,
            func.count(messages.c.id).label("messages"),
            func.coalesce(func.min(messages.c.sent_at), 0).label("first"),
            func.coalesce(func.max(messages.c.sent_at), 0).label("last"),
            func.coalesce(func.sum(case((messages.c.undecided, 1), else_=0)), 0).label("undecided"),
            func.count(message_ref.c.node.distinct()).label("ids"),
            func.count(messages.c.scope.distinct()).label("scopes"),
            func.coalesce(func.max(messages.c.scope), 0).label("scope"),
        )
        .outerjoin(messages, messages.c.node == message_ref.c.node)
        .where(of_threads)
        .group_by(message_ref.c.thread)
    )
    subjects = defaultdict[int, set[str]](set)
    firsts = (
        select(thread.c.id, messages.c.subject)
        .join(message_ref, message_ref.c.thread == thread.c.id)
        .join(messages, messages.c.node == message_ref.c.node)
        .where(thread.c.id.in_(labels), messages.c.sent_at == thread.c.started_at)
    )
    for label, subject in await connection.execute(firsts):
        subjects[label].add(subject)
    return {
        row.thread: _Counted(
            row.messages,
            row.first,
            row.last,
            int(row.undecided),
            row.ids,
            row.scopes,
            row.scope,
            frozenset(subjects[row.thread]),
        )
        for row in await connection.execute(sums)
    }


async def _decisions(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, _Made]:
    found: dict[int, _Made] = {}
    for some in chunks(sorted(numbers)):
        query = select(decision.c.id, decision.c.thread, decision.c.line).where(decision.c.id.in_(some))
        for number, about, line in await connection.execute(query):
            found[number] = _Made(about, _object(line))
    return found


def _object(line: str) -> dict[str, Any]:
    """The line; empty where somebody has damaged it, which the journal's own check tells."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _counts(state: ThreadState, counted: _Counted) -> Iterator[str]:
    """The thread's row says what its messages say."""
    if not counted.messages:
        yield "it has no message"
        return
    if counted.scopes > 1 or counted.scope != state.scope:
        yield "it holds messages of another scope"
    pairs = (
        ("message_count", state.message_count, counted.messages),
        ("id_count", state.id_count, counted.ids),
        ("started_at", micros(state.started_at), counted.started_at),
        ("last_message_at", micros(state.last_message_at), counted.last_message_at),
    )
    for name, said, found in pairs:
        if said != found:
            yield f"its {name} is {said}, that of its messages {found}"
    if state.subject not in counted.first_subjects:
        yield "its subject is not that of its first message"


def _decided(state: ThreadState, page: _Page) -> Iterator[tuple[str, str]]:
    """Every link and tombstone has its decision and agrees with it; the row repeats the newest ones."""
    for ref, number in _links_of(state):
        made = page.decisions.get(number)
        if made is None:
            yield "link", f"its link to {ref} names decision {number}, which is not there"
        elif made.thread not in page.numbers[state.id]:
            yield "link", f"its link to {ref} names decision {number}, which is about thread {made.thread}"
        elif not made.names(ref):
            yield "link", f"its link to {ref} names decision {number}, which did not make it"
    for act in state.tombstones:
        made = page.decisions.get(act.decision)
        if made is None or made.thread not in page.numbers[state.id]:
            yield "link", f"the tombstone of {act.ref} names decision {act.decision}, which is not there for it"
        elif made.names(act.ref):
            yield "link", f"the tombstone of {act.ref} names decision {act.decision}, which linked it"
    if page.counted.get(state.id, _Counted()).undecided:
        return  # an import is under way, or was cut off and will be finished
    if state.decision is None or state.reason is None:
        yield "thread", "it was never decided"
        return
    decided = page.decisions.get(state.decision)
    newest = page.decisions.get(page.newest.get(state.number, 0))
    if decided is None or newest is None:
        yield "thread", f"its decision {state.decision} is not there"
        return
    yield from (("thread", problem) for problem in _repeats(state, decided, newest))


def _links_of(state: ThreadState) -> Iterator[tuple[ItemRef, int]]:
    yield from ((act.ref, act.decision) for act in state.acts)
    if state.slot.item is not None:
        yield state.slot.item, state.slot.decision or 0


def _repeats(state: ThreadState, decided: _Made, newest: _Made) -> Iterator[str]:
    """Slot, reason and candidates are those of the last slot decision; people and flags those of the newest one."""
    slot = state.slot.item and _key(state.slot.item)
    said = decided.line.get("slot")
    if slot != (said and said.lower()):
        yield f"its slot holds {slot or 'nothing'}, its decision {state.decision} says {said or 'nothing'}"
    if state.reason != decided.line.get("reason"):
        yield f"its reason is {state.reason}, its decision {state.decision} says {decided.line.get('reason')}"
    if list(state.candidates) != decided.line.get("candidates"):
        yield f"its candidates are not those of its decision {state.decision}"
    linked = {each.lower() for name in ("persons", "organizations") for each in newest.line.get(name, ())}
    held = {_key(act.ref) for act in state.acts}
    by_hand = {_key(act.ref) for act in state.acts if act.origin is Origin.HAND}  # also to what is deleted now
    if not linked <= held or not held - by_hand <= linked:
        yield "its persons and organizations are not those of its newest decision"
    if state.flags != {flag for flag in newest.line.get("flags", ()) if flag in _HOLD_NOW}:
        yield "its flags are not those of its newest decision"


def _key(ref: ItemRef) -> str:
    return f"{ref.kind}:{ref.key}"


# -- messages ------------------------------------------------------------------------------------------------------

_MESSAGES: Select[Any] = (
    select(
        messages.c.id,
        messages.c.scope,
        messages.c.node,
        messages.c.message_id,
        messages.c.detached,
        messages.c.names,
        messages.c.participants,
        messages.c.refers,
        message_ref.c.thread,
        message_ref.c.borne,
    )
    .outerjoin(message_ref, message_ref.c.node == messages.c.node)
    .order_by(messages.c.id)
    .limit(PAGE)
)


async def _messages(
    connection: AsyncConnection, summary: Summary, progress: Callable[[int], None]
) -> AsyncIterator[Problem]:
    after = 0
    while rows := (await connection.execute(_MESSAGES.where(messages.c.id > after))).all():
        after = rows[-1].id
        refers = {row.id: [node(row.scope, ref) for ref in _references(row)] for row in rows}
        known = await mailroom.known_nodes(connection, {each for nodes in refers.values() for each in nodes})
        people = await _people(connection, [row.id for row in rows])
        for row in rows:
            for problem in _of_message(row, refers[row.id], known, people[row.id]):
                yield Problem("message", f"message {row.id}, <{row.message_id}>", problem)
        summary.messages += len(rows)
        progress(len(rows))


def _of_message(
    row: Row[Any], refers: Sequence[bytes], known: Mapping[bytes, Known], people: Collection[str]
) -> Iterator[str]:
    if row.thread is None or not row.borne:
        yield "it lies in no thread"
        return
    if not _is_its_node(row):
        yield "it lies under another Message-ID than its own"
    detached = [each for each in refers if each in known and known[each].detached]
    joined = refers[refers.index(detached[-1]) :] if detached else refers  # T17
    apart = [each for each in joined if each not in known or known[each].thread != row.thread]
    if apart:
        yield f"{len(apart)} of the ids that it refers to do not lie in its thread"
    if people != _addresses(row):
        yield "it is not found under the addresses of its participants"


def _references(row: Row[Any]) -> list[str]:
    """T17: a detached message is joined to its own id alone."""
    return [] if row.detached or row.refers == "[]" else list(json.loads(row.refers))


def _is_its_node(row: Row[Any]) -> bool:
    if any(each in row.message_id for each in _REPLACED):
        return True
    if row.node == node(row.scope, row.message_id):
        return True
    return bool(row.detached and row.names) and row.node == node(row.scope, copy_id(row.message_id, row.names))


def _addresses(row: Row[Any]) -> set[str]:
    """L6: a message is found under the addresses of its people, with and without their tags."""
    addresses = {each[1] for each in json.loads(row.participants)}
    return addresses | {without_plus_tag(address) for address in addresses if "+" in address}


async def _people(connection: AsyncConnection, numbers: Sequence[int]) -> defaultdict[int, set[str]]:
    found = defaultdict[int, set[str]](set)
    query = select(participant.c.message, participant.c.address).where(participant.c.message.in_(numbers))
    for number, address in await connection.execute(query):
        found[number].add(address)
    return found

"""What holds of every database between two transactions, as `verify` looks for it (linking.md L24).

Everything is read within one transaction, in pages; what is found says where, and what it means.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Row, Select, and_, case, except_, func, not_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import SLOT_KINDS, ItemRef
from maillinkd.linker.decision import Flag, Origin, Reason, Slot, Trigger
from maillinkd.linker.snapshot import micros, moment, slot_of
from maillinkd.linker.versions import UnknownVersion, made_again
from maillinkd.mail.address import without_plus_tag
from maillinkd.mail.message import Role
from maillinkd.mail.threads import Known, copy_id, node
from maillinkd.store import cursors, journal, links, mailroom
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
_ROLES = frozenset(map(str, Role))
_MARKS = frozenset({*map(str, Flag), mailroom.BRIDGE, mailroom.EXCLUDED})
_NOT_WHOLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading raises where somebody has changed JSON or a word of a set."""


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


def _other_reason(row: Row[Any]) -> Problem:
    said = f"its link to {row.kind}:{row.key} repeats the reason {row.reason!r}, and the thread's is {row.of_thread}"
    return Problem("link", f"label {row.thread}", said)


def _emptied_and_filled(row: Row[Any]) -> Problem:
    said = f"it is marked as unlinked by hand (unlinked_by_hand), and is linked to {row.kind}:{row.key}"
    return Problem("slot", f"label {row.thread}", said)


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
        select(link.c.thread, link.c.kind, link.c.key, link.c.reason, thread.c.reason.label("of_thread"))
        .join(thread, thread.c.id == link.c.thread)
        .where(link.c.slot.is_(None), link.c.reason != thread.c.reason),
        _other_reason,
    ),
    (
        select(link.c.thread, link.c.kind, link.c.key)
        .join(thread, thread.c.id == link.c.thread)
        .where(link.c.slot == 1, thread.c.unlinked_by_hand),
        _emptied_and_filled,
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
    rule_version: int
    compressed: bytes | None
    """Its facts; None once erased."""

    def facts(self) -> Mapping[str, Any] | None:
        """None where they are erased, or damaged, which the journal's own check tells."""
        try:
            found = orjson.loads(journal.read_facts(self.compressed)) if self.compressed is not None else None
        except (ValueError, zlib.error):
            return None
        return found if isinstance(found, dict) else None

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
        states, unreadable = await _states(connection, labels)
        for problem in unreadable:
            yield problem
        page = await _page(connection, states)
        for state in page.states.values():
            place = f"thread {state.number}"
            for said in _counts(state, page.counted.get(state.id, _Counted())):
                yield Problem("thread", place, said)
            for check_, said in _decided(state, page):
                yield Problem(check_, place, said)
        summary.threads += len(labels)
        progress(len(labels))


async def _states(
    connection: AsyncConnection, labels: Collection[int]
) -> tuple[dict[int, ThreadState], list[Problem]]:
    """How the threads stand, and of which nobody can tell: an unknown origin, kind or reason, or no JSON."""
    try:
        return await links.states(connection, labels), []
    except (ValueError, TypeError) as error:
        if len(labels) == 1:
            said = f"its row, its links or its tombstones cannot be read: {error}"
            return {}, [Problem("thread", f"label {label}", said) for label in labels]
    states: dict[int, ThreadState] = {}
    problems: list[Problem] = []
    for label in labels:
        found, unreadable = await _states(connection, [label])
        states |= found
        problems += unreadable
    return states, problems


async def _page(connection: AsyncConnection, states: dict[int, ThreadState]) -> _Page:
    labels = list(states)
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
        columns = (decision.c.id, decision.c.thread, decision.c.line, decision.c.rule_version, decision.c.facts)
        query = select(*columns).where(decision.c.id.in_(some))
        for number, about, line, version, facts in await connection.execute(query):
            found[number] = _Made(about, _object(line), version, facts)
    return found


def _object(line: str) -> dict[str, Any]:
    """The line; empty where somebody has damaged it, which the journal's own check tells."""
    try:
        found = orjson.loads(line)
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
    known = _Known(page)
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
        elif (then := known.by(act.decision)) is not None and _key(act.ref) not in then.buried:
            yield "link", f"the tombstone of {act.ref} names decision {act.decision}, which did not make it"
    yield from (("link", problem) for problem in _as_made(state, known))
    if page.counted.get(state.id, _Counted()).undecided:
        return  # an import is under way, or was cut off and will be finished
    if state.decision is None or state.reason is None:
        yield "thread", "it was never decided"
        return
    number = page.newest.get(state.number, 0)
    decided, newest = page.decisions.get(state.decision), page.decisions.get(number)
    if decided is None or newest is None:
        yield "thread", f"its decision {state.decision} is not there"
        return
    yield from (("thread", problem) for problem in _repeats(state, decided, newest))
    if (then := known.by(number)) is not None:
        yield from (("thread", problem) for problem in _settled(state, then))


def _links_of(state: ThreadState) -> Iterator[tuple[ItemRef, int]]:
    yield from ((act.ref, act.decision) for act in state.acts)
    if state.slot.item is not None:
        yield state.slot.item, state.slot.decision or 0


def _as_made(state: ThreadState, known: "_Known") -> Iterator[str]:
    """Origin, reason and age of each link are those that the decision gave it that it names."""
    for act in state.acts:
        then = known.by(act.decision)
        if then is None:
            continue
        origin = Origin.HAND if _key(act.ref) in then.by_hand else Origin.AUTO
        if act.origin is not origin:
            yield f"its link to {act.ref} is of origin {act.origin}, its decision {act.decision} says {origin}"
    slot = state.slot
    made = known.slot(slot.decision) if slot.item is not None and slot.decision else None
    if made is None or slot.item is None or made.item is None or not made.item.is_same(slot.item):
        return
    if made.decision is not None:
        yield f"its link to {slot.item} names decision {slot.decision}, which found it there"
    for name in ("origin", "reason", "added_at"):
        said, expected = getattr(slot, name), getattr(made, name)
        if said != expected:
            yield f"its link to {slot.item} has {name} {said}, its decision {slot.decision} says {expected}"


def _repeats(state: ThreadState, decided: _Made, newest: _Made) -> Iterator[str]:
    """Slot, reason and candidates are those of the last slot decision; people and flags those of the newest one."""
    slot = state.slot.item and _key(state.slot.item)
    said = decided.line.get("slot")
    if slot != (said and said.lower()):
        yield f"its slot holds {slot or 'nothing'}, its decision {state.decision} says {said or 'nothing'}"
    unlinked = decided.line.get("reason") == Reason.MANUAL_UNLINK_RESPECTED
    if slot is None and state.slot.unlinked_by_hand is not unlinked:
        hand = {True: "a hand emptied its slot", False: "no hand emptied its slot"}
        said = f"its row says that {hand[not unlinked]} (unlinked_by_hand)"
        yield f"{said}, its decision {state.decision} that {hand[unlinked]}"
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


def _settled(state: ThreadState, then: "_Then") -> Iterator[str]:
    """What hands and merges have left: tombstones (L18), and whether a merge has lost an item (L21)."""
    buried = {_key(act.ref) for act in state.tombstones}
    for ref in sorted(then.tombstones - buried):
        yield f"its newest decision knows a tombstone of {ref}, which is not there"
    for ref in sorted(buried - then.tombstones):
        yield f"its tombstone of {ref} is none that its newest decision knows"
    if state.slot_lost != then.slot_lost:
        lost = {True: "a merge has lost an item, and no hand has settled it since", False: "no item is lost"}
        said = f"its row says that {lost[state.slot_lost]} (slot_lost)"
        yield f"{said}, its newest decision that {lost[then.slot_lost]}"


def _key(ref: ItemRef) -> str:
    return f"{ref.kind}:{ref.key}"


# -- what decisions knew -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Then:
    """What a decision knew of hands and merges. Items are as `_key` makes them."""

    by_hand: frozenset[str]
    """Persons and organizations that a hand had linked."""
    tombstones: frozenset[str]
    buried: frozenset[str]
    """The tombstones that it made."""
    slot_lost: bool


class _Known:
    """The facts of one thread's decisions, read once each; those of other threads are not kept."""

    def __init__(self, page: _Page) -> None:
        self._decisions = page.decisions
        self._facts: dict[int, Mapping[str, Any] | None] = {}
        self._then: dict[int, _Then | None] = {}

    def by(self, number: int) -> _Then | None:
        """None where they are erased, or not whole, which the journal's own check tells."""
        if number not in self._then:
            facts = self._of(number)
            try:
                self._then[number] = None if facts is None else _then(facts)
            except _NOT_WHOLE:
                self._then[number] = None
        return self._then[number]

    def slot(self, number: int) -> Slot | None:
        """The slot as the decision left it, without a number if it was filled by this one; None as in `by`."""
        facts = self._of(number)
        try:
            return None if facts is None else _slot_after(self._decisions[number], facts)
        except (*_NOT_WHOLE, UnknownVersion):
            return None

    def _of(self, number: int) -> Mapping[str, Any] | None:
        if number not in self._facts:
            made = self._decisions.get(number)
            self._facts[number] = None if made is None else made.facts()
        return self._facts[number]


def _then(facts: Mapping[str, Any]) -> _Then:
    tombstones = frozenset(ref.lower() for ref in facts["tombstones"])
    before = facts.get("before")  # a hand's, or an undo's
    there = {ref.lower() for ref, _ in before["tombstones"]} if before is not None else tombstones
    return _Then(
        by_hand=frozenset(ref.lower() for ref in facts["hand"]),
        tombstones=tombstones,
        buried=tombstones - there,
        slot_lost=bool(facts.get("slot_lost")),
    )


def _slot_after(made: _Made, facts: Mapping[str, Any]) -> Slot:
    line, letters = made.line, facts["letters"]
    trigger = Trigger(line["trigger"])
    if trigger is Trigger.DIRECTORY or ("undoes" in line and not any(letter.get("new") for letter in letters)):
        return slot_of(facts["slot"])
    if facts["slot"]["item"] is None and not any("names" in letter for letter in letters):
        (item,) = [each for each in facts["items"] if each["ref"] == line["slot"]]  # row 14 alone fills an empty one
        reason = Reason.LINKED_SINGLE_OPEN_ITEM
        return Slot(ItemRef.parse(item["ref"]), Origin.AUTO, moment(item["added"]), reason=reason)
    provisional = Flag.PROVISIONAL in line["flags"]
    return made_again(made.rule_version, facts, trigger, Reason(line["reason"]), provisional=provisional).slot


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
        messages.c.marks,
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
        read: dict[int, _Read] = {}
        for row in rows:
            try:
                read[row.id] = _read(row)
            except _NOT_WHOLE as error:
                yield Problem("message", _place(row), f"its row cannot be read: {error}")
        known = await mailroom.known_nodes(connection, {each for one in read.values() for each in one.refers})
        people = await _people(connection, list(read))
        for row in rows:
            if row.id in read:
                for problem in _of_message(row, read[row.id], known, people[row.id]):
                    yield Problem("message", _place(row), problem)
        summary.messages += len(rows)
        progress(len(rows))


@dataclass(frozen=True, slots=True)
class _Read:
    """What a message's row says in JSON."""

    refers: list[bytes]
    """Nodes of the ids that it is joined to; T17: a detached one is joined to its own id alone."""
    addresses: set[str]
    """L6: those that it is found under, with and without their tags."""


def _read(row: Row[Any]) -> _Read:
    """Raises one of `_NOT_WHOLE` for what is no JSON of its form, an unknown role or mark, and no item."""
    people = orjson.loads(row.participants)
    refers = [] if row.refers == "[]" else json.loads(row.refers)  # orjson refuses ids that are no UTF-8
    for each in people:
        if each[0] not in _ROLES:
            raise ValueError(f"{each[0]!r} is no role of a participant")
    if row.marks != "[]" and (strange := sorted(set(orjson.loads(row.marks)) - _MARKS)):
        raise ValueError(f"{strange[0]!r} is no mark of a message")
    if row.names is not None:
        ItemRef.parse(row.names)
    addresses = {each[1] for each in people}
    return _Read(
        [] if row.detached else [node(row.scope, ref) for ref in refers],
        addresses | {without_plus_tag(address) for address in addresses if "+" in address},
    )


def _place(row: Row[Any]) -> str:
    return f"message {row.id}, <{row.message_id}>"


def _of_message(row: Row[Any], read: _Read, known: Mapping[bytes, Known], people: Collection[str]) -> Iterator[str]:
    if row.thread is None or not row.borne:
        yield "it lies in no thread"
        return
    if not _is_its_node(row):
        yield "it lies under another Message-ID than its own"
    refers = read.refers
    detached = [each for each in refers if each in known and known[each].detached]
    joined = refers[refers.index(detached[-1]) :] if detached else refers  # T17
    apart = [each for each in joined if each not in known or known[each].thread != row.thread]
    if apart:
        yield f"{len(apart)} of the ids that it refers to do not lie in its thread"
    if people != read.addresses:
        yield "it is not found under the addresses of its participants"


def _is_its_node(row: Row[Any]) -> bool:
    if any(each in row.message_id for each in _REPLACED):
        return True
    if row.node == node(row.scope, row.message_id):
        return True
    return bool(row.detached and row.names) and row.node == node(row.scope, copy_id(row.message_id, row.names))


async def _people(connection: AsyncConnection, numbers: Sequence[int]) -> defaultdict[int, set[str]]:
    found = defaultdict[int, set[str]](set)
    query = select(participant.c.message, participant.c.address).where(participant.c.message.in_(numbers))
    for number, address in await connection.execute(query):
        found[number].add(address)
    return found

"""`explain`: all that there is to say of why a thread is linked as it is (linking.md L23)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.ingest import imports, sieve
from maillinkd.ingest.desk import Desk, File, shown_id
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.house import House
from maillinkd.ingest.office import IMAP, SMART_BCC, Office
from maillinkd.ingest.sieve import Filtered
from maillinkd.linker import explain as why
from maillinkd.linker.decision import Flag, Origin, Reason, Trigger
from maillinkd.linker.explain import Case, Circumstances, Contact, Row, Way
from maillinkd.linker.ranking import Candidate, ranked
from maillinkd.linker.rules import decide_again, without_automatic
from maillinkd.linker.snapshot import Snapshot
from maillinkd.mail.bonds import Member, Tie, ties
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, Role, parse, read
from maillinkd.mail.threads import node
from maillinkd.store import items, journal, links, mailroom, views
from maillinkd.store.database import Connection, Database
from maillinkd.store.journal import Recorded
from maillinkd.store.rehearsal import rehearsal
from maillinkd.store.views import HeldView, MessageView, ThreadView


@dataclass(frozen=True, slots=True)
class Today:
    """What `decide` would answer now; None in its place for what it leaves alone (L28)."""

    slot: ItemRef | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """A thread, why its last slot decision came out as it did, and what could change it."""

    thread: ThreadView
    decision: Recorded
    """The last one about the slot."""
    case: Case | None
    """What the rows were asked about; None where the facts were erased."""
    rows: tuple[Row, ...]
    contacts: tuple[Contact, ...]
    """As they are today."""
    acts: Mapping[ItemRef, int]
    """By which decision a person or organization is linked, or was unlinked by a hand."""
    candidates: tuple[Candidate, ...]
    """Of the decision, the likeliest first (L12)."""
    items: Mapping[ItemRef, Item]
    """What the directory has today of everything that is named."""
    messages: tuple[MessageView, ...]
    ties: Mapping[int, Tie]
    """By number of a message: what holds it to the thread."""
    today: Today | None
    ways: tuple[Way, ...] | None
    """What would fill the slot; None if it is filled."""

    @property
    def trigger(self) -> Trigger:
        return Trigger(self.decision.line["trigger"])


async def explain(connection: Connection, office: Office, number: int) -> Explanation:
    """Explains a thread by its number, or by one that it had before a merge. Reads alone.

    Raises Refused for an unknown thread, and one that is not decided yet.
    """
    label = await links.label_of(connection, number)
    if label is None:
        raise Refused(f"there is no thread {number}")
    view = (await views.read_threads(connection, [label]))[label]
    decisions = await journal.recorded(connection, [view.decision] if view.decision else [])
    if view.decision not in decisions:
        raise Refused(f"thread {view.id} is not decided yet: an import is under way, or was cut off")
    decision = decisions[view.decision]
    desk = await _desk(connection, office, view)
    file = desk.files[label]
    snapshot = desk.look(file)
    messages = await views.messages_of(connection, label)
    case, rows = _asked(decision)
    listed = await views.candidates(connection, decision.line["candidates"])
    known = await items.read(connection, _named(snapshot, case, file, decision))
    return Explanation(
        thread=view,
        decision=decision,
        case=case,
        rows=rows,
        contacts=tuple(why.contacts(snapshot, file.state.reason or Reason.NO_KNOWN_PERSON)),
        acts={act.ref: act.decision for act in (*file.state.acts, *file.state.tombstones)},
        candidates=tuple(ranked(view.subject, listed.values())),
        items=known,
        messages=tuple(messages),
        ties=await _ties(connection, label),
        today=_today(snapshot),
        ways=await _ways(connection, desk, snapshot, known),
    )


async def _desk(connection: Connection, office: Office, view: ThreadView) -> Desk:
    """A desk on which nothing is decided: the scope need not be locked."""
    scopes = await journal.scopes(connection)
    scope = next(each for each in scopes if (each.owner, each.channel) == (view.owner, view.channel))
    desk = Desk(connection, scope, office, instance="")
    await desk.open([view.label])
    return desk


def _asked(decision: Recorded) -> tuple[Case | None, tuple[Row, ...]]:
    if decision.facts is None:
        return None, ()
    line = decision.line
    snapshot = Snapshot.of_facts(decision.facts)
    provisional = Flag.PROVISIONAL in line["flags"]
    case = why.case_of(snapshot, provisional=provisional, emptied=_emptied(snapshot, line, provisional=provisional))
    undone = "undoes" in line and not any(letter.new for letter in case.snapshot.letters)
    return case, tuple(why.asked(case, Reason(line["reason"]), Trigger(line["trigger"]), undone=undone))


def _emptied(snapshot: Snapshot, line: Mapping[str, Any], *, provisional: bool) -> ItemRef | None:
    """What was in the slot until it was emptied, before the rows were asked."""
    before = line["slot_before"]
    if before is None or snapshot.slot.item is not None:
        return None
    by_hand = line["trigger"] == Trigger.MANUAL and snapshot.slot.unlinked_by_hand
    return ItemRef.parse(before) if by_hand or provisional else None


def _named(snapshot: Snapshot, case: Case | None, file: File, decision: Recorded) -> set[ItemRef]:
    refs = {*snapshot.items, *snapshot.persons, *snapshot.tombstones, *file.state.links}
    refs |= {each.organization for each in snapshot.persons.values() if each.organization is not None}
    refs |= {*case.snapshot.items, *case.snapshot.persons} if case is not None else set()
    return refs | {ItemRef.parse(each) for each in (decision.line["slot"], decision.line["slot_before"]) if each}


def _today(snapshot: Snapshot) -> Today | None:
    if snapshot.slot.origin in (Origin.HAND, Origin.SMART_BCC):
        return None
    answer = decide_again(replace(snapshot, slot=without_automatic(snapshot.slot)))
    return Today(answer.slot.item, answer.reason)


async def _ways(
    connection: Connection, desk: Desk, snapshot: Snapshot, known: Mapping[ItemRef, Item]
) -> tuple[Way, ...] | None:
    if snapshot.slot.item is not None:
        return None
    leads = {ref.key for ref in snapshot.items if ref.kind is ItemKind.LEAD}
    converted = await items.converted(connection, leads) if leads else {}
    around = Circumstances(
        smart_bcc=desk.scope.channel == SMART_BCC,
        can_open=frozenset(
            ref
            for ref in snapshot.items
            if ref in known and not known[ref].deleted and not (ref.kind is ItemKind.LEAD and ref.key in converted)
        ),
        undated=frozenset(ref for ref in snapshot.items if ref in known and known[ref].added_at is None),
    )
    return tuple(why.ways(snapshot, around))


async def _ties(connection: Connection, label: int) -> dict[int, Tie]:
    letters = (await mailroom.messages_of(connection, [label])).get(label, [])
    aliases = await views.aliases_of(connection, [letter.id for letter in letters])
    return ties(
        [Member(each.id, (each.message_id, *aliases[each.id]), each.refers, each.detached) for each in letters]
    )


# -- mail that is not here yet --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """What would become of a mail."""

    new: bool
    """It is not here yet."""
    held: HeldView | None = None
    """It would go to quarantine; if it is not new, it lies there."""
    filtered: Filtered | None = None
    """It would be left out, which the ledger would say in this word."""
    because: tuple[str, ...] = ()
    """What makes it one of those: the entry of a block list, or the header fields of bulk mail."""
    threads: tuple[Explanation, ...] = ()
    """The threads in which it would lie: one, or one for each item that it is sent to (L16)."""
    opened: frozenset[int] = frozenset()
    """Numbers of those that it would open; they may be other numbers when it comes."""


@dataclass(frozen=True, slots=True)
class Door:
    """How the mail would come: into a mailbox, or to Smart Bcc addresses."""

    mailbox: str | None = None
    recipients: Sequence[str] = ()
    sender: str = ""


async def explain_mail(
    database: Database, office: Office, door: Door, raw: bytes, received_at: datetime | None
) -> Tried:
    """Imports a mail in a transaction that is rolled back, and explains what came of it.

    Raises Refused for a recipient that is no Smart Bcc address, and while an import has still to be decided.
    """
    async with rehearsal(database) as tried:
        async with tried.reading() as connection:
            if await mailroom.undecided_threads(connection, 1):
                raise Refused("an import is under way, or was cut off: try again when it is finished")
            held_before = {each.id: each for each in await views.list_held(connection)}
            newest_before = await views.newest_thread(connection)
        lines: list[dict[str, Any]] = []
        house = House(tried, office, instance="", publish=lines.append)
        mails = [(raw, received_at)]
        if door.mailbox is not None:
            summary = await imports.import_mail(house, door.mailbox, mails, _quietly)
        else:
            summary = await imports.import_smart_bcc(house, door.recipients, door.sender, mails, _quietly)
        async with tried.reading() as connection:
            held = [each for each in await views.list_held(connection) if each.id not in held_before]
            if held or summary.quarantined:
                return Tried(new=bool(held), held=held[0] if held else _held_already(held_before.values(), door, raw))
            if door.mailbox is not None and summary.filtered:
                return _left_out(office, door.mailbox, raw)
            numbers = [line["thread"] for line in lines] or await _where_it_lies(connection, office, door, raw)
            found = [await explain(connection, office, number) for number in dict.fromkeys(numbers)]
        opened = frozenset(each.thread.id for each in found if each.thread.id > newest_before)
        return Tried(bool(summary.new), threads=tuple(found), opened=opened)


def _quietly(_: int) -> None:
    """Nobody waits long enough for one mail."""


def _held_already(held: Iterable[HeldView], door: Door, raw: bytes) -> HeldView:
    """Of the mails in quarantine the one that this is: the newest of its size, with its id where one was read."""
    channel = IMAP if door.mailbox is not None else SMART_BCC
    alike = [each for each in held if (each.channel, each.size) == (channel, len(raw))]
    message = read(split(raw)[0], datetime.now(UTC), len(raw))
    shown = shown_id(message.message_id) if isinstance(message, Message) else None
    return max(alike, key=lambda each: (each.message_id == shown, each.id))


def _left_out(office: Office, mailbox: str, raw: bytes) -> Tried:
    owner = office.owner_of_mailbox(mailbox)
    message = parse(split(raw)[0], received_at=datetime.now(UTC), size=len(raw))
    filtered = sieve.left_out(office, owner, message)
    because = sieve.because(office, owner, message, filtered) if filtered is not None else []
    return Tried(new=True, filtered=filtered, because=tuple(because))


async def _where_it_lies(connection: Connection, office: Office, door: Door, raw: bytes) -> Collection[int]:
    """The thread of a mail that is stored already."""
    message = parse(split(raw)[0], received_at=datetime.now(UTC), size=len(raw))
    if door.mailbox is not None:
        place = (office.owner_of_mailbox(door.mailbox), IMAP)
    else:
        author = next((each.address for each in message.participants if each.role is Role.FROM), "")
        place = (office.owner_of_address(author) or "", SMART_BCC)
    scopes = [each for each in await journal.scopes(connection) if (each.owner, each.channel) == place]
    known = await mailroom.known_nodes(connection, [node(each.id, message.message_id) for each in scopes])
    states = await links.states(connection, {each.thread for each in known.values() if each.borne})
    return [state.number for state in states.values()]

"""The desk at which threads are worked on: what a transaction has taken off the shelf and will put back.

Gather (`Desk.open`), decide (`Desk.decide…`), act (`Desk.put_back`).
"""

import asyncio
from bisect import insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.ingest.office import IMAP, Office
from maillinkd.linker.decision import (
    Decision,
    Flag,
    Origin,
    Outcome,
    Reason,
    Trigger,
    outcome,
)
from maillinkd.linker.directory import Directory
from maillinkd.linker.policy import RULE_VERSION
from maillinkd.linker.rules import decide, decide_again, follow_directory, merge, without_automatic
from maillinkd.linker.snapshot import Letter, Snapshot
from maillinkd.mail.message import Participant
from maillinkd.mail.threads import Known, node
from maillinkd.store import cursors, items, journal, links, mailroom, standing
from maillinkd.store.database import Connection, chunks
from maillinkd.store.links import Act, Settled, ThreadState
from maillinkd.store.mailroom import EXCLUDED, Scope, Stored

_FLAGS = frozenset(map(str, Flag))
_NO_FLAGS: frozenset[Flag] = frozenset()
_TURN = 20
"""Threads that are worked on at a stretch: a millisecond or two."""
_PORTION = 256
"""Threads that are decided, and then written while the next are decided."""


@dataclass
class File:
    """One thread on the desk."""

    state: ThreadState
    """As it is to be put back. Changes as the thread is worked on."""
    is_new: bool
    letters: list[Stored]
    mailboxes: set[str] = field(default_factory=set)
    slot_before: ItemRef | None = None
    before: ThreadState | None = None
    """As it was taken off the shelf; the journal keeps it of the changes that `undo` can take back."""
    new: set[int] = field(default_factory=set)
    """Numbers of the messages that came with this batch."""
    names: dict[int, ItemRef] = field(default_factory=dict)
    """Row 3: number of a new message to the item that it names, as the directory has it now."""
    lost: tuple[ItemRef, ...] = ()
    """L21: what was in the slot of a thread that went up in this one, and differs."""
    numbers: set[int] = field(default_factory=set)
    """The numbers of all threads that went up in this one, its own included."""
    buried: set[int] = field(default_factory=set)
    """Labels of stored threads that went up in this one."""
    answer: Decision | None = None
    snapshot: Snapshot | None = None
    trigger: Trigger = Trigger.MESSAGE
    undoes: int | None = None
    """The decision that is taken back."""
    repeats: bool = False
    """It stands again as an earlier slot decision had left it, whose number it keeps."""
    marked: set[int] = field(default_factory=set)
    """Numbers of messages that have got a mark."""

    def mark(self, position: int, said: str) -> None:
        """Says something more of a message."""
        letter = self.letters[position]
        self.letters[position] = replace(letter, marks=letter.marks | {said})
        self.marked.add(letter.id)

    @property
    def label(self) -> int:
        return self.state.id

    @property
    def age(self) -> tuple[datetime, int]:
        """L21: the older of two threads, by start, then by number; one that is just opened is younger."""
        start = self.letters[0].sent_at if self.letters else self.state.started_at
        return start, self.state.number if self.state.number > 0 else 1 << 62


class Desk:
    """Works on threads of one scope within one transaction, which the caller opens and commits."""

    def __init__(
        self, connection: Connection, scope: Scope, office: Office, *, instance: str, actor: str = "auto"
    ) -> None:
        self.connection = connection
        self.scope = scope
        self.office = office
        self.files: dict[int, File] = {}
        self.directory = Directory()
        self.borne: set[bytes] = set()
        self._instance = instance
        self._actor = actor
        self._is_internal = cache(office.is_internal)  # of few addresses, again and again

    async def open(
        self,
        threads: Collection[int],
        *,
        addresses: Iterable[str] = (),
        named: Iterable[ItemRef] = (),
        refs: Iterable[ItemRef] = (),
        known: Mapping[bytes, Known] | None = None,
    ) -> None:
        """Takes threads off the shelf, with what the directory knows of their people.

        It is also asked about further `addresses`, about items that are `named`, and about `refs`: persons and
        organizations that a hand is about to link. `known` are nodes that were looked up already.
        """
        states = await links.states(self.connection, threads)
        letters = await mailroom.messages_of(self.connection, threads)
        for label, state in states.items():
            file = File(state, is_new=False, letters=letters.get(label, []), slot_before=state.slot.item)
            file.before = state
            file.new = {letter.id for letter in file.letters if letter.undecided}
            file.numbers.add(state.number)
            self.files[label] = file
        if self.office.asks_for_mailboxes and self.scope.channel == IMAP:
            for label, mailboxes in (await cursors.mailboxes_of(self.connection, threads)).items():
                self.files[label].mailboxes = mailboxes
        await self._look_up_people(addresses, named, refs)
        await self._look_up_first_references(known or {})

    async def _look_up_people(
        self, addresses: Iterable[str], named: Iterable[ItemRef], refs: Iterable[ItemRef]
    ) -> None:
        compared, linked, slots = set(map(self.office.compared, addresses)), set(refs), set(named)
        for file in self.files.values():
            compared |= {self.office.compared(p.address) for letter in file.letters for p in letter.participants}
            linked |= {act.ref for act in file.state.acts if act.origin is Origin.HAND}
            if file.state.slot.item is not None:
                slots.add(file.state.slot.item)
        external = [address for address in compared if not self.office.is_internal(address)]
        self.directory = await items.directory(self.connection, self.office.policy, external, linked, slots)

    async def _look_up_first_references(self, known: Mapping[bytes, Known]) -> None:
        """Which ids that the earliest messages refer to are those of stored messages (`start_unknown`)."""
        wanted = {
            node(self.scope.id, ref) for file in self.files.values() if file.letters for ref in file.letters[0].refers
        }
        self.borne = {each for each in wanted if each in known and known[each].borne}
        self.borne |= await mailroom.borne(self.connection, wanted - known.keys())

    def start(self, label: int, first: Stored) -> File:
        """Lays down a thread that this batch opens."""
        state = ThreadState(
            id=label,
            number=label,
            scope=self.scope.id,
            started_at=first.sent_at,
            last_message_at=first.sent_at,
            message_count=0,
            id_count=0,
            subject=first.subject,
            reason=None,
            candidates=(),
            flags=frozenset(),
            slot_lost=False,
            decision=None,
        )
        self.files[label] = file = File(state, is_new=True, letters=[])
        return file

    def unite(self, survivor: int, labels: Iterable[int]) -> File:
        """L21: makes one thread of several. Persons and organizations are united, the slots compete."""
        files = [self.files[label] for label in dict.fromkeys((survivor, *labels))]
        if len(files) == 1:
            return files[0]
        oldest = min((file for file in files if not file.is_new), key=lambda file: file.age, default=files[0])
        kept = files[0]
        slot, lost = merge([(file.age, file.state.slot) for file in files])
        acts, tombstones = _unite_acts(file.state for file in files)
        kept.state = kept.state._replace(
            number=oldest.state.number,
            reason=oldest.state.reason,
            candidates=oldest.state.candidates,
            slot=slot,
            slot_lost=any(file.state.slot_lost for file in files) or bool(lost),
            acts=acts,
            tombstones=tombstones,
        )
        kept.slot_before = oldest.slot_before
        kept.letters = sorted((letter for file in files for letter in file.letters), key=mailroom.order)
        kept.lost = tuple(sorted({*lost, *(ref for file in files for ref in file.lost)} - {slot.item}))
        for file in files[1:]:
            kept.mailboxes |= file.mailboxes
            kept.new |= file.new
            kept.names |= file.names
            kept.numbers |= file.numbers
            kept.marked |= file.marked
            kept.buried |= file.buried
            if not file.is_new:
                kept.buried.add(file.label)
            del self.files[file.label]
        if sum(not file.is_new for file in files) > 1:
            kept.trigger = Trigger.MERGE
        return kept

    def add(self, file: File, letter: Stored, mailbox: str | None) -> None:
        """Lays a new message into its thread."""
        insort(file.letters, letter, key=mailroom.order)
        file.new.add(letter.id)
        if mailbox is not None:
            file.mailboxes.add(mailbox)

    def sum_up(self, file: File, label: int, ids: int) -> None:
        """Brings the thread's row in line with its messages: it has got `label` and so many ids."""
        first, state = file.letters[0], file.state
        file.state = state._replace(
            id=label,
            number=label if state.number < 0 else state.number,
            id_count=ids,
            started_at=first.sent_at,
            last_message_at=file.letters[-1].sent_at,
            message_count=len(file.letters),
            subject=first.subject,
        )

    def empty_automatic_slot(self, file: File) -> None:
        """A chunk of a first sync decides from an automatic slot that is empty again (L26)."""
        file.state = file.state._replace(slot=without_automatic(file.state.slot))

    def decide(self, file: File, *, from_the_start: bool = False) -> Decision:
        """Asks the rows and takes their answer over (L26)."""
        snapshot = self.look(file)
        return self.settle(file, snapshot, decide(snapshot, from_the_start=from_the_start))

    def decide_again(self, file: File) -> Decision:
        """L28."""
        self.empty_automatic_slot(file)
        snapshot = self.look(file)
        return self.settle(file, snapshot, decide_again(snapshot))

    def follow_directory(self, file: File) -> bool:
        """L6: takes over what the directory says of the thread's people now. False if nothing has changed."""
        state = file.state
        reason = state.reason or Reason.NO_KNOWN_PERSON
        snapshot = self.look(file)
        found = follow_directory(snapshot, reason)
        acts = links.acts_after(state, found)
        flags = frozenset(map(str, found.flags))
        if {act.ref for act in acts} == state.links and flags == state.flags:
            return False
        candidates = tuple(map(ItemRef.parse, state.candidates))
        self.settle(file, snapshot, Decision(state.slot, reason, found, candidates))
        file.trigger = Trigger.DIRECTORY
        return True

    def look(self, file: File) -> Snapshot:
        """All that the rows may know of the thread."""
        letters = tuple(self._letter(file, each) for each in file.letters)
        addresses = {p.address for letter in letters for p in letter.participants}
        state = file.state
        by_hand = [act.ref for act in state.acts if act.origin is Origin.HAND]
        named = {letter.names for letter in letters if letter.names is not None}
        if state.slot.item is not None:
            named.add(state.slot.item)
        share = self.directory.share(addresses, by_hand, named)
        return Snapshot(
            letters=letters,
            policy=self.office.policy,
            internal=frozenset(filter(self._is_internal, addresses)),
            known=share.known,
            persons=share.persons,
            items=share.items,
            slot=state.slot,
            hand_persons=state.by_hand(ItemKind.PERSON),
            hand_organizations=state.by_hand(ItemKind.ORGANIZATION) & self.directory.organizations,
            tombstones=frozenset(act.ref for act in state.tombstones),
            auto_link=self.office.auto_link(self.scope.owner, file.mailboxes),
            start_unknown=self._start_unknown(file),
            duplicate_message_id=_has_twins(file.letters),
        )

    def _letter(self, file: File, each: Stored) -> Letter:
        people = each.participants
        if self.office.policy.ignore_plus_tags:
            people = tuple(Participant(p.role, self.office.compared(p.address)) for p in people)
        return Letter(
            message_id=each.message_id,
            sent_at=each.sent_at,
            participants=people,
            has_references=bool(each.refers),
            new=each.id in file.new,
            names=file.names.get(each.id),
            marks=frozenset(map(Flag, each.marks & _FLAGS)) if each.marks else _NO_FLAGS,
        )

    def _start_unknown(self, file: File) -> bool:
        return any(node(self.scope.id, ref) not in self.borne for ref in file.letters[0].refers)

    def settle(self, file: File, snapshot: Snapshot, decision: Decision) -> Decision:
        """Takes a decision over, made from that snapshot."""
        state = file.state
        file.snapshot, file.answer = snapshot, decision
        file.state = state._replace(
            slot=decision.slot,
            acts=links.acts_after(state, decision.links),
            reason=decision.reason,
            candidates=tuple(map(str, decision.candidates)),
            flags=frozenset(map(str, decision.links.flags)),
        )
        for position in decision.excluded:
            letter = file.letters[position]
            if letter.id < 0 or letter.undecided:  # what is asked about again came before
                file.mark(position, EXCLUDED)
        return decision

    async def put_back(
        self,
        files: Sequence[File],
        *,
        provisional: bool = False,
        batch: int | None = None,
        about: Mapping[int, tuple[str | None, str | None]] | None = None,
        decides_messages: bool = True,
    ) -> list[dict[str, Any]]:
        """Writes decided threads with a journal row each; returns their decision lines, to be logged after commit.

        `about`: by label, the mailbox and the message-id that the line names. `decides_messages`: those that waited
        to be decided (`Order.LATER`) have been.
        """
        lines: list[dict[str, Any]] = []
        for some in in_portions(files):
            described = await self._describe(some, about or {}, batch, provisional=provisional)
            lines += await self._put_back(some, described, decides_messages=decides_messages)
        return lines

    async def _describe(
        self,
        files: Sequence[File],
        about: Mapping[int, tuple[str | None, str | None]],
        batch: int | None,
        *,
        provisional: bool,
    ) -> list[tuple[journal.Entry, journal.Written]]:
        """What the journal will say of decided threads. The loop gets its turn in between."""
        now = datetime.now(UTC)
        said = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        described: list[tuple[journal.Entry, journal.Written]] = []
        for some in at_leisure(files):
            entries = [
                self._entry(file, now, said, about.get(file.label) or (None, _newest_id(file)), provisional, batch)
                for file in some
            ]
            described += zip(entries, journal.write_down(entries), strict=True)
            await asyncio.sleep(0)
        return described

    async def _put_back(
        self,
        files: Sequence[File],
        described: Sequence[tuple[journal.Entry, journal.Written]],
        *,
        decides_messages: bool,
    ) -> list[dict[str, Any]]:
        entries = [entry for entry, _ in described]
        await self._mark(files)
        if decides_messages:
            undecided = [each.id for file in files for each in file.letters if each.id > 0 and each.undecided]
            await mailroom.settle(self.connection, undecided)
        numbers, self.scope = await journal.append(
            self.connection, self.scope, entries, self._instance, [written for _, written in described]
        )
        settled = []
        for number, file in zip(numbers, files, strict=True):
            settled.append(Settled(file.state, number, file.is_new, _keeps_decision(file)))
        await links.write(self.connection, settled)
        return [journal.line_of(number, entry.line) for number, entry in zip(numbers, entries, strict=True)]

    async def put_back_undecided(self, files: Sequence[File]) -> None:
        """Writes threads to which messages were joined that are to be decided later."""
        settled = [Settled(file.state, 0, file.is_new, keeps_decision=True) for file in files]
        await links.write(self.connection, settled)

    async def _mark(self, files: Iterable[File]) -> None:
        """Writes what was said of stored messages."""
        said = {
            letter.id: letter.marks
            for file in files
            if file.marked
            for letter in file.letters
            if letter.id > 0 and letter.id in file.marked
        }
        await mailroom.mark(self.connection, said)

    def _entry(
        self,
        file: File,
        now: datetime,
        timestamp: str,
        about: tuple[str | None, str | None],
        provisional: bool,
        batch: int | None,
    ) -> journal.Entry:
        decision, snapshot, state = file.answer, file.snapshot, file.state
        assert decision is not None
        assert snapshot is not None
        flags = {str(flag) for flag in decision.links.flags}
        for letter in file.letters:
            if letter.marks and letter.id in file.new:
                flags.update(letter.marks & _FLAGS)
        if file.lost:
            flags.add(str(Flag.SLOT_LOST_IN_MERGE))
        if provisional:
            flags.add(str(Flag.PROVISIONAL))
        what = outcome(file.slot_before, decision)
        if file.trigger is Trigger.DIRECTORY and decision.slot.item == file.slot_before:
            what = Outcome.UNCHANGED
        line: dict[str, Any] = {
            "timestamp": timestamp,
            "thread": state.number,
            "owner": self.scope.owner,
            "channel": self.scope.channel,
            "mailbox": about[0],
            "message_id": about[1],
            "trigger": str(file.trigger),
            "outcome": str(what),
            "reason": str(decision.reason),
            "slot": _name(decision.slot.item),
            "slot_before": _name(file.slot_before),
            "persons": sorted(map(str, decision.links.persons)),
            "organizations": sorted(map(str, decision.links.organizations)),
            "candidates": [str(ref) for ref in decision.candidates],
            "flags": sorted(flags),
            "actor": self._actor,
            "policy": self.office.policy.name,
            "rule_version": RULE_VERSION,
        }
        if batch is not None:
            line["batch"] = batch
        if file.lost:
            line["lost"] = [str(ref) for ref in file.lost]
        if file.undoes is not None:
            line["undoes"] = file.undoes
        facts = snapshot.facts()
        for letter in file.letters:
            if letter.evidence:
                facts.setdefault("evidence", {}).update(letter.evidence)
        if state.slot_lost:
            facts["slot_lost"] = True
        if batch is not None and file.before is not None:
            facts["before"] = standing.facts_of(file.before)
        return journal.Entry(state.number, now, line, facts, batch)


def in_portions(files: Sequence[File]) -> list[Sequence[File]]:
    """The threads in portions that are worth a statement each."""
    return chunks(files, _PORTION)


def at_leisure(files: Sequence[File]) -> list[Sequence[File]]:
    """The threads in portions between which others get their turn: they may have work for the database."""
    return chunks(files, _TURN)


def _keeps_decision(file: File) -> bool:
    """A decision of the directory about persons and organizations is no slot decision (L6), nor is an undo."""
    return file.repeats or (
        file.trigger is Trigger.DIRECTORY
        and file.answer is not None
        and file.answer.reason is not Reason.CONVERTED_LEAD_FOLLOWED
    )


def _unite_acts(states: Iterable[ThreadState]) -> tuple[tuple[Act, ...], tuple[Act, ...]]:
    """L21: hand links and tombstones of persons and organizations are united, the later act holds."""
    acts: dict[ItemRef, Act] = {}
    dead: dict[ItemRef, Act] = {}
    for state in states:
        for act in state.acts:
            known = acts.get(act.ref)
            if known is None or (act.origin is Origin.HAND, act.decision) > (
                known.origin is Origin.HAND,
                known.decision,
            ):
                acts[act.ref] = act
        for act in state.tombstones:
            if act.ref not in dead or act.decision > dead[act.ref].decision:
                dead[act.ref] = act
    for ref in acts.keys() & dead.keys():
        linked = acts[ref]
        if linked.origin is Origin.HAND and linked.decision > dead[ref].decision:
            del dead[ref]
        else:
            del acts[ref]
    return tuple(acts.values()), tuple(dead.values())


def _has_twins(letters: Sequence[Stored]) -> bool:
    """T11: two different messages bear one id."""
    ids = [letter.node for letter in letters if not letter.made_id]
    return len(set(ids)) < len(ids)


def shown_id(message_id: str) -> str:
    """A message-id as the contract shows it; bytes in it that are no UTF-8 can be compared, but not shown."""
    return f"<{mailroom.storable(message_id)}>"


def _newest_id(file: File) -> str | None:
    return shown_id(file.letters[-1].message_id) if file.letters else None


def _name(ref: ItemRef | None) -> str | None:
    return None if ref is None else str(ref)

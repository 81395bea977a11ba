"""The rows of linking.md, asked again of the facts of a decision, each with its answer and why."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from maillinkd.directory.item import ItemRef
from maillinkd.directory.lines import rfc3339
from maillinkd.linker import rules
from maillinkd.linker.decision import TODO_REASONS, Origin, Reason, Slot, Trigger
from maillinkd.linker.snapshot import Letter, SlotItem, Snapshot

_ROWS: tuple[tuple[Reason, str], ...] = (
    (Reason.MANUAL_LINK_KEPT, "Did a person link it by hand?"),
    (Reason.MANUAL_UNLINK_RESPECTED, "Did a person unlink it by hand, and has no mail named an item since?"),
    (Reason.SMART_BCC_EXPLICIT, "Did the message arrive at the address of a known item?"),
    (Reason.KEPT_EXISTING_LINK, "Is it linked to an item that is open?"),
    (Reason.KEPT_EXISTING_LINK_ITEM_CLOSED, "Is it linked to an item that is closed now?"),
    (Reason.AUTO_LINK_OFF, "Is automatic linking off?"),
    (Reason.INTERNAL_ONLY, "Is every participant internal?"),
    (Reason.NO_KNOWN_PERSON, "Is no participant a known person, and none linked by hand?"),
    (Reason.MANY_RECIPIENTS_NO_OPEN_ITEM, "Have the persons no open item, and the thread more than two recipients?"),
    (Reason.NO_ITEM, "Have the persons no item at all?"),
    (Reason.ONLY_CLOSED_ITEMS, "Are all their items closed?"),
    (Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS, "Have they two open items or more?"),
    (Reason.ITEM_NEWER_THAN_THREAD, "Was their one open item added after the thread started?"),
    (Reason.LINKED_SINGLE_OPEN_ITEM, "Was their one open item there when the thread started?"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of linking.md, and what it answered."""

    number: int
    reason: Reason
    question: str
    answer: bool
    because: str


@dataclass(frozen=True, slots=True)
class Case:
    """What the rows were asked about: a thread with all its messages, when the last of them was decided."""

    snapshot: Snapshot
    slot: Slot
    """As it was then."""
    letter: Letter
    external: tuple[str, ...]
    strangers: tuple[str, ...]
    """Addresses of messages that count for nothing (L22)."""
    recipients: tuple[str, ...]
    persons: tuple[ItemRef, ...]
    items: tuple[SlotItem, ...]
    """Those that rows 9 to 14 look at."""

    @property
    def open_items(self) -> list[SlotItem]:
        return [item for item in self.items if item.open]


def case_of(snapshot: Snapshot, *, provisional: bool = False) -> Case:
    """The case that a decision was about; `provisional`: a first sync made it, over all messages (L26)."""
    company = rules.company_of(snapshot)
    persons = company.persons | rules.persons_by_hand(snapshot)
    strangers = {each.address for _, letter in company.strangers for each in letter.participants}
    return Case(
        snapshot=snapshot,
        slot=_slot_before(snapshot, provisional=provisional),
        letter=snapshot.letters[-1],
        external=tuple(sorted(company.external)),
        strangers=tuple(sorted(strangers - company.external - snapshot.internal)),
        recipients=tuple(sorted(company.recipients)),
        persons=tuple(sorted(persons)),
        items=tuple(sorted(rules.items_of(snapshot, frozenset(persons)), key=lambda item: item.ref)),
    )


def _slot_before(snapshot: Snapshot, *, provisional: bool) -> Slot:
    """The slot as the messages before the last one had left it."""
    earlier = snapshot.letters[:-1]
    if earlier and (provisional or any(letter.new for letter in earlier)):
        return rules.decide(replace(snapshot, letters=earlier), from_the_start=provisional).slot
    return snapshot.slot


def asked(case: Case, reason: Reason, trigger: Trigger) -> list[Row]:
    """The rows up to the one that decided, in their order. None for what the directory changed (L6, L10)."""
    if trigger is Trigger.DIRECTORY:
        return []
    rows = []
    for number, (row, question) in enumerate(_ROWS, start=1):
        if trigger is Trigger.DECIDE and number <= 5:
            continue  # L28
        answer = row is reason
        rows.append(Row(number, row, question, answer, _BECAUSE[row](case)))
        if answer:
            break
    return rows


def _by_hand(case: Case) -> str:
    if case.slot.item is not None and case.slot.origin is Origin.HAND:
        return f"{case.slot.item}, by hand"
    if case.slot.item is not None:
        return f"{case.slot.item}, but not by hand"
    return "the slot was empty"


def _unlinked(case: Case) -> str:
    if not case.slot.unlinked_by_hand:
        return "no hand emptied the slot"
    if case.letter.names is not None:
        return f"a hand emptied the slot, but this message names {case.letter.names}"
    return "a hand emptied the slot"


def _named(case: Case) -> str:
    if case.letter.names is not None:
        return f"the address of {case.letter.names}"
    return f"<{case.letter.message_id}> names none"


def _kept(case: Case) -> str:
    item = case.slot.item
    if item is None:
        return "the slot was empty"
    added = case.slot.added_at
    if case.slot.origin is Origin.AUTO and added is not None and case.snapshot.started_at < added:
        started = _time(case.snapshot.started_at)
        return (
            f"the link to {item} is withdrawn: it was added at {_time(added)}, the thread started at {started} (L27)"
        )
    return f"{item} is {'open' if case.snapshot.items[item].open else 'closed'}"


def _switched(case: Case) -> str:
    if case.snapshot.auto_link:
        return "it is on"
    return "it is off for the owner, or for every mailbox in which the messages lie"


def _external(case: Case) -> str:
    said = f"external: {_listed(case.external)}" if case.external else "nobody is external"
    return f"{said}; strangers do not count: {_listed(case.strangers)}" if case.strangers else said


def _known(case: Case) -> str:
    return f"known: {_listed(case.persons)}" if case.persons else "nobody is known"


def _many(case: Case) -> str:
    recipients = f"{len(case.recipients)} recipients" + (f" ({_listed(case.recipients)})" if case.recipients else "")
    return f"{len(case.open_items)} open items, {recipients}"


def _all_items(case: Case) -> str:
    return f"items: {_listed(item.ref for item in case.items)}" if case.items else "they have none"


def _open(case: Case) -> str:
    return f"open: {_listed(item.ref for item in case.open_items)}" if case.open_items else "none is open"


def _age(case: Case) -> str:
    added = _listed(f"{item.ref} was added at {_time(item.added_at)}" for item in case.open_items)
    said = f"{added}; the thread started at {_time(case.snapshot.started_at)}"
    if case.snapshot.start_unknown:
        said += ", or earlier: its first message refers to others that are not here"
    return said


_BECAUSE: dict[Reason, Callable[[Case], str]] = {
    Reason.MANUAL_LINK_KEPT: _by_hand,
    Reason.MANUAL_UNLINK_RESPECTED: _unlinked,
    Reason.SMART_BCC_EXPLICIT: _named,
    Reason.KEPT_EXISTING_LINK: _kept,
    Reason.KEPT_EXISTING_LINK_ITEM_CLOSED: _kept,
    Reason.AUTO_LINK_OFF: _switched,
    Reason.INTERNAL_ONLY: _external,
    Reason.NO_KNOWN_PERSON: _known,
    Reason.MANY_RECIPIENTS_NO_OPEN_ITEM: _many,
    Reason.NO_ITEM: _all_items,
    Reason.ONLY_CLOSED_ITEMS: _open,
    Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS: _open,
    Reason.ITEM_NEWER_THAN_THREAD: _age,
    Reason.LINKED_SINGLE_OPEN_ITEM: _age,
}


def would_fill(case: Case, reason: Reason, candidates: Sequence[str]) -> str | None:
    """What would fill the slot of a thread whose slot is empty for this reason (L23); None if it is filled."""
    return next(_ways(case, reason, candidates), None)


def _ways(case: Case, reason: Reason, candidates: Sequence[str]) -> Iterator[str]:
    persons, listed = _listed(case.persons), _listed(candidates)
    match reason:
        case Reason.MANUAL_UNLINK_RESPECTED:
            yield "a link by hand, or mail to the Smart Bcc address of an item"
        case Reason.AUTO_LINK_OFF:
            yield "a link by hand; or auto_link = true for the owner and the mailbox, and then `maillinkd decide`"
        case Reason.INTERNAL_ONLY:
            yield "a link by hand, or a message from or to somebody outside"
        case Reason.NO_KNOWN_PERSON:
            yield f"a link by hand; or a person with an open item and one of the addresses {_listed(case.external)}"
        case Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS:
            yield f"a link by hand; or only one of {listed} being open, and then a new message or `maillinkd decide`"
        case Reason.ITEM_NEWER_THAN_THREAD:
            yield f"a link by hand: {listed} is younger than the thread"
        case _ if reason in TODO_REASONS:
            yield f"a link by hand; or one open item of {persons}, older than the thread, and then `maillinkd decide`"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _time(when: datetime) -> str:
    return rfc3339(when)

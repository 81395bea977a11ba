"""Why a decision came out as it did (linking.md L23): the rows asked again of its facts, each with what it looked at;
who is linked, and by what; and what would fill an empty slot.

Nothing is said here that was not tried: each way to fill a slot is a changed snapshot that the rules have answered.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.directory.lines import rfc3339
from maillinkd.linker import rules
from maillinkd.linker.decision import Flag, Origin, Reason, Slot, Trigger
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot
from maillinkd.mail.message import Participant, Role

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
_FIRST_AUTOMATIC = 6
"""`decide` begins at this row (L28)."""


# -- the rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One row of linking.md."""

    number: int
    reason: Reason
    question: str
    answer: bool | None
    """None: it was not asked."""
    because: str
    """The facts that it looked at; or why it was not asked."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the rows were asked about: a thread with all its messages, when the last of them was decided."""

    snapshot: Snapshot
    slot: Slot
    """As it was then."""
    emptied: ItemRef | None
    """What was in the slot until a hand, or a chunk of a first sync (L26), emptied it for the rows to be asked."""
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


def case_of(snapshot: Snapshot, *, provisional: bool = False, emptied: ItemRef | None = None) -> Case:
    """The case that a decision was about; `provisional`: a first sync made it, over all messages (L26).

    `emptied`: what was in the slot, if it was emptied before the rows were asked.
    """
    company = rules.company_of(snapshot)
    persons = company.persons | rules.persons_by_hand(snapshot)
    strangers = {each.address for _, letter in company.strangers for each in letter.participants}
    return Case(
        snapshot=snapshot,
        slot=_slot_before(snapshot, provisional=provisional),
        emptied=emptied,
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


def asked(case: Case, reason: Reason, trigger: Trigger, *, undone: bool = False) -> list[Row]:
    """All rows in their order; one that was not asked has no answer, and says why.

    `undone`: the decision took another one back, and repeats what stood before it (L20).
    """
    rows: list[Row] = []
    answered: int | None = None
    for number, (row, question) in enumerate(_ROWS, start=1):
        if undone:
            rows.append(Row(number, row, question, None, "an undo asks no row"))
        elif trigger is Trigger.DIRECTORY:
            rows.append(Row(number, row, question, None, "the directory changed, which asks no row"))
        elif trigger is Trigger.DECIDE and number < _FIRST_AUTOMATIC:
            rows.append(Row(number, row, question, None, f"`decide` begins with row {_FIRST_AUTOMATIC}"))
        elif answered is not None:
            rows.append(Row(number, row, question, None, f"row {answered} has answered"))
        elif row is Reason.SMART_BCC_EXPLICIT and (conflict := _conflict(case)) is not None:
            rows.append(Row(number, row, question, None, conflict))
        else:
            rows.append(Row(number, row, question, row is reason, _BECAUSE[row](case)))
            answered = number if row is reason else None
    return rows


def _by_hand(case: Case) -> str:
    if case.slot.item is not None and case.slot.origin is Origin.HAND:
        return f"{case.slot.item}, by hand"
    if case.slot.item is not None:
        return f"{case.slot.item}, but not by hand"
    return _empty(case)


def _empty(case: Case) -> str:
    if case.slot.unlinked_by_hand:
        return f"a hand had just unlinked {case.emptied}" if case.emptied else "a hand had emptied the slot"
    if case.emptied:
        return f"the slot was empty: a first sync asks again about what was linked automatically, {case.emptied}"
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


def _conflict(case: Case) -> str | None:
    """L16: mail to another item's address reached a thread whose slot is filled, and cannot be detached."""
    for letter in case.snapshot.letters:
        if letter.new and letter.names is None and Flag.SMART_BCC_CONFLICT in letter.marks:
            slot = f"the slot holds {case.slot.item}" if case.slot.item is not None else "the slot was filled"
            return f"<{letter.message_id}> arrived at the address of another item, but {slot} (smart_bcc_conflict)"
    return None


def _kept(case: Case) -> str:
    item = case.slot.item
    if item is None:
        return _empty(case)
    added = case.slot.added_at
    if case.slot.origin is Origin.AUTO and added is not None and case.snapshot.started_at < added:
        started = rfc3339(case.snapshot.started_at)
        said = f"it was added at {rfc3339(added)}, the thread started at {started} (L27)"
        return f"the link to {item} is withdrawn: {said}"
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
    added = _listed(f"{item.ref} was added at {rfc3339(item.added_at)}" for item in case.open_items)
    said = f"{added}; the thread started at {rfc3339(case.snapshot.started_at)}"
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


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


# -- persons and organizations --------------------------------------------------------------------------------------


class Why(StrEnum):
    """What links a person or an organization to a thread, or keeps it away."""

    ADDRESS = "address"
    ORGANIZATION = "organization"
    """Of a linked person (L4)."""
    BY_HAND = "by_hand"
    TOMBSTONE = "tombstone"
    """A hand unlinked it."""
    NOT_FIRST = "not_first"
    """`single_contact`: another one is the first known person (L5)."""
    DROPPED = "dropped"
    """`many_recipients = "all"`, while row 9 is the reason."""
    SWITCHED_OFF = "switched_off"
    """Automatic linking is off (row 6)."""
    STRANGER = "stranger"
    """The only messages with this address count for nothing (L22)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an address stands."""

    address: str
    role: Role
    message_id: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A person or organization that has to do with the thread."""

    ref: ItemRef
    linked: bool
    why: Why
    traces: tuple[Trace, ...] = ()
    """Where the person's addresses stand; of an organization, those of its persons."""
    of: tuple[ItemRef, ...] = ()
    """The persons whose organization it is."""


def contacts(snapshot: Snapshot, reason: Reason) -> list[Contact]:
    """Everyone who is linked, or would be but for a hand or a choice, persons first."""
    company = rules.company_of(snapshot)
    linked = rules.follow_directory(snapshot, reason)
    strangers = {number for number, _ in company.strangers}
    persons = {ref for refs in snapshot.known.values() for ref in refs} | snapshot.hand_persons
    persons |= {ref for ref in snapshot.tombstones if ref.kind is ItemKind.PERSON}
    found = []
    for ref in sorted(persons):
        traces = _traces(snapshot, ref)
        is_linked = ref in linked.persons
        counts = any(number not in strangers for number, _ in traces)
        why = _why_person(snapshot, ref, reason, linked=is_linked, counts=counts)
        found.append(Contact(ref, is_linked, why, tuple(trace for _, trace in traces)))
    organizations: dict[ItemRef, list[ItemRef]] = {}
    for each in found:
        organization = snapshot.persons[each.ref].organization if each.ref in snapshot.persons else None
        if organization is not None and each.linked:
            organizations.setdefault(organization, []).append(each.ref)
    others = {*organizations, *snapshot.hand_organizations, *snapshot.tombstones}
    for ref in sorted(each for each in others if each.kind is ItemKind.ORGANIZATION):
        why = Why.ORGANIZATION
        if ref in snapshot.tombstones:
            why = Why.TOMBSTONE
        elif ref in snapshot.hand_organizations:
            why = Why.BY_HAND
        found.append(Contact(ref, ref in linked.organizations, why, of=tuple(organizations.get(ref, ()))))
    return found


def _traces(snapshot: Snapshot, ref: ItemRef) -> list[tuple[int, Trace]]:
    """Number of the message, counted from 1, and where the person's address stands in it."""
    return [
        (number, Trace(each.address, each.role, letter.message_id))
        for number, letter in enumerate(snapshot.letters, start=1)
        for each in letter.participants
        if each.address not in snapshot.internal and ref in snapshot.known.get(each.address, ())
    ]


def _why_person(snapshot: Snapshot, ref: ItemRef, reason: Reason, *, linked: bool, counts: bool) -> Why:
    if ref in snapshot.tombstones:
        return Why.TOMBSTONE
    if ref in snapshot.hand_persons:
        return Why.BY_HAND
    if linked:
        return Why.ADDRESS
    if not counts:
        return Why.STRANGER
    if not snapshot.auto_link:
        return Why.SWITCHED_OFF
    if snapshot.policy.many_recipients == "all" and reason is Reason.MANY_RECIPIENTS_NO_OPEN_ITEM:
        return Why.DROPPED
    return Why.NOT_FIRST


# -- what would fill the slot ---------------------------------------------------------------------------------------


class Then(StrEnum):
    """What has to be done for a change to take effect on a thread that is there."""

    NOTHING = "nothing"
    DECIDE = "decide"
    """`maillinkd decide`: nothing else decides a thread without mail or a hand (L28)."""


@dataclass(frozen=True, slots=True)
class Way:
    """A change after which the rules fill the slot."""

    change: str
    """In a sentence."""
    slot: ItemRef | None
    """What the slot would hold; None where that is for whoever makes the change to choose."""
    then: Then


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the directory and the scope know beyond the snapshot."""

    smart_bcc: bool = False
    """The thread is of the Smart Bcc scope: mail to an item's address reaches it (row 3)."""
    can_open: frozenset[ItemRef] = frozenset()
    """Closed items that can be opened again: neither deleted nor converted."""
    undated: frozenset[ItemRef] = frozenset()
    """Items whose time of creation is not known (L9)."""


_MOST = 8
"""So many items or addresses are tried one by one; a thread with more needs a hand anyway."""
_ANY_DEAL, _ANY_PERSON = ItemRef(ItemKind.DEAL, "-"), ItemRef(ItemKind.PERSON, "-")
"""An item and a person that are not there yet: no CRM gives such an id."""
_SOMEBODY = "somebody@outside.invalid"
"""RFC 2606, 2."""


def ways(snapshot: Snapshot, around: Circumstances | None = None) -> list[Way]:
    """What would fill the thread's empty slot, as it stands now, each tried with the rules; a hand comes last.

    `snapshot` is of today, with no new message. Nothing for a slot that is filled.
    """
    around = around or Circumstances()
    if snapshot.slot.item is not None:
        return []
    found = [] if snapshot.slot.unlinked_by_hand else list(_automatic(snapshot, around))
    if around.smart_bcc and _fills_by_mail(snapshot):
        found.append(Way("mail of this thread to an item's Smart Bcc address", None, Then.NOTHING))
    if _fills_by_hand(snapshot):
        found.append(Way("a link by hand", None, Then.NOTHING))
    return found


def _automatic(snapshot: Snapshot, around: Circumstances) -> Iterator[Way]:
    slot = _filled(snapshot)
    if slot is not None:
        yield Way("nothing more: the directory has changed since it was decided", slot, Then.DECIDE)
        return
    if not snapshot.auto_link:
        on = replace(snapshot, auto_link=True)
        switch = "automatic linking is on for the owner and for one of the mailboxes"
        slot = _filled(on)
        if slot is not None:
            yield Way(switch, slot, Then.DECIDE)
            return
        for way in _single_changes(on, around):
            yield replace(way, change=f"{switch}, and {way.change}")
        return
    yield from _single_changes(snapshot, around)


def _single_changes(snapshot: Snapshot, around: Circumstances) -> Iterator[Way]:
    case = case_of(snapshot)
    yield from _by_closing(case)
    yield from _by_opening(case, around)
    yield from _by_dating(case, around)
    yield from _by_knowing_the_start(case)
    yield from _by_policy(snapshot)
    yield from _by_a_tombstone_less(snapshot)
    yield from _by_a_new_item(case)
    yield from _by_a_new_person(case)
    yield from _by_somebody_outside(case)


def _by_closing(case: Case) -> Iterator[Way]:
    """Row 12: one item the less, or all but one."""
    listed = case.open_items
    if not 1 < len(listed) <= _MOST:
        return
    singles = list(_tried_each(case.snapshot, listed, lambda item: [item]))
    if singles:
        for item, slot in singles:
            yield Way(f"{item.ref} is closed", slot, Then.DECIDE)
        return
    for kept, slot in _tried_each(case.snapshot, listed, lambda item: [each for each in listed if each != item]):
        others = [str(each.ref) for each in listed if each != kept]
        yield Way(f"{', '.join(others[:-1])} and {others[-1]} are closed", slot, Then.DECIDE)


def _tried_each(
    snapshot: Snapshot, items: Sequence[SlotItem], closed: Callable[[SlotItem], list[SlotItem]]
) -> Iterator[tuple[SlotItem, ItemRef]]:
    for item in items:
        slot = _filled(_with_items(snapshot, *(replace(each, open=False) for each in closed(item))))
        if slot is not None:
            yield item, slot


def _by_opening(case: Case, around: Circumstances) -> Iterator[Way]:
    """Rows 9 and 11."""
    closed = [item for item in case.items if not item.open and item.ref in around.can_open]
    for item in closed[:_MOST]:
        slot = _filled(_with_items(case.snapshot, replace(item, open=True)))
        if slot is not None:
            yield Way(f"{item.ref} is open again", slot, Then.DECIDE)


def _by_dating(case: Case, around: Circumstances) -> Iterator[Way]:
    """Row 13, L9: an item counts as created when it was imported, unless its line says better."""
    started = case.snapshot.started_at
    for item in case.open_items[:_MOST]:
        if item.ref in around.undated and item.added_at > started:
            slot = _filled(_with_items(case.snapshot, replace(item, added_at=started)))
            if slot is not None:
                change = f"{item.ref}, imported without a time of creation, is given one not after {rfc3339(started)}"
                yield Way(change, slot, Then.DECIDE)


def _by_knowing_the_start(case: Case) -> Iterator[Way]:
    if not case.snapshot.start_unknown:
        return
    slot = _filled(replace(case.snapshot, start_unknown=False))
    if slot is not None:
        added = rfc3339(case.snapshot.items[slot].added_at)
        yield Way(f"the mail before its first message is here, and none is older than {added}", slot, Then.DECIDE)


def _by_policy(snapshot: Snapshot) -> Iterator[Way]:
    """Switches that ask for nothing beyond the snapshot. What others would do, `simulate` tells."""
    policy = snapshot.policy
    tried = (
        ("count_only_older_items", not policy.count_only_older_items),
        ("unknown_start", "link" if policy.unknown_start == "leave" else "leave"),
    )
    for name, value in tried:
        slot = _filled(replace(snapshot, policy=policy.changed(**{name: value})))
        if slot is not None:
            shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
            yield Way(f"the policy has {name} = {shown}", slot, Then.DECIDE)


def _by_a_tombstone_less(snapshot: Snapshot) -> Iterator[Way]:
    for ref in sorted(snapshot.tombstones):
        if ref.kind is ItemKind.PERSON and ref in snapshot.persons:
            linked = replace(
                snapshot,
                tombstones=snapshot.tombstones - {ref},
                hand_persons=snapshot.hand_persons | {ref},
            )
            slot = _filled(linked)
            if slot is not None:
                yield Way(f"{ref} is linked by hand again", slot, Then.NOTHING)


def _by_a_new_item(case: Case) -> Iterator[Way]:
    """Rows 9, 10 and 11."""
    able = [str(ref) for ref in case.persons[:_MOST] if _filled(_with_items(case.snapshot, _deal_of(case, ref)))]
    if able:
        said = f"an open deal, lead or project of {' or '.join(able)} is there, added not after {_started(case)}"
        yield Way(said, None, Then.DECIDE)


def _by_a_new_person(case: Case) -> Iterator[Way]:
    """Row 8: one of the unknown addresses is a person's, who has an open item."""
    snapshot = case.snapshot
    unknown = [address for address in (*case.external, *case.strangers) if address not in snapshot.known]
    able = []
    for address in unknown[:_MOST]:
        met = _with_items(_with_person(snapshot, address), _deal_of(case, _ANY_PERSON))
        if _filled(met):
            able.append(address)
    if able and not case.persons:
        said = f"a person with the address {' or '.join(able)} is there, who has one open deal, lead or project"
        yield Way(f"{said}, added not after {_started(case)}", None, Then.DECIDE)


def _by_somebody_outside(case: Case) -> Iterator[Way]:
    """Row 7."""
    if case.external or case.strangers:
        return
    snapshot = case.snapshot
    first = snapshot.letters[-1].participants[:1]
    letter = snapshot.letters[-1]._replace(
        participants=(*first, Participant(Role.TO, _SOMEBODY)), new=True, names=None
    )
    joined = replace(snapshot, letters=(*snapshot.letters, letter))
    met = _with_items(_with_person(joined, _SOMEBODY), _deal_of(case, _ANY_PERSON))
    if rules.decide(met).slot.item is not None:
        said = "mail of this thread to a known person outside, who has one open deal, lead or project"
        yield Way(f"{said}, added not after {_started(case)}", None, Then.NOTHING)


def _filled(snapshot: Snapshot) -> ItemRef | None:
    """What `decide` would put in the slot (L28)."""
    return rules.decide_again(snapshot).slot.item


def _fills_by_hand(snapshot: Snapshot) -> bool:
    linked = _with_items(replace(snapshot, slot=Slot(_ANY_DEAL, Origin.HAND)), _deal(snapshot.started_at, None))
    return rules.decide(linked).slot.item is not None


def _fills_by_mail(snapshot: Snapshot) -> bool:
    letter = snapshot.letters[-1]._replace(new=True, names=_ANY_DEAL)
    known = _with_items(snapshot, _deal(snapshot.started_at, None))
    return rules.decide(replace(known, letters=(*snapshot.letters, letter))).slot.item is not None


def _with_items(snapshot: Snapshot, *items: SlotItem) -> Snapshot:
    return replace(snapshot, items={**snapshot.items, **{item.ref: item for item in items}})


def _with_person(snapshot: Snapshot, address: str) -> Snapshot:
    return replace(
        snapshot,
        known={**snapshot.known, address: (*snapshot.known.get(address, ()), _ANY_PERSON)},
        persons={**snapshot.persons, _ANY_PERSON: Person(_ANY_PERSON)},
    )


def _deal(added_at: datetime, person: ItemRef | None) -> SlotItem:
    return SlotItem(_ANY_DEAL, open=True, added_at=added_at, person=person)


def _deal_of(case: Case, person: ItemRef) -> SlotItem:
    return _deal(case.snapshot.started_at, person)


def _started(case: Case) -> str:
    return rfc3339(case.snapshot.started_at)

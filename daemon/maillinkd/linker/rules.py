"""The rows of linking.md, asked in their order. The first that answers decides."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import (
    EMPTY,
    Decision,
    Flag,
    Links,
    Origin,
    Reason,
    Slot,
)
from maillinkd.linker.snapshot import Letter, SlotItem, Snapshot
from maillinkd.mail.message import Role

MANY = 2
"""Row 9: a thread with more recipients than this has many."""
_RECIPIENTS = (Role.TO, Role.CC)


def decide(snapshot: Snapshot, *, from_the_start: bool = False) -> Decision:
    """Decides a thread message by message in order of sent time, from its first new one on (L26).

    The last answer stands. Without a new message (after a manual change) the rows are asked once, over all messages.
    `from_the_start` walks over all of them (chunks of a first sync).
    """
    company = Company(snapshot)
    letters = snapshot.letters
    news = (position for position, letter in enumerate(letters) if letter.new)
    first = 0 if from_the_start else next(news, len(letters) - 1)
    for letter in letters[:first]:
        company.join(letter)
    slot, excluded = snapshot.slot, set[int]()
    answer = _Answer(slot, Reason.NO_KNOWN_PERSON)
    for position in range(first, len(letters)):
        letter = letters[position]
        company.join(letter)
        answer = _ask(snapshot, company, slot, letter)
        slot = answer.slot
        if _keeps_out(snapshot, answer) and letter.new:
            excluded.add(position)
    links = _links(snapshot, company, answer.reason)
    return Decision(slot, answer.reason, links, answer.candidates, frozenset(excluded))


def decide_again(snapshot: Snapshot) -> Decision:
    """L28: rows 6 to 14 over all messages, from an automatic slot that is empty again."""
    company = company_of(snapshot)
    answer = _ask_rows_6_to_14(snapshot, company)
    return Decision(answer.slot, answer.reason, _links(snapshot, company, answer.reason), answer.candidates)


def follow_directory(snapshot: Snapshot, reason: Reason) -> Links:
    """L6: persons and organizations after the directory has changed; slot and reason stay as they are."""
    return _links(snapshot, company_of(snapshot), reason)


@dataclass(frozen=True, slots=True)
class _Answer:
    slot: Slot
    reason: Reason
    candidates: tuple[ItemRef, ...] = ()


def _ask(snapshot: Snapshot, company: "Company", slot: Slot, letter: Letter) -> _Answer:
    """Rows 1 to 5; what they leave open goes on to rows 6 to 14."""
    if slot.item is not None and slot.origin is Origin.HAND:
        return _Answer(slot, Reason.MANUAL_LINK_KEPT)
    if letter.names is None and slot.unlinked_by_hand:
        return _Answer(slot, Reason.MANUAL_UNLINK_RESPECTED)
    if letter.names is not None:
        named = Slot(letter.names, Origin.SMART_BCC, reason=Reason.SMART_BCC_EXPLICIT)
        is_there = slot.item == letter.names and slot.origin is Origin.SMART_BCC  # what row 14 found is named now
        return _Answer(slot if is_there else named, Reason.SMART_BCC_EXPLICIT)
    if slot.item is not None and not _withdrawn(snapshot, slot):
        if snapshot.items[slot.item].open:
            return _Answer(slot, Reason.KEPT_EXISTING_LINK)
        return _Answer(slot, Reason.KEPT_EXISTING_LINK_ITEM_CLOSED)
    return _ask_rows_6_to_14(snapshot, company)


def _withdrawn(snapshot: Snapshot, slot: Slot) -> bool:
    """L27: an older message, found later, shows that the item was added after the thread had started."""
    return slot.origin is Origin.AUTO and slot.added_at is not None and snapshot.started_at < slot.added_at


def _ask_rows_6_to_14(snapshot: Snapshot, company: "Company") -> _Answer:
    if not snapshot.auto_link:
        return _Answer(EMPTY, Reason.AUTO_LINK_OFF)
    if not company.external:
        return _Answer(EMPTY, Reason.INTERNAL_ONLY)
    persons = company.persons | persons_by_hand(snapshot)
    if not persons:
        return _Answer(EMPTY, Reason.NO_KNOWN_PERSON)
    items = list(items_of(snapshot, persons))
    open_items = [item for item in items if item.open]
    if not open_items:
        if len(company.recipients) > MANY:
            return _Answer(EMPTY, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM)
        return _Answer(EMPTY, Reason.ONLY_CLOSED_ITEMS if items else Reason.NO_ITEM)
    return _ask_rows_12_to_14(snapshot, open_items)


def _ask_rows_12_to_14(snapshot: Snapshot, open_items: Sequence[SlotItem]) -> _Answer:
    known_start = not (snapshot.start_unknown and snapshot.policy.unknown_start == "leave")
    older = [item for item in open_items if known_start and item.added_at <= snapshot.started_at]
    counted = open_items
    if snapshot.policy.count_only_older_items and older:
        counted = older
    candidates = tuple(sorted(item.ref for item in counted))
    only_newer = snapshot.policy.count_only_older_items and not older
    if len(counted) > 1 and not only_newer:
        return _Answer(EMPTY, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS, candidates)
    if not older:
        return _Answer(EMPTY, Reason.ITEM_NEWER_THAN_THREAD, candidates)
    item = counted[0]
    reason = Reason.LINKED_SINGLE_OPEN_ITEM
    return _Answer(Slot(item.ref, Origin.AUTO, item.added_at, reason=reason), reason, candidates)


def items_of(snapshot: Snapshot, persons: frozenset[ItemRef]) -> Iterable[SlotItem]:
    """L7: what belongs to these persons, and what the policy counts beside it."""
    policy = snapshot.policy
    organizations: frozenset[ItemRef] = frozenset()
    if policy.include_organization_items:
        organizations = _organizations_of(snapshot, persons) | (snapshot.hand_organizations - snapshot.tombstones)
    for item in snapshot.items.values():
        if (
            item.person in persons
            or (policy.include_participants and not persons.isdisjoint(item.participants))
            or (item.person is None and item.organization in organizations)
        ):
            yield item


def persons_by_hand(snapshot: Snapshot) -> frozenset[ItemRef]:
    """Persons whom a hand linked and who are not deleted."""
    return frozenset(ref for ref in snapshot.hand_persons if ref in snapshot.persons)


def _organizations_of(snapshot: Snapshot, persons: Iterable[ItemRef]) -> frozenset[ItemRef]:
    """L4, without those that a hand unlinked."""
    found = {snapshot.persons[ref].organization for ref in persons}
    return frozenset(ref for ref in found if ref is not None) - snapshot.tombstones


def _links(snapshot: Snapshot, company: "Company", reason: Reason) -> Links:
    """L3 to L6: persons and organizations, and the flags that hold now."""
    by_hand = persons_by_hand(snapshot)
    dropped = snapshot.policy.many_recipients == "all" and reason is Reason.MANY_RECIPIENTS_NO_OPEN_ITEM
    automatic: frozenset[ItemRef] = frozenset()
    flags = set[Flag]()
    if snapshot.auto_link and not dropped:
        automatic = company.first_person() if snapshot.policy.single_contact else company.persons
        if company.ambiguous_person:
            flags.add(Flag.AMBIGUOUS_PERSON)
    if company.strangers:
        flags.add(Flag.STRANGER_JOINED)
    if snapshot.start_unknown:
        flags.add(Flag.START_UNKNOWN)
    if snapshot.duplicate_message_id:
        flags.add(Flag.DUPLICATE_MESSAGE_ID)
    persons = automatic | by_hand
    organizations = _organizations_of(snapshot, persons) | snapshot.hand_organizations
    return Links(persons, organizations, frozenset(flags))


def _keeps_out(snapshot: Snapshot, answer: _Answer) -> bool:
    return (
        snapshot.policy.closed_item_threads == "exclude_later"
        and answer.reason is Reason.KEPT_EXISTING_LINK_ITEM_CLOSED
    )


def company_of(snapshot: Snapshot) -> "Company":
    """Everyone who takes part in the whole thread."""
    company = Company(snapshot)
    for letter in snapshot.letters:
        company.join(letter)
    return company


class Company:
    """Who takes part in a thread, as its messages join in order of sent time; strangers wait outside (L22)."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._joined: list[tuple[int, Letter]] = []
        self._count = 0
        self._named = set[str]()
        self.strangers: list[tuple[int, Letter]] = []
        self.external = set[str]()
        self.recipients = set[str]()
        self.persons: frozenset[ItemRef] = frozenset()
        self.ambiguous_person = False

    def join(self, letter: Letter) -> None:
        """Takes the next message in, or lets it wait; and takes in those who waited and are named now."""
        self._count += 1
        numbered = (self._count, letter)
        if not self._admits(numbered):
            self.strangers.append(numbered)
            return
        self._take_in(numbered)
        while admitted := [each for each in self.strangers if self._admits(each)]:
            for each in admitted:
                self.strangers.remove(each)
                self._take_in(each)

    def _admits(self, numbered: tuple[int, Letter]) -> bool:
        number, letter = numbered
        if number == 1 or not letter.has_references:
            return True
        internal, known, named = self._snapshot.internal, self._snapshot.known, self._named
        for each in letter.participants:
            address = each.address
            if each.role is Role.FROM and (address in internal or address in known or address in named):
                return True
        return False

    def _take_in(self, numbered: tuple[int, Letter]) -> None:
        self._joined.append(numbered)
        snapshot, named, external = self._snapshot, self._named, self.external
        colleagues = snapshot.internal
        count_colleagues = snapshot.policy.count_internal_recipients
        found = set[ItemRef]()
        for each in numbered[1].participants:
            address = each.address
            named.add(address)
            internal = address in colleagues
            if each.role in _RECIPIENTS and (not internal or count_colleagues):
                self.recipients.add(address)
            if internal or address in external:
                continue
            external.add(address)
            persons = [ref for ref in snapshot.known.get(address, ()) if ref not in snapshot.tombstones]
            found.update(persons)
            self.ambiguous_person |= len(persons) > 1
        if found:
            self.persons |= found

    def first_person(self) -> frozenset[ItemRef]:
        """L5, strict: the first known person of the first message that has one; of several with one address the
        smaller id."""
        for _, letter in sorted(self._joined, key=lambda numbered: numbered[0]):
            for each in letter.participants:
                known = self._snapshot.known.get(each.address, ())
                persons = [ref for ref in known if ref in self.persons]
                if persons:
                    return frozenset({min(persons, key=_by_id)})
        return frozenset()


def _by_id(ref: ItemRef) -> tuple[bool, int, str]:
    """Numbers as numbers, before other ids."""
    return (False, int(ref.id), "") if ref.id.isdecimal() else (True, 0, ref.key)


def merge(threads: Sequence[tuple[tuple[object, ...], Slot]]) -> tuple[Slot, tuple[ItemRef, ...]]:
    """L21: the slot of threads that turn out to be one, and the items that lost.

    `threads` are (age, slot), age being comparable (start, then id), the older the smaller. By hand beats Smart Bcc
    beats automatic; a hand that unlinked comes after one that linked; among equals the older thread.
    """
    ranked = sorted(threads, key=lambda thread: (_rank(thread[1]), thread[0]))
    winner = ranked[0][1]
    lost = {slot.item for _, slot in ranked[1:] if slot.item is not None and slot.item != winner.item}
    return winner, tuple(sorted(lost))


def _rank(slot: Slot) -> int:
    if slot.item is None:
        return 1 if slot.unlinked_by_hand else 4
    return {Origin.HAND: 0, Origin.SMART_BCC: 2, Origin.AUTO: 3, None: 4}[slot.origin]


def without_automatic(slot: Slot) -> Slot:
    """The slot as a chunk of a first sync and `decide` start from: what a row 14 filled is empty again."""
    return EMPTY if slot.origin is Origin.AUTO else slot


def hand_over(slot: Slot, deal: ItemRef) -> Slot:
    """L10: the lead's link goes over to its deal, whoever made it; the lead's age stays the one that counts."""
    return replace(slot, item=deal, decision=None, reason=Reason.CONVERTED_LEAD_FOLLOWED)


__all__ = ["decide", "decide_again", "follow_directory", "hand_over", "merge", "without_automatic"]

"""All that the linker may know. If a rule wants to ask a database, a field is missing here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Self

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Flag, Origin, Reason, Slot
from maillinkd.linker.policy import Policy
from maillinkd.mail.message import Participant, Role


class Letter(NamedTuple):
    """A message of the thread, as far as linking looks at it."""

    message_id: str
    sent_at: datetime
    participants: tuple[Participant, ...]
    """With `policy.ignore_plus_tags` their addresses come without tags. In the order of mail.message.Message."""
    has_references: bool
    """It refers to other messages (L22: one without references is no stranger's)."""
    new: bool = False
    """It came with this batch: the walk begins at the first new one."""
    names: ItemRef | None = None
    """Row 3: the item, known and not deleted, whose Smart Bcc address it arrived at; None if row 3 is not asked."""
    marks: frozenset[Flag] = frozenset()
    """What this message brought (`smart_bcc_…`)."""


@dataclass(frozen=True, slots=True)
class Person:
    """A contact person who is not deleted."""

    ref: ItemRef
    organization: ItemRef | None = None
    """None also where the organization is unknown or deleted."""


@dataclass(frozen=True, slots=True)
class SlotItem:
    """A deal, lead or project as the rows see it."""

    ref: ItemRef
    open: bool
    added_at: datetime
    """L9: when it was imported, where the time of its creation is not known."""
    person: ItemRef | None = None
    organization: ItemRef | None = None
    participants: frozenset[ItemRef] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One thread and what the directory knows of its people, at one moment."""

    letters: tuple[Letter, ...]
    """In order of sent time, then message-id (L26). Never empty."""
    policy: Policy = field(default_factory=Policy)
    internal: frozenset[str] = frozenset()
    """Those addresses of the letters that are internal."""
    known: Mapping[str, tuple[ItemRef, ...]] = field(default_factory=dict)
    """Address to the persons who have it, by id (L5)."""
    persons: Mapping[ItemRef, Person] = field(default_factory=dict)
    """Every person in `known` and in `hand_persons`; deleted ones are absent."""
    items: Mapping[ItemRef, SlotItem] = field(default_factory=dict)
    """Every deal, lead and project of those persons (and organizations, where the policy counts them),
    the item in the slot, and those that letters name."""
    slot: Slot = EMPTY
    hand_persons: frozenset[ItemRef] = frozenset()
    hand_organizations: frozenset[ItemRef] = frozenset()
    tombstones: frozenset[ItemRef] = frozenset()
    """Persons and organizations that a hand unlinked."""
    auto_link: bool = True
    """False: off for the owner, or for every mailbox in which the letters lie (row 6)."""
    start_unknown: bool = False
    """The earliest stored message refers to ids that no message of the scope bears."""
    duplicate_message_id: bool = False

    @property
    def started_at(self) -> datetime:
        return self.letters[0].sent_at

    def facts(self) -> dict[str, Any]:
        """The snapshot as JSON, from which `of_facts` makes an equal one (L24)."""
        return {
            "policy": {name: getattr(self.policy, name) for name in Policy.__slots__},
            "letters": [_letter_facts(letter) for letter in self.letters],
            "internal": sorted(self.internal),
            "known": {address: [str(ref) for ref in refs] for address, refs in sorted(self.known.items())},
            "persons": {str(p.ref): p.organization and str(p.organization) for p in self.persons.values()},
            "items": [_item_facts(item) for item in self.items.values()],
            "slot": slot_facts(self.slot),
            "hand": sorted(map(str, self.hand_persons | self.hand_organizations)),
            "tombstones": sorted(map(str, self.tombstones)),
            "auto_link": self.auto_link,
            "start_unknown": self.start_unknown,
            "duplicate_message_id": self.duplicate_message_id,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The snapshot that `facts` was made from."""
        hand = frozenset(map(_ref, facts["hand"]))
        persons = {_ref(ref): Person(_ref(ref), _ref(org) if org else None) for ref, org in facts["persons"].items()}
        items = [_item_of(each) for each in facts["items"]]
        return cls(
            letters=tuple(_letter_of(each) for each in facts["letters"]),
            policy=Policy(**facts["policy"]),
            internal=frozenset(facts["internal"]),
            known={address: tuple(map(_ref, refs)) for address, refs in facts["known"].items()},
            persons=persons,
            items={item.ref: item for item in items},
            slot=slot_of(facts["slot"]),
            hand_persons=frozenset(ref for ref in hand if ref.kind is ItemKind.PERSON),
            hand_organizations=frozenset(ref for ref in hand if ref.kind is ItemKind.ORGANIZATION),
            tombstones=frozenset(map(_ref, facts["tombstones"])),
            auto_link=facts["auto_link"],
            start_unknown=facts["start_unknown"],
            duplicate_message_id=facts["duplicate_message_id"],
        )


def micros(when: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact."""
    return (when - _EPOCH) // _MICROSECOND


def moment(micros_: int) -> datetime:
    """The UTC time of `micros`."""
    return datetime.fromtimestamp(micros_ // 1_000_000, UTC).replace(microsecond=micros_ % 1_000_000)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _letter_facts(letter: Letter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": letter.message_id,
        "sent": micros(letter.sent_at),
        "people": [f"{each.role} {each.address}" for each in letter.participants],
    }
    if letter.has_references:
        facts["refers"] = True
    if letter.new:
        facts["new"] = True
    if letter.names:
        facts["names"] = str(letter.names)
    if letter.marks:
        facts["marks"] = sorted(letter.marks)
    return facts


@lru_cache(maxsize=16_384)
def _ref(text: str) -> ItemRef:
    return ItemRef.parse(text)


@lru_cache(maxsize=16_384)
def _participant(text: str) -> Participant:
    role, address = text.split(" ", 1)
    return Participant(Role(role), address)


def _letter_of(facts: Mapping[str, Any]) -> Letter:
    names = facts.get("names")
    return Letter(
        message_id=facts["id"],
        sent_at=moment(facts["sent"]),
        participants=tuple(map(_participant, facts["people"])),
        has_references=facts.get("refers", False),
        new=facts.get("new", False),
        names=_ref(names) if names else None,
        marks=frozenset(map(Flag, facts.get("marks", ()))),
    )


def _item_facts(item: SlotItem) -> dict[str, Any]:
    return {
        "ref": str(item.ref),
        "open": item.open,
        "added": micros(item.added_at),
        "person": item.person and str(item.person),
        "organization": item.organization and str(item.organization),
        "participants": sorted(map(str, item.participants)),
    }


def _item_of(facts: Mapping[str, Any]) -> SlotItem:
    person, organization = facts["person"], facts["organization"]
    return SlotItem(
        ref=_ref(facts["ref"]),
        open=facts["open"],
        added_at=moment(facts["added"]),
        person=_ref(person) if person else None,
        organization=_ref(organization) if organization else None,
        participants=frozenset(map(_ref, facts["participants"])),
    )


def slot_facts(slot: Slot) -> dict[str, Any]:
    """A slot as JSON."""
    return {
        "item": slot.item and str(slot.item),
        "origin": slot.origin,
        "added": slot.added_at and micros(slot.added_at),
        "decision": slot.decision,
        "reason": slot.reason,
    }


def slot_of(facts: Mapping[str, Any]) -> Slot:
    """The slot that `slot_facts` was made from."""
    return Slot(
        item=_ref(facts["item"]) if facts["item"] else None,
        origin=Origin(facts["origin"]) if facts["origin"] else None,
        added_at=moment(facts["added"]) if facts["added"] is not None else None,
        decision=facts["decision"],
        reason=Reason(facts["reason"]) if facts["reason"] else None,
    )

"""What the linker answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from maillinkd.directory.item import ItemRef


class Reason(StrEnum):
    """Why a slot is as it is: one word in the database, the log, the JSON and docs/linking.md.

    In the order in which the rows of linking.md ask.
    """

    MANUAL_LINK_KEPT = "manual_link_kept"
    MANUAL_UNLINK_RESPECTED = "manual_unlink_respected"
    SMART_BCC_EXPLICIT = "smart_bcc_explicit"
    KEPT_EXISTING_LINK = "kept_existing_link"
    KEPT_EXISTING_LINK_ITEM_CLOSED = "kept_existing_link_item_closed"
    AUTO_LINK_OFF = "auto_link_off"
    INTERNAL_ONLY = "internal_only"
    NO_KNOWN_PERSON = "no_known_person"
    MANY_RECIPIENTS_NO_OPEN_ITEM = "many_recipients_no_open_item"
    NO_ITEM = "no_item"
    ONLY_CLOSED_ITEMS = "only_closed_items"
    AMBIGUOUS_SEVERAL_OPEN_ITEMS = "ambiguous_several_open_items"
    ITEM_NEWER_THAN_THREAD = "item_newer_than_thread"
    LINKED_SINGLE_OPEN_ITEM = "linked_single_open_item"
    CONVERTED_LEAD_FOLLOWED = "converted_lead_followed"
    """L10: not a row; the directory made it."""


TODO_REASONS = frozenset(
    {
        Reason.MANY_RECIPIENTS_NO_OPEN_ITEM,
        Reason.NO_ITEM,
        Reason.ONLY_CLOSED_ITEMS,
        Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS,
        Reason.ITEM_NEWER_THAN_THREAD,
    }
)
"""L12: rows 9 to 13 put the thread in the inbox of things to decide."""


class Outcome(StrEnum):
    LINKED = "linked"
    AMBIGUOUS = "ambiguous"
    UNLINKED = "unlinked"
    UNCHANGED = "unchanged"


class Trigger(StrEnum):
    MESSAGE = "message"
    MERGE = "merge"
    MANUAL = "manual"
    DIRECTORY = "directory"
    RELEASE = "release"
    DECIDE = "decide"


class Flag(StrEnum):
    """What else there is to say of a thread or a decision (contract.md, Thread)."""

    AMBIGUOUS_PERSON = "ambiguous_person"
    STRANGER_JOINED = "stranger_joined"
    START_UNKNOWN = "start_unknown"
    DUPLICATE_MESSAGE_ID = "duplicate_message_id"
    SMART_BCC_UNKNOWN_ITEM = "smart_bcc_unknown_item"
    SMART_BCC_DUPLICATE = "smart_bcc_duplicate"
    SMART_BCC_CONFLICT = "smart_bcc_conflict"
    SLOT_LOST_IN_MERGE = "slot_lost_in_merge"
    PROVISIONAL = "provisional"


class Origin(StrEnum):
    """Who made a link."""

    HAND = "hand"
    SMART_BCC = "smart_bcc"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Slot:
    """A thread's one link to a deal, lead or project.

    `Slot()` is empty; `Slot(origin=Origin.HAND)` was emptied by a hand, and stays so (row 2).
    """

    item: ItemRef | None = None
    origin: Origin | None = None
    added_at: datetime | None = None
    """When the item (after L10: the lead) was added, as known when row 14 made the link; L27 compares it."""
    decision: int | None = None
    """Number of the decision that filled it; None while that decision has no number yet."""
    reason: Reason | None = None
    """The reason of the row that filled it."""

    @property
    def unlinked_by_hand(self) -> bool:
        return self.item is None and self.origin is Origin.HAND

    @property
    def settled_by_hand(self) -> bool:
        return self.origin is Origin.HAND


EMPTY = Slot()


@dataclass(frozen=True, slots=True)
class Links:
    """Persons and organizations of a thread (L3 to L6), and what is to be said of them."""

    persons: frozenset[ItemRef] = frozenset()
    organizations: frozenset[ItemRef] = frozenset()
    flags: frozenset[Flag] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """The last answer of a walk over a thread's messages."""

    slot: Slot
    reason: Reason
    links: Links
    candidates: tuple[ItemRef, ...] = ()
    """The open items that row 12, 13 or 14 counted, in order of their names."""
    excluded: frozenset[int] = frozenset()
    """Positions of messages that `closed_item_threads = "exclude_later"` keeps from the item (row 5)."""


def outcome(before: ItemRef | None, decision: Decision) -> Outcome:
    """What a decision did to the slot, in one word."""
    after = decision.slot.item
    if after is not None:
        return Outcome.UNCHANGED if after == before else Outcome.LINKED
    if decision.reason is Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS:
        return Outcome.AMBIGUOUS
    if before is None and decision.reason is Reason.MANUAL_UNLINK_RESPECTED:
        return Outcome.UNCHANGED
    return Outcome.UNLINKED

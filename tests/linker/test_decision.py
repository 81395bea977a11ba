"""What a decision did to the slot, in one word; and what a slot is."""

import pytest

from linker.snapshots import DEAL, OTHER, UNLINKED, filled
from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import EMPTY, TODO_REASONS, Decision, Links, Outcome, Reason, Slot, outcome


@pytest.mark.parametrize(
    ("why", "before", "slot", "reason", "expected"),
    [
        ("filled", None, filled(), Reason.LINKED_SINGLE_OPEN_ITEM, Outcome.LINKED),
        ("another item", OTHER, filled(), Reason.SMART_BCC_EXPLICIT, Outcome.LINKED),
        ("kept", DEAL, filled(), Reason.KEPT_EXISTING_LINK, Outcome.UNCHANGED),
        ("emptied", DEAL, EMPTY, Reason.ITEM_NEWER_THAN_THREAD, Outcome.UNLINKED),
        ("left empty", None, EMPTY, Reason.NO_ITEM, Outcome.UNLINKED),
        ("unclear", None, EMPTY, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS, Outcome.AMBIGUOUS),
        ("unlinked by a hand", DEAL, UNLINKED, Reason.MANUAL_UNLINK_RESPECTED, Outcome.UNLINKED),
        ("and still so", None, UNLINKED, Reason.MANUAL_UNLINK_RESPECTED, Outcome.UNCHANGED),
    ],
)
def test_outcome(why: str, before: ItemRef | None, slot: Slot, reason: Reason, expected: Outcome) -> None:
    assert outcome(before, Decision(slot, reason, Links())) == expected, why


def test_an_empty_slot_and_one_that_a_hand_emptied_are_two_things() -> None:
    assert (EMPTY.unlinked_by_hand, UNLINKED.unlinked_by_hand, filled().unlinked_by_hand) == (False, True, False)
    assert (EMPTY.settled_by_hand, UNLINKED.settled_by_hand, filled().settled_by_hand) == (False, True, False)


def test_rows_9_to_13_put_a_thread_among_the_things_to_decide() -> None:
    """L12. The reasons stand in the order of the rows."""
    assert list(Reason)[8:13] == [reason for reason in Reason if reason in TODO_REASONS]

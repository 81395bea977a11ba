"""The rows of linking.md, asked again of facts: the last one says yes, and each says why."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from maillinkd.cli.rows import asked, case_of, would_fill
from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import EMPTY, Origin, Reason, Slot, Trigger
from maillinkd.linker.rules import decide
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot
from maillinkd.mail.message import Participant, Role

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
BEFORE, AFTER = datetime(2026, 1, 5, 9, tzinfo=UTC), datetime(2026, 3, 5, 9, tzinfo=UTC)
CARLA = ItemRef.parse("person:3")
DEAL, OTHER = ItemRef.parse("deal:61"), ItemRef.parse("deal:62")


def letter(*others: str, sender: str = "carla@client.example", minute: int = 0, **more: object) -> Letter:
    people = (
        Participant(Role.FROM, sender),
        *(Participant(Role.TO, each) for each in ("anna@ourco.example", *others)),
    )
    when = START.replace(minute=minute)
    return Letter(f"m{minute}@c", when, people, has_references=minute > 0, new=True, **more)  # type: ignore[arg-type]


def deal(ref: ItemRef = DEAL, added_at: datetime = BEFORE, *, is_open: bool = True) -> SlotItem:
    return SlotItem(ref, is_open, added_at, CARLA)


def thread(
    *items: SlotItem, letters: tuple[Letter, ...] = (letter(),), slot: Slot = EMPTY, known: bool = True
) -> Snapshot:
    return Snapshot(
        letters=letters,
        internal=frozenset({"anna@ourco.example"}),
        known={"carla@client.example": (CARLA,)} if known else {},
        persons={CARLA: Person(CARLA)} if known else {},
        items={item.ref: item for item in items},
        slot=slot,
    )


LINKED = Slot(DEAL, Origin.AUTO, BEFORE, 1, Reason.LINKED_SINGLE_OPEN_ITEM)
X, Y, Z = "x@a.example", "y@a.example", "z@a.example"

CASES = {
    "linked by hand": (thread(deal(), slot=Slot(DEAL, Origin.HAND)), 1, "deal:61, by hand"),
    "unlinked by hand": (thread(deal(), slot=Slot(origin=Origin.HAND)), 2, "a hand emptied the slot"),
    "sent to an item's address": (thread(deal(), letters=(letter(names=DEAL),)), 3, "the address of deal:61"),
    "kept": (thread(deal(), slot=LINKED), 4, "deal:61 is open"),
    "kept though closed": (thread(deal(is_open=False), slot=LINKED), 5, "deal:61 is closed"),
    "switched off": (replace(thread(deal()), auto_link=False), 6, "it is off for the owner"),
    "internal": (thread(letters=(letter(sender="anna@ourco.example"),)), 7, "nobody is external"),
    "unknown": (thread(known=False), 8, "nobody is known"),
    "many recipients": (thread(letters=(letter(X, Y, Z),)), 9, f"0 open items, 3 recipients ({X}, {Y}, {Z})"),
    "no item": (thread(), 10, "they have none"),
    "closed items": (thread(deal(is_open=False)), 11, "none is open"),
    "two open items": (thread(deal(), deal(OTHER)), 12, "open: deal:61, deal:62"),
    "a newer item": (
        thread(deal(added_at=AFTER)),
        13,
        "deal:61 was added at 2026-03-05T09:00:00Z; the thread started at 2026-03-01T10:00:00Z",
    ),
    "one older item": (thread(deal()), 14, "deal:61 was added at 2026-01-05T09:00:00Z"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_are_asked_up_to_the_one_that_decides(name: str) -> None:
    """The one that the linker names."""
    snapshot, row, because = CASES[name]
    decision = decide(snapshot)

    rows = asked(case_of(snapshot), decision.reason, Trigger.MESSAGE)

    assert [each.number for each in rows] == list(range(1, row + 1))
    assert [each.answer for each in rows] == [False] * (row - 1) + [True]
    assert rows[-1].reason is decision.reason
    assert because in rows[-1].because


def test_every_row_has_its_case() -> None:
    assert {row for _, row, _ in CASES.values()} == set(range(1, 15))


@pytest.mark.parametrize("name", CASES)
def test_an_empty_slot_says_what_would_fill_it(name: str) -> None:
    snapshot, _, _ = CASES[name]
    decision = decide(snapshot)

    said = would_fill(case_of(snapshot), decision.reason, [str(ref) for ref in decision.candidates])

    assert (said is None) == (decision.slot.item is not None)


def test_earlier_messages_of_a_batch_count_before_the_last_one_is_asked() -> None:
    """The first message links, the second keeps."""
    snapshot = thread(deal(), letters=(letter(), letter(minute=5)))

    rows = asked(case_of(snapshot), decide(snapshot).reason, Trigger.MESSAGE)

    assert (rows[-1].number, rows[-1].because) == (4, "deal:61 is open")


def test_a_withdrawn_link_is_told() -> None:
    """L27"""
    snapshot = thread(deal(added_at=AFTER), slot=replace(LINKED, added_at=AFTER))

    rows = asked(case_of(snapshot), decide(snapshot).reason, Trigger.MESSAGE)

    assert rows[3].because == (
        "the link to deal:61 is withdrawn: it was added at 2026-03-05T09:00:00Z, the thread started at "
        "2026-03-01T10:00:00Z (L27)"
    )


def test_strangers_are_told_apart() -> None:
    """L22"""
    stranger = letter(X, sender="s@nobody.example", minute=5)
    snapshot = thread(letters=(letter(), stranger))

    rows = asked(case_of(snapshot), Reason.NO_ITEM, Trigger.MESSAGE)

    assert rows[6].because == (
        "external: carla@client.example; strangers do not count: s@nobody.example, x@a.example"
    )


def test_decide_asks_from_row_6() -> None:
    """L28"""
    rows = asked(case_of(thread(deal())), Reason.LINKED_SINGLE_OPEN_ITEM, Trigger.DECIDE)

    assert [each.number for each in rows] == list(range(6, 15))


def test_the_directory_asks_no_row() -> None:
    """L6, L10"""
    assert asked(case_of(thread(deal())), Reason.CONVERTED_LEAD_FOLLOWED, Trigger.DIRECTORY) == []

"""The rows asked again of facts, each saying why; who is linked by what; and what would fill a slot, as tried."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import EMPTY, Flag, Origin, Reason, Slot, Trigger
from maillinkd.linker.explain import Circumstances, Contact, Then, Trace, Way, Why, asked, case_of, contacts, ways
from maillinkd.linker.policy import Policy
from maillinkd.linker.rules import decide, decide_again
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

    assert [each.number for each in rows] == list(range(1, 15))
    assert [each.answer for each in rows] == [False] * (row - 1) + [True] + [None] * (14 - row)
    assert rows[row - 1].reason is decision.reason
    assert because in rows[row - 1].because
    assert {each.because for each in rows[row:]} <= {f"row {row} has answered"}


def test_every_row_has_its_case() -> None:
    assert {row for _, row, _ in CASES.values()} == set(range(1, 15))


def test_earlier_messages_of_a_batch_count_before_the_last_one_is_asked() -> None:
    """The first message links, the second keeps."""
    snapshot = thread(deal(), letters=(letter(), letter(minute=5)))

    rows = asked(case_of(snapshot), decide(snapshot).reason, Trigger.MESSAGE)

    assert (rows[3].answer, rows[3].because) == (True, "deal:61 is open")


def test_a_withdrawn_link_is_told() -> None:
    """L27"""
    snapshot = thread(deal(added_at=AFTER), slot=replace(LINKED, added_at=AFTER))

    rows = asked(case_of(snapshot), decide(snapshot).reason, Trigger.MESSAGE)

    assert rows[3].because == (
        "the link to deal:61 is withdrawn: it was added at 2026-03-05T09:00:00Z, the thread started at "
        "2026-03-01T10:00:00Z (L27)"
    )


def test_a_slot_that_a_hand_emptied_is_told_from_one_that_was_empty() -> None:
    by_hand = thread(deal(), slot=Slot(origin=Origin.HAND))
    item = ItemRef.parse("deal:61")

    def because(snapshot: Snapshot, emptied: ItemRef | None = None) -> str:
        case = case_of(snapshot, emptied=emptied)
        return asked(case, decide(snapshot).reason, Trigger.MANUAL)[0].because

    assert because(by_hand, item) == "a hand had just unlinked deal:61"
    assert because(by_hand) == "a hand had emptied the slot"
    assert because(thread(deal())) == "the slot was empty"
    assert because(thread(deal()), item) == (
        "the slot was empty: a first sync asks again about what was linked automatically, deal:61"
    )


def test_a_conflict_is_why_row_3_is_not_asked() -> None:
    """L16: of the message that came with it; later ones name no item."""
    told = letter()._replace(marks=frozenset({Flag.SMART_BCC_CONFLICT}), new=True)
    snapshot = thread(deal(), letters=(told,), slot=LINKED)
    later = thread(deal(), letters=(told._replace(new=False), letter(minute=5)), slot=LINKED)

    row = asked(case_of(snapshot), decide(snapshot).reason, Trigger.MESSAGE)[2]

    arrived = f"<{told.message_id}> arrived at the address of another item"
    assert (row.answer, row.because) == (None, f"{arrived}, but the slot holds deal:61 (smart_bcc_conflict)")
    assert asked(case_of(later), decide(later).reason, Trigger.MESSAGE)[2].because.endswith(" names none")


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

    assert [each.answer for each in rows] == [None] * 5 + [False] * 8 + [True]
    assert {each.because for each in rows[:5]} == {"`decide` begins with row 6"}


def test_the_directory_asks_no_row() -> None:
    """L6, L10"""
    rows = asked(case_of(thread(deal())), Reason.CONVERTED_LEAD_FOLLOWED, Trigger.DIRECTORY)

    assert [each.answer for each in rows] == [None] * 14
    assert {each.because for each in rows} == {"the directory changed, which asks no row"}


def test_an_undo_asks_no_row() -> None:
    """L20"""
    rows = asked(case_of(thread(deal())), Reason.LINKED_SINGLE_OPEN_ITEM, Trigger.MANUAL, undone=True)

    assert {each.answer for each in rows} == {None}


# --- Persons and organizations --------------------------------------------------------------------------------------

CLIENT, DORA, DORAS = ItemRef.parse("organization:7"), ItemRef.parse("person:4"), "dora@client.example"
CARLAS = Trace("carla@client.example", Role.FROM, "m0@c")


def company(**more: object) -> Snapshot:
    """Carla, who writes, and Dora, to whom she writes too, of the client."""
    plain = replace(
        thread(letters=(letter(DORAS),)),
        known={"carla@client.example": (CARLA,), DORAS: (DORA,)},
        persons={ref: Person(ref, CLIENT) for ref in (CARLA, DORA)},
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def said(snapshot: Snapshot, reason: Reason = Reason.NO_ITEM) -> dict[str, tuple[bool, Why]]:
    return {str(each.ref): (each.linked, each.why) for each in contacts(snapshot, reason)}


def test_a_person_is_linked_by_an_address_and_an_organization_by_its_person() -> None:
    """L3, L4"""
    found = contacts(company(), Reason.NO_ITEM)

    assert found == [
        Contact(CARLA, True, Why.ADDRESS, (CARLAS,)),
        Contact(DORA, True, Why.ADDRESS, (Trace(DORAS, Role.TO, "m0@c"),)),
        Contact(CLIENT, True, Why.ORGANIZATION, of=(CARLA, DORA)),
    ]


STRICT = Policy().changed(single_contact=True, many_recipients="all")


@pytest.mark.parametrize(
    ("changes", "reason", "person", "expected"),
    [
        ({"hand_persons": frozenset({DORA})}, Reason.NO_ITEM, "person:4", (True, Why.BY_HAND)),
        ({"tombstones": frozenset({DORA})}, Reason.NO_ITEM, "person:4", (False, Why.TOMBSTONE)),
        ({"tombstones": frozenset({CLIENT})}, Reason.NO_ITEM, "organization:7", (False, Why.TOMBSTONE)),
        ({"hand_organizations": frozenset({CLIENT})}, Reason.NO_ITEM, "organization:7", (True, Why.BY_HAND)),
        ({"policy": STRICT}, Reason.NO_ITEM, "person:4", (False, Why.NOT_FIRST)),
        ({"policy": STRICT}, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM, "person:3", (False, Why.DROPPED)),
        ({"auto_link": False}, Reason.AUTO_LINK_OFF, "person:3", (False, Why.SWITCHED_OFF)),
    ],
)
def test_what_else_links_or_keeps_away(
    changes: dict[str, object], reason: Reason, person: str, expected: tuple[bool, Why]
) -> None:
    assert said(company(**changes), reason)[person] == expected


def test_a_person_in_a_stranger_s_message_alone_is_not_linked() -> None:
    """L22"""
    stranger = letter(DORAS, sender="s@nobody.example", minute=5)
    snapshot = company(letters=(letter(), stranger))

    assert said(snapshot)["person:4"] == (False, Why.STRANGER)


# --- What would fill the slot ---------------------------------------------------------------------------------------

START_TEXT = "2026-03-01T10:00:00Z"
HAND = Way("a link by hand", None, Then.NOTHING)
THIRD = ItemRef.parse("deal:63")


def decided(change: str, slot: ItemRef | None = None) -> Way:
    return Way(change, slot, Then.DECIDE)


NEW_ITEM = decided(f"an open deal, lead or project of person:3 is there, added not after {START_TEXT}")
NEW_PERSON = decided(
    "a person with the address carla@client.example is there, who has one open deal, lead or project, "
    f"added not after {START_TEXT}"
)
OFF = "automatic linking is on for the owner and for one of the mailboxes"
UNKNOWN_START = replace(thread(deal()), start_unknown=True, policy=Policy().changed(unknown_start="leave"))

WAYS = {
    "two open items": (
        thread(deal(), deal(OTHER)),
        [decided("deal:61 is closed", OTHER), decided("deal:62 is closed", DEAL), HAND],
    ),
    "two open items, one too young": (
        thread(deal(), deal(OTHER, AFTER)),
        [decided("deal:62 is closed", DEAL), decided("the policy has count_only_older_items = true", DEAL), HAND],
    ),
    "three open items": (
        thread(deal(), deal(OTHER), deal(THIRD)),
        [
            decided("deal:62 and deal:63 are closed", DEAL),
            decided("deal:61 and deal:63 are closed", OTHER),
            decided("deal:61 and deal:62 are closed", THIRD),
            HAND,
        ],
    ),
    "a younger item": (thread(deal(added_at=AFTER)), [HAND]),
    "an unknown start": (
        UNKNOWN_START,
        [
            decided("the mail before its first message is here, and none is older than 2026-01-05T09:00:00Z", DEAL),
            decided('the policy has unknown_start = "link"', DEAL),
            HAND,
        ],
    ),
    "no item": (thread(), [NEW_ITEM, HAND]),
    "many recipients and no item": (thread(letters=(letter(X, Y, Z),)), [NEW_ITEM, HAND]),
    "a closed item": (
        thread(deal(is_open=False)),
        [decided("deal:61 is open again", DEAL), NEW_ITEM, HAND],
    ),
    "nobody known": (thread(known=False), [NEW_PERSON, HAND]),
    "internal": (
        thread(letters=(letter(sender="anna@ourco.example"),)),
        [
            Way(
                "mail of this thread to a known person outside, who has one open deal, lead or project, "
                f"added not after {START_TEXT}",
                None,
                Then.NOTHING,
            ),
            HAND,
        ],
    ),
    "switched off": (replace(thread(deal()), auto_link=False), [decided(OFF, DEAL), HAND]),
    "switched off, and ambiguous": (
        replace(thread(deal(), deal(OTHER)), auto_link=False),
        [
            decided(f"{OFF}, and deal:61 is closed", OTHER),
            decided(f"{OFF}, and deal:62 is closed", DEAL),
            HAND,
        ],
    ),
    "unlinked by hand": (thread(deal(), slot=Slot(origin=Origin.HAND)), [HAND]),
    "a person unlinked by hand": (
        replace(thread(deal()), tombstones=frozenset({CARLA})),
        [Way("person:3 is linked by hand again", DEAL, Then.NOTHING), HAND],
    ),
    "decided before the directory changed": (
        thread(deal()),
        [decided("nothing more: the directory has changed since it was decided", DEAL), HAND],
    ),
    "filled": (thread(deal(), slot=LINKED), []),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_what_would_fill_an_empty_slot(name: str) -> None:
    snapshot, expected = WAYS[name]

    assert ways(snapshot, Circumstances(can_open=frozenset({DEAL}))) == expected


def test_what_cannot_be_opened_again_is_not_proposed() -> None:
    """A deleted item, or a converted lead."""
    assert ways(thread(deal(is_open=False))) == [NEW_ITEM, HAND]


def test_an_item_whose_age_is_not_known_may_be_given_one() -> None:
    """L9"""
    change = f"deal:61, imported without a time of creation, is given one not after {START_TEXT}"

    assert ways(thread(deal(added_at=AFTER)), Circumstances(undated=frozenset({DEAL}))) == [
        decided(change, DEAL), HAND,
    ]  # fmt: skip


@pytest.mark.parametrize("slot", [EMPTY, Slot(origin=Origin.HAND)])
def test_mail_to_an_item_s_address_fills_a_slot_of_its_own_scope(slot: Slot) -> None:
    """L16: it never joins a synced thread."""
    by_mail = Way("mail of this thread to an item's Smart Bcc address", None, Then.NOTHING)

    assert by_mail in ways(thread(slot=slot), Circumstances(smart_bcc=True))
    assert by_mail not in ways(thread(slot=slot))


items = st.lists(
    st.builds(
        lambda age, is_open, mine: (age, is_open, mine),
        st.sampled_from([BEFORE, START, AFTER]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=4,
)
policies = st.builds(
    lambda older, start: Policy().changed(count_only_older_items=older, unknown_start=start),
    st.booleans(),
    st.sampled_from(["link", "leave"]),
)


@given(items, policies, st.booleans(), st.integers(0, 3))
def test_whatever_is_proposed_holds_and_no_single_closing_is_left_out(
    drawn: list[tuple[datetime, bool, bool]], policy: Policy, start_unknown: bool, recipients: int
) -> None:
    """Done by hand on the items, and decided anew."""
    deals = [
        SlotItem(ItemRef.parse(f"deal:{n}"), is_open, age, CARLA if mine else DORA)
        for n, (age, is_open, mine) in enumerate(drawn)
    ]
    plain = replace(thread(*deals, letters=(letter(*[X, Y, Z][:recipients]),)), policy=policy)
    snapshot = replace(plain, start_unknown=start_unknown)

    found = ways(snapshot, Circumstances(can_open=frozenset(snapshot.items)))

    def after(ref: ItemRef, is_open: bool) -> ItemRef | None:
        changed = {**snapshot.items, ref: replace(snapshot.items[ref], open=is_open)}
        return decide_again(replace(snapshot, items=changed)).slot.item

    answer = decide_again(snapshot)
    if answer.slot.item is not None:
        assert [way.slot for way in found if way != HAND] == [answer.slot.item]
        return
    closed = {f"{each.ref} is closed": after(each.ref, False) for each in deals if each.open}
    opened = {f"{each.ref} is open again": after(each.ref, True) for each in deals if not each.open}
    tried = {change: slot for change, slot in (closed | opened).items() if slot is not None}
    assert {way.change: way.slot for way in found if way.change in closed | opened} == tried

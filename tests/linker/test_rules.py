"""The rows of linking.md, each with its choices; L21, L22, L26, L27, L28."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linker.snapshots import (
    ANNA,
    BEN,
    CARLA,
    CARLA_REF,
    CLIENT,
    DEAL,
    DORA,
    DORA_REF,
    EVE,
    FRED,
    GINA,
    LEAD,
    OTHER,
    PROJECT,
    UNLINKED,
    at,
    filled,
    item,
    letter,
    snapshot,
)
from linker.test_snapshot import snapshots
from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import EMPTY, Decision, Flag, Origin, Reason, Slot
from maillinkd.linker.rules import (
    decide,
    decide_again,
    follow_directory,
    hand_over,
    merge,
    without_automatic,
)
from maillinkd.linker.snapshot import Letter, Person, Snapshot
from maillinkd.mail.message import Role

MANY = (ANNA, DORA, EVE, FRED)
"""Three recipients, for Anna is none."""


def answer(decision: Decision) -> tuple[str | None, Reason]:
    return decision.slot.item and str(decision.slot.item), decision.reason


Row = tuple[str, Snapshot, tuple[str | None, Reason]]

ROWS: list[Row] = [
    # row 1
    (
        "1. a hand's link is kept",
        snapshot(items=[item(OTHER)], slot=filled(DEAL, Origin.HAND)),
        ("deal:61", Reason.MANUAL_LINK_KEPT),
    ),
    (
        "1. though its item is closed",
        snapshot(items=[item(DEAL, closed=True), item(OTHER)], slot=filled(DEAL, Origin.HAND)),
        ("deal:61", Reason.MANUAL_LINK_KEPT),
    ),
    (
        "1. though mail names another item",
        snapshot(letter(names=OTHER), items=[item(OTHER)], slot=filled(DEAL, Origin.HAND)),
        ("deal:61", Reason.MANUAL_LINK_KEPT),
    ),
    # row 2
    (
        "2. what a hand unlinked stays unlinked",
        snapshot(items=[item()], slot=UNLINKED),
        (None, Reason.MANUAL_UNLINK_RESPECTED),
    ),
    (
        "2. until mail names an item",
        snapshot(letter(names=OTHER), items=[item(), item(OTHER)], slot=UNLINKED),
        ("deal:62", Reason.SMART_BCC_EXPLICIT),
    ),
    # row 3
    (
        "3. the item that mail names",
        snapshot(letter(names=DEAL), items=[item(), item(OTHER)]),
        ("deal:61", Reason.SMART_BCC_EXPLICIT),
    ),
    (
        "3. even a closed one",
        snapshot(letter(names=DEAL), items=[item(closed=True)]),
        ("deal:61", Reason.SMART_BCC_EXPLICIT),
    ),
    (
        "3. even a newer one, of people nobody knows",
        snapshot(letter(sender=EVE, names=DEAL), items=[item(minutes=9, person=None)]),
        ("deal:61", Reason.SMART_BCC_EXPLICIT),
    ),
    (
        "3. in the place of what row 14 had found",
        snapshot(letter(names=OTHER), items=[item(), item(OTHER)], slot=filled(DEAL)),
        ("deal:62", Reason.SMART_BCC_EXPLICIT),
    ),
    # rows 4 and 5
    (
        "4. an open item keeps its thread",
        snapshot(items=[item(), item(OTHER)], slot=filled()),
        ("deal:61", Reason.KEPT_EXISTING_LINK),
    ),
    (
        "4. though nobody of its people is in it any more",
        snapshot(letter(sender=EVE), items=[item()], slot=filled()),
        ("deal:61", Reason.KEPT_EXISTING_LINK),
    ),
    (
        "5. a closed item keeps its thread",
        snapshot(items=[item(closed=True), item(OTHER)], slot=filled()),
        ("deal:61", Reason.KEPT_EXISTING_LINK_ITEM_CLOSED),
    ),
    (
        "5. also one that Smart Bcc linked",
        snapshot(items=[item(closed=True)], slot=filled(DEAL, Origin.SMART_BCC)),
        ("deal:61", Reason.KEPT_EXISTING_LINK_ITEM_CLOSED),
    ),
    # row 6
    ("6. automatic linking is off", snapshot(items=[item()], auto_link=False), (None, Reason.AUTO_LINK_OFF)),
    (
        "6. which holds for Smart Bcc too, but not for an item that mail names",
        snapshot(letter(names=DEAL), items=[item()], auto_link=False),
        ("deal:61", Reason.SMART_BCC_EXPLICIT),
    ),
    (
        "6. what is linked already stays",
        snapshot(items=[item()], slot=filled(), auto_link=False),
        ("deal:61", Reason.KEPT_EXISTING_LINK),
    ),
    # row 7
    ("7. all are ours", snapshot(letter(sender=ANNA, to=[BEN]), items=[item()]), (None, Reason.INTERNAL_ONLY)),
    (
        "7. one in Cc is not",
        snapshot(letter(sender=ANNA, to=[BEN], cc=[CARLA]), items=[item()]),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "7. nor is one found in a forward",
        snapshot(letter(sender=ANNA, to=[BEN], people=[(Role.FORWARDED, CARLA)]), items=[item()]),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    # row 8
    ("8. nobody is known", snapshot(letter(sender=EVE), items=[item()]), (None, Reason.NO_KNOWN_PERSON)),
    (
        "8. a hand has linked one",
        snapshot(letter(sender=EVE), items=[item()], hand_persons=frozenset({CARLA_REF})),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "8. a hand has unlinked the only one",
        snapshot(items=[item()], tombstones=frozenset({CARLA_REF})),
        (None, Reason.NO_KNOWN_PERSON),
    ),
    (
        "8. a hand has linked one who is deleted now",
        snapshot(letter(sender=EVE), hand_persons=frozenset({ItemRef.parse("person:9")})),
        (None, Reason.NO_KNOWN_PERSON),
    ),
    (
        "8. in Reply-To, To, Cc and Bcc people are known too",
        snapshot(letter(sender=ANNA, to=[EVE], people=[(Role.BCC, CARLA)]), items=[item()]),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    # row 9
    ("9. three recipients and no item", snapshot(letter(to=MANY)), (None, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM)),
    (
        "9. three recipients and a closed item",
        snapshot(letter(to=MANY), items=[item(closed=True)]),
        (None, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM),
    ),
    (
        "9. but with an open one they do no harm",
        snapshot(letter(to=MANY), items=[item()]),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    ("9. two are not many", snapshot(letter(to=MANY[:3])), (None, Reason.NO_ITEM)),
    ("9. Cc counts", snapshot(letter(to=[DORA], cc=[EVE, FRED])), (None, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM)),
    ("9. a repeated one counts once", snapshot(letter(to=[DORA, EVE], cc=[EVE, DORA])), (None, Reason.NO_ITEM)),
    (
        "9. counted over the whole thread",
        snapshot(letter(0, to=[DORA]), letter(1, to=[EVE]), letter(2, to=[FRED])),
        (None, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM),
    ),
    (
        "9. senders, Reply-To, Bcc and those of a forward are no recipients",
        snapshot(
            letter(
                to=[ANNA, DORA],
                people=[(Role.REPLY_TO, EVE), (Role.BCC, FRED), (Role.FORWARDED, GINA), (Role.FORWARDED, EVE)],
            )
        ),
        (None, Reason.NO_ITEM),
    ),
    (
        "9. choice: ours count too",
        snapshot(letter(to=[ANNA, BEN, DORA]), switches={"count_internal_recipients": True}),
        (None, Reason.MANY_RECIPIENTS_NO_OPEN_ITEM),
    ),
    # rows 10 and 11
    ("10. no item at all", snapshot(), (None, Reason.NO_ITEM)),
    ("10. the item is another's", snapshot(items=[item(person=DORA_REF)]), (None, Reason.NO_ITEM)),
    (
        "11. all closed",
        snapshot(items=[item(closed=True), item(LEAD, closed=True)]),
        (None, Reason.ONLY_CLOSED_ITEMS),
    ),
    # row 12
    (
        "12. two open deals",
        snapshot(items=[item(), item(OTHER)]),
        (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS),
    ),
    (
        "12. over all types",
        snapshot(items=[item(LEAD), item(PROJECT)]),
        (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS),
    ),
    (
        "12. over all persons",
        snapshot(letter(cc=[DORA]), items=[item(), item(OTHER, person=DORA_REF)]),
        (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS),
    ),
    (
        "12. a newer one still makes the choice unclear (L8)",
        snapshot(items=[item(), item(OTHER, minutes=9)]),
        (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS),
    ),
    (
        "12. a closed one does not",
        snapshot(items=[item(), item(OTHER, closed=True)]),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "12. choice: only older ones count",
        snapshot(items=[item(), item(OTHER, minutes=9)], switches={"count_only_older_items": True}),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "12. choice: two older ones",
        snapshot(items=[item(), item(OTHER)], switches={"count_only_older_items": True}),
        (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS),
    ),
    (
        "12. choice: two newer ones alone are row 13",
        snapshot(items=[item(minutes=8), item(OTHER, minutes=9)], switches={"count_only_older_items": True}),
        (None, Reason.ITEM_NEWER_THAN_THREAD),
    ),
    # rows 13 and 14
    ("13. added after the start", snapshot(items=[item(minutes=0.01)]), (None, Reason.ITEM_NEWER_THAN_THREAD)),
    ("14. added at the start", snapshot(items=[item(minutes=0)]), ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM)),
    ("14. a lead", snapshot(items=[item(LEAD)]), ("lead:l1", Reason.LINKED_SINGLE_OPEN_ITEM)),
    ("14. a project", snapshot(items=[item(PROJECT)]), ("project:p1", Reason.LINKED_SINGLE_OPEN_ITEM)),
    (
        "13. the start is that of the thread, not of the last message",
        snapshot(letter(0, old=True), letter(9), items=[item(minutes=5)]),
        (None, Reason.ITEM_NEWER_THAN_THREAD),
    ),
    (
        "14. an unknown start counts as far as it is known",
        snapshot(items=[item()], start_unknown=True),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "13. choice: an unknown start is row 13",
        snapshot(items=[item()], start_unknown=True, switches={"unknown_start": "leave"}),
        (None, Reason.ITEM_NEWER_THAN_THREAD),
    ),
    # L7
    (
        "L7. items of the organization alone do not count",
        snapshot(items=[item(person=None, organization=CLIENT)]),
        (None, Reason.NO_ITEM),
    ),
    (
        "L7. choice: they do",
        snapshot(
            items=[item(person=None, organization=CLIENT)], switches={"include_organization_items": True}
        ),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
    (
        "L7. choice: but not what has another contact person",
        snapshot(
            items=[item(person=DORA_REF, organization=CLIENT)], switches={"include_organization_items": True}
        ),
        (None, Reason.NO_ITEM),
    ),
    (
        "L7. choice: nor those of an organization that a hand unlinked",
        snapshot(
            items=[item(person=None, organization=CLIENT)],
            switches={"include_organization_items": True},
            tombstones=frozenset({CLIENT}),
        ),
        (None, Reason.NO_ITEM),
    ),
    (
        "L7. taking part does not count",
        snapshot(items=[item(person=DORA_REF, participants=frozenset({CARLA_REF}))]),
        (None, Reason.NO_ITEM),
    ),
    (
        "L7. choice: it does",
        snapshot(
            items=[item(person=DORA_REF, participants=frozenset({CARLA_REF}))],
            switches={"include_participants": True},
        ),
        ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("why", "facts", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_rows(why: str, facts: Snapshot, expected: tuple[str | None, Reason]) -> None:
    assert expected == answer(decide(facts))


def test_every_reason_of_the_rows_is_in_the_table() -> None:
    asked = {row[2][1] for row in ROWS}

    assert asked == set(Reason) - {Reason.CONVERTED_LEAD_FOLLOWED}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (snapshot(items=[item(OTHER), item(DEAL)]), (DEAL, OTHER)),
        (snapshot(items=[item(DEAL)]), (DEAL,)),
        (snapshot(items=[item(DEAL, minutes=9)]), (DEAL,)),
        (snapshot(items=[item(DEAL, minutes=9)], slot=filled(OTHER, Origin.HAND)), ()),
        (snapshot(items=[item(DEAL), item(OTHER, minutes=9)], switches={"count_only_older_items": True}), (DEAL,)),
        (
            snapshot(
                items=[item(DEAL, minutes=8), item(OTHER, minutes=9)], switches={"count_only_older_items": True}
            ),
            (DEAL, OTHER),
        ),
        (snapshot(letter(to=MANY)), ()),
    ],
)
def test_candidates_are_the_open_items_that_rows_12_to_14_counted(
    facts: Snapshot, expected: tuple[ItemRef, ...]
) -> None:
    assert decide(facts).candidates == expected


def test_row_14_remembers_when_the_item_was_added() -> None:
    """L27 compares it later, whatever the directory says then."""
    slot = Slot(DEAL, Origin.AUTO, at(-60), None, Reason.LINKED_SINGLE_OPEN_ITEM)

    assert decide(snapshot(items=[item()])).slot == slot


@pytest.mark.parametrize("origin", [Origin.HAND, Origin.SMART_BCC])
def test_a_link_that_stays_keeps_the_decision_that_made_it(origin: Origin) -> None:
    """Also where mail names what is there already."""
    slot = filled(DEAL, origin)

    assert decide(snapshot(letter(names=DEAL), items=[item()], slot=slot)).slot == slot


def test_what_row_14_had_found_is_smart_bcc_s_once_mail_names_it() -> None:
    """Neither an older message (L27) nor `decide` (L28) may take away what a user has named."""
    facts = snapshot(letter(names=DEAL), items=[item(minutes=-5)], slot=filled(minutes=-5))
    decision = decide(facts)
    later = snapshot(letter(-10), letter(old=True), items=[item(minutes=-5)], slot=decision.slot)

    assert decision.slot == Slot(DEAL, Origin.SMART_BCC, reason=Reason.SMART_BCC_EXPLICIT)
    assert answer(decide(later)) == ("deal:61", Reason.KEPT_EXISTING_LINK)


@pytest.mark.parametrize(
    ("switch", "old", "excluded"),
    [
        ("keep", (True, False), set()),
        ("exclude_later", (True, False), {1}),
        ("exclude_later", (False, False), {0, 1}),
    ],
)
def test_later_mail_of_a_closed_item_is_kept_out_by_choice(
    switch: str, old: tuple[bool, bool], excluded: set[int]
) -> None:
    """Row 5: messages that come later, not those that were there."""
    letters = [letter(minutes, old=each) for minutes, each in enumerate(old)]
    facts = snapshot(*letters, items=[item(closed=True)], slot=filled(), switches={"closed_item_threads": switch})

    assert decide(facts).excluded == excluded


# -- persons and organizations (L3 to L6) --------------------------------------------------------------------


def people(decision: Decision) -> set[str]:
    return set(map(str, decision.links.persons | decision.links.organizations))


@pytest.mark.parametrize(
    ("why", "facts", "expected"),
    [
        ("L3, L4. a person and its organization", snapshot(), {"person:3", "organization:7"}),
        ("L3. in mail that we send too", snapshot(letter(sender=ANNA, to=[DORA])), {"person:4", "organization:7"}),
        ("L3. whichever row answers", snapshot(slot=UNLINKED), {"person:3", "organization:7"}),
        ("L4. without organization", snapshot(persons={CARLA_REF: Person(CARLA_REF)}), {"person:3"}),
        (
            "L18. what a hand added",
            snapshot(letter(sender=EVE), hand_persons=frozenset({DORA_REF})),
            {"person:4", "organization:7"},
        ),
        (
            "L18. an organization",
            snapshot(letter(sender=EVE), hand_organizations=frozenset({CLIENT})),
            {"organization:7"},
        ),
        ("L18. tombstone of a person", snapshot(tombstones=frozenset({CARLA_REF})), set()),
        ("L18. tombstone of an organization", snapshot(tombstones=frozenset({CLIENT})), {"person:3"}),
        (
            "L18. the other person keeps its organization",
            snapshot(letter(cc=[DORA]), tombstones=frozenset({CARLA_REF})),
            {"person:4", "organization:7"},
        ),
        ("row 6. none while automatic linking is off", snapshot(auto_link=False), set()),
        (
            "row 6. but what a hand added, whichever row answers",
            snapshot(
                items=[item()],
                slot=filled(DEAL, Origin.HAND),
                auto_link=False,
                hand_persons=frozenset({DORA_REF}),
            ),
            {"person:4", "organization:7"},
        ),
        ("row 9. many recipients", snapshot(letter(to=MANY)), {"person:3", "person:4", "organization:7"}),
        (
            "row 9, choice: none",
            snapshot(letter(to=MANY), switches={"many_recipients": "all"}),
            set(),
        ),
        (
            "row 9, choice: but what a hand added",
            snapshot(letter(to=MANY), hand_persons=frozenset({DORA_REF}), switches={"many_recipients": "all"}),
            {"person:4", "organization:7"},
        ),
        (
            "row 9, choice: only while this is the reason",
            snapshot(letter(to=MANY), items=[item()], switches={"many_recipients": "all"}),
            {"person:3", "person:4", "organization:7"},
        ),
    ],
)  # fmt: skip
def test_people(why: str, facts: Snapshot, expected: set[str]) -> None:
    assert expected == people(decide(facts)), why


@pytest.mark.parametrize(
    ("why", "letters", "expected"),
    [
        ("From before To", [letter(to=[DORA])], "person:3"),
        ("Reply-To before To", [letter(sender=EVE, people=[(Role.REPLY_TO, DORA), (Role.TO, CARLA)])], "person:4"),
        ("the first message before the next", [letter(0, to=[DORA], sender=ANNA), letter(1)], "person:4"),
        ("a message of strangers alone is passed over", [letter(0, sender=EVE), letter(1, reply=True)], "person:3"),
    ],
)
def test_strict_only_the_first_known_person_is_linked(why: str, letters: Sequence[Letter], expected: str) -> None:
    """L5, `single_contact`."""
    facts = snapshot(*letters, switches={"single_contact": True})

    assert people(decide(facts)) == {expected, "organization:7"}, why


def test_strict_of_two_with_one_address_the_smaller_id() -> None:
    """Numbers count as numbers."""
    refs = tuple(map(ItemRef.parse, ("person:10", "person:9", "person:a")))
    persons = {ref: Person(ref) for ref in refs}
    facts = snapshot(known={CARLA: refs}, persons=persons, switches={"single_contact": True})

    assert people(decide(facts)) == {"person:9"}


def test_strict_items_are_still_sought_for_all() -> None:
    facts = snapshot(letter(to=[DORA]), items=[item(person=DORA_REF)], switches={"single_contact": True})

    decision = decide(facts)
    assert answer(decision) == ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM)
    assert people(decision) == {"person:3", "organization:7"}


def test_two_persons_with_one_address_are_both_linked_and_flagged() -> None:
    """L5."""
    decision = decide(snapshot(known={CARLA: (CARLA_REF, DORA_REF)}))

    assert decision.links.persons == {CARLA_REF, DORA_REF}
    assert decision.links.flags == {Flag.AMBIGUOUS_PERSON}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (snapshot(), set()),
        (snapshot(start_unknown=True), {Flag.START_UNKNOWN}),
        (snapshot(duplicate_message_id=True), {Flag.DUPLICATE_MESSAGE_ID}),
        (snapshot(letter(0), letter(1, sender=EVE, reply=True)), {Flag.STRANGER_JOINED}),
        (snapshot(known={CARLA: (CARLA_REF, DORA_REF)}, tombstones=frozenset({DORA_REF})), set()),
    ],
)
def test_flags(facts: Snapshot, expected: set[Flag]) -> None:
    assert decide(facts).links.flags == expected


def test_the_directory_moves_persons_and_leaves_the_slot() -> None:
    """L6: the persons of all messages, as the directory has them now."""
    facts = snapshot(letter(0, old=True), letter(1, to=[DORA], old=True), slot=UNLINKED)

    links = follow_directory(facts, Reason.MANUAL_UNLINK_RESPECTED)
    assert links.persons == {CARLA_REF, DORA_REF}
    assert follow_directory(replace(facts, known={}, persons={}), Reason.NO_ITEM).persons == frozenset()


# -- strangers (L22) -----------------------------------------------------------------------------------------

STRANGER = letter(1, sender=EVE, to=[DORA], reply=True)


@pytest.mark.parametrize(
    ("why", "letters", "joined"),
    [
        ("a stranger's addresses count for nothing", [letter(0), STRANGER], False),
        ("nor do they if he writes again", [letter(0), STRANGER, STRANGER._replace(sent_at=at(2))], False),
        ("nor when another stranger names him", [letter(0), STRANGER, letter(2, FRED, [EVE], reply=True)], False),
        ("nor when he names himself", [letter(0), letter(1, EVE, [EVE, DORA], reply=True)], False),
        ("one who was written to is no stranger", [letter(0, cc=[EVE]), STRANGER], True),
        ("a later message that writes to him takes him in", [letter(0), STRANGER, letter(2, ANNA, [EVE])], True),
        ("nor is one of ours", [letter(0), letter(1, BEN, [DORA], reply=True)], True),
        ("nor a known person", [letter(0, EVE), letter(1, CARLA, [DORA], reply=True)], True),
        ("the first message is exempt", [letter(0, EVE, [DORA], reply=True)], True),
        ("one without references is exempt", [letter(0), letter(1, EVE, [DORA])], True),
        (
            "who was taken in takes in others",
            [
                letter(0),
                letter(1, FRED, [DORA], reply=True),
                letter(2, EVE, [FRED], reply=True),
                letter(3, ANNA, [EVE]),
            ],
            True,
        ),
        (
            "in whatever order they wrote",
            [
                letter(0),
                letter(1, EVE, [FRED], reply=True),
                letter(2, FRED, [DORA], reply=True),
                letter(3, ANNA, [EVE]),
            ],
            True,
        ),
    ],
)  # fmt: skip
def test_strangers(why: str, letters: Sequence[Letter], joined: bool) -> None:
    """Dora is linked if, and only if, her mail was taken in."""
    decision = decide(snapshot(*letters))

    assert (DORA_REF in decision.links.persons) == joined, why
    assert (Flag.STRANGER_JOINED in decision.links.flags) == (not joined), why


def test_a_stranger_counts_for_no_row() -> None:
    """Neither as recipients nor as the only one from outside."""
    many = [letter(0), letter(1, EVE, [FRED, GINA, EVE, DORA], reply=True)]
    ours = [letter(0, ANNA, [BEN]), letter(1, EVE, [ANNA], reply=True)]

    assert answer(decide(snapshot(*many))) == (None, Reason.NO_ITEM)
    assert answer(decide(snapshot(*ours))) == (None, Reason.INTERNAL_ONLY)


@given(st.permutations([EVE, FRED, GINA, "h@elsewhere.example", "i@elsewhere.example"]), st.randoms())
def test_taking_strangers_in_reaches_everybody_in_any_order(chain: list[str], random: Any) -> None:
    """A fixpoint: Anna writes to the first, whose mail names the second, and so on; their mails came before."""
    mails = [(sender, [named]) for sender, named in zip(chain, [*chain[1:], DORA], strict=True)]
    random.shuffle(mails)
    letters = [letter(n, sender, to, reply=True) for n, (sender, to) in enumerate(mails, start=1)]

    decision = decide(snapshot(letter(0), *letters, letter(99, ANNA, [chain[0]], reply=True)))
    assert DORA_REF in decision.links.persons
    assert Flag.STRANGER_JOINED not in decision.links.flags


# -- order (L26, L27) ----------------------------------------------------------------------------------------


def test_each_message_sees_the_participants_up_to_itself() -> None:
    """Dora comes later: by then the deal is linked, and her own makes nothing unclear any more."""
    items = [item(), item(OTHER, person=DORA_REF)]

    assert answer(decide(snapshot(letter(0), letter(1, cc=[DORA]), items=items))) == (
        "deal:61",
        Reason.KEPT_EXISTING_LINK,
    )
    assert answer(decide(snapshot(letter(0, cc=[DORA]), letter(1), items=items))) == (
        None,
        Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS,
    )


def test_the_walk_begins_at_the_first_new_message() -> None:
    """What was answered before it is not asked again: this slot a later rule left empty."""
    letters = [letter(0, old=True), letter(1, sender=ANNA, to=[DORA])]
    items = [item(), item(OTHER, person=DORA_REF)]
    facts = snapshot(*letters, items=items)

    assert answer(decide(facts)) == (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS)
    assert answer(decide(facts, from_the_start=True)) == ("deal:61", Reason.KEPT_EXISTING_LINK)


def test_a_new_message_that_is_older_is_decided_first_and_those_after_it_again() -> None:
    letters = [letter(0), letter(1, cc=[DORA], old=True)]
    items = [item(), item(OTHER, person=DORA_REF)]

    assert answer(decide(snapshot(*letters, items=items))) == ("deal:61", Reason.KEPT_EXISTING_LINK)


def test_row_3_is_asked_for_the_message_that_names_the_item() -> None:
    """The last answer is recorded: the message after it finds the slot filled."""
    facts = snapshot(letter(0, names=DEAL), letter(1), items=[item(closed=True)])

    assert answer(decide(facts)) == ("deal:61", Reason.KEPT_EXISTING_LINK_ITEM_CLOSED)


def test_of_two_items_that_mail_names_the_later_message_s_stays() -> None:
    facts = snapshot(letter(0, names=DEAL), letter(1, names=OTHER), items=[item(), item(OTHER)])

    assert answer(decide(facts)) == ("deal:62", Reason.SMART_BCC_EXPLICIT)


def test_without_a_new_message_the_rows_are_asked_once_over_all() -> None:
    """L18."""
    letters = [letter(0, old=True), letter(1, cc=[DORA], old=True)]
    items = [item(), item(OTHER, person=DORA_REF)]

    assert answer(decide(snapshot(*letters, items=items))) == (None, Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS)


@pytest.mark.parametrize(
    ("why", "slot", "expected"),
    [
        ("row 14 made it", filled(minutes=-5), (None, Reason.ITEM_NEWER_THAN_THREAD)),
        ("row 14 made it, and its item is older still", filled(minutes=-60), ("deal:61", Reason.KEPT_EXISTING_LINK)),
        ("added at the very start", filled(minutes=-10), ("deal:61", Reason.KEPT_EXISTING_LINK)),
        ("Smart Bcc made it", filled(origin=Origin.SMART_BCC), ("deal:61", Reason.KEPT_EXISTING_LINK)),
        ("a hand made it", filled(origin=Origin.HAND), ("deal:61", Reason.MANUAL_LINK_KEPT)),
    ],
)
def test_an_older_message_withdraws_only_what_row_14_linked_too_early(
    why: str, slot: Slot, expected: tuple[str | None, Reason]
) -> None:
    """L27."""
    facts = snapshot(letter(-10), letter(0, old=True), items=[item(minutes=-5)], slot=slot)

    assert expected == answer(decide(facts)), why


def test_a_closed_item_s_link_is_withdrawn_too_and_the_rows_asked() -> None:
    items = [item(minutes=-5, closed=True), item(OTHER)]
    facts = snapshot(letter(-10), letter(0, old=True), items=items, slot=filled(minutes=-5))

    assert answer(decide(facts)) == ("deal:62", Reason.KEPT_EXISTING_LINK)


def test_after_a_conversion_the_age_of_the_lead_counts() -> None:
    """L10, L27: the deal is younger than the thread, and the lead was not."""
    slot = hand_over(filled(LEAD, minutes=-60), DEAL)
    facts = snapshot(letter(-10), letter(0, old=True), items=[item(minutes=5)], slot=slot)

    assert (slot.reason, slot.decision) == (Reason.CONVERTED_LEAD_FOLLOWED, None)
    assert answer(decide(facts)) == ("deal:61", Reason.KEPT_EXISTING_LINK)


def test_other_flaws_that_come_to_light_later_withdraw_nothing() -> None:
    """L27: an unknown start, a second open item, many recipients."""
    facts = snapshot(
        letter(0, old=True),
        letter(1, to=MANY),
        items=[item(), item(OTHER)],
        slot=filled(),
        start_unknown=True,
        switches={"unknown_start": "leave"},
    )

    assert answer(decide(facts)) == ("deal:61", Reason.KEPT_EXISTING_LINK)


# -- decided again (L28) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", [EMPTY, filled(OTHER)])
def test_decided_again_the_rows_are_asked_from_an_empty_automatic_slot(slot: Slot) -> None:
    facts = snapshot(letter(old=True), items=[item(), item(OTHER, closed=True)], slot=slot)

    assert answer(decide_again(facts)) == ("deal:61", Reason.LINKED_SINGLE_OPEN_ITEM)


def test_decided_again_all_messages_count_at_once() -> None:
    letters = [letter(0, old=True), letter(1, cc=[DORA], old=True)]
    items = [item(), item(OTHER, person=DORA_REF)]

    assert answer(decide_again(snapshot(*letters, items=items, slot=filled()))) == (
        None,
        Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS,
    )


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (filled(), EMPTY),
        (filled(origin=Origin.SMART_BCC), filled(origin=Origin.SMART_BCC)),
        (filled(origin=Origin.HAND), filled(origin=Origin.HAND)),
        (UNLINKED, UNLINKED),
        (EMPTY, EMPTY),
    ],
)
def test_only_an_automatic_slot_is_emptied(slot: Slot, expected: Slot) -> None:
    assert without_automatic(slot) == expected


# -- merging (L21) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "slots", "winner", "lost"),
    [
        ("one thread alone", [filled()], 0, ()),
        ("the older of two automatic ones", [filled(), filled(OTHER)], 0, (OTHER,)),
        ("the older of two by hand", [filled(DEAL, Origin.HAND), filled(OTHER, Origin.HAND)], 0, (OTHER,)),
        ("Smart Bcc beats automatic", [filled(), filled(OTHER, Origin.SMART_BCC)], 1, (DEAL,)),
        ("by hand beats Smart Bcc", [filled(DEAL, Origin.SMART_BCC), filled(OTHER, Origin.HAND)], 1, (DEAL,)),
        ("anything beats nothing", [EMPTY, filled(OTHER)], 1, ()),
        ("a hand that unlinked beats Smart Bcc", [filled(DEAL, Origin.SMART_BCC), UNLINKED], 1, (DEAL,)),
        ("and comes after one that linked", [UNLINKED, filled(OTHER, Origin.HAND)], 1, ()),
        ("equal items lose nothing", [filled(), filled(DEAL, Origin.HAND)], 1, ()),
        ("nothing and nothing", [EMPTY, EMPTY], 0, ()),
        ("three", [filled(), filled(OTHER), filled(LEAD, Origin.SMART_BCC)], 2, (DEAL, OTHER)),
        ("one lost item is named once", [filled(DEAL, Origin.HAND), filled(OTHER), filled(OTHER)], 0, (OTHER,)),
    ],
)
def test_the_slot_of_threads_that_turn_out_to_be_one(
    why: str, slots: list[Slot], winner: int, lost: tuple[ItemRef, ...]
) -> None:
    """In whatever order they are given; the first of the table is the oldest."""
    threads = [((at(n), n), slot) for n, slot in enumerate(slots)]
    for order in permutations(threads):
        assert merge(order) == (slots[winner], lost), why


def test_of_two_threads_of_one_age_the_smaller_number_is_the_older() -> None:
    threads = [((at(0), 2), filled(OTHER)), ((at(0), 1), filled(DEAL))]

    assert merge(threads) == (filled(DEAL), (OTHER,))


# -- whatever the facts --------------------------------------------------------------------------------------


@given(snapshots())
def test_asking_again_with_nothing_new_changes_nothing(facts: Snapshot) -> None:
    decision = decide(facts)
    letters = tuple(each._replace(new=False, names=None) for each in facts.letters)
    again = decide(replace(facts, letters=letters, slot=decision.slot))

    assert again.slot == decision.slot
    assert again.links == decision.links or Reason.MANY_RECIPIENTS_NO_OPEN_ITEM in (again.reason, decision.reason)


@given(snapshots())
def test_a_decision_is_about_what_it_knows(facts: Snapshot) -> None:
    """Whatever comes in: a slot is filled by a row that fills it, and nothing that a hand unlinked is linked."""
    decision = decide(facts)

    assert decision.slot.item is None or decision.slot.item in facts.items
    assert not decision.links.persons & facts.tombstones - facts.hand_persons
    assert decision.links.persons <= facts.persons.keys()
    assert set(decision.candidates) <= facts.items.keys()
    assert (decision.reason is Reason.LINKED_SINGLE_OPEN_ITEM) <= (decision.slot.origin is Origin.AUTO)
    if decision.reason is Reason.AMBIGUOUS_SEVERAL_OPEN_ITEMS:
        assert len(decision.candidates) > 1
        assert decision.slot == EMPTY


@given(snapshots())
def test_from_the_start_every_message_is_as_if_new(facts: Snapshot) -> None:
    letters = tuple(each._replace(new=True) for each in facts.letters)
    news = replace(facts, letters=letters)

    assert answer(decide(news)) == answer(decide(facts, from_the_start=True))

"""The facts of a decision are enough to make it again (L24)."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from linker.snapshots import (
    ANNA,
    BEN,
    CARLA,
    DEAL,
    DORA,
    EVE,
    FRED,
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
from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Flag, Origin, Reason, Slot
from maillinkd.linker.policy import Policy
from maillinkd.linker.rules import decide, decide_again, follow_directory
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot, micros, moment
from maillinkd.mail.message import Participant, Role

PERSONS = [ItemRef(ItemKind.PERSON, id_) for id_ in ("3", "4", "X-y")]
ORGANIZATIONS = [ItemRef(ItemKind.ORGANIZATION, id_) for id_ in ("7", "8")]
ITEMS = [DEAL, OTHER, LEAD, PROJECT]
ADDRESSES = [ANNA, BEN, CARLA, DORA, EVE, FRED]

times = st.integers(-5, 5).map(at)
policies = st.builds(
    Policy,
    count_internal_recipients=st.booleans(),
    unknown_start=st.sampled_from(["link", "leave"]),
    single_contact=st.booleans(),
    closed_item_threads=st.sampled_from(["keep", "exclude_later"]),
    many_recipients=st.sampled_from(["slot", "all"]),
    include_organization_items=st.booleans(),
    include_participants=st.booleans(),
    count_only_older_items=st.booleans(),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot that can be: a few people and items, letters in order of sent time, a slot from the directory."""
    persons = {
        ref: Person(ref, draw(st.none() | st.sampled_from(ORGANIZATIONS)))
        for ref in draw(st.lists(st.sampled_from(PERSONS), unique=True))
    }
    some_persons = st.lists(st.sampled_from(sorted(persons)), unique=True, max_size=2) if persons else st.just([])
    items = {
        ref: SlotItem(
            ref,
            draw(st.booleans()),
            draw(times),
            draw(st.none() | st.sampled_from(PERSONS)),
            draw(st.none() | st.sampled_from(ORGANIZATIONS)),
            frozenset(draw(some_persons)),
        )
        for ref in draw(st.lists(st.sampled_from(ITEMS), unique=True))
    }
    known = {
        address: tuple(sorted(found)) for address in ADDRESSES[2:] if (found := draw(some_persons))
    }  # fmt: skip
    people = st.builds(Participant, st.sampled_from(Role), st.sampled_from(ADDRESSES))
    letters = st.builds(
        Letter,
        st.sampled_from(["a@x", "b@x"]),
        times,
        st.lists(people, max_size=4).map(tuple),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, *items]),
        st.frozensets(st.sampled_from(Flag), max_size=2),
    )
    slots: list[Slot] = [EMPTY, UNLINKED]
    slots += [filled(ref, origin, minutes=draw(st.none() | st.integers(-5, 5))) for ref in items for origin in Origin]
    others = st.frozensets(st.sampled_from([*PERSONS, *ORGANIZATIONS]), max_size=2)
    hand, dead = draw(others), draw(others)
    return Snapshot(
        letters=tuple(
            sorted(draw(st.lists(letters, min_size=1, max_size=4)), key=lambda each: (each.sent_at, each.message_id))
        ),
        policy=draw(policies),
        internal=frozenset({ANNA, BEN}),
        known=known,
        persons=persons,
        items=items,
        slot=draw(st.sampled_from(slots)),
        hand_persons=frozenset(ref for ref in hand if ref.kind is ItemKind.PERSON),
        hand_organizations=frozenset(ref for ref in hand if ref.kind is ItemKind.ORGANIZATION),
        tombstones=dead - hand,
        auto_link=draw(st.booleans()),
        start_unknown=draw(st.booleans()),
        duplicate_message_id=draw(st.booleans()),
    )


def through_json(facts: Snapshot) -> Snapshot:
    return Snapshot.of_facts(json.loads(json.dumps(facts.facts())))


@given(snapshots())
def test_facts_make_the_snapshot_again(facts: Snapshot) -> None:
    assert through_json(facts) == facts


@given(snapshots())
def test_facts_make_the_decision_again(facts: Snapshot) -> None:
    again = through_json(facts)

    assert decide(again) == decide(facts)
    assert decide(again, from_the_start=True) == decide(facts, from_the_start=True)
    assert decide_again(again) == decide_again(facts)
    assert follow_directory(again, Reason.NO_ITEM) == follow_directory(facts, Reason.NO_ITEM)


def test_facts_are_exact_in_time() -> None:
    """A microsecond decides between rows 13 and 14."""
    late = letter(0)
    early = Letter("a@x", at(0) - timedelta(microseconds=1), late.participants, has_references=False, new=True)
    for start, reason in ((late, Reason.LINKED_SINGLE_OPEN_ITEM), (early, Reason.ITEM_NEWER_THAN_THREAD)):
        assert decide(through_json(snapshot(start, items=[item(minutes=0)]))).reason is reason


def test_facts_keep_the_names_as_they_are_shown() -> None:
    ref = ItemRef.parse("deal:AbC")

    assert through_json(snapshot(items=[item(ref)])).items[ref].ref.id == "AbC"


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_go_to_microseconds_and_back(when: datetime) -> None:
    assert moment(micros(when)) == when


def test_a_thread_starts_with_its_first_letter() -> None:
    assert snapshot(letter(3), letter(5)).started_at == at(3)

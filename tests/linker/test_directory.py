"""Each thread's snapshot takes its share of what a batch knows of the directory."""

from linker.snapshots import CARLA, CARLA_REF, CLIENT, DEAL, DORA, DORA_REF, EVE, LEAD, OTHER, PROJECT, item
from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.directory import Directory, Share
from maillinkd.linker.snapshot import Person

DIRECTORY = Directory(
    known={CARLA: (CARLA_REF,), DORA: (DORA_REF,)},
    persons={CARLA_REF: Person(CARLA_REF, CLIENT), DORA_REF: Person(DORA_REF)},
    items={
        DEAL: item(DEAL),
        OTHER: item(OTHER, person=DORA_REF),
        LEAD: item(LEAD, person=None, organization=CLIENT),
        PROJECT: item(PROJECT, person=None),
    },
    by_person={CARLA_REF: (DEAL,), DORA_REF: (OTHER,)},
    by_organization={CLIENT: (LEAD,)},
)


def names(share: Share) -> tuple[set[str], set[ItemRef], set[ItemRef]]:
    return set(share.known), set(share.persons), set(share.items)


def test_an_address_brings_its_person_and_what_counts_for_him() -> None:
    assert names(DIRECTORY.share([CARLA, EVE], [], [])) == ({CARLA}, {CARLA_REF}, {DEAL, LEAD})
    assert names(DIRECTORY.share([DORA], [], [])) == ({DORA}, {DORA_REF}, {OTHER})


def test_whom_a_hand_linked_brings_his_items_too() -> None:
    assert names(DIRECTORY.share([], [DORA_REF], [])) == (set(), {DORA_REF}, {OTHER})
    assert names(DIRECTORY.share([], [CLIENT], [])) == (set(), set(), {LEAD})


def test_whom_a_hand_linked_and_the_directory_no_longer_has_brings_nothing() -> None:
    gone = ItemRef(ItemKind.PERSON, "99")

    assert names(DIRECTORY.share([], [gone], [])) == (set(), set(), set())


def test_the_item_in_the_slot_is_always_there() -> None:
    assert names(DIRECTORY.share([EVE], [], [PROJECT])) == (set(), set(), {PROJECT})


def test_of_an_empty_directory_nothing_is_shared() -> None:
    assert names(Directory().share([CARLA], [], [])) == (set(), set(), set())


def test_values_are_those_of_the_directory() -> None:
    share = DIRECTORY.share([CARLA], [], [])

    assert share.known == {CARLA: (CARLA_REF,)}
    assert share.persons[CARLA_REF] is DIRECTORY.persons[CARLA_REF]
    assert share.items[DEAL] is DIRECTORY.items[DEAL]

"""The directory on its shelf."""

from dataclasses import replace
from datetime import timedelta

import pytest

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.linker.directory import Directory
from maillinkd.linker.policy import Policy
from maillinkd.linker.snapshot import Person, SlotItem
from maillinkd.store import items
from maillinkd.store.database import Database
from store.shelf import at

WIDE = Policy(include_participants=True, include_organization_items=True)


def item(name: str, **fields: object) -> Item:
    return replace(Item(ItemRef.parse(name), imported_at=at(0)), **fields)  # type: ignore[arg-type]


BERTA = item("person:7", title="Berta", organization="3", addresses=("berta@acme.example", "b@home.example"))
ACME = item("organization:3", title="Acme")
ROOF = item("deal:61", title="New roof", status="open", person="7", organization="3", added_at=at(-10))


async def _put(database: Database, *changed: Item) -> None:
    async with database.transaction() as connection:
        before = await items.read(connection, [each.ref for each in changed])
        await items.write(connection, changed, before.values())


async def _directory(
    database: Database,
    *addresses: str,
    policy: Policy | None = None,
    linked: tuple[ItemRef, ...] = (),
    named: tuple[ItemRef, ...] = (),
) -> Directory:
    async with database.reading() as connection:
        return await items.directory(connection, policy or Policy(), addresses, linked, named)


async def _read(database: Database, *names: str) -> list[Item]:
    async with database.reading() as connection:
        return list((await items.read(connection, map(ItemRef.parse, names))).values())


# -- read and write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whole",
    [
        BERTA,
        ACME,
        item(
            "deal:61",
            title="New roof \u2603",
            status="won",
            person="P7",
            organization="O3",
            owner="anna@ourco.example",
            added_at=at(-10) + timedelta(microseconds=1),
            updated_at=at(3),
            archived=True,
            deleted=True,
            converted_from="Adf21080-0e10",
            participants=("P8", "P9"),
        ),
        item("lead:adf21080-0e10-11eb-879b-05d71fb426ec", archived=True),
        item("activity:5", title="Call"),
    ],
    ids=lambda each: str(each.ref),
)
async def test_an_item_comes_back_as_it_was_written(database: Database, whole: Item) -> None:
    await _put(database, whole)

    assert await _read(database, str(whole.ref)) == [whole]


async def test_writing_again_replaces_all_but_the_time_of_import(database: Database) -> None:
    """L9 counts from the first import."""
    await _put(database, BERTA)
    later = item("person:7", title="Berta B.", addresses=("new@acme.example",), imported_at=at(99))
    await _put(database, later)

    assert await _read(database, "person:7") == [replace(later, imported_at=at(0))]


async def test_ids_are_compared_without_case_and_shown_as_they_came_last(database: Database) -> None:
    await _put(database, item("lead:AbC"), item("lead:aBc", title="again"))
    async with database.reading() as connection:
        found = await items.read(connection, [ItemRef.parse("lead:ABC"), ItemRef.parse("lead:unknown")])

    assert {str(asked): str(each.ref) for asked, each in found.items()} == {"lead:ABC": "lead:aBc"}


async def test_kinds_have_ids_of_their_own(database: Database) -> None:
    await _put(database, item("deal:1", title="deal"), item("lead:1", title="lead"))

    assert [each.title for each in await _read(database, "lead:1", "deal:1")] in (["lead", "deal"], ["deal", "lead"])


async def test_a_person_keeps_the_order_of_its_addresses_and_a_deal_loses_old_participants(
    database: Database,
) -> None:
    await _put(database, item("person:7", addresses=("z@x", "a@x", "z@x")), item("deal:1", participants=("7", "8")))
    assert (await _read(database, "person:7"))[0].addresses == ("z@x", "a@x")
    await _put(database, item("person:7", addresses=("a@x",)), item("deal:1", participants=("8",)))

    found = await _directory(database, "a@x", "z@x", policy=WIDE)
    assert set(found.known) == {"a@x"}
    assert found.by_person == {}


async def test_items_are_listed_by_kind_and_number_and_found_by_words(database: Database) -> None:
    await _put(database, ROOF, item("deal:7", title="100 % done_"), item("deal:100"), BERTA, ACME)
    async with database.reading() as connection:
        everything = [str(each.ref) for each in await items.listing(connection)]
        deals = [str(each.ref) for each in await items.listing(connection, ItemKind.DEAL)]
        found = {
            word: [str(each.ref) for each in await items.listing(connection, search=word)]
            for word in ("roof", "home.example", "ACME", "%", "_", "nothing")
        }

    assert everything == ["deal:7", "deal:61", "deal:100", "organization:3", "person:7"]
    assert deals == ["deal:7", "deal:61", "deal:100"]
    assert found == {
        "roof": ["deal:61"],
        "home.example": ["person:7"],
        "ACME": ["organization:3", "person:7"],
        "%": ["deal:7"],
        "_": ["deal:7"],
        "nothing": [],
    }


# -- what the linker may know -----------------------------------------------------------------------------------


async def test_the_directory_of_an_address_is_its_person_its_organization_and_its_items(database: Database) -> None:
    await _put(database, BERTA, ACME, ROOF)

    found = await _directory(database, "b@home.example", "nobody@x.example")
    roof = SlotItem(ROOF.ref, open=True, added_at=at(-10), person=BERTA.ref, organization=ACME.ref)
    assert found == Directory(
        known={"b@home.example": (BERTA.ref,)},
        persons={BERTA.ref: Person(BERTA.ref, ACME.ref)},
        items={ROOF.ref: roof},
        by_person={BERTA.ref: (ROOF.ref,)},
        by_organization={},
    )


async def test_two_persons_with_one_address_are_both_known(database: Database) -> None:
    """L5."""
    await _put(database, item("person:8", addresses=("x@y",)), item("person:7", addresses=("x@y",)))

    assert (await _directory(database, "x@y")).known == {
        "x@y": (ItemRef.parse("person:7"), ItemRef.parse("person:8"))
    }


async def test_a_deleted_person_is_nobody(database: Database) -> None:
    await _put(database, replace(BERTA, deleted=True), ACME, ROOF)

    assert await _directory(database, "b@home.example", linked=(BERTA.ref,)) == Directory()


@pytest.mark.parametrize("organization", [replace(ACME, deleted=True), item("organization:4")])
async def test_a_deleted_or_unknown_organization_is_not_linked(database: Database, organization: Item) -> None:
    await _put(database, BERTA, organization, ROOF)

    assert (await _directory(database, "b@home.example")).persons == {BERTA.ref: Person(BERTA.ref, None)}


async def test_references_between_items_are_compared_without_case(database: Database) -> None:
    """An item may name its person before it is known, and otherwise than it is called later."""
    await _put(database, item("deal:1", person="p-x", organization="o-y", participants=("P-Z",)))
    await _put(
        database,
        item("person:P-X", organization="O-y", addresses=("x@y",)),
        item("person:p-z", addresses=("z@y",)),
        item("organization:O-Y"),
    )

    found = await _directory(database, "x@y", "z@y", policy=WIDE)
    person, other, organization = map(ItemRef.parse, ("person:P-X", "person:p-z", "organization:O-Y"))
    deal = ItemRef.parse("deal:1")
    assert found.persons == {person: Person(person, organization), other: Person(other)}
    assert found.items[deal] == SlotItem(deal, True, at(0), person, organization, frozenset({other}))
    assert found.by_person == {person: (deal,), other: (deal,)}


@pytest.mark.parametrize(
    ("policy", "counted"),
    [
        (Policy(), {"deal:own"}),
        (Policy(include_participants=True), {"deal:own", "deal:partakes"}),
        (Policy(include_organization_items=True), {"deal:own", "deal:acmes"}),
        (WIDE, {"deal:own", "deal:partakes", "deal:acmes"}),
    ],
)
async def test_which_items_count_is_a_choice(database: Database, policy: Policy, counted: set[str]) -> None:
    """L7. An item of the organization that has a contact person belongs to him."""
    await _put(
        database,
        BERTA,
        ACME,
        item("deal:own", person="7"),
        item("deal:partakes", person="8", participants=("7",)),
        item("deal:acmes", organization="3"),
        item("deal:acmes-by-another", person="9", organization="3"),
    )

    found = await _directory(database, "b@home.example", policy=policy)
    assert set(map(str, found.items)) == counted


async def test_organizations_linked_by_hand_bring_their_items(database: Database) -> None:
    await _put(database, ACME, item("deal:acmes", organization="3"))
    policy = Policy(include_organization_items=True)

    found = await _directory(database, policy=policy, linked=(ACME.ref,))
    assert found.by_organization == {ACME.ref: (ItemRef.parse("deal:acmes"),)}


async def test_tags_count_unless_the_policy_ignores_them(database: Database) -> None:
    await _put(database, item("person:7", addresses=("berta+crm@acme.example",)))
    ignoring = Policy(ignore_plus_tags=True)

    assert (await _directory(database, "berta@acme.example")).known == {}
    assert (await _directory(database, "berta+crm@acme.example")).known.keys() == {"berta+crm@acme.example"}
    assert (await _directory(database, "berta@acme.example", policy=ignoring)).known.keys() == {"berta@acme.example"}


async def test_the_item_in_the_slot_is_there_even_if_nobody_of_the_thread_has_it(database: Database) -> None:
    await _put(database, item("project:5", status="completed"), item("deal:6", deleted=True))

    found = await _directory(database, named=(ItemRef.parse("project:5"), ItemRef.parse("deal:6")))
    assert {str(ref): each.open for ref, each in found.items.items()} == {"project:5": False, "deal:6": False}


# -- L9, L10 ----------------------------------------------------------------------------------------------------


async def test_an_item_of_unknown_age_counts_from_its_import(database: Database) -> None:
    await _put(database, BERTA, replace(ROOF, added_at=None))

    assert (await _directory(database, "b@home.example")).items[ROOF.ref].added_at == at(0)


async def test_a_converted_lead_is_closed_and_means_its_deal(database: Database) -> None:
    lead = item("lead:L-1", person="7")
    await _put(database, BERTA, lead, item("deal:1", person="7", converted_from="l-1"))

    found = await _directory(database, "b@home.example")
    assert {str(ref): each.open for ref, each in found.items.items()} == {"lead:L-1": False, "deal:1": True}
    async with database.reading() as connection:
        assert await items.converted(connection, ["l-1", "l-2"]) == {"l-1": ItemRef.parse("deal:1")}


async def test_a_deleted_deal_gives_the_lead_back(database: Database) -> None:
    await _put(database, BERTA, item("lead:1", person="7"), item("deal:1", converted_from="1", deleted=True))

    assert (await _directory(database, "b@home.example")).items[ItemRef.parse("lead:1")].open
    async with database.reading() as connection:
        assert await items.converted(connection, ["1"]) == {}


async def test_of_two_deals_of_one_lead_the_older_has_it(database: Database) -> None:
    await _put(
        database,
        item("deal:9", converted_from="1", imported_at=at(0)),
        item("deal:1", converted_from="1", imported_at=at(1)),
    )
    async with database.reading() as connection:
        assert await items.converted(connection, ["1"]) == {"1": ItemRef.parse("deal:9")}


async def test_the_members_of_an_organization_are_its_persons(database: Database) -> None:
    await _put(database, BERTA, ACME, ROOF, item("person:8", organization="4"))
    async with database.reading() as connection:
        assert await items.members(connection, ["3"]) == {BERTA.ref}
        assert await items.living_organizations(connection, ["3", "4"]) == {"3": ACME.ref}


async def test_thousands_of_addresses_are_looked_up_at_once(database: Database) -> None:
    persons = [item(f"person:{n}", addresses=(f"{n}@x.example",)) for n in range(6_000)]
    await _put(database, *persons)

    found = await _directory(database, *(f"{n}@x.example" for n in range(6_000)))
    assert len(found.persons) == 6_000


async def test_organizations_linked_by_hand_are_compared_without_case(database: Database) -> None:
    acme = item("organization:ACME")
    await _put(database, acme, item("deal:acmes", organization="acme"))
    policy = Policy(include_organization_items=True)

    found = await _directory(database, policy=policy, linked=(ItemRef.parse("organization:Acme"),))
    assert (found.organizations, found.by_organization) == ({acme.ref}, {acme.ref: (ItemRef.parse("deal:acmes"),)})


async def test_organizations_linked_by_hand_that_are_deleted_or_unknown_bring_nothing(database: Database) -> None:
    """L7."""
    await _put(database, replace(ACME, deleted=True), item("deal:acmes", organization="3"))
    policy = Policy(include_organization_items=True)
    linked = (ACME.ref, ItemRef.parse("organization:4"))

    assert await _directory(database, policy=policy, linked=linked) == Directory()

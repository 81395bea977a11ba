"""What threads are linked to, and where each thread stands."""

from datetime import timedelta

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Links, Origin, Reason, Slot
from maillinkd.mail.message import Role
from maillinkd.store import items, links
from maillinkd.store.database import Database
from maillinkd.store.links import Act
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import link
from store.shelf import at, letter, open_threads, settled, state, thread_of

DEAL, OTHER_DEAL = ItemRef.parse("deal:61"), ItemRef.parse("deal:62")
BERTA, CARL = ItemRef.parse("person:7"), ItemRef.parse("person:8")
ACME = ItemRef.parse("organization:3")


async def test_a_thread_stands_as_it_was_written(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, [letter(scope, "a@x")])
        written = state(
            scope,
            label,
            started_at=at(0) + timedelta(microseconds=7),
            last_message_at=at(5),
            message_count=3,
            id_count=4,
            subject="New roof",
            reason=Reason.LINKED_SINGLE_OPEN_ITEM,
            candidates=("deal:61", "lead:x"),
            flags=frozenset({"ambiguous_person"}),
            slot_lost=True,
            decision=11,
            slot=Slot(DEAL, Origin.AUTO, at(-9), 11, Reason.LINKED_SINGLE_OPEN_ITEM),
            acts=(Act(ACME, 5, Origin.HAND), Act(BERTA, 11, Origin.AUTO)),
            tombstones=(Act(CARL, 6, Origin.HAND),),
        )
        await links.write(connection, [settled(written, 11, is_new=True)])
        found = (await links.states(connection, [label]))[label]

    assert found._replace(acts=tuple(sorted(found.acts, key=lambda act: act.ref))) == written
    assert found.links == {ACME, BERTA}
    assert found.of_kind(ItemKind.PERSON) == {BERTA}
    assert found.by_hand(ItemKind.ORGANIZATION) == {ACME}
    assert found.by_hand(ItemKind.PERSON) == frozenset()


async def test_a_slot_emptied_by_a_hand_stays_so(database: Database, scope: Scope) -> None:
    """Row 2 has to know it from an empty slot."""
    async with database.transaction() as connection:
        first, second = await open_threads(connection, scope.id, 2)
        await links.write(
            connection,
            [settled(state(scope, first, slot=Slot(origin=Origin.HAND)), 1), settled(state(scope, second), 2)],
        )
        found = await links.states(connection, [first, second])

    assert found[first].slot == Slot(origin=Origin.HAND)
    assert found[first].slot.unlinked_by_hand
    assert found[second].slot == EMPTY


async def test_new_links_point_at_the_decision_that_made_them_and_old_ones_at_theirs(
    database: Database, scope: Scope
) -> None:
    """L20."""
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
        slot = Slot(DEAL, Origin.AUTO, reason=Reason.LINKED_SINGLE_OPEN_ITEM)
        await links.write(
            connection, [settled(state(scope, label, slot=slot, acts=(Act(BERTA, 0, Origin.AUTO),)), 1, is_new=True)]
        )
        found = (await links.states(connection, [label]))[label]
        acts = links.acts_after(found, Links(persons=frozenset({BERTA, CARL})))
        await links.write(connection, [settled(found._replace(acts=acts), 2)])
        found = (await links.states(connection, [label]))[label]

    assert {(act.ref, act.decision) for act in found.acts} == {(BERTA, 1), (CARL, 2)}
    assert found.slot.decision == 1


async def test_writing_again_replaces_links_and_tombstones(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
        first = Slot(DEAL, Origin.AUTO, reason=Reason.LINKED_SINGLE_OPEN_ITEM)
        second = Slot(OTHER_DEAL, Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        before = state(scope, label, slot=first, acts=(Act(BERTA, 0, Origin.AUTO),))
        after = state(scope, label, slot=second, tombstones=(Act(BERTA, 0, Origin.HAND),))
        await links.write(connection, [settled(before, 1, is_new=True)])
        await links.write(connection, [settled(after, 2)])
        found = (await links.states(connection, [label]))[label]

    assert (found.slot.item, found.slot.origin, found.acts) == (OTHER_DEAL, Origin.HAND, ())
    assert found.tombstones == (Act(BERTA, 2, Origin.HAND),)


async def test_a_slot_that_another_writer_filled_meanwhile_breaks_the_constraint(
    database: Database, scope: Scope
) -> None:
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
        row = {"thread": label, "kind": "deal", "key": "61", "slot": 1, "origin": "auto", "reason": "", "decision": 1}
        await connection.execute(insert(link), row)
    slot = Slot(OTHER_DEAL, Origin.AUTO, reason=Reason.LINKED_SINGLE_OPEN_ITEM)
    with pytest.raises(IntegrityError):
        async with database.transaction() as connection:
            await links.write(connection, [settled(state(scope, label, slot=slot), 2, is_new=True)])


async def test_links_are_shown_by_the_ids_as_the_directory_has_them(database: Database, scope: Scope) -> None:
    """`…_key` columns compare, `…_id` columns show."""
    async with database.transaction() as connection:
        await items.write(connection, [Item(ItemRef.parse("deal:AbC"), imported_at=at(0))], ())
        (label,) = await open_threads(connection, scope.id, 1)
        slot = Slot(ItemRef.parse("deal:aBc"), Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        gone = (Act(ItemRef.parse("person:Unknown"), 0, Origin.HAND),)
        await links.write(connection, [settled(state(scope, label, slot=slot, acts=gone), 1, is_new=True)])
        found = (await links.states(connection, [label]))[label]

    assert str(found.slot.item) == "deal:AbC"
    assert found.links == {ItemRef.parse("person:unknown")}


def test_a_hand_link_to_what_is_deleted_now_is_kept_unseen() -> None:
    before = state(Scope(1, "anna", "imap", b""), 1, acts=(Act(BERTA, 3, Origin.HAND), Act(CARL, 3, Origin.AUTO)))

    assert links.acts_after(before, Links()) == (Act(BERTA, 3, Origin.HAND),)


async def test_threads_are_found_by_address_and_by_item(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        one = await thread_of(connection, scope, [letter(scope, "a@x", people={"berta+x@acme.example": Role.FROM})])
        other = await thread_of(connection, scope, [letter(scope, "b@x", people={"carl@acme.example": Role.CC})])
        slot = Slot(DEAL, Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        await links.write(
            connection,
            [
                settled(state(scope, one, slot=slot), 1, is_new=True),
                settled(state(scope, other, tombstones=(Act(BERTA, 1, Origin.HAND),)), 1, is_new=True),
            ],
        )

        assert await links.threads_with(connection, ["berta@acme.example"]) == {one}
        assert await links.threads_with(connection, ["berta+x@acme.example", "carl@acme.example"]) == {one, other}
        assert await links.threads_with(connection, []) == set()
        assert await links.threads_linked(connection, [DEAL]) == {one}
        assert await links.threads_linked(connection, [BERTA]) == {other}
        assert await links.threads_linked(connection, [ItemRef(ItemKind.LEAD, DEAL.id)]) == set()


async def test_threads_that_go_up_in_another_leave_no_links(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
        slot = Slot(DEAL, Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
        dead = (Act(BERTA, 1, Origin.HAND),)
        await links.write(connection, [settled(state(scope, label, slot=slot, tombstones=dead), 1, is_new=True)])
        await links.forget_links(connection, [label])

        assert await links.threads_linked(connection, [DEAL, BERTA]) == set()


async def test_labels_are_listed_by_newest_message(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        threads = await open_threads(connection, scope.id, 3)
        await links.write(
            connection,
            [settled(state(scope, label, last_message_at=at(n)), 1) for n, label in enumerate(threads)],
        )

        assert await links.labels(connection, since=None, among=None) == threads
        assert await links.labels(connection, since=at(1), among=None) == threads[1:]
        assert await links.labels(connection, since=at(1), among={threads[0], threads[2]}) == threads[2:]

"""What the database itself refuses, whatever the code above it does."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from maillinkd.store.database import Database
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import link, message_ref, metadata, thread
from store.shelf import open_threads

LINK = {"origin": "auto", "added_at": None, "reason": "linked_single_open_item", "decision": 1}


async def _thread(database: Database, scope: Scope) -> int:
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
    return label


async def _insert(database: Database, label: int, *rows: Mapping[str, Any]) -> None:
    async with database.transaction() as connection:
        for row in rows:
            await connection.execute(insert(link).values(thread=label, **LINK | row))


async def test_a_second_deal_in_the_slot_is_refused_by_the_database(database: Database, scope: Scope) -> None:
    """linking.md, "Slot": a unique constraint, not a check in code."""
    label = await _thread(database, scope)
    await _insert(database, label, {"kind": "deal", "key": "61", "slot": 1})

    for second in ("deal", "lead", "project"):
        with pytest.raises(IntegrityError):
            await _insert(database, label, {"kind": second, "key": "62", "slot": 1})
    async with database.reading() as connection:
        assert (await connection.execute(select(link.c.key))).scalars().all() == ["61"]


async def test_persons_and_organizations_are_several(database: Database, scope: Scope) -> None:
    label = await _thread(database, scope)
    rows = [{"kind": kind, "key": key, "slot": None} for kind in ("person", "organization") for key in "123"]
    await _insert(database, label, *rows, {"kind": "deal", "key": "61", "slot": 1})

    async with database.reading() as connection:
        assert (await connection.execute(select(func.count()).select_from(link))).scalar() == 7


@pytest.mark.parametrize(
    ("why", "row"),
    [
        ("a deal outside the slot", {"kind": "deal", "key": "1", "slot": None}),
        ("a lead outside the slot", {"kind": "lead", "key": "1", "slot": None}),
        ("a project outside the slot", {"kind": "project", "key": "1", "slot": None}),
        ("a person in the slot", {"kind": "person", "key": "1", "slot": 1}),
        ("an organization in the slot", {"kind": "organization", "key": "1", "slot": 1}),
        ("a second slot", {"kind": "deal", "key": "1", "slot": 2}),
        ("a slot of number nought", {"kind": "deal", "key": "1", "slot": 0}),
        ("a link without an origin", {"kind": "deal", "key": "1", "slot": 1, "origin": None}),
        ("a link that no decision made", {"kind": "deal", "key": "1", "slot": 1, "decision": None}),
    ],
)
async def test_what_is_no_link_is_refused(database: Database, scope: Scope, why: str, row: dict[str, Any]) -> None:
    label = await _thread(database, scope)

    with pytest.raises(IntegrityError):
        await _insert(database, label, row)


async def test_a_link_of_no_thread_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await _insert(database, 4711, {"kind": "deal", "key": "61", "slot": 1})


async def test_a_thread_with_ids_cannot_be_deleted(database: Database, scope: Scope) -> None:
    label = await _thread(database, scope)
    async with database.transaction() as connection:
        row = {"node": bytes(16), "thread": label, "borne": True, "detached": False}
        await connection.execute(insert(message_ref), row)

    with pytest.raises(IntegrityError):
        async with database.transaction() as connection:
            await connection.execute(delete(thread))


async def test_a_number_is_never_given_out_twice(database: Database, scope: Scope) -> None:
    """What was noted under a thread's number must not mean another thread later."""
    first = await _thread(database, scope)
    async with database.transaction() as connection:
        await connection.execute(delete(thread))

    assert await _thread(database, scope) > first


def test_every_constraint_and_index_has_a_name() -> None:
    """A migration can only drop what has one."""
    nameless = [
        f"{table.name}: {thing}"
        for table in metadata.sorted_tables
        for thing in (*table.constraints, *table.indexes)
        if not thing.name and type(thing).__name__ not in ("PrimaryKeyConstraint", "UniqueConstraint")
    ]

    assert nameless == []

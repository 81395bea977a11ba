"""Each invariant is broken once, by hand, and told with its place."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from ingest.scene import CLIENT, OTHER_DEAL, Scene, bcc, hours, letter, received
from maillinkd.directory.item import ItemRef
from maillinkd.store import invariants
from maillinkd.store.database import Database
from maillinkd.store.invariants import Summary
from maillinkd.store.rehearsal import rehearsal


async def problems(database: Database) -> list[str]:
    async with database.reading() as connection:
        found = invariants.check(connection, Summary(), lambda _: None)
        return [f"{each.check}: {each.place}: {each.problem}" async for each in found]


@pytest.fixture
async def scene(database: Database) -> Scene:
    """Thread 1 is linked and has an answer, thread 2 is linked by hand and lost a person, thread 3 came by Bcc."""
    scene = Scene.on(database)
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", subject="Roof"), letter("b@x", refers=["a@x"], date=hours(1)))
    await scene.arrive(letter("c@x", date=hours(2)), first_uid=3)
    await scene.house.link("anna", [2], ItemRef.parse("deal:61"))
    await scene.house.unlink("anna", [2], ItemRef.parse("person:3"))
    await scene.deliver(
        received(letter("d@x", sender="anna@ourco.example", to="carla@client.example"), bcc("deal61"))
    )
    assert await problems(database) == []
    return scene


BROKEN: dict[str, tuple[str, str]] = {
    "a link whose decision is gone": (
        "UPDATE link SET decision = 99 WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:61 names decision 99, which is not there",
    ),
    "a link whose decision is about another thread": (
        "UPDATE link SET decision = 2 WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:61 names decision 2, which is about thread 2",
    ),
    "a link that its decision did not make": (
        "UPDATE link SET key = '62' WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:62 names decision 1, which did not make it",
    ),
    "a tombstone without its decision": (
        "UPDATE tombstone SET decision = 99",
        "link: thread 2: the tombstone of person:3 names decision 99, which is not there for it",
    ),
    "a tombstone of a decision that linked": (
        "UPDATE tombstone SET decision = 2",
        "link: thread 2: the tombstone of person:3 names decision 2, which linked it",
    ),
    "a slot that was emptied": (
        "DELETE FROM link WHERE thread = 1 AND slot = 1",
        "thread: thread 1: its slot holds nothing, its decision 1 says deal:61",
    ),
    "a person who was taken away": (
        "DELETE FROM link WHERE thread = 1 AND kind = 'person'",
        "thread: thread 1: its persons and organizations are not those of its newest decision",
    ),
    "another reason": (
        "UPDATE thread SET reason = 'no_item' WHERE id = 1",
        "thread: thread 1: its reason is no_item, its decision 1 says kept_existing_link",
    ),
    "other candidates": (
        'UPDATE thread SET candidates = \'["deal:9"]\' WHERE id = 1',
        "thread: thread 1: its candidates are not those of its decision 1",
    ),
    "other flags": (
        """UPDATE thread SET flags = '["start_unknown"]' WHERE id = 1""",
        "thread: thread 1: its flags are not those of its newest decision",
    ),
    "no decision": (
        "UPDATE thread SET decision = NULL WHERE id = 1",
        "thread: thread 1: it was never decided",
    ),
    "a decision that is gone": (
        "UPDATE thread SET decision = 99 WHERE id = 1",
        "thread: thread 1: its decision 99 is not there",
    ),
    "a wrong count": (
        "UPDATE thread SET message_count = 7 WHERE id = 1",
        "thread: thread 1: its message_count is 7, that of its messages 2",
    ),
    "a wrong count of ids": (
        "UPDATE thread SET id_count = 7 WHERE id = 1",
        "thread: thread 1: its id_count is 7, that of its messages 2",
    ),
    "another subject": (
        "UPDATE thread SET subject = 'Cellar' WHERE id = 1",
        "thread: thread 1: its subject is not that of its first message",
    ),
    "messages of another scope": (
        "UPDATE thread SET scope = 2 WHERE id = 1",
        "thread: thread 1: it holds messages of another scope",
    ),
    "a message without a thread": (
        "DELETE FROM message_ref WHERE thread = 2",
        "message: message 3, <c@x>: it lies in no thread",
    ),
    "a message whose id only others mention": (
        "UPDATE message_ref SET borne = false WHERE thread = 2",
        "message: message 3, <c@x>: it lies in no thread",
    ),
    "another id than its own": (
        "UPDATE message SET message_id = 'z@x' WHERE id = 3",
        "message: message 3, <z@x>: it lies under another Message-ID than its own",
    ),
    "a reference that leads elsewhere": (
        "UPDATE message_ref SET thread = 2 WHERE node = (SELECT node FROM message WHERE id = 1)",
        "message: message 2, <b@x>: 1 of the ids that it refers to do not lie in its thread",
    ),
    "an address under which it is not found": (
        "DELETE FROM participant WHERE message = 3 AND address = 'carla@client.example'",
        "message: message 3, <c@x>: it is not found under the addresses of its participants",
    ),
    "a UID without a message": (
        "UPDATE occurrence SET message = NULL WHERE uid = 3",
        "uid: anna INBOX, UIDVALIDITY 1, UID 3: is said to be stored, and no message belongs to it",
    ),
    "a UID of which nobody knows": (
        "UPDATE occurrence SET disposition = '' WHERE uid = 3",
        "uid: anna INBOX, UIDVALIDITY 1, UID 3: nobody knows what became of it: its disposition is ''",
    ),
    "a cursor that stands nowhere": (
        "UPDATE folder SET before_since = 99",
        "uid: anna INBOX: its cursor stands nowhere: top 3, bottom 0, before_since 99",
    ),
    "bytes of no message": (
        "UPDATE message SET raw = NULL",
        "no message has these bytes",
    ),
    "a number of two threads": (
        "INSERT INTO thread_alias (number, thread) VALUES (1, 2)",
        "alias: thread 1: its number leads to another thread as well",
    ),
}  # fmt: skip


async def test_what_is_broken_is_told(scene: Scene) -> None:
    """Each alone, in a transaction that is rolled back."""
    untold: dict[str, list[str]] = {}
    for name, (statement, expected) in BROKEN.items():
        async with rehearsal(scene.database) as tried:
            async with tried.transaction() as connection:
                await connection.execute(text(statement))
            found = await problems(tried)
        if not any(expected in each for each in found):
            untold[name] = found

    assert untold == {}
    assert await problems(scene.database) == []


async def test_two_slots_that_a_lost_constraint_let_in_are_told(scene: Scene) -> None:
    statement = "INSERT INTO link VALUES (1, 'deal', '62', NULL, 'auto', NULL, 'no_item', 1)"
    lost = (
        "PRAGMA ignore_check_constraints = ON"
        if scene.database.is_sqlite
        else "ALTER TABLE link DROP CONSTRAINT ck_link_slot"
    )
    async with rehearsal(scene.database) as tried:
        async with tried.transaction() as connection:
            await connection.execute(text(lost))
            await connection.execute(text(statement))
        told = await problems(tried)

    assert "slot: label 1: it is linked to 2 deals, leads or projects, and may be to one" in told
    assert "slot: label 1: its link to deal:62 stands where one of another kind belongs" in told


async def test_a_row_that_points_at_nothing_is_told_on_sqlite(scene: Scene) -> None:
    if not scene.database.is_sqlite:
        return  # PostgreSQL lets nobody write one
    assert scene.database.path is not None
    with closing(sqlite3.connect(scene.database.path)) as careless, careless:
        careless.execute("DELETE FROM folder")

    found = await problems(scene.database)

    assert any(each.startswith("reference: table occurrence") for each in found), found


async def test_an_import_that_is_under_way_is_no_problem(scene: Scene) -> None:
    """Its threads are placed, and not decided yet."""
    async with scene.database.transaction() as connection:
        await connection.execute(text("UPDATE message SET undecided = true WHERE id = 3"))
        await connection.execute(text("UPDATE thread SET decision = NULL, reason = NULL WHERE id = 2"))

    assert await problems(scene.database) == []


async def test_everything_is_counted(scene: Scene) -> None:
    summary, told = Summary(), list[int]()
    await scene.know(OTHER_DEAL)
    async with scene.database.reading() as connection:
        assert [each async for each in invariants.check(connection, summary, told.append)] == []
        assert sum(told) == await invariants.size(connection) == 7

    assert (summary.threads, summary.messages) == (3, 4)

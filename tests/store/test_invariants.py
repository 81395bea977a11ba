"""Each invariant is broken once, by hand, and told with its place."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from ingest.scene import CLIENT, DORA, LEAD, OTHER_DEAL, Scene, bcc, hours, letter, received
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
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
    await changes.link(scene.house, "anna", [2], ItemRef.parse("deal:61"))
    await changes.unlink(scene.house, "anna", [2], ItemRef.parse("person:3"))
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
    "a tombstone of a decision about another thread": (
        "UPDATE tombstone SET decision = 5",
        "link: thread 2: the tombstone of person:3 names decision 5, which is not there for it",
    ),
    "a tombstone that was taken away": (
        "DELETE FROM tombstone",
        "thread: thread 2: its newest decision knows a tombstone of person:3, which is not there",
    ),
    "a tombstone that nobody made": (
        "INSERT INTO tombstone SELECT thread, kind, '9', decision FROM tombstone",
        "thread: thread 2: its tombstone of person:9 is none that its newest decision knows",
    ),
    "a tombstone that its decision did not make": (
        "INSERT INTO tombstone SELECT thread, kind, '9', decision FROM tombstone",
        "link: thread 2: the tombstone of person:9 names decision 4, which did not make it",
    ),
    "an automatic link that a hand is said to have made": (
        "UPDATE link SET origin = 'hand', reason = 'manual_link_kept' WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:61 has origin hand, its decision 1 says auto",
    ),
    "a link with another reason": (
        "UPDATE link SET reason = 'smart_bcc_explicit' WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:61 has reason smart_bcc_explicit, its decision 1 says linked_single_open",
    ),
    "a link that forgot when its item was added": (
        "UPDATE link SET added_at = NULL WHERE thread = 1 AND slot = 1",
        "link: thread 1: its link to deal:61 has added_at None, its decision 1 says 2026-01-05 09:00:00+00:00",
    ),
    "a hand's link that is said to be automatic": (
        "UPDATE link SET origin = 'auto' WHERE thread = 2 AND slot = 1",
        "link: thread 2: its link to deal:61 has origin auto, its decision 3 says hand",
    ),
    "a link that names the decision that found it there": (
        "UPDATE link SET decision = 4 WHERE thread = 2 AND slot = 1",
        "link: thread 2: its link to deal:61 names decision 4, which found it there",
    ),
    "a link by Smart Bcc that is said to be automatic": (
        "UPDATE link SET origin = 'auto' WHERE thread = 3 AND slot = 1",
        "link: thread 3: its link to deal:61 has origin auto, its decision 5 says smart_bcc",
    ),
    "a person whom a hand is said to have linked": (
        "UPDATE link SET origin = 'hand' WHERE thread = 1 AND kind = 'person'",
        "link: thread 1: its link to person:3 is of origin hand, its decision 1 says auto",
    ),
    "a person's link with another reason than the thread's": (
        "UPDATE link SET reason = 'no_item' WHERE thread = 1 AND kind = 'person'",
        "link: label 1: its link to person:3 repeats the reason 'no_item', and the thread's is kept_existing_link",
    ),
    "a filled slot that a hand is said to have emptied": (
        "UPDATE thread SET unlinked_by_hand = true WHERE id = 1",
        "slot: label 1: it is marked as unlinked by hand (unlinked_by_hand), and is linked to deal:61",
    ),
    "an item that no merge has lost": (
        "UPDATE thread SET slot_lost = true WHERE id = 1",
        "thread: thread 1: its row says that a merge has lost an item, and no hand has settled it since (slot_lost), "
        "its newest decision that no item is lost",
    ),
    "an origin that there is not": (
        "UPDATE link SET origin = 'manual' WHERE thread = 1 AND slot = 1",
        "thread: label 1: its row, its links or its tombstones cannot be read: 'manual' is not a valid Origin",
    ),
    "a reason of a link that there is not": (
        "UPDATE link SET reason = 'because' WHERE thread = 1 AND slot = 1",
        "thread: label 1: its row, its links or its tombstones cannot be read: 'because' is not a valid Reason",
    ),
    "a kind that there is not": (
        "UPDATE tombstone SET kind = 'widget'",
        "thread: label 2: its row, its links or its tombstones cannot be read: 'widget' is not a valid ItemKind",
    ),
    "a reason that there is not": (
        "UPDATE thread SET reason = 'because' WHERE id = 1",
        "thread: label 1: its row, its links or its tombstones cannot be read: 'because' is not a valid Reason",
    ),
    "candidates that are no list": (
        "UPDATE thread SET candidates = '[' WHERE id = 1",
        "thread: label 1: its row, its links or its tombstones cannot be read: ",
    ),
    "a role that there is not": (
        """UPDATE message SET participants = '[["sender","carla@client.example"]]' WHERE id = 3""",
        "message: message 3, <c@x>: its row cannot be read: 'sender' is no role of a participant",
    ),
    "participants that are none": (
        "UPDATE message SET participants = '[' WHERE id = 3",
        "message: message 3, <c@x>: its row cannot be read: ",
    ),
    "references that are none": (
        "UPDATE message SET refers = '[1]' WHERE id = 3",
        "message: message 3, <c@x>: its row cannot be read: ",
    ),
    "a mark that there is not": (
        """UPDATE message SET marks = '["stamp"]' WHERE id = 3""",
        "message: message 3, <c@x>: its row cannot be read: 'stamp' is no mark of a message",
    ),
    "a name of no item": (
        "UPDATE message SET names = 'widget:1' WHERE id = 3",
        "message: message 3, <c@x>: its row cannot be read: 'widget:1' is no item",
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
    assert await untold(scene, BROKEN) == {}
    assert await problems(scene.database) == []


async def untold(scene: Scene, broken: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
    """Each is broken alone, in a transaction that is rolled back: what was found instead of what was expected."""
    missed: dict[str, list[str]] = {}
    for name, (statement, expected) in broken.items():
        async with rehearsal(scene.database) as tried:
            async with tried.transaction() as connection:
                await connection.execute(text(statement))
            found = await problems(tried)
        if not any(expected in each for each in found):
            missed[name] = found
    return missed


@pytest.fixture
async def settled(database: Database) -> Scene:
    """Thread 1 was unlinked by hand; threads 2 and 3 became one, and deal:63 was lost; thread 4 followed its lead."""
    scene = Scene.on(database)
    dora = {"kind": "person", "id": "4", "addresses": [DORA]}
    lead = LEAD | {"person": "5"}
    ella = {"kind": "person", "id": "5", "addresses": ["ella@client.example"]}
    await scene.know(*CLIENT, dora, OTHER_DEAL | {"id": "63", "person": "4"}, ella, lead)
    await scene.arrive(letter("a@x"))
    await changes.unlink(scene.house, "anna", [1], ItemRef.parse("deal:61"))
    await scene.arrive(letter("b@x", date=hours(1)), letter("c@x", sender=DORA, date=hours(2)), first_uid=2)
    await scene.arrive(letter("d@x", refers=["b@x", "c@x"], date=hours(3)), first_uid=4)
    await scene.arrive(letter("e@x", sender="ella@client.example", date=hours(4)), first_uid=5)
    await scene.know(lead | {"kind": "deal", "id": "64", "converted_from": "abc-1"})
    assert await problems(database) == []
    return scene


BROKEN_BY_HANDS: dict[str, tuple[str, str]] = {
    "a hand that is forgotten": (
        "UPDATE thread SET unlinked_by_hand = false WHERE id = 1",
        "thread: thread 1: its row says that no hand emptied its slot (unlinked_by_hand), its decision 2 that a hand "
        "emptied its slot",
    ),
    "an item that a merge has lost, forgotten": (
        "UPDATE thread SET slot_lost = false",
        "thread: thread 2: its row says that no item is lost (slot_lost), its newest decision that a merge",
    ),
    "a followed lead with another age": (
        "UPDATE link SET added_at = added_at + 1 WHERE key = '64'",
        "has added_at 2026-01-05 09:00:00.000001+00:00, its decision 7 says 2026-01-05 09:00:00+00:00",
    ),
    "a followed lead that is said to be linked anew": (
        "UPDATE link SET reason = 'linked_single_open_item' WHERE key = '64'",
        "has reason linked_single_open_item, its decision 7 says converted_lead_followed",
    ),
}


async def test_what_hands_and_merges_have_settled_is_told(settled: Scene) -> None:
    assert await untold(settled, BROKEN_BY_HANDS) == {}


async def test_what_a_hand_settles_is_lost_no_more(settled: Scene) -> None:
    """L21; and an undo brings the loss back."""
    (line,) = await changes.link(settled.house, "anna", [2], ItemRef.parse("deal:63"))
    assert "slot_lost_in_merge" not in (await settled.thread_of("d@x")).flags
    assert await problems(settled.database) == []

    await changes.undo_batch(settled.house, "anna", line["batch"], lambda _: None)

    assert "slot_lost_in_merge" in (await settled.thread_of("d@x")).flags
    assert await problems(settled.database) == []


async def test_a_slot_that_nobody_unlinked_is_not_said_to_be(settled: Scene) -> None:
    await settled.arrive(letter("f@x", sender="ben@ourco.example", date=hours(9)), first_uid=9)
    number = (await settled.thread_of("f@x")).id
    async with rehearsal(settled.database) as tried:
        async with tried.transaction() as connection:
            await connection.execute(text(f"UPDATE thread SET unlinked_by_hand = true WHERE id = {number}"))
        (told,) = await problems(tried)

    assert f"thread {number}: its row says that a hand emptied its slot (unlinked_by_hand)" in told


async def test_what_was_erased_is_not_held_against_the_rows(settled: Scene) -> None:
    async with settled.database.transaction() as connection:
        await connection.execute(text("UPDATE decision SET facts = NULL"))

    assert await problems(settled.database) == []


async def test_a_thread_that_cannot_be_read_hides_no_other(scene: Scene) -> None:
    async with rehearsal(scene.database) as tried:
        async with tried.transaction() as connection:
            await connection.execute(text("UPDATE link SET origin = 'manual' WHERE thread = 1 AND slot = 1"))
            await connection.execute(text("DELETE FROM tombstone"))
        told = await problems(tried)

    assert [each.partition(":")[0] for each in told] == ["thread", "thread"]
    assert "thread 2: its newest decision knows a tombstone" in told[1]


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

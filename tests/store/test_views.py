"""Queries for showing. What commands make of them is tested in tests/cli; here both databases answer alike."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.scene import BEN, CLIENT, DEAL, OTHER_DEAL, Scene, hours, letter, received
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.store import cursors, views
from maillinkd.store.database import Database
from maillinkd.store.views import Counts, LinkedBy, PlaceView, ThreadStatus


@pytest.fixture
async def scene(database: Database) -> Scene:
    """Thread a is linked, b waits for somebody to choose between two deals, c is of nobody, d is Ben's."""
    scene = Scene.on(database)
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@c", subject="Angebot für Grüne Dächer"))
    await scene.know(OTHER_DEAL)
    await scene.arrive(letter("b@c", date=hours(1), subject="Cellar, 100 %"), first_uid=2)
    await scene.arrive(letter("c@x", sender="x@nobody.example", date=hours(2)), first_uid=3)
    await scene.arrive(letter("d@c", to=BEN, date=hours(3)), mailbox="ben")
    return scene


async def found(scene: Scene, **choice: Any) -> list[str]:
    async with scene.database.reading() as connection:
        return [view.message_ids[0][1] async for view in views.list_threads(connection, **choice)]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, "dcba"),
        ({"status": ThreadStatus.LINKED}, "a"),
        ({"status": ThreadStatus.OPEN}, "dcb"),
        ({"status": ThreadStatus.TODO}, "db"),
        ({"status": ThreadStatus.TODO, "owner": "ben"}, "d"),
        ({"linked_to": ItemRef.parse("deal:61")}, "a"),
        ({"linked_to": ItemRef.parse("person:3")}, "dba"),
        ({"search": "GRÜNE DÄCHER"}, "a"),
        ({"search": "100 %"}, "b"),
        ({"search": "%"}, "b"),
        ({"search": "@Nobody."}, "c"),
        ({"search": "<d@C>"}, "d"),
    ],
)
async def test_threads_are_found_newest_first(scene: Scene, choice: dict[str, Any], expected: Sequence[str]) -> None:
    assert list(expected) == await found(scene, **choice)


async def test_threads_are_read_page_by_page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAGE", 3)

    assert await found(scene) == ["d", "c", "b", "a"]


async def test_a_thread_is_shown_as_it_stands(scene: Scene) -> None:
    view = await scene.thread_of("a@c")

    assert (view.owner, view.channel, view.subject) == ("anna", "imap", "Angebot für Grüne Dächer")
    assert (view.slot, view.slot_deleted, view.reason) == (ItemRef.parse("deal:61"), False, "linked_single_open_item")
    assert view.linked_by == LinkedBy(view.decision or 0, "linked_single_open_item")
    assert view.persons == (ItemRef.parse("person:3"),)
    assert view.organizations == (ItemRef.parse("organization:7"),)


async def test_the_likeliest_candidate_comes_first(scene: Scene) -> None:
    """L12: shared words, then the last mail, then age. It only sorts."""
    assert (await scene.thread_of("b@c")).candidates == ("deal:62", "deal:61")  # Cellar
    assert (await scene.thread_of("d@c")).candidates == ("deal:61", "deal:62")  # Roof

    await scene.know(OTHER_DEAL | {"title": "Attic"})
    assert (await scene.thread_of("b@c")).candidates == ("deal:61", "deal:62")  # thread a is linked to deal:61

    await changes.unlink(scene.house, "anna", [1], ItemRef.parse("deal:61"))
    assert (await scene.thread_of("b@c")).candidates == ("deal:62", "deal:61")  # it is the younger


async def test_what_is_deleted_is_kept_in_the_slot_alone(scene: Scene) -> None:
    """L6, L11"""
    await scene.know(DEAL | {"deleted": True}, {"kind": "person", "id": "3", "deleted": True})

    view = await scene.thread_of("a@c")

    assert (str(view.slot), view.slot_deleted) == ("deal:61", True)
    assert (view.persons, view.organizations) == ((), ())


async def test_a_slot_that_was_lost_in_a_merge_waits_for_somebody(scene: Scene) -> None:
    """L21"""
    async with scene.database.reading() as connection:
        label = (await scene.thread_of("a@c")).label
    async with scene.database.transaction() as connection:
        await connection.execute(views.threads.update().where(views.threads.c.id == label).values(slot_lost=True))

    assert await found(scene, status=ThreadStatus.TODO) == ["d", "b", "a"]
    assert (await scene.thread_of("a@c")).flags == ("slot_lost_in_merge",)


async def test_a_message_is_shown_with_the_places_where_it_lies(scene: Scene) -> None:
    """T11: stored once, in several places."""
    await scene.arrive(letter("a@c", subject="Angebot für Grüne Dächer"), folder="Archive", first_uid=9)
    await scene.bring([letter("a@c", subject="Angebot für Grüne Dächer")])

    (message,) = await scene.messages(await scene.thread_of("a@c"))

    assert set(message.places) == {
        PlaceView("anna", "INBOX", 1, 1, gone=False),
        PlaceView("anna", "Archive", 1, 9, gone=False),
        PlaceView("anna", None, None, None, gone=False),
    }


async def test_a_message_that_brings_a_new_subject_is_a_topic(scene: Scene) -> None:
    """T13: of two with the new subject the first."""
    for number, subject in enumerate(("Re: Cellar, 100 %", "Scaffolding", "Re: Scaffolding"), start=1):
        reply = letter(f"b{number}@c", date=hours(1 + number), refers=["b@c"], subject=subject)
        await scene.arrive(reply, first_uid=10 + number)

    messages = await scene.messages(await scene.thread_of("b@c"))

    assert [message.flags for message in messages] == [(), (), ("topic",), ()]


async def test_what_is_held_is_listed_without_its_bytes(scene: Scene) -> None:
    await scene.deliver(received(letter("q@x", sender="x@nobody.example"), sender="x@nobody.example"))

    (held,) = await scene.held()

    assert (held.message_id, held.channel, held.author) == ("<q@x>", "smart_bcc", "x@nobody.example")


async def test_everything_is_counted(scene: Scene) -> None:
    async with scene.database.reading() as connection:
        counts = await views.counts(connection)
        reasons = await views.reasons(connection)
        owners = await views.owners(connection)
        stored = await views.stored_in_folders(connection)

    assert counts == Counts(messages=4, threads=4, linked=1, todo=2, quarantined=0, inbound=0, decisions=4, items=4)
    assert reasons == {"ambiguous_several_open_items": 2, "linked_single_open_item": 1, "no_known_person": 1}
    assert owners == {"anna": {"imap": 3}, "ben": {"imap": 1}}
    assert stored == {("anna", "INBOX"): 3, ("ben", "INBOX"): 1}


async def test_who_follows_a_mailbox_is_known_while_the_lease_holds(scene: Scene) -> None:
    now, later = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    async with scene.database.transaction() as connection:
        await cursors.take_lease(connection, "anna", "host:1:2", now, later)

    async with scene.database.reading() as connection:
        assert await views.holders(connection, now) == {"anna": "host:1:2"}
        assert await views.holders(connection, later) == {}


async def test_decisions_of_an_instance_are_counted(scene: Scene) -> None:
    async with scene.database.reading() as connection:
        assert await views.count_decisions(connection, 1, "test/all") == 3
        assert await views.count_decisions(connection, 1, "cli") == 0

"""Batches, and the threads that their numbers mean."""

from collections.abc import Callable

import pytest

from ingest.scene import CLIENT, OTHER_DEAL, Scene, hours, letter
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.store import batches
from maillinkd.store.batches import Later, Made
from maillinkd.store.database import Database

DEAL_62 = ItemRef.parse("deal:62")
QUIETLY: Callable[[int], None] = lambda _: None  # noqa: E731


@pytest.fixture
async def scene(database: Database) -> Scene:
    """Anna's threads 1 and 2, which a hand linked as batch 1, and which then became one; Ben's thread 3."""
    scene = Scene.on(database)
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await scene.arrive(letter("d@x"), mailbox="ben")
    await changes.link(scene.house, "boss", [1, 2, 3], DEAL_62)
    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)
    return scene


async def test_a_batch_and_what_came_later(scene: Scene) -> None:
    await changes.undo_batch(scene.house, "boss", 1, QUIETLY)
    await changes.undo_batch(scene.house, "boss", 2, QUIETLY)

    async with scene.database.reading() as connection:
        commands = [await batches.command_of(connection, number) for number in (1, 2, 3, 4)]
        made = await batches.made_by(connection, 1)
        later = await batches.later(connection, {1, 3}, made[-1].number)

    assert commands == ["link", "link", "link", None]
    assert made == [Made(4, 1, "anna", "imap"), Made(5, 2, "anna", "imap"), Made(6, 3, "ben", "imap")]
    assert later == [
        Later(7, 1, "merge", "auto", None, None),
        Later(8, 3, "manual", "boss", 2, 6),
        Later(9, 3, "manual", "boss", 3, 8),
    ]


async def test_the_facts_of_decisions(scene: Scene) -> None:
    async with scene.database.reading() as connection:
        found = await batches.facts_of(connection, [4, 99])

    assert [(number, facts is not None and facts["before"]["decision"]) for number, facts in found.items()] == [
        (4, 1)
    ]


async def test_numbers_lead_to_threads_also_after_a_merge(scene: Scene) -> None:
    async with scene.database.reading() as connection:
        found = await batches.labels_of(connection, [1, 2, 3, 99])

    assert found == {
        1: (await scene.thread_of("a@x")).label,
        2: (await scene.thread_of("a@x")).label,
        3: (await scene.thread_of("d@x")).label,
    }


async def test_no_number_at_all(scene: Scene) -> None:
    async with scene.database.reading() as connection:
        assert (await batches.labels_of(connection, []), await batches.later(connection, [], 0)) == ({}, [])

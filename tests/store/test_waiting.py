"""The threads that row 13 left empty, on both databases. What is proposed for them: tests/ingest/test_propose.py."""

from typing import Any

import pytest

from ingest.scene import CLIENT, DEAL, OTHER_DEAL, Scene, hours, letter
from maillinkd.directory.item import ItemRef
from maillinkd.store import waiting
from maillinkd.store.database import Database

LATE = DEAL | {"id": "X_1", "added_at": "2026-03-09T09:00:00Z"}
CARLA, CLIENT_7 = ItemRef.parse("person:3"), ItemRef.parse("organization:7")


@pytest.fixture
async def scene(database: Database) -> Scene:
    """Threads 1 and 2 of Anna and 3 of Ben are older than the deal; thread 4 waits for somebody to choose."""
    scene = Scene.on(database)
    await scene.know(*CLIENT[:2], LATE)
    await scene.arrive(letter("b@x", date=hours(1)), letter("a@x"))
    await scene.arrive(letter("d@x", date=hours(-1)), mailbox="ben")
    await scene.know(OTHER_DEAL)
    await scene.arrive(letter("e@x", date=hours(2)), first_uid=3)
    return scene


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, [3, 1, 2]),
        ({"owner": "anna"}, [1, 2]),
        ({"among": {2, 3}}, [3, 2]),
        ({"item": ItemRef.parse("deal:x_1")}, [3, 1, 2]),
        ({"item": ItemRef.parse("deal:x-1")}, []),
        ({"item": ItemRef.parse("deal:62")}, []),
        ({"item": ItemRef.parse("deal:62"), "person": CARLA, "owner": "ben"}, [3]),
        ({"item": ItemRef.parse("deal:62"), "person": ItemRef.parse("person:4")}, []),
    ],
    ids=str,
)
async def test_the_oldest_comes_first(scene: Scene, choice: dict[str, Any], expected: list[int]) -> None:
    async with scene.database.reading() as connection:
        found = await waiting.threads(connection, **choice)

    assert [each.number for each in found] == expected


async def test_a_thread_comes_with_candidates_and_people_who_are_not_deleted(scene: Scene) -> None:
    await scene.know(CLIENT[0] | {"deleted": True})
    async with scene.database.reading() as connection:
        (found,) = await waiting.threads(connection, owner="ben")

    assert (found.label, found.started_at) == (3, hours(-1))
    assert found.candidates == (ItemRef.parse("deal:X_1"),)
    assert (found.persons, found.organizations) == ((CARLA,), ())

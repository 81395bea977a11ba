"""A rehearsal sees what it does, and nobody else ever does."""

import pytest
from sqlalchemy import func, select

from ingest.scene import CLIENT, Scene, letter, office_with
from maillinkd.ingest import imports
from maillinkd.ingest.house import House
from maillinkd.store.database import Database
from maillinkd.store.rehearsal import Rehearsal, rehearsal
from maillinkd.store.schema import metadata


async def rows(database: Database) -> dict[str, int]:
    async with database.reading() as connection:
        return {
            name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in metadata.tables.items()
        }


async def test_what_was_tried_is_seen_and_leaves_nothing(database: Database) -> None:
    scene = Scene.on(database)
    await scene.know(*CLIENT)
    before = await rows(database)

    async with rehearsal(database) as tried:
        house = House(tried, office_with(), instance="", publish=lambda _: None)
        await imports.import_mail(house, "anna", [(letter("a@x"), None)], lambda _: None)
        during = await rows(tried)

    assert (during["message"], during["decision"]) == (1, 1)
    assert await rows(database) == before


SCOPE = metadata.tables["scope"]


async def open_scope(tried: Rehearsal, owner: str, *, fails: bool = False) -> None:
    async with tried.transaction() as connection:
        await connection.execute(SCOPE.insert().values(owner=owner, channel="imap", chain=b""))
        if fails:
            raise LookupError


async def rehearse_and_fail(database: Database) -> None:
    async with rehearsal(database) as tried:
        await open_scope(tried, "anna", fails=True)


async def test_a_part_that_fails_takes_back_itself_alone(database: Database) -> None:
    async with rehearsal(database) as tried:
        await open_scope(tried, "anna")
        with pytest.raises(LookupError):
            await open_scope(tried, "ben", fails=True)
        found = await rows(tried)

    assert found["scope"] == 1


async def test_what_goes_wrong_is_told_and_taken_back(database: Database) -> None:
    with pytest.raises(LookupError):
        await rehearse_and_fail(database)

    assert (await rows(database))["scope"] == 0


async def test_it_waits_for_no_import_and_shares_with_nobody(database: Database) -> None:
    async with database.importing(), rehearsal(database) as tried:
        async with tried.importing(patient=False) as ours:
            assert ours
        assert not tried.is_shared()
        assert tried.is_sqlite == database.is_sqlite

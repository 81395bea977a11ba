"""SQLite in few turns: all rows come, and nothing is kept of a transaction in which something failed."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from maillinkd.mail.delivery import NoSpace
from maillinkd.store import turns
from maillinkd.store.bulk import Insert, Update
from maillinkd.store.database import Connection, Database, open_database
from maillinkd.store.rehearsal import Rehearsal, rehearsal
from maillinkd.store.schema import setting
from maillinkd.store.turns import AHEAD

_PUT = Insert(setting, ("name", "value"))
_GIVE = Update(setting, "value", key="name")
_NUMBERS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT :count) SELECT i FROM n")


@pytest.fixture
async def database(migrated_file: Path, sqlite_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    shutil.copy(migrated_file, tmp_path / "mail.db")
    opened = open_database(sqlite_url)
    yield opened
    await opened.close()


async def _settings(database: Database) -> dict[str, str]:
    async with database.reading() as connection:
        return {row.name: row.value for row in await connection.execute(select(setting))}


@pytest.mark.parametrize("count", [1, AHEAD - 1, AHEAD, AHEAD + 1, 3 * AHEAD])
async def test_all_rows_come_in_order(database: Database, count: int) -> None:
    async with database.reading() as connection:
        assert (await connection.execute(_NUMBERS, {"count": count})).scalars().all() == list(range(1, count + 1))


@pytest.mark.parametrize("count", [1, AHEAD, 3 * AHEAD])
async def test_rows_come_by_and_by_where_that_is_asked_for(database: Database, count: int) -> None:
    async with database.reading() as connection:
        stream = await connection.stream(_NUMBERS, {"count": count})
        found = [row.i async for row in stream]
    assert found == list(range(1, count + 1))


async def test_a_cursor_can_be_left_in_the_middle(database: Database) -> None:
    async with database.transaction() as connection:
        async with connection.stream(_NUMBERS, {"count": 3 * AHEAD}) as stream:
            assert await stream.fetchone() == (1,)
        await _PUT(connection, [("a", "1")])
    assert await _settings(database) == {"a": "1"}


async def test_what_nobody_waits_for_is_there_for_whatever_comes_after_it(database: Database) -> None:
    async with database.transaction() as connection:
        await _PUT(connection, [("a", "1"), ("b", "1")])
        await _GIVE(connection, "2", ["b"])
        assert set((await connection.execute(select(setting.c.value))).scalars()) == {"1", "2"}
    assert await _settings(database) == {"a": "1", "b": "2"}


Then = Callable[[Connection], Awaitable[None]]


async def _select(connection: Connection) -> None:
    await connection.execute(text("SELECT 1"))


async def _insert(connection: Connection) -> None:
    await connection.execute(insert(setting).values(name="c", value="1"))


async def _put(connection: Connection) -> None:
    await _PUT(connection, [("c", "1")])


async def _nothing(connection: Connection) -> None:
    pass


@pytest.mark.parametrize("then", [_select, _insert, _put, _nothing])
async def test_its_error_is_raised_by_what_comes_after_it_and_nothing_is_kept(database: Database, then: Then) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await _PUT(connection, [("a", "1")])
            await _PUT(connection, [("a", "2")])
            await then(connection)

    with pytest.raises(IntegrityError, match="UNIQUE"):
        await fail()
    assert await _settings(database) == {}
    async with database.transaction() as connection:  # the connection is as good as new
        await _PUT(connection, [("a", "3")])
    assert await _settings(database) == {"a": "3"}


@pytest.mark.parametrize("value", ["\udcff", 1 << 70, object()])
@pytest.mark.parametrize("then", [_select, _insert, _put, _nothing])
async def test_what_the_driver_cannot_take_is_an_error_too(database: Database, then: Then, value: object) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await _PUT(connection, [("a", "1")])
            await _PUT(connection, [("b", value)])
            await then(connection)

    with pytest.raises((UnicodeEncodeError, OverflowError, DBAPIError)):
        await fail()
    assert await _settings(database) == {}


@pytest.mark.parametrize("then", [_select, _insert, _put, _nothing])
async def test_of_a_transaction_that_a_full_disk_has_ended_nothing_is_kept(database: Database, then: Then) -> None:
    """SQLite rolls it back by itself: what came after would be committed each for itself."""

    async def fill() -> None:
        async with database.transaction() as connection:
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count = {pages + 4}"))
            await _PUT(connection, [(f"n{number}", "v" * 1_000) for number in range(1_000)])
            await then(connection)

    with pytest.raises(NoSpace):
        await fill()
    assert await _settings(database) == {}


async def _put_in_a_part(tried: Rehearsal, *rows: tuple[str, str]) -> None:
    async with tried.transaction() as connection:
        await _PUT(connection, rows)


async def test_a_part_of_a_rehearsal_takes_its_failure_back(database: Database) -> None:
    async with rehearsal(database) as tried:
        await _put_in_a_part(tried, ("a", "1"))
        with pytest.raises(IntegrityError):
            await _put_in_a_part(tried, ("b", "1"), ("a", "2"))
        await _put_in_a_part(tried, ("c", "1"))
        assert await _settings(tried) == {"a": "1", "c": "1"}
    assert await _settings(database) == {}


async def test_nothing_is_written_outside_a_transaction(database: Database) -> None:
    async def write() -> None:
        async with database.engine.connect() as connection:
            await _PUT(connection, [("a", "1")])
            await connection.execute(text("SELECT 1"))

    with pytest.raises(OperationalError, match="outside a transaction"):
        await write()
    assert await _settings(database) == {}


async def test_a_connection_is_the_drivers(database: Database) -> None:
    async with database.reading() as connection:
        assert isinstance(turns.behind(connection), turns.Connection)

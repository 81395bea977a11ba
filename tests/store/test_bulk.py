"""Rows as tuples: what goes in comes out, however many there are."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from maillinkd.store.bulk import PARAMETERS, Insert
from maillinkd.store.database import Database
from maillinkd.store.schema import setting

_NEW = Insert(setting, ("name", "value"))
_KEEP = Insert(setting, ("name", "value"), key=("name",))
_REPLACE = Insert(setting, ("name", "value"), key=("name",), update=("value",))


async def _put(database: Database, insert: Insert, rows: list[tuple[str, str]]) -> dict[str, str]:
    async with database.transaction() as connection:
        await insert(connection, rows)
    async with database.reading() as connection:
        return {row.name: row.value for row in await connection.execute(select(setting))}


@pytest.mark.parametrize("count", [0, 1, PARAMETERS // 2 - 1, PARAMETERS // 2, PARAMETERS // 2 + 1, PARAMETERS + 1])
async def test_all_rows_go_in(database: Database, count: int) -> None:
    rows = [(f"n{number}", f"v'{number}") for number in range(count)]
    assert await _put(database, _NEW, rows) == dict(rows)


async def test_a_row_that_is_there_stays_as_it_is_or_is_brought_up_to_date(database: Database) -> None:
    assert await _put(database, _NEW, [("a", "1")]) == {"a": "1"}
    assert await _put(database, _KEEP, [("a", "2"), ("b", "2")]) == {"a": "1", "b": "2"}
    assert await _put(database, _REPLACE, [("a", "3"), ("c", "3")]) == {"a": "3", "b": "2", "c": "3"}


async def test_of_two_rows_with_one_key_the_later_holds(database: Database) -> None:
    assert await _put(database, _REPLACE, [("a", "1"), ("a", "2")]) == {"a": "2"}


async def test_without_a_key_a_row_that_is_there_is_an_error(database: Database) -> None:
    await _put(database, _NEW, [("a", "1")])
    with pytest.raises(IntegrityError):
        await _put(database, _NEW, [("a", "2")])


def test_columns_are_those_of_the_table() -> None:
    with pytest.raises(ValueError, match="setting has no colour"):
        Insert(setting, ("name", "colour"))

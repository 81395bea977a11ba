"""Many rows at once, at the price of what the database does with them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Select, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.store import turns
from maillinkd.store.database import Database, chunks
from maillinkd.store.turns import Statement

PARAMETERS = 4_000
"""Values in one statement of SQLite. Its thread needs the interpreter once a statement, not once a row, and so works
beside the one that runs the event loop (docs/decisions/0012)."""


class Insert:
    """An INSERT whose rows are tuples in the order of `columns`, as the drivers take them: nothing is converted.

    A row whose `key` is there already gets the columns `update`, or where there are none stays as it is. Without a
    key that is an error (sqlalchemy.exc.IntegrityError), which SQLite tells by the next statement, or the commit.
    """

    def __init__(self, table: Table, columns: Sequence[str], *, key: Sequence[str] = (), update: Sequence[str] = ()):
        unknown = {*columns, *key, *update} - set(table.columns.keys())
        if unknown:
            raise ValueError(f"{table.name} has no {', '.join(sorted(unknown))}")
        self._quote = sqlite.dialect().identifier_preparer.quote
        self._head = f"INSERT INTO {self._quote(table.name)} ({self._names(columns)}) VALUES "  # noqa: S608  # of our schema
        self._width = len(columns)
        self._tail = ""
        if key:
            what = ", ".join(f"{self._quote(name)} = excluded.{self._quote(name)}" for name in update)
            self._tail = f" ON CONFLICT ({self._names(key)}) DO " + (f"UPDATE SET {what}" if what else "NOTHING")

    def _names(self, names: Sequence[str]) -> str:
        return ", ".join(map(self._quote, names))

    async def __call__(self, connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts the rows, in order. SQLite does so while the caller goes on, and before it does anything else."""
        if connection.dialect.name == "sqlite":
            turns.behind(connection).later(list(self._statements(rows)))
        elif rows:
            await connection.exec_driver_sql(self._numbered(), list(rows))

    async def at_once(self, database: Database, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts the rows in a transaction of their own; see Database.at_once."""
        one_by_one = ((self._numbered(), row) for row in rows)
        await database.at_once(list(self._statements(rows) if database.is_sqlite else one_by_one))

    def _statements(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[Statement]:
        """As SQLite wants it."""
        start = 0
        for count in _portions(len(rows), PARAMETERS // self._width):
            some = rows[start : start + count]
            start += count
            yield self._head + _marks(self._width, count) + self._tail, tuple(chain.from_iterable(some))

    def _numbered(self) -> str:
        """As PostgreSQL's driver wants it; it sends the rows in one go by itself."""
        return f"{self._head}({', '.join(f'${number}' for number in range(1, self._width + 1))}){self._tail}"


class Update:
    """An UPDATE that gives one column one value in all rows whose `key` is one of many.

    SQLite does so while the caller goes on, as `Insert`.
    """

    def __init__(self, table: Table, column: str, key: str) -> None:
        quote = sqlite.dialect().identifier_preparer.quote
        self._head = f"UPDATE {quote(table.name)} SET {quote(column)} = "  # noqa: S608  # of our schema
        self._where = f" WHERE {quote(key)}"

    async def __call__(self, connection: AsyncConnection, value: Any, keys: Iterable[Any]) -> None:
        """`keys`: with none, nothing happens."""
        marked = f"{self._head}?{self._where}", f"{self._head}$1{self._where} = ANY($2)"
        await _for_keys(connection, *marked, (value,), keys)


class Delete:
    """A DELETE of all rows whose `key` is one of many. SQLite does so while the caller goes on, as `Insert`."""

    def __init__(self, table: Table, key: str) -> None:
        quote = sqlite.dialect().identifier_preparer.quote
        self._text = f"DELETE FROM {quote(table.name)} WHERE {quote(key)}"  # noqa: S608  # of our schema

    async def __call__(self, connection: AsyncConnection, keys: Iterable[Any]) -> None:
        """`keys`: with none, nothing happens."""
        await _for_keys(connection, self._text, f"{self._text} = ANY($1)", (), keys)


async def _for_keys(
    connection: AsyncConnection, marked: str, numbered: str, values: tuple[Any, ...], keys: Iterable[Any]
) -> None:
    """Carries a statement out for these keys: `marked` as SQLite wants it, but for them; `numbered` as PostgreSQL."""
    for some in chunks(list(keys)):
        if connection.dialect.name == "sqlite":
            asked = _padded(some)
            turns.behind(connection).later([(f"{marked} IN {_marks(len(asked), 1)}", (*values, *asked))])
        else:
            await connection.exec_driver_sql(numbered, (*values, list(some)))


class Lookup:
    """A SELECT without conditions, for the rows whose `key` is one of many values.

    Values and rows are as the drivers take and give them: columns of types that both know (no Date).
    """

    def __init__(self, query: Select[Any], key: ColumnElement[Any]) -> None:
        self._query = query
        self._key = key
        self._texts: dict[str, str] = {}

    async def __call__(self, connection: AsyncConnection, values: Iterable[Any]) -> list[Any]:
        """The rows, in no order; each once, as long as a value comes once."""
        text = self._text(connection.dialect)
        found: list[Any] = []
        for some in chunks(list(values)):
            if connection.dialect.name == "sqlite":
                asked = _padded(some)
                result = await connection.exec_driver_sql(f"{text} IN {_marks(len(asked), 1)}", asked)
            else:
                result = await connection.exec_driver_sql(f"{text} = ANY($1)", (list(some),))
            found += result.all()
        return found

    def _text(self, dialect: Dialect) -> str:
        if dialect.name not in self._texts:
            query, key = self._query.compile(dialect=dialect), self._key.compile(dialect=dialect)
            self._texts[dialect.name] = f"{query} WHERE {key}"
        return self._texts[dialect.name]


def _padded(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values, the last of them repeated, in one of few numbers, so that few statements are prepared and kept."""
    return (*values, *[values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values)))


def _portions(rows: int, most: int) -> Iterator[int]:
    """The rows in portions of few different sizes, so that few statements are prepared and kept."""
    while rows:
        portion = min(1 << (rows.bit_length() - 1), 1 << (most.bit_length() - 1))
        yield portion
        rows -= portion


@lru_cache(maxsize=64)
def _marks(width: int, rows: int) -> str:
    return ", ".join([f"({', '.join('?' * width)})"] * rows)

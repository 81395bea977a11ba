"""SQLite by aiosqlite, with one turn of its thread a statement.

As they come, SQLAlchemy and aiosqlite go to the thread four or five times a statement: for a cursor, to execute it,
for its rows, to close it. Each time both threads wait for the interpreter, which takes longer than most statements do
(docs/decisions/0012).
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self, cast

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Statement = tuple[str, tuple[Any, ...]]
"""SQL as the driver takes it, and its values."""

AHEAD = 1_000
"""Rows that come along with their statement. Where there are more, they take turns of their own."""
_CHUNK = 64
"""Rows that aiosqlite's own cursors fetch at a time. Nobody uses them here."""


def connect(database: str, **arguments: Any) -> "Connection":
    """As `aiosqlite.connect`: to be awaited. A process can end while the connection is open."""

    def connector() -> sqlite3.Connection:
        return cast(sqlite3.Connection, sqlite3.connect(database, **arguments))

    connection = Connection(connector, _CHUNK)
    connection._thread.daemon = True  # as SQLAlchemy has it
    return connection


def behind(connection: AsyncConnection) -> "Connection":
    """The connection to SQLite that SQLAlchemy works with."""
    assert connection.sync_connection is not None, "it is open"
    return cast(Connection, connection.sync_connection.connection.driver_connection)


class Connection(aiosqlite.Connection):
    """A connection that gives SQLAlchemy the cursors of this module, and takes statements that nobody waits for."""

    _failure: Exception | None = None
    """Of a statement that nobody waited for. Until it is rolled back, nothing else is carried out."""

    def __init__(self, connector: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(connector, iter_chunk_size)
        self.newest: dict[str, int] = {}
        """Until the transaction ends: by table, the highest number that was given to a row (`next_numbers`)."""

    def cursor(self) -> "Cursor":  # type: ignore[override]  # theirs are made in the thread
        return Cursor(self)

    def later(self, statements: Sequence[Statement]) -> None:
        """Has statements of a transaction carried out, in order and before whatever comes after them, while the
        caller goes on. Where one fails, what comes after them raises its error, the commit at the latest."""
        self._tx.put_nowait((None, partial(self._carry_out, statements)))

    def _carry_out(self, statements: Sequence[Statement]) -> None:
        """In the thread. Never outside a transaction: some errors end it by themselves (SQLITE_FULL)."""
        try:
            for sql, parameters in statements:
                if self._failure is None:
                    _in_transaction(self._conn).execute(sql, parameters)
        except Exception as error:  # noqa: BLE001  # raised by whatever comes after it
            self._failure = error

    async def turn(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns, called in the thread."""
        return await self._execute(function, *arguments)  # type: ignore[no-untyped-call]

    def driver(self, *, rolls_back: bool = False) -> sqlite3.Connection:
        """In the thread: the connection to go on with. Raises the error of what nobody waited for."""
        failure = self._failure
        if rolls_back:
            self._failure = None
            self.newest.clear()
        elif failure is not None:
            raise failure
        return self._conn

    async def commit(self) -> None:
        self.newest.clear()
        await self.turn(lambda: self.driver().commit())

    async def rollback(self) -> None:
        await self.turn(lambda: self.driver(rolls_back=True).rollback())


def _in_transaction(connection: sqlite3.Connection) -> sqlite3.Connection:
    if not connection.in_transaction:
        raise sqlite3.OperationalError("a statement outside a transaction")
    return connection


class Cursor:
    """What SQLAlchemy asks of a cursor. SQLite's own is made, used and, as a rule, closed in one turn."""

    arraysize = 1
    description: Any = None
    rowcount = -1
    lastrowid: int | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open: sqlite3.Cursor | None = None
        """Where it has more rows than came along."""
        self._rows: list[Any] = []
        """Those that came and were not asked for yet, the first at the end."""

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> Self:
        await self._connection.turn(self._execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> Self:
        await self._connection.turn(self._executemany, sql, parameters)
        return self

    def _execute(self, sql: str, parameters: Iterable[Any]) -> None:
        """In the thread."""
        driver = self._connection.driver(rolls_back=sql.startswith("ROLLBACK"))
        cursor = driver.execute(sql, cast("tuple[Any, ...]", parameters))
        rows = cursor.fetchmany(AHEAD) if cursor.description else []
        self._done(cursor, ends=len(rows) < AHEAD)
        rows.reverse()
        self._rows = rows

    def _executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> None:
        """In the thread."""
        driver = self._connection.driver()
        self._done(driver.executemany(sql, cast("list[tuple[Any, ...]]", parameters)), ends=True)

    def _done(self, cursor: sqlite3.Cursor, *, ends: bool) -> None:
        self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
        if ends:
            cursor.close()
        else:
            self._open = cursor

    async def fetchone(self) -> Any:
        return next(iter(await self.fetchmany(1)), None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        if not self._rows and self._open is not None:
            return list(await self._connection.turn(self._open.fetchmany, size or self.arraysize))
        return [self._rows.pop() for _ in range(min(size or self.arraysize, len(self._rows)))]

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows[::-1], []
        if self._open is not None:
            rows += await self._connection.turn(self._open.fetchall)
        return rows

    async def close(self) -> None:
        if self._open is not None:
            cursor, self._open = self._open, None
            await self._connection.turn(cursor.close)

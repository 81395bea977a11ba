"""Opens the database; one writer at a time, durable when committed."""

import asyncio
import errno
import fcntl
import os
import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Table, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from maillinkd.mail.delivery import Damaged, DiskFailed, NoSpace, TemporaryFailure
from maillinkd.store import turns
from maillinkd.store.turns import Statement

_T = TypeVar("_T")
Connection = AsyncConnection
"""What a transaction is worked with; the rest of the house does not know the library."""

BUSY_TIMEOUT = 10.0
"""Seconds that a writer waits for another process before the database counts as busy (reliability.md)."""

STATEMENTS = 500
"""Prepared statements that a connection to SQLite keeps; those of many rows come in several sizes (`bulk`)."""
_POOL = {"pool_size": 10, "max_overflow": 0}
"""Connections are kept: to close one that was too many, just when the daemon stops, is told as an error."""
CHUNK = 5_000
"""Values in one IN list or rows in one statement: below the limits of both databases."""


class NoDatabase(Exception):
    """What the URL names is no database, or cannot be opened. The message names the place and what was expected."""


class Database:
    """A database and the way to it. `transaction()` writes, `reading()` reads one consistent state."""

    def __init__(self, engine: AsyncEngine, path: Path | None, place: str = "database.url") -> None:
        """`place`: where its URL was set, for messages."""
        self._engine = engine
        self._path = path
        self._place = place
        self._writer = asyncio.Lock()
        self._writer_lock = _lock_file(path, "writer")
        self._checkpoint_lock = _lock_file(path, "checkpoint")
        self._checkpoints = False
        self.disk_failed = asyncio.Event()
        """Set when the disk did not take what was to be made durable."""
        self._thread = ThreadPoolExecutor(1, "at-once")
        self._direct: sqlite3.Connection | None = None
        """The connection of `at_once`. It never checkpoints: the others do."""
        self._presence = _lock_file(path, "open")
        if self._presence is not None:
            fcntl.lockf(self._presence, fcntl.LOCK_SH)

    @property
    def engine(self) -> AsyncEngine:
        return self._engine

    @property
    def path(self) -> Path | None:
        """The SQLite file, None with PostgreSQL."""
        return self._path

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def is_shared(self) -> bool:
        """Whether another process has the database open: then nobody may keep it to himself for long."""
        if self._presence is None:
            return False  # PostgreSQL locks a scope, not the database
        try:
            fcntl.lockf(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.lockf(self._presence, fcntl.LOCK_SH)
        return False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end, rolled back on any error.

        On SQLite there is one at a time, in this process and among those that share the file. When the block has
        ended without an error its rows are on disk. Raises TemporaryFailure where the database failed: NoSpace on a
        full disk, DiskFailed where the disk failed, and from then on always; Damaged. Raises NoDatabase.
        """
        async with self._turn(), self._watching_the_disk(), AsyncExitStack() as stack:
            connection = await self._connect(stack)
            await connection.execution_options(maillinkd_write=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _watching_the_disk(self) -> AsyncIterator[None]:
        if self.disk_failed.is_set():
            raise DiskFailed("the disk has failed: this process has to start anew")
        try:
            with self._faults():
                yield
        except DiskFailed:
            self.disk_failed.set()
            raise

    async def at_once(self, statements: Sequence[Statement]) -> None:
        """Carries out plain statements in a transaction of their own, which is on disk when this returns.

        On SQLite in one turn of a thread: for what others wait for. Raises what `transaction` raises.
        """
        if self._path is None:
            async with self.transaction() as connection:
                for text_, values in statements:
                    await connection.exec_driver_sql(text_, values)
            return
        loop = asyncio.get_running_loop()
        async with self._turn(), self._watching_the_disk():
            await _to_its_end(loop.run_in_executor(self._thread, self._carry_out, statements))

    def _carry_out(self, statements: Sequence[Statement]) -> None:
        """In the thread of `at_once`."""
        if self._direct is None:
            assert self._path is not None
            self._direct = sqlite3.connect(self._path, check_same_thread=False)
            _prepare_sqlite(self._direct, None)
        self._direct.execute("BEGIN IMMEDIATE")
        try:
            for text_, values in statements:
                self._direct.execute(text_, values)
            self._direct.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._direct.execute("ROLLBACK")
            raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, and sees one state. Raises as `transaction`."""
        with self._faults():
            async with AsyncExitStack() as stack:
                connection = await self._connect(stack)
                if not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                yield connection

    async def _connect(self, stack: AsyncExitStack) -> AsyncConnection:
        """A connection that the stack closes. Says where the URL was set, if it leads to no database."""
        try:
            return await stack.enter_async_context(self._engine.connect())
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
                raise _no_sqlite(self._place, self._path) from error
            if self._path is None and _is_temporary(error):
                raise TemporaryFailure(f"{self._place}: {self._server} refuses us: {_said(error)}") from error
            raise
        except OSError as error:  # asyncpg finds nobody there
            if self._path is not None:
                raise
            raise TemporaryFailure(
                f"{self._place}: {self._server} cannot be reached ({_why(error)}): "
                "expected a PostgreSQL server that runs there"
            ) from error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Tells the world's faults (TemporaryFailure, NoSpace) from ours, which stay what they are."""
        try:
            yield
        except DBAPIError as error:
            self._raise_if_damaged(error.orig)
            if not _is_temporary(error):
                raise
            raise _temporary(error.orig) from error
        except sqlite3.DatabaseError as error:  # of `at_once`
            self._raise_if_damaged(error)
            if not isinstance(error, sqlite3.OperationalError) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                raise
            raise _temporary(error) from error
        except BrokenPipeError:  # whoever read what the block prints has gone
            raise
        except OSError as error:  # asyncpg cannot connect
            raise TemporaryFailure(str(error)) from error

    def _raise_if_damaged(self, error: BaseException | None) -> None:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_CORRUPT:
            raise Damaged(
                f"{self._place}: {self._path} is damaged ({error}): stop what writes to it, and put a backup in its "
                "place; the recover command of sqlite3 saves what can still be read"
            ) from error

    @property
    def _server(self) -> str:
        url = self._engine.url
        host = url.host or url.query.get("host") or "the socket on this host"
        return f"{host}:{url.port or 5432}"

    @asynccontextmanager
    async def importing(self, *, patient: bool = True) -> AsyncIterator[bool]:
        """One import at a time among the processes that share the file: an import is one batch (linking.md L26).

        Yields True when it is our turn, however long that takes; without patience False where another is at it.
        """
        descriptor = _lock_file(self._path, "import")
        if descriptor is None:
            yield True
            return
        try:
            while not (ours := _try_lock(descriptor)) and patient:  # noqa: ASYNC110  # a lock wakes nobody
                await asyncio.sleep(0.1)
            yield ours
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Waits until no other writer of this file is at work."""
        if self._writer_lock is None:
            yield
            return
        async with self._writer:
            await _acquire(self._writer_lock)
            try:
                if not self._checkpoints:
                    await self._take_over_checkpoints()
                yield
            finally:
                fcntl.flock(self._writer_lock, fcntl.LOCK_UN)

    async def _take_over_checkpoints(self) -> None:
        """One process at a time checkpoints: SQLite before 3.51.3 can corrupt a WAL that two connections reset."""
        assert self._checkpoint_lock is not None
        try:
            fcntl.flock(self._checkpoint_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        self._checkpoints = True
        await self._engine.dispose()  # connections opened from now on checkpoint
        event.listen(self._engine.sync_engine, "connect", _checkpoint_by_itself)

    async def close(self) -> None:
        await self._engine.dispose()
        await asyncio.to_thread(self._thread.shutdown)
        if self._direct is not None:
            self._direct.close()
        for descriptor in (self._writer_lock, self._checkpoint_lock, self._presence):
            if descriptor is not None:
                os.close(descriptor)
        self._writer_lock = self._checkpoint_lock = self._presence = None


def open_database(url: str, place: str = "database.url") -> Database:
    """Opens the database at an SQLAlchemy URL with an asyncio driver (`sqlite+aiosqlite`, `postgresql+asyncpg`).

    A SQLite file is made, with its folder, where it is missing, readable by its owner alone (0600). `place`: where
    the URL was set, for messages. Raises NoDatabase where the file cannot be had, TemporaryFailure where it may
    be later.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_async_engine(parsed, **_POOL, pool_pre_ping=True)
        return Database(engine, None, place)
    path = Path(parsed.database or "")
    engine = create_async_engine(
        parsed, **_POOL, connect_args={"cached_statements": STATEMENTS, "async_creator_fn": turns.connect}
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        return Database(engine, path, place)
    except OSError as error:
        said = f"{place}: {path} cannot be opened ({_why(error)})"
        if error.errno in _WRONG_PATH:
            raise NoDatabase(f"{said}: expected a file and a folder that this user may read and write") from error
        raise (NoSpace if error.errno == errno.ENOSPC else TemporaryFailure)(said) from error


_WRONG_PATH = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""The admin's to mend. What else the system says (no space, too many files open) may pass."""


def _no_sqlite(place: str, path: Path | None) -> NoDatabase:
    return NoDatabase(f"{place}: {path} is no SQLite database: expected the file of one, or a name that is free")


def _why(error: OSError) -> str:
    """In the system's words, where it has any: asyncio's and those of TLS are longer."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error) or "no answer in time"


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry | None) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # with NORMAL a power cut takes back what was answered with 250
        f"busy_timeout={int(BUSY_TIMEOUT * 1000)}",
        "foreign_keys=ON",
        "wal_autocheckpoint=0",  # until this process holds the checkpoint lock
        "cache_size=-16384",
        "temp_store=MEMORY",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _checkpoint_by_itself(connection: Any, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("maillinkd_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _lock_file(path: Path | None, purpose: str) -> int | None:
    """The file `<db>.PURPOSE`, to be locked with flock; the kernel lets go of it however the process ends."""
    if path is None:
        return None
    return os.open(f"{path}.{purpose}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _acquire(descriptor: int) -> None:
    """Takes the flock; polls, so that a cancelled waiter leaves nothing behind. Raises TemporaryFailure when late."""
    deadline = asyncio.get_running_loop().time() + BUSY_TIMEOUT
    pause = 0.0005
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise TemporaryFailure("another process has kept the database busy") from None
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        else:
            return


_PRIMARY = 0xFF
"""What of a result code of SQLite says what it is; the rest says which kind."""
_SQLSTATES = ("08", "28", "3D", "40", "53", "55", "57", "58")
"""PostgreSQL's classes of what is the world's fault: connection, login, missing database, conflict, resources,
operator, system. Whatever else it refuses was a wrong statement or value, and would be wrong again."""


def _said(error: DBAPIError) -> str:
    """The server's own sentence: SQLAlchemy puts the driver's class before it."""
    return str((error.orig and error.orig.__cause__) or error.orig)


def _temporary(error: BaseException | None) -> TemporaryFailure:
    """What a driver's error means."""
    if getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC):
        return DiskFailed(str(error))
    full = "disk is full" in str(error) or "No space left" in str(error)
    return (NoSpace if full else TemporaryFailure)(str(error))


async def _to_its_end(work: asyncio.Future[None]) -> None:
    """Waits for a thread whatever happens: it goes on when we are cancelled, and nobody may write beside it."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _is_temporary(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if state := getattr(error.orig, "sqlstate", None):
        return str(state).startswith(_SQLSTATES)
    # sqlite3 calls a wrong statement an OperationalError too
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlite_errorcode", 0) != sqlite3.SQLITE_ERROR


async def upsert(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[dict[str, Any]],
    *,
    update: Sequence[str] = (),
    key: Sequence[str] = (),
) -> None:
    """Inserts the rows; one whose key is there already gets the columns `update`, or stays as it is.

    `key`: the columns of a unique constraint, by default those of the primary key.
    """
    if not rows:
        return
    insert = sqlite.insert(table) if connection.dialect.name == "sqlite" else _postgresql_insert(table)
    unique = list(key) or [column.name for column in table.primary_key]
    if update:
        statement = insert.on_conflict_do_update(
            index_elements=unique, set_={name: insert.excluded[name] for name in update}
        )
    else:
        statement = insert.on_conflict_do_nothing(index_elements=unique)
    await connection.execute(statement, rows)


def _postgresql_insert(table: Table) -> Any:
    from sqlalchemy.dialects import postgresql  # takes as long to import as ten transactions take

    return postgresql.insert(table)


async def next_numbers(connection: AsyncConnection, table: Table, count: int) -> list[int]:
    """So many numbers for new rows of a table whose key counts up, in rising order.

    Rows can then go in with one executemany, which INSERT … RETURNING would do one by one on SQLite.
    """
    if connection.dialect.name == "sqlite":  # nobody else writes before this transaction ends
        await know_numbers(connection)
        newest = turns.behind(connection).newest
        first = newest.get(table.name, 0) + 1
        newest[table.name] = first + count - 1
        return list(range(first, first + count))
    query = text("SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)")
    return sorted((await connection.execute(query, {"name": table.name, "count": count})).scalars())


async def know_numbers(connection: AsyncConnection) -> None:
    """Has what `next_numbers` needs in this transaction looked up, where that is quick: before much is written."""
    if connection.dialect.name == "sqlite" and not (newest := turns.behind(connection).newest):
        rows = await connection.execute(text("SELECT name, seq FROM sqlite_sequence"))
        newest |= ((name, number) for name, number in rows)


_DIRECTORY = 0x6D61696C6469
"""The advisory lock of PostgreSQL under which the directory is read and changed."""


async def lock_directory(connection: AsyncConnection, *, alone: bool) -> None:
    """Until the transaction ends the directory stays as it is or, `alone`, is read by nobody who decides.

    So no thread is filed beside a change of the directory that neither sees the other (linking.md L6). To be taken
    before a scope is locked. SQLite has one writer anyway.
    """
    if connection.dialect.name != "sqlite":
        take = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        await connection.execute(text(f"SELECT {take}(:lock)"), {"lock": _DIRECTORY})


async def settled(connection: AsyncConnection) -> None:
    """Returns once all that was to be written in this transaction is. Raises what went wrong with it."""
    await connection.execute(text("SELECT 1"))


def chunks(values: Sequence[_T], size: int = CHUNK) -> list[Sequence[_T]]:
    """The values in slices that fit one statement."""
    return [values[start : start + size] for start in range(0, len(values), size)]


async def is_alive(database: Database) -> None:
    """Raises TemporaryFailure unless the database answers."""
    async with database.reading() as connection:
        await connection.execute(text("SELECT 1"))


def copy_sqlite(source: Path, target: Path, place: str = "database.url") -> None:
    """Copies a SQLite database as it stands, while others may write to it. Blocks; raises NoDatabase, sqlite3.Error.

    `place`: where its URL was set.
    """
    if not source.is_file():
        raise _no_sqlite(place, source)
    with (
        closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as one,
        closing(sqlite3.connect(target)) as other,
    ):
        try:
            one.backup(other)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                raise
            raise _no_sqlite(place, source) from error

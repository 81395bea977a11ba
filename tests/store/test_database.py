"""One writer at a time, durable when committed; what the world does wrong comes as TemporaryFailure."""

import asyncio
import errno
import os
import re
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from maillinkd.mail.delivery import Damaged, DiskFailed, NoSpace, TemporaryFailure
from maillinkd.store import database as databases
from maillinkd.store.bulk import Insert
from maillinkd.store.cursors import reports
from maillinkd.store.database import (
    CHUNK,
    Database,
    NoDatabase,
    chunks,
    copy_sqlite,
    is_alive,
    open_database,
    upsert,
)
from maillinkd.store.schema import setting
from maillinkd.store.upgrade import upgrade
from system.postgres import PostgresServer

BOUND = 20.0
"""Seconds after which a test that waits for a process has failed."""


async def _put(database: Database, name: str, value: str) -> None:
    async with database.transaction() as connection:
        await upsert(connection, setting, [{"name": name, "value": value}], update=["value"])


async def _say(door: Callable[[], AbstractAsyncContextManager[Any]], statement: str, values: dict[str, int]) -> None:
    async with door() as connection:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        await connection.execute(text(statement), used)


async def _values(database: Database) -> dict[str, str]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT name, value FROM setting"))
        return {row.name: row.value for row in rows}


async def _pragma(database: Database, name: str, *, writing: bool = False) -> object:
    door = database.transaction if writing else database.reading
    async with door() as connection:
        return (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()


@pytest.fixture
async def two(sqlite_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two programs' ways to one SQLite file; flock keeps them apart as it does processes."""
    one, other = open_database(sqlite_url), open_database(sqlite_url)
    await upgrade(one)
    yield one, other
    await one.close()
    await other.close()


# -- transactions --------------------------------------------------------------------------------------------


async def test_what_was_written_is_there_when_the_block_has_ended(database: Database) -> None:
    await _put(database, "a", "1")

    assert await _values(database) == {"a": "1"}


async def test_an_error_takes_back_the_whole_block(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await upsert(connection, setting, [{"name": "a", "value": "1"}])
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        await fail()

    assert await _values(database) == {}
    await _put(database, "b", "2")
    assert await _values(database) == {"b": "2"}


async def test_a_cancelled_block_is_taken_back_and_lets_the_next_one_in(database: Database) -> None:
    inside = asyncio.Event()

    async def write_for_ever() -> None:
        async with database.transaction() as connection:
            await upsert(connection, setting, [{"name": "a", "value": "1"}])
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_for_ever())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(_put(database, "b", "2"), BOUND)

    assert await _values(database) == {"b": "2"}


async def test_a_cancelled_waiter_leaves_nothing_behind(two: tuple[Database, Database]) -> None:
    one, other = two
    async with one.transaction():
        waiter = asyncio.create_task(_put(other, "a", "1"))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    await asyncio.wait_for(_put(other, "b", "2"), BOUND)

    assert await _values(one) == {"b": "2"}


async def test_a_reader_sees_one_state_while_others_write(database: Database) -> None:
    await _put(database, "a", "before")
    async with database.reading() as connection:
        query = text("SELECT value FROM setting WHERE name = 'a'")
        first = (await connection.execute(query)).scalar()
        await _put(database, "a", "after")
        second = (await connection.execute(query)).scalar()

    assert (first, second) == ("before", "before")
    assert await _values(database) == {"a": "after"}


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    await _put(database, "a", "1")
    async with database.transaction() as connection:
        await upsert(connection, setting, [{"name": "a", "value": "2"}], update=["value"])

        assert await asyncio.wait_for(_values(database), BOUND) == {"a": "1"}


async def test_is_alive_says_so(database: Database) -> None:
    await is_alive(database)


# -- SQLite: one file, several programs ----------------------------------------------------------------------


async def test_reading_before_writing_loses_no_update(two: tuple[Database, Database]) -> None:
    """BEGIN IMMEDIATE: with a plain BEGIN both would read the same number, or fail as busy."""
    await _put(two[0], "count", "0")

    async def count_up(database: Database) -> None:
        async with database.transaction() as connection:
            value = (await connection.execute(text("SELECT value FROM setting"))).scalar_one()
            await upsert(connection, setting, [{"name": "count", "value": str(int(value) + 1)}], update=["value"])

    await asyncio.gather(*(count_up(database) for database in two * 20))

    assert await _values(two[1]) == {"count": "40"}


COUNT_UP = """
import asyncio, sys
from sqlalchemy import text
from maillinkd.store.database import open_database
async def main():
    database = open_database(sys.argv[1])
    for _ in range(50):
        async with database.transaction() as connection:
            value = (await connection.execute(text("SELECT value FROM setting"))).scalar_one()
            await connection.execute(text("UPDATE setting SET value = :value"), {"value": str(int(value) + 1)})
    await database.close()
asyncio.run(main())
"""


async def test_processes_that_share_a_file_wait_for_each_other(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await upgrade(database)
    await _put(database, "count", "0")
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", COUNT_UP, sqlite_url) for _ in range(3)]
    codes = await asyncio.wait_for(asyncio.gather(*(process.wait() for process in processes)), 3 * BOUND)

    assert codes == [0, 0, 0]
    assert await _values(database) == {"count": "150"}
    await database.close()


WRITE_FOR_EVER = """
import asyncio, sys
from maillinkd.store.database import open_database, upsert
from maillinkd.store.schema import setting
async def main():
    database = open_database(sys.argv[1])
    async with database.transaction() as connection:
        await upsert(connection, setting, [{"name": "a", "value": "1"}])
        print("inside", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_process_that_is_killed_inside_frees_the_file_and_leaves_nothing(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await upgrade(database)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, sqlite_url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        waiting = asyncio.create_task(_put(database, "b", "2"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        process.send_signal(signal.SIGKILL)
    await asyncio.wait_for(waiting, BOUND)

    assert await _values(database) == {"b": "2"}
    await database.close()


async def test_a_writer_that_waits_too_long_fails_temporarily(
    two: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 0.05)
    one, other = two
    async with one.transaction():
        with pytest.raises(TemporaryFailure, match="another process has kept the database busy"):
            await _put(other, "a", "1")


async def test_a_stranger_who_holds_the_file_is_a_temporary_failure(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that knows nothing of our lock, such as the sqlite3 shell."""
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 0.05)
    database = open_database(sqlite_url)
    await upgrade(database)
    stranger = sqlite3.connect(tmp_path / "mail.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(TemporaryFailure, match="locked"):
        await _put(database, "a", "1")
    stranger.close()

    await _put(database, "a", "1")
    await database.close()


async def test_a_transaction_holds_the_file_before_its_first_write(sqlite_url: str, tmp_path: Path) -> None:
    """BEGIN IMMEDIATE: what was read is still so when it writes, also where a tool knows nothing of our lock."""
    database = open_database(sqlite_url)
    await upgrade(database)
    with closing(sqlite3.connect(tmp_path / "mail.db", isolation_level=None, timeout=0)) as stranger:
        async with database.transaction() as connection:
            await connection.execute(text("SELECT 1"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                stranger.execute("BEGIN IMMEDIATE")
        stranger.execute("BEGIN IMMEDIATE")
    await database.close()


async def test_one_program_at_a_time_checkpoints(two: tuple[Database, Database]) -> None:
    """SQLite before 3.51.3 can corrupt a WAL that two connections reset. Who leaves hands the duty on."""
    one, other = two
    await _put(other, "a", "1")
    assert await _pragma(one, "wal_autocheckpoint", writing=True) == 4000
    assert await _pragma(other, "wal_autocheckpoint", writing=True) == 0

    await one.close()
    await _put(other, "b", "2")
    assert await _pragma(other, "wal_autocheckpoint", writing=True) == 4000
    assert await _pragma(other, "wal_autocheckpoint") == 4000


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("busy_timeout", 10_000),
    ],
)
async def test_every_connection_is_prepared(two: tuple[Database, Database], pragma: str, value: object) -> None:
    """Those opened before and after this program took over the checkpoints, for reading and for writing."""
    found = [await _pragma(each, pragma, writing=writing) for each in two for writing in (False, True)]

    assert found == [value] * 4


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = open_database(f"sqlite+aiosqlite:///{tmp_path}/new/folder/mail.db")
        await upgrade(database)
        await _put(database, "a", "1")
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new" / "folder").iterdir()}
        await database.close()
    finally:
        os.umask(before)

    assert files == dict.fromkeys(
        ["mail.db", "mail.db-wal", "mail.db-shm", "mail.db.writer", "mail.db.checkpoint", "mail.db.open"], 0o600
    )
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700


# -- what cannot be opened -------------------------------------------------------------------------------------

PLACE = "x.toml: database.url"


@pytest.mark.parametrize(("path", "why"), [("file/mail.db", "File exists"), ("folder", "Is a directory")])
def test_a_file_that_cannot_be_had_is_no_database(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(NoDatabase) as caught:
        open_database(f"sqlite+aiosqlite:///{tmp_path}/{path}", PLACE)

    expected = "expected a file and a folder that this user may read and write"
    assert str(caught.value) == f"{PLACE}: {tmp_path}/{path} cannot be opened ({why}): {expected}"


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EMFILE, TemporaryFailure), (errno.EROFS, NoDatabase)]
)
def test_what_may_pass_is_a_temporary_failure(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", fail)
        with pytest.raises(expected, match=f"^{PLACE}: .* cannot be opened") as caught:
            open_database(sqlite_url, PLACE)

    assert type(caught.value) is expected


async def test_a_file_that_is_no_database_is_left_as_it_is(sqlite_url: str, tmp_path: Path) -> None:
    letter = b"Dear Sir or Madam, " * 500
    (tmp_path / "mail.db").write_bytes(letter)
    database = open_database(sqlite_url, PLACE)

    for door in (database.reading, database.transaction):
        with pytest.raises(NoDatabase) as caught:
            await _enter(door)
        assert str(caught.value) == (
            f"{PLACE}: {tmp_path}/mail.db is no SQLite database: expected the file of one, or a name that is free"
        )
    await database.close()
    assert (tmp_path / "mail.db").read_bytes() == letter


async def test_a_damaged_file_is_told_with_its_place_and_the_remedy(sqlite_url: str, tmp_path: Path) -> None:
    """Whoever sent or fetched mail meanwhile may try again: nothing was kept."""
    database = open_database(sqlite_url, PLACE)
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE note (said TEXT)"))
        await connection.execute(text("INSERT INTO note VALUES (:said)"), [{"said": "x" * 500}] * 500)
    await database.close()
    with closing(sqlite3.connect(tmp_path / "mail.db")) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "mail.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 20 * 4096)

    database = open_database(sqlite_url, PLACE)
    said = re.escape(f"{PLACE}: {tmp_path}/mail.db is damaged (") + ".*: stop what writes to it, and put a backup in "
    for door in (database.reading, database.transaction):
        with pytest.raises(Damaged, match=said):
            async with door() as connection:
                await connection.execute(text("SELECT sum(length(said)) FROM note"))
    with pytest.raises(Damaged, match=said):
        await database.at_once([("UPDATE note SET said = ?", ("y",))])
    await database.close()


@pytest.mark.parametrize("content", [b"Dear Sir or Madam, " * 500, None])
def test_what_is_no_database_is_not_copied(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "source"
    source.mkdir() if content is None else source.write_bytes(content)

    with pytest.raises(NoDatabase, match=f"^{PLACE}: {source} is no SQLite database"):
        copy_sqlite(source, tmp_path / "target", PLACE)


async def _enter(door: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
    async with door():
        pass


async def test_a_server_that_is_down_is_named_with_its_place() -> None:
    database = open_database("postgresql+asyncpg://u:geheim@localhost:1/mail", PLACE)

    for door in (database.reading, database.transaction):
        with pytest.raises(TemporaryFailure) as caught:
            await _enter(door)
        assert str(caught.value) == (
            f"{PLACE}: localhost:1 cannot be reached (Connection refused): "
            "expected a PostgreSQL server that runs there"
        )
    await database.close()


@pytest.mark.postgres
async def test_a_server_that_does_not_know_the_database_is_quoted(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    database = open_database(f"{url.rpartition('/')[0]}/nowhere", PLACE)

    with pytest.raises(TemporaryFailure) as caught:
        await is_alive(database)

    server = url.rpartition("@")[2].partition("/")[0]
    assert str(caught.value) == f'{PLACE}: {server} refuses us: database "nowhere" does not exist'
    await database.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "[SSL] wrong version number"),
        (OSError("Multiple exceptions: a, b"), "Multiple exceptions: a, b"),
        (TimeoutError(), "no answer in time"),
    ],
)
def test_why_a_server_cannot_be_reached_is_told_in_words(error: OSError, expected: str) -> None:
    assert databases._why(error) == expected


# -- statements that others wait for ---------------------------------------------------------------------------


_SETTING = Insert(setting, ("name", "value"))


async def test_what_was_written_at_once_is_there(database: Database) -> None:
    await _SETTING.at_once(database, [("a", "1"), ("b", "2")])
    await _SETTING.at_once(database, [])
    assert await _values(database) == {"a": "1", "b": "2"}


async def test_at_once_means_all_or_nothing(database: Database) -> None:
    await _SETTING.at_once(database, [("a", "1")])
    with pytest.raises(Exception, match=r"(?i)unique"):  # the two drivers name it differently
        await _SETTING.at_once(database, [("b", "1"), ("a", "2")])
    await _SETTING.at_once(database, [("c", "1")])
    assert await _values(database) == {"a": "1", "c": "1"}


async def test_at_once_waits_for_its_turn(two: tuple[Database, Database]) -> None:
    one, other = two
    async with one.transaction() as connection:
        waiting = asyncio.create_task(_SETTING.at_once(other, [("a", "2")]))
        await upsert(connection, setting, [{"name": "b", "value": "1"}])
        assert not waiting.done()
    await waiting
    assert await _values(one) == {"a": "2", "b": "1"}


async def test_at_once_is_a_temporary_failure_where_a_stranger_holds_the_file(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 0.05)
    database = open_database(sqlite_url)
    await upgrade(database)
    with closing(sqlite3.connect(tmp_path / "mail.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryFailure, match="locked"):
            await _SETTING.at_once(database, [("a", "1")])
    await _SETTING.at_once(database, [("a", "1")])
    assert await _values(database) == {"a": "1"}
    await database.close()


async def test_whoever_gives_up_on_at_once_leaves_the_turn_to_the_next_when_it_is_done(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await upgrade(database)
    tasks = [asyncio.create_task(_SETTING.at_once(database, [(f"{n}", "1")])) for n in range(20)]
    await asyncio.wait(tasks[:1])
    for task in tasks[1::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {f"{n}" for n, outcome in enumerate(done) if outcome is None}
    assert {f"{n}" for n in range(0, 20, 2)} <= kept <= (await _values(database)).keys()
    await database.close()


# -- the world's faults --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where we may mount one; else a folder (the database is told how far it may grow)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_no_space_and_what_was_committed_stays(small_disk: Path) -> None:
    database = open_database(f"sqlite+aiosqlite:///{small_disk}/mail.db")
    if not os.path.ismount(small_disk):

        @event.listens_for(database.engine.sync_engine, "connect")
        def limit(connection: object, _: object) -> None:
            connection.execute("PRAGMA max_page_count=400")  # type: ignore[attr-defined]

    await upgrade(database)
    kept = count()

    async def fill() -> None:
        while True:
            await _put(database, f"{next(kept)}", "x" * 16_384)

    with pytest.raises(NoSpace):
        await asyncio.wait_for(fill(), BOUND)

    assert len(await _values(database)) == next(kept) - 1
    await database.close()


@pytest.mark.postgres
async def test_a_server_that_goes_away_is_a_temporary_failure_until_it_is_back(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async def cut_off(door: Callable[[], AbstractAsyncContextManager[Any]], cut: Callable[[], object]) -> None:
        async with door() as connection:
            await connection.execute(text("SELECT 1"))
            cut()
            await connection.execute(text("SELECT 1"))

    database = open_database(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    await upgrade(database)
    try:
        with pytest.raises(TemporaryFailure):
            await cut_off(database.transaction, postgres_server.stop)
        with pytest.raises(TemporaryFailure):
            await _put(database, "a", "1")
        with pytest.raises(TemporaryFailure):
            await is_alive(database)
    finally:
        postgres_server.start()
    await _put(database, "c", "1")
    assert await _values(database) == {"c": "1"}

    name = postgres_url.rpartition("/")[2]
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    for door in (database.transaction, database.reading):
        with pytest.raises(TemporaryFailure):
            await cut_off(door, lambda: postgres_server.execute(kill))
    assert await _values(database) == {"c": "1"}
    await database.close()


async def test_a_fault_of_ours_stays_what_it_is(database: Database) -> None:
    """Only the world's faults are temporary: a wrong statement would never come right by trying again."""
    with pytest.raises(Exception) as caught:  # the two databases name it differently
        async with database.transaction() as connection:
            await connection.execute(text("SELECT * FROM no_such_table"))

    assert not isinstance(caught.value, NoSpace)


# -- statements ----------------------------------------------------------------------------------------------


async def test_upsert_keeps_what_is_there_or_updates_the_columns_named(database: Database) -> None:
    rows = [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]
    async with database.transaction() as connection:
        await upsert(connection, setting, rows)
        await upsert(connection, setting, [{"name": "a", "value": "kept"}])
        await upsert(connection, setting, [{"name": "b", "value": "new"}], update=["value"])
        await upsert(connection, setting, [])

    assert await _values(database) == {"a": "1", "b": "new"}


async def test_one_statement_takes_a_chunk_of_values(database: Database) -> None:
    async with database.transaction() as connection:
        await upsert(connection, setting, [{"name": str(n), "value": ""} for n in range(CHUNK)])
        names = [str(n) for n in range(CHUNK)]
        found = await connection.execute(setting.select().where(setting.c.name.in_(names)))
        assert len(found.all()) == CHUNK


def test_chunks_hold_every_value_once_and_in_order() -> None:
    assert [list(each) for each in chunks(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert chunks([], 3) == []


async def test_an_empty_database_has_no_reports(database: Database) -> None:
    async with database.reading() as connection:
        assert await reports(connection) == {}


async def test_one_import_at_a_time_and_an_ended_one_makes_room(tmp_path: Path) -> None:
    first, second = (open_database(f"sqlite+aiosqlite:///{tmp_path}/x.db") for _ in range(2))
    try:
        async with first.importing() as ours, second.importing(patient=False) as theirs:
            assert (ours, theirs) == (True, False)
        async with second.importing(patient=False) as theirs:
            assert theirs
    finally:
        await first.close()
        await second.close()


async def test_after_a_disk_that_failed_nothing_more_is_written(sqlite_url: str) -> None:
    """SQLite says so in the code of its error; what the system holds in memory may not be on the disk."""
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    database = open_database(sqlite_url)
    try:
        with pytest.raises(DiskFailed, match="disk I/O error"):
            async with database.transaction():
                raise OperationalError("COMMIT", {}, failure)
        assert database.disk_failed.is_set()
        with pytest.raises(DiskFailed, match="start anew"):
            async with database.transaction():
                pass
        await is_alive(database)
    finally:
        await database.close()


async def test_another_fault_of_the_disk_is_temporary(sqlite_url: str) -> None:
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    database = open_database(sqlite_url)
    try:
        with pytest.raises(TemporaryFailure):
            async with database.transaction():
                raise OperationalError("SELECT 1", {}, failure)
        assert not database.disk_failed.is_set()
    finally:
        await database.close()

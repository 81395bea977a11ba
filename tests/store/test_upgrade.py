"""The schema of the database: migrated, checked, refused."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from maillinkd.linker.snapshot import micros
from maillinkd.store import quarantine, schema
from maillinkd.store import upgrade as upgrading
from maillinkd.store.database import Database, open_database
from maillinkd.store.upgrade import (
    MIGRATIONS,
    SchemaOutdated,
    SchemaTooNew,
    State,
    WrongSchema,
    check,
    make_ready,
    upgrade,
)

FIRST_SCHEMA = Path(__file__).with_name("first_schema.sql")

SHAPE = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY type, name",
    "postgresql": """
        SELECT 'index ' || indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        UNION ALL
        SELECT 'constraint ' || conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
        UNION ALL
        SELECT 'column ' || table_name || '.' || column_name,
               concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        ORDER BY 1
    """,
}
"""What a database says of its tables, in its own words: more than Alembic compares (partial indexes, checks)."""


async def _shape(database: Database) -> list[tuple[str, str]]:
    async with database.reading() as connection:
        rows = await connection.execute(text(SHAPE[database.engine.dialect.name]))
        return [(name, _reordered(sql or "")) for name, sql in rows]


def _reordered(sql: str) -> str:
    """A CREATE TABLE with its lines in order of the alphabet: constraints may stand in another order."""
    parts = (part.strip() for part in re.split("[,\n]", sql))  # ADD COLUMN writes no new line
    return "\n".join(sorted(part for part in parts if part))


async def test_migrations_applied_to_nothing_equal_the_schema(empty: Database) -> None:
    await upgrade(empty)

    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), schema.metadata)

    async with empty.reading() as connection:
        found = await connection.run_sync(differences)

    assert found == []


async def test_migrations_make_the_very_tables_that_the_schema_declares(empty: Database) -> None:
    """Word for word, what Alembic does not compare included."""
    await upgrade(empty)
    migrated = await _shape(empty)
    async with empty.transaction() as connection:
        await connection.run_sync(schema.metadata.drop_all)
        await connection.run_sync(schema.metadata.create_all)

    assert migrated == await _shape(empty)


def test_the_newest_migration_is_the_version_of_the_schema() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))

    assert scripts.get_current_head() == schema.VERSION


def test_every_migration_is_named_after_its_revision() -> None:
    """The program tells an older database from a newer one by the names of these files."""
    revisions = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}

    assert upgrading._revisions() == revisions


async def test_an_empty_database_needs_all_migrations(empty: Database) -> None:
    assert await check(empty) == State(None, schema.VERSION, needed=True, newer=False)


async def test_upgrade_names_the_revisions_that_it_applied(empty: Database) -> None:
    applied = await upgrade(empty)

    assert applied[0] == "0001"
    assert applied[-1] == schema.VERSION


async def test_an_upgraded_database_needs_nothing(empty: Database) -> None:
    await upgrade(empty)
    assert await check(empty) == State(schema.VERSION, schema.VERSION, needed=False, newer=False)
    assert await upgrade(empty) == []


async def test_an_older_revision_is_known_and_needs_an_upgrade(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(empty)
    applied = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", "9998")

    assert await check(empty) == State(applied, "9998", needed=True, newer=False)


async def test_a_newer_schema_is_refused(empty: Database) -> None:
    """Whatever is asked for, and the database stays as it is."""
    await upgrade(empty)
    async with empty.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    assert await check(empty) == State("9999", schema.VERSION, needed=False, newer=True)
    for way in (upgrade, make_ready):
        with pytest.raises(SchemaTooNew, match=r"schema 9999, which is newer than .* install the release"):
            await way(empty)


async def test_at_start_a_sqlite_file_is_upgraded_on_the_spot(sqlite_url: str) -> None:
    database = open_database(sqlite_url)

    assert schema.VERSION in await make_ready(database)
    assert await make_ready(database) == []
    await database.close()


@pytest.mark.postgres
async def test_at_start_an_outdated_postgresql_database_is_refused_with_the_remedy(postgres_url: str) -> None:
    database = open_database(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    with pytest.raises(SchemaOutdated, match="run `maillinkd db upgrade`"):
        await make_ready(database)

    assert (await check(database)).current is None
    await upgrade(database)
    assert await make_ready(database) == []
    await database.close()


def test_both_refusals_are_one_kind_of_error() -> None:
    assert issubclass(SchemaOutdated, WrongSchema)
    assert issubclass(SchemaTooNew, WrongSchema)


async def test_of_two_starters_one_migrates_and_the_other_finds_nothing_to_do(empty_url: str) -> None:
    databases = [open_database(empty_url) for _ in range(2)]
    applied = await asyncio.gather(*map(upgrade, databases))

    assert sorted(map(bool, applied)) == [False, True]
    for database in databases:
        await database.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: Connection) -> list[str]:
        upgrading_as_it_is(connection)
        raise RuntimeError("cut off")

    upgrading_as_it_is = upgrading._migrate
    monkeypatch.setattr(upgrading, "_migrate", fail)
    with pytest.raises(RuntimeError, match="cut off"):
        await upgrade(empty)

    assert await check(empty) == State(None, schema.VERSION, needed=True, newer=False)


async def test_the_first_schema_ever_shipped_still_upgrades_and_keeps_its_rows(sqlite_url: str) -> None:
    """first_schema.sql is what 0001 made on the day of its release, with a few rows; it is never made anew."""
    with closing(sqlite3.connect(make_url(sqlite_url).database or "")) as connection:
        connection.executescript(FIRST_SCHEMA.read_text())
    database = open_database(sqlite_url)
    await make_ready(database)

    assert await check(database) == State(schema.VERSION, schema.VERSION, needed=False, newer=False)
    async with database.reading() as connection:
        rows = await connection.execute(
            text(
                "SELECT m.message_id, l.kind, l.key, d.reason FROM message m"
                " JOIN message_ref r ON r.node = m.node JOIN link l ON l.thread = r.thread AND l.slot = 1"
                " JOIN decision d ON d.id = l.decision"
            )
        )
        assert rows.all() == [("first@x.example", "deal", "61", "linked_single_open_item")]
    await database.close()


def _migrate_to(revision: str) -> Callable[[Connection], None]:
    def migrate(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, on_version_apply=lambda **_: None)
        command.upgrade(config, revision)

    return migrate


SECOND_SCHEMA_ROWS = (
    "INSERT INTO folder (id, mailbox, name, uidvalidity, top, bottom, before_since)"
    " VALUES (1, 'sales', 'INBOX', 17, 3, 0, 0)",
    *(
        f"INSERT INTO occurrence (folder, uidvalidity, uid, disposition) VALUES (1, 17, {uid}, '{disposition}')"
        for uid, disposition in ((1, "quarantined"), (2, "quarantined"), (3, "filtered:bulk"))
    ),
    "INSERT INTO quarantine (digest, channel, reason, error, message_id, received_at, size, raw, sender, recipients,"
    " author, folder, uidvalidity, uid)"
    " VALUES ('d', 'imap', 'unreadable', '', '', 5, 3, 'raw', '', '[]', '', 1, 17, 1)",
)
"""One mail is held, and UID 2 stands for one that was dropped."""


async def test_what_lay_in_quarantine_in_the_second_schema_begins_its_days_with_the_upgrade(empty: Database) -> None:
    """And a UID whose mail was dropped is no longer said to be held."""
    async with empty.transaction() as connection:
        await connection.run_sync(_migrate_to("0002"))
        for row in SECOND_SCHEMA_ROWS:
            await connection.execute(text(row))
    assert (await check(empty)).needed
    before = micros(datetime.now(UTC))

    assert (await upgrade(empty))[0] == "0003"

    async with empty.reading() as connection:
        held = (await connection.execute(text("SELECT received_at, held_at FROM quarantine"))).one()
        uids = await connection.execute(text("SELECT uid, disposition FROM occurrence ORDER BY uid"))
        dispositions = [tuple(row) for row in uids]
    assert held.received_at == 5
    assert before <= held.held_at <= micros(datetime.now(UTC))
    assert dispositions == [(1, "quarantined"), (2, quarantine.DROPPED), (3, "filtered:bulk")]


async def test_opening_an_up_to_date_database_does_without_alembic_and_takes_no_time(
    sqlite_url: str, tmp_path: Path
) -> None:
    database = open_database(sqlite_url)
    await upgrade(database)
    await database.close()
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import asyncio, sys\n"
        "from maillinkd.store.database import open_database\n"
        "from maillinkd.store.upgrade import make_ready\n"
        "async def main():\n"
        "    database = open_database(sys.argv[1])\n"
        "    assert await make_ready(database) == []\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(probe), sqlite_url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()

    assert out == b"False\n"
    assert min([await _seconds_to_open(sqlite_url) for _ in range(5)]) < 0.02


async def _seconds_to_open(url: str) -> float:
    start = perf_counter()
    database = open_database(url)
    await make_ready(database)
    seconds = perf_counter() - start
    await database.close()
    return seconds

"""Brings a database to the schema of this program, or says why it cannot be used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.store import schema
from maillinkd.store.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 0x6D61696C  # "mail": one upgrade at a time


class WrongSchema(Exception):
    """The database cannot be used as it is. The message is a sentence that names the remedy."""


class SchemaOutdated(WrongSchema):
    """The database has an older schema than the program, or none."""

    def __init__(self, current: str | None) -> None:
        found = "the database is empty" if current is None else f"the database has schema {current}"
        super().__init__(f"{found}, and this program needs {schema.VERSION}: run `maillinkd db upgrade`")


class SchemaTooNew(WrongSchema):
    """The database has a schema that this program does not know."""

    def __init__(self, current: str) -> None:
        super().__init__(
            f"the database has schema {current}, which is newer than {schema.VERSION}, the newest that this program "
            "knows: install the release of maillinkd that upgraded it (`maillinkd db upgrade` cannot go back)"
        )


@dataclass(frozen=True, slots=True)
class State:
    """How the database's schema stands to that of the program."""

    current: str | None
    """Revision of the database; None where it has no schema yet."""
    newest: str
    """The newest revision that the program knows."""
    needed: bool
    """`upgrade` has something to do."""
    newer: bool
    """The database has a revision that the program does not know."""


async def check(database: Database) -> State:
    """How the schema stands. Reads only. Raises TemporaryFailure where the database does not answer."""
    async with database.reading() as connection:
        return await _state(connection)


async def upgrade(database: Database) -> list[str]:
    """Runs the migrations that are missing and returns their revisions, oldest first.

    In one transaction: all of them, or none. Of several processes that start at once one does it, and the others find
    nothing left to do. Raises SchemaTooNew, or TemporaryFailure where the database failed.
    """
    async with database.transaction() as connection:  # on SQLite nobody else writes until it ends
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        state = await _state(connection)
        if state.newer:
            raise SchemaTooNew(str(state.current))
        return await connection.run_sync(_migrate) if state.needed else []


async def make_ready(database: Database) -> list[str]:
    """What a start asks for: a SQLite file is upgraded on the spot, a PostgreSQL database by its admin alone.

    Returns the revisions that were applied. Raises SchemaTooNew, SchemaOutdated (PostgreSQL) or TemporaryFailure.
    """
    state = await check(database)
    if state.newer:
        raise SchemaTooNew(str(state.current))
    if not state.needed:
        return []
    if not database.is_sqlite:
        raise SchemaOutdated(state.current)
    return await upgrade(database)


async def _state(connection: AsyncConnection) -> State:
    """Asks the database itself: Alembic takes longer to import than the start of a program should."""
    current = None
    if await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
        current = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    if current is None or current == schema.VERSION:
        return State(current, schema.VERSION, needed=current is None, newer=False)
    known = current in _revisions()
    return State(current, schema.VERSION, needed=known, newer=not known)


def _revisions() -> frozenset[str]:
    """The revisions that this program knows: each migration's file begins with its own."""
    return frozenset(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _migrate(connection: Connection) -> list[str]:
    from alembic import command
    from alembic.config import Config

    applied: list[str] = []

    def note(*, step: Any, **_: object) -> None:
        applied.extend(step.up_revision_ids)

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = note
    command.upgrade(config, "head")
    return applied

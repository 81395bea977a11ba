"""Every test of the store runs on SQLite and on PostgreSQL."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from maillinkd.store.database import Database, open_database
from maillinkd.store.mailroom import Scope, lock_scope
from maillinkd.store.schema import metadata
from maillinkd.store.upgrade import upgrade
from system.postgres import PostgresServer

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path}/mail.db"


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return sqlite_url
    url: str = request.getfixturevalue("postgres_url")
    return url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    """A database without tables."""
    database = open_database(empty_url)
    yield database
    await database.close()


def _make(url: str) -> str:
    """Makes today's schema, in a loop of its own: a fixture may be asked for while another loop runs."""

    async def make() -> None:
        database = open_database(url)
        await upgrade(database)
        await database.close()

    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(lambda: asyncio.run(make())).result()
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with today's schema and nothing in it, to be copied: migrations take longer than a test."""
    path = tmp_path_factory.mktemp("migrated") / "mail.db"
    _make(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_url(postgres_server: PostgresServer) -> str:
    """A PostgreSQL database with today's schema, to be emptied by each test."""
    return _make(postgres_server.create_database().replace("postgresql://", "postgresql+asyncpg://"))


@pytest.fixture(params=BOTH)
async def database_url(request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path) -> str:
    """The URL of a database with today's schema and nothing in it."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "mail.db")
        return sqlite_url
    url: str = request.getfixturevalue("migrated_url")
    database = open_database(url)
    async with database.transaction() as connection:
        await connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"))
    await database.close()
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with today's schema and nothing in it."""
    database = open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def scope(database: Database) -> Scope:
    """The scope of anna's mailboxes."""
    async with database.transaction() as connection:
        return await lock_scope(connection, "anna", "imap")

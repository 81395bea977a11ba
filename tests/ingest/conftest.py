"""A scene on SQLite, and for what the two databases might do differently one on each."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from ingest.scene import Scene
from maillinkd import logs
from maillinkd.store.database import Database, open_database
from maillinkd.store.schema import metadata
from maillinkd.store.upgrade import upgrade
from system.postgres import PostgresServer
from system.whole import assert_whole


@pytest.fixture(autouse=True)
def log() -> None:
    """As the daemon has it: structlog's own rendering of a traceback takes a second."""
    logs.configure("json")


def _make(url: str) -> None:
    """Makes today's schema, in a loop of its own: a fixture may be asked for while another loop runs."""

    async def make() -> None:
        database = open_database(url)
        await upgrade(database)
        await database.close()

    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(lambda: asyncio.run(make())).result()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with today's schema and nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "mail.db"
    _make(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def emptied_url(postgres_server: PostgresServer) -> str:
    """A PostgreSQL database with today's schema, to be emptied by each test."""
    url = postgres_server.create_database().replace("postgresql://", "postgresql+asyncpg://")
    _make(url)
    return url


@pytest.fixture
async def scene(empty_file: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    database = _on_sqlite(empty_file, tmp_path)
    yield Scene.on(database)
    await assert_whole(database)
    await database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def either(request: pytest.FixtureRequest, empty_file: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene on SQLite, then one on PostgreSQL."""
    if request.param == "sqlite":
        database = _on_sqlite(empty_file, tmp_path)
    else:
        database = open_database(request.getfixturevalue("emptied_url"))
        async with database.transaction() as connection:
            await connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"))
    yield Scene.on(database)
    await assert_whole(database)
    await database.close()


def _on_sqlite(empty_file: Path, directory: Path) -> Database:
    shutil.copy(empty_file, directory / "mail.db")
    return open_database(f"sqlite+aiosqlite:///{directory}/mail.db")

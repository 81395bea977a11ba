"""A scene on SQLite, and for what the two databases might do differently one on each."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.scene import Scene
from maillinkd.store.database import open_database
from maillinkd.store.upgrade import upgrade


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with today's schema and nothing in it, to be copied."""
    import asyncio

    path = tmp_path_factory.mktemp("empty") / "mail.db"

    async def make() -> None:
        database = open_database(f"sqlite+aiosqlite:///{path}")
        await upgrade(database)
        await database.close()

    asyncio.new_event_loop().run_until_complete(make())
    return path


@pytest.fixture
async def scene(empty_file: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    shutil.copy(empty_file, tmp_path / "mail.db")
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/mail.db")
    yield Scene.on(database)
    await database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def either(request: pytest.FixtureRequest, empty_file: Path, tmp_path: Path) -> AsyncIterator[Scene]:
    """A scene on SQLite, then one on PostgreSQL."""
    if request.param == "sqlite":
        shutil.copy(empty_file, tmp_path / "mail.db")
        database = open_database(f"sqlite+aiosqlite:///{tmp_path}/mail.db")
    else:
        url: str = request.getfixturevalue("postgres_url")
        database = open_database(url.replace("postgresql://", "postgresql+asyncpg://"))
        await upgrade(database)
    yield Scene.on(database)
    await database.close()

"""Whether a database is whole: what a test that has ended with one asks (`maillinkd verify`)."""

from maillinkd.ingest.verify import verify
from maillinkd.store.database import Database, open_database
from maillinkd.store.invariants import Summary


async def problems(database: Database) -> list[str]:
    """What `verify` finds wrong."""
    async with database.reading() as connection:
        found = verify(connection, Summary(), lambda _: None)
        return [f"{each.check}: {each.place}: {each.problem}" async for each in found]


async def assert_whole(database: Database) -> None:
    """Every decision follows from its facts, and every invariant holds."""
    assert await problems(database) == []


async def assert_whole_at(url: str) -> None:
    """The same of the database at an URL with an asyncio driver, which nobody else need have open."""
    database = open_database(url)
    try:
        await assert_whole(database)
    finally:
        await database.close()

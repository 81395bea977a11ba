"""Tokens are kept as they came, one for a mailbox."""

from datetime import UTC, datetime

from maillinkd.store import tokens
from maillinkd.store.database import Database

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def test_the_newest_one_takes_the_place_of_what_was_kept(database: Database) -> None:
    async with database.transaction() as connection:
        await tokens.keep(connection, "anna", b"\0one", NOON)
        await tokens.keep(connection, "ben", b"other", NOON)
        await tokens.keep(connection, "anna", b"\xfftwo", NOON)

    async with database.reading() as connection:
        assert await tokens.kept(connection, "anna") == b"\xfftwo"
        assert await tokens.kept(connection, "ben") == b"other"
        assert await tokens.mailboxes(connection) == ["anna", "ben"]


async def test_one_that_is_forgotten_is_gone(database: Database) -> None:
    async with database.transaction() as connection:
        await tokens.keep(connection, "anna", b"one", NOON)

        assert await tokens.forget(connection, "anna") is True
        assert await tokens.forget(connection, "anna") is False
        assert await tokens.kept(connection, "anna") is None

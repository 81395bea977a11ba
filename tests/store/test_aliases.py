"""Aliases on the shelf."""

from datetime import UTC, datetime, timedelta

from maillinkd.store import aliases
from maillinkd.store.aliases import Alias
from maillinkd.store.database import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOON = NOW + timedelta(days=2)
HOME = "anna@home.example"


async def test_the_key_is_made_once(database: Database) -> None:
    first = await aliases.key(database)

    assert (len(first), await aliases.key(database)) == (32, first)


async def test_the_life_of_an_alias(database: Database) -> None:
    async with database.transaction() as connection:
        assert await aliases.ask(connection, HOME, "anna", "one", SOON)
        assert await aliases.asked(connection, "one") == Alias(HOME, "anna", SOON, None)
        assert await aliases.confirmed(connection) == {}
        await aliases.confirm(connection, HOME, NOW)

        assert await aliases.asked(connection, "one") is None
        assert await aliases.listing(connection) == [Alias(HOME, "anna", None, NOW)]
        assert await aliases.confirmed(connection) == {HOME: "anna"}
        assert not await aliases.ask(connection, HOME, "ben", "two", SOON)
        assert await aliases.remove(connection, HOME)
        assert not await aliases.remove(connection, HOME)
        assert await aliases.listing(connection) == []


async def test_who_asks_again_voids_the_address_before(database: Database) -> None:
    async with database.transaction() as connection:
        await aliases.ask(connection, HOME, "anna", "one", SOON)
        await aliases.ask(connection, HOME, "ben", "two", SOON)

        assert await aliases.asked(connection, "one") is None
        assert await aliases.asked(connection, "two") == Alias(HOME, "ben", SOON, None)

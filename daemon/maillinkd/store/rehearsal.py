"""A database on which everything is tried and nothing is kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.store.database import Database, settled


class _Over(Exception):
    """Ends the transaction of a rehearsal."""


class Rehearsal(Database):
    """A database whose transactions are parts of one, which is rolled back at the end.

    Who works with it reads what he has written, and nobody else ever does.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        # Not Database's: this one opens nothing, and what it stands on is closed by whoever has opened it.
        self._connection = connection
        self._engine = connection.engine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A part of the rehearsal, taken back by itself on an error."""
        async with self._connection.begin_nested():
            yield self._connection
            await settled(self._connection)  # here, while it can be taken back by itself

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """What the rehearsal has come to."""
        yield self._connection

    @asynccontextmanager
    async def importing(self, *, patient: bool = True) -> AsyncIterator[bool]:
        """No import of anybody else is waited for: theirs is not in this transaction."""
        yield True

    def is_shared(self) -> bool:
        return False


@asynccontextmanager
async def rehearsal(database: Database) -> AsyncIterator[Rehearsal]:
    """While the block runs, everything may be tried on what it is handed. Others wait with writing meanwhile.

    Raises as `Database.transaction`.
    """
    with suppress(_Over):
        async with database.transaction() as connection:
            yield Rehearsal(connection)
            raise _Over

"""What all who file mail or change links are given: the database, the configuration in force, the worker.

Decisions are made within `House.transaction`, and told by `House.tell` once that is committed.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from maillinkd.ingest.office import Office
from maillinkd.store import aliases, journal
from maillinkd.store.database import Connection, Database
from maillinkd.worker.parent import Worker

COMMAND = "cli"
"""The instance under which commands stand in the journal."""
Line = dict[str, Any]
"""A decision line, as it is logged."""
CHUNK = 2_000
"""Messages that are filed in one transaction."""
SHARED_CHUNK = 50
"""The same while others want to write too: about 20 ms, so that they need not wait long."""

log = structlog.get_logger("maillinkd.ingest")


class House:
    """What is open, and which decisions were told."""

    def __init__(
        self,
        database: Database,
        office: Office,
        *,
        instance: str,
        publish: Callable[[Line], None],
        worker: Worker | None = None,
    ) -> None:
        """`worker`: where many messages are parsed; without one that is done here."""
        self.database = database
        self.office = office
        self.instance = instance
        """The name under which its decisions stand in the journal."""
        self.worker = worker
        self.publish = publish
        """Writes a decision line. Another takes its place when the daemon is told to reload. Raises OSError."""
        self.lines_are_due = False
        """Some could not be written."""
        self.takes_mail = False
        """Senders wait until their mail is durable: transactions are to be short."""
        self._told: list[int] = []

    def chunk(self) -> int:
        """Messages that may be filed in one transaction now."""
        return SHARED_CHUNK if self.takes_mail or self.database.is_shared() else CHUNK

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction that also notes which decision lines were written since the last one."""
        told, self._told = self._told, []
        try:
            async with self.database.transaction() as connection:
                if told:
                    await journal.logged(connection, told, datetime.now(UTC))
                yield connection
        except BaseException:
            self._told = told + self._told
            raise

    def tell(self, lines: Iterable[Line]) -> None:
        """Writes the decision lines of a transaction that is committed.

        Where that fails, the lines are still due: they are written when `tell_unlogged` is called next.
        """
        for line in lines:
            try:
                self.publish(line)
            except OSError as error:
                log.error("decision lines cannot be written", error=str(error))  # noqa: TRY400  # the disk's fault
                self.lines_are_due = True
                return
            self._told.append(line["decision"])

    async def note_told(self) -> None:
        """Notes in the journal which lines were written. Without it they would be written again after a restart."""
        if self._told:
            async with self.transaction():
                pass

    async def tell_unlogged(self, mailboxes: Collection[str] = (), *, smart_bcc: bool = False) -> int:
        """Writes the lines of decisions whose process died between commit and line. Returns how many.

        `mailboxes`, `smart_bcc`: what this process has taken over; commands that died count too.
        """
        await self.note_told()
        self.lines_are_due = False
        count = 0
        while True:
            async with self.database.reading() as connection:
                lines = await journal.unlogged(connection, {self.instance, COMMAND}, mailboxes, smart_bcc=smart_bcc)
            if not lines:
                return count
            self.tell(lines)
            if not self._told:
                return count
            await self.note_told()
            count += len(lines)

    async def refresh_aliases(self) -> None:
        """Takes over the aliases that were confirmed or removed, here or by a command. Raises TemporaryFailure."""
        async with self.database.reading() as connection:
            await self.take_over_aliases(connection)

    async def take_over_aliases(self, connection: Connection) -> None:
        """The same, where the database is being read already."""
        confirmed = await aliases.confirmed(connection)
        if confirmed != self.office.aliases:
            self.office = replace(self.office, aliases=confirmed)

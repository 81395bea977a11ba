"""The house behind the IMAP door, as a list."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from maillinkd.mail.delivery import FolderBatch, FolderCursor, TemporaryFailure


@dataclass
class ListLedger:
    """Keeps what is filed, and knows it again."""

    batches: list[FolderBatch] = field(default_factory=list)
    cursors: dict[str, FolderCursor] = field(default_factory=dict)
    failing: int = 0
    """So many batches are refused before one is taken."""
    filed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a batch was taken."""

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        return self.cursors.get(folder)

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        return {uid for uid in self.uids(folder, uidvalidity) if low <= uid <= high}

    async def file(self, batch: FolderBatch) -> None:
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise TemporaryFailure("the disk is full")
        self.batches.append(batch)
        self.cursors[batch.folder] = batch.cursor
        self.filed.set()

    def uids(self, folder: str, uidvalidity: int | None = None) -> list[int]:
        """Filed and not reported gone, in the order of filing; of the UIDVALIDITY of the cursor, if none is given."""
        validity = self.cursors[folder].uidvalidity if uidvalidity is None else uidvalidity
        mine = [batch for batch in self.batches if (batch.folder, batch.cursor.uidvalidity) == (folder, validity)]
        gone = {uid for batch in mine for uid in batch.gone}
        return [message.uid for batch in mine for message in batch.messages if message.uid not in gone]

    def subjects(self, folder: str) -> list[bytes]:
        """The subject lines of all that was filed, in the order of filing."""
        return [
            line.removeprefix(b"Subject: ")
            for batch in self.batches
            if batch.folder == folder
            for message in batch.messages
            for line in message.headers.split(b"\r\n")
            if line.startswith(b"Subject: ")
        ]

    async def until(self, count: int, folder: str = "INBOX", seconds: float = 20.0) -> None:
        """Waits until so many messages of a folder were filed."""
        async with asyncio.timeout(seconds):
            while sum(len(batch.messages) for batch in self.batches if batch.folder == folder) < count:
                self.filed.clear()
                await self.filed.wait()

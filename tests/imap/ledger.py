"""The house behind the IMAP door, as a list."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from maillinkd.mail.delivery import GONE, Fetched, FolderBatch, FolderCursor, Run, Stand, TemporaryFailure


@dataclass
class ListLedger:
    """Keeps what is filed, and knows it again."""

    batches: list[FolderBatch] = field(default_factory=list)
    cursors: dict[str, FolderCursor] = field(default_factory=dict)
    audits: list[tuple[str, int]] = field(default_factory=list)
    """Folder and how many UIDs were missing, one for each audit that was noted."""
    failing: int = 0
    """So many batches are refused before one is taken."""
    filed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a batch was taken."""

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        return self.cursors.get(folder)

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        return {uid for uid in self.uids(folder, uidvalidity) if low <= uid <= high}

    def begin_reading(self, messages: Sequence[Fetched]) -> None:
        """A list has nothing to parse."""

    async def file(self, batch: FolderBatch) -> None:
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise TemporaryFailure("the disk is full")
        self.batches.append(batch)
        before = self.cursors.get(batch.folder)
        stays = before is not None and before.uidvalidity == batch.cursor.uidvalidity
        self.cursors[batch.folder] = replace(batch.cursor, stand=before.stand if before and stays else None)
        self.filed.set()

    async def settled(self, mailbox: str, folder: str, stand: Stand) -> None:
        self.cursors[folder] = replace(self.cursors[folder], stand=stand)

    async def runs(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Sequence[Run]:
        mine = [batch for batch in self.batches if (batch.folder, batch.cursor.uidvalidity) == (folder, uidvalidity)]
        words: dict[int, str] = {}
        for batch in mine:
            words |= {message.uid: "stored" for message in batch.messages} | dict.fromkeys(batch.gone, GONE)
        return [Run(uid, uid, words[uid]) for uid in sorted(words) if low <= uid <= high]

    async def note_audit(self, mailbox: str, folder: str, missing: int) -> None:
        self.audits.append((folder, missing))
        self.filed.set()

    def forget(self, folder: str, *uids: int) -> None:
        """As if these had never been filed."""
        for at, batch in enumerate(self.batches):
            if batch.folder == folder:
                kept = tuple(message for message in batch.messages if message.uid not in uids)
                self.batches[at] = replace(batch, messages=kept)

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

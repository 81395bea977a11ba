"""Which folders are to be read again, and how far; what is remembered of each that was read to the end."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from maillinkd.imap import resync, sync
from maillinkd.imap.account import Account
from maillinkd.imap.budget import Allowance
from maillinkd.imap.client import Connection
from maillinkd.imap.errors import Refused
from maillinkd.imap.folders import Folder
from maillinkd.imap.reader import Reading, Trouble, starting
from maillinkd.imap.roster import Roster
from maillinkd.imap.sync import Opened
from maillinkd.imap.watch import Watch
from maillinkd.mail.delivery import FolderCursor, Ledger, Stand


class Read(Protocol):
    """Reads the open folder from `cursor` on and files what comes. `stored`: the cursor that the ledger has."""

    async def __call__(
        self,
        connection: Connection,
        folder: Folder,
        stored: FolderCursor | None,
        cursor: FolderCursor,
        *,
        compare: bool,
    ) -> Reading: ...


class Tell(Protocol):
    """Changes of `MailboxState`."""

    def __call__(self, **changes: object) -> None: ...


class Visits:
    """One mailbox's folders, visited one by one."""

    def __init__(
        self,
        account: Account,
        ledger: Ledger,
        roster: Roster,
        watch: Watch,
        allowance: Allowance,
        trouble: Trouble,
        read: Read,
        tell: Tell,
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._roster = roster
        self._watch = watch
        self._allowance = allowance
        self._trouble = trouble
        self._read = read
        self._tell = tell
        self._marks = account.expunged == "mark"
        self._names_gone = False
        """The server names the UIDs that go (QRESYNC)."""

    async def begin(self, connection: Connection) -> None:
        """On a new connection."""
        self._trouble.new_connection()
        self._names_gone = self._marks and await connection.enable_qresync()

    async def unlike(self, connection: Connection) -> list[Folder]:
        """The folders that are not, or may not be, as they were when they were last read to the end."""
        folders = self._roster.folders
        stored = {folder.name: await self._ledger.cursor(self._account.name, folder.name) for folder in folders}
        closed = [folder for folder in folders if _has_modseq(stored[folder.name])]
        found = await connection.statuses(closed)
        unlike = []
        for folder in folders:
            cursor = stored[folder.name]
            stands = None
            if cursor is not None and folder in closed:
                stands = found.get(folder.name) or await self._status(connection, folder)
            if cursor is not None and stands is not None and self._is_unchanged(cursor, stands):
                self._roster.visited[folder.name] = stands
            else:
                unlike.append(folder)
        return unlike

    async def catch_up(self, connection: Connection, folders: Sequence[Folder]) -> None:
        """Reads folders, each for a while in turn, looking in between for new mail in those that are done."""
        waiting, done = list(folders), [folder for folder in self._roster.folders if folder not in folders]
        while waiting:
            folder = waiting.pop(0)
            if await self.visit(connection, folder):
                done.append(folder)
            else:
                waiting.append(folder)
                waiting += await self.look_around(connection, done)
                done = [folder for folder in done if folder not in waiting]

    async def look_around(self, connection: Connection, folders: Sequence[Folder]) -> list[Folder]:
        """Asks how folders stand and reads those that changed; gives back those that are not read to the end."""
        unfinished = []
        known = [folder for folder in folders if folder.name not in self._roster.unopened]
        found = await connection.statuses(known) if len(known) > 1 else {}
        for folder in known:
            stands = found.get(folder.name) or await self._status(connection, folder)
            if stands is None or resync.same(stands, self._roster.visited.get(folder.name)):
                continue
            if not await self.visit(connection, folder):
                unfinished.append(folder)
        return unfinished

    async def visit(self, connection: Connection, folder: Folder) -> bool:
        """Opens a folder and reads it; False if it is to be gone on with as soon as others were looked at."""
        stored = await self._ledger.cursor(self._account.name, folder.name)
        since = resync.since(stored) if self._names_gone else None
        try:
            opened = await connection.examine(folder, since)
        except Refused as error:
            self.cannot_open(folder, error)
            return True
        self._tell(folder=folder.name)
        if self._roster.is_renumbered(folder, stored, opened):
            self._trouble.renumbered(folder.name)
        self._roster.visited[folder.name] = opened
        if stored is not None and self._is_unchanged(stored, opened):
            return True
        known = stored is not None and stored.uidvalidity == opened.uidvalidity
        before = stored.stand if stored is not None and known else None
        named = since is not None and since[0] == opened.uidvalidity and opened.highestmodseq is not None
        cursor = await starting(connection, self._account, self._ledger, folder, opened)
        compared = known and resync.compares(before, mark=self._marks, now=_now())
        reading = await self._read(connection, folder, stored, cursor, compare=compared)
        if not reading.finished:
            return reading.held is not None
        if before is not None and not compared:
            compared = resync.unexplained(
                before, opened, found=reading.found, gone=reading.gone, counts_gone=self._marks and not named
            )
            if compared and not await self._see(connection, folder, compare=True):
                return True
        if compared:
            self._watch.compared(folder)
        await self._settle(folder, before, opened, anew=compared or not known)
        return True

    async def see(self, connection: Connection, folder: Folder) -> None:
        """Reads what the server has just announced in the open folder.

        Every UID is compared if it is time to: for mail went and the server did not say which.
        """
        if connection.news.take_expunged() and self._marks:
            self._watch.went(folder)
        compare = self._watch.is_time_to_compare(folder)
        if compare:
            self._watch.compared(folder)
        await self._see(connection, folder, compare=compare)

    def cannot_open(self, folder: Folder, error: Refused) -> None:
        """Goes on without the folder. Raises the error, if it may be otherwise later."""
        self._roster.cannot_open(folder, error)
        self._tell(missing_folders=self._roster.missing, last_error=str(error))

    async def _see(self, connection: Connection, folder: Folder, *, compare: bool) -> bool:
        """False if it is to be gone on with later, which is noted."""
        stored = await self._ledger.cursor(self._account.name, folder.name)
        if stored is None:
            finished = await self.visit(connection, folder)
        else:
            finished = (await self._read(connection, folder, stored, stored, compare=compare)).finished
        if not finished:
            self._allowance.held.add(folder.name)
        return finished

    async def _status(self, connection: Connection, folder: Folder) -> Opened | None:
        """How a folder stands; None if the server does not say so."""
        try:
            return await connection.status(folder)
        except Refused as error:
            self.cannot_open(folder, error)
            return None

    def _is_unchanged(self, stored: FolderCursor, opened: Opened) -> bool:
        if stored.uidvalidity != opened.uidvalidity:
            return False
        going_on = sync.starting(stored, opened, 0, self._account.since)
        return resync.unchanged(stored, going_on, opened, mark=self._marks, now=_now())

    async def _settle(self, folder: Folder, before: Stand | None, opened: Opened, *, anew: bool) -> None:
        """Remembers how the folder stood that was read to the end; `anew`: every UID was looked at."""
        if self._trouble.withholds(folder.name):
            return  # so that it is asked for again
        compared_at = before.compared_at if before is not None and not anew else _now()
        stand = resync.stand(opened, gone_marked=self._marks, compared_at=compared_at)
        if stand != before:
            await self._ledger.settled(self._account.name, folder.name, stand)


def _has_modseq(stored: FolderCursor | None) -> bool:
    return stored is not None and stored.stand is not None and stored.stand.modseq is not None


def _now() -> datetime:
    return datetime.now(UTC)

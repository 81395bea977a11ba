"""Whether every UID that the server has in a folder is accounted for.

It can be asked at any time, beside whoever reads the folder. The cursor is read first, then the server's UIDs, then
the ledger; so what comes meanwhile is above the cursor, and what is read meanwhile is in the ledger. What seems to be
missing is looked at twice: in between it may have been filed, or expunged.
"""

from dataclasses import dataclass

from maillinkd.imap import sync, tally
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import Refused, garbled
from maillinkd.imap.folders import Folder, resolve
from maillinkd.imap.reader import starting
from maillinkd.imap.response import ProtocolError
from maillinkd.imap.sync import Opened
from maillinkd.imap.tally import Span, Tally
from maillinkd.mail.delivery import FolderCursor, Ledger


@dataclass(frozen=True, slots=True)
class FolderAudit:
    """What the comparison of one folder came to."""

    folder: str
    uidvalidity: int
    renumbered_from: int | None
    """The UIDVALIDITY under which the folder was read, if the server has another now: it is to be read anew."""
    tally: Tally
    repaired: int = 0
    """Messages that were missing, and were fetched."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of one mailbox's audit."""

    mailbox: str
    folders: tuple[FolderAudit, ...]
    missing_folders: tuple[str, ...]
    """Configured and not on the server."""
    unopened: tuple[str, ...] = ()
    """Folders that the server did not open: of these nothing is known."""

    @property
    def missing(self) -> int:
        return sum(each.tally.missing_count for each in self.folders)

    @property
    def repaired(self) -> int:
        return sum(each.repaired for each in self.folders)


async def audit(account: Account, ledger: Ledger, *, deadlines: Deadlines | None = None) -> Audit:
    """Compares all followed folders, on a connection of its own; files nothing, and notes what it found.

    Raises LoginRefused, NoPassword, Unreachable, Refused, TemporaryFailure.
    """
    connection = await connect(account, deadlines)
    try:
        return await _audit(connection, account, ledger)
    except ProtocolError as error:
        raise garbled(account.host, error) from error
    finally:
        await connection.logout()


async def _audit(connection: Connection, account: Account, ledger: Ledger) -> Audit:
    resolved = resolve(account.folders, await connection.folders())
    found: list[FolderAudit] = []
    missing, unopened = list(resolved.missing), list[str]()
    for folder in resolved.folders:
        try:
            opened = await connection.examine(folder)
        except Refused as error:
            if error.transient:
                raise
            (missing if error.code == "NONEXISTENT" else unopened).append(folder.name)  # RFC 5530: deleted just now
            continue
        found.append(await audit_folder(connection, account, ledger, folder, opened))
        await ledger.note_audit(account.name, folder.name, found[-1].tally.missing_count)
    return Audit(account.name, tuple(found), tuple(missing), tuple(unopened))


async def audit_folder(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, opened: Opened
) -> FolderAudit:
    """Compares the folder that is open on the connection."""
    stored = await ledger.cursor(account.name, folder.name)
    cursor = await starting(connection, account, ledger, folder, opened)
    renumbered = stored is not None and stored.uidvalidity != opened.uidvalidity
    found = Tally()
    for window in tally.windows(opened, cursor):
        seen = await _look(connection, account, ledger, folder, cursor, window)
        if seen.missing:
            seen = tally.confirmed(seen, await _look(connection, account, ledger, folder, cursor, window))
        found.add(seen)
    return FolderAudit(folder.name, opened.uidvalidity, stored.uidvalidity if stored and renumbered else None, found)


async def _look(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, cursor: FolderCursor, window: Span
) -> Tally:
    low, high = window
    end = "*" if high == tally.LAST else str(high)
    # `n:*` always brings the last message, however low its UID (RFC 9051, 6.4.8).
    on_server = sorted({uid for uid in await connection.uid_search(f"UID {low}:{end}") if low <= uid <= high})
    runs = await ledger.runs(account.name, folder.name, cursor.uidvalidity, low, high)
    found, rest = tally.matched(on_server, runs)
    recent: frozenset[int] = frozenset()
    if rest and rest[0] <= cursor.before_since and cursor.since is not None:
        wanted = f"UID {low}:{min(high, cursor.before_since)} SINCE {sync.imap_date(cursor.since)}"
        recent = frozenset(await connection.uid_search(wanted))
    return tally.judged(found, rest, recent, cursor)

"""Mail as a door hands it over: bytes and where they came from, nothing parsed.

Both doors and `ingest` know these values; so neither needs to know the other.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fetched:
    """One message that an IMAP FETCH brought."""

    uid: int
    headers: bytes
    """The header fields (BODY.PEEK[HEADER.FIELDS (...)]) or the whole header block, raw."""
    raw: bytes | None
    """The whole message with `store = "full"`, else None."""
    received_at: datetime
    """INTERNALDATE, UTC."""
    size: int
    """RFC822.SIZE, bytes."""


@dataclass(frozen=True, slots=True)
class FolderCursor:
    """How far a folder has been read. Moves only in the transaction that files what was read."""

    uidvalidity: int
    top: int
    """Every UID up to here is accounted for, but those that the first sync has still to fetch (`bottom`)."""
    bottom: int
    """The first sync goes downwards: wanted UIDs below this one are still to be fetched. 0: it is done."""
    since: date | None
    """The first sync goes back to this date (INTERNALDATE), fixed when it began; None: everything."""
    before_since: int
    """UIDs up to here that have no occurrence lie before `since`: filtered, reason `before_since`. 0: none."""

    @property
    def first_sync_done(self) -> bool:
        return self.bottom == 0


@dataclass(frozen=True, slots=True)
class FolderBatch:
    """What one FETCH brought, and where the folder's cursor stands once it is filed."""

    mailbox: str
    folder: str
    """The folder's name, decoded from modified UTF-7."""
    cursor: FolderCursor
    messages: tuple[Fetched, ...] = ()
    gone: tuple[int, ...] = ()
    """UIDs that the server announced or that we stored, and that it no longer has (expunged)."""
    first_sync: bool = False
    """This batch is a chunk of the folder's first sync (linking.md L26): what it decides is provisional."""


class Ledger(Protocol):
    """What the IMAP door asks of the house. `app` hands it over; a test hands a list."""

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        """Where the folder stands; None if it was never read."""

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        """UIDs in low..high that have a disposition: stored, filtered or quarantined."""

    async def file(self, batch: FolderBatch) -> None:
        """Files a batch and moves the cursor, in one transaction; returns when it is durable.

        Raises TemporaryFailure when nothing was filed and the same batch may be tried again.
        """


@dataclass(frozen=True, slots=True)
class Received:
    """One SMTP transaction: envelope and bytes, as they came after DATA."""

    sender: str
    """MAIL FROM, "" for the null sender."""
    recipients: tuple[str, ...]
    """RCPT TO, in their order, as given."""
    raw: bytes
    """The message with dots unstuffed and CRLF line ends, without a Received field of ours."""
    received_at: datetime
    client_address: str = ""
    helo: str = ""
    tls: bool = False


class TemporaryFailure(Exception):
    """The world's fault (database, disk): nothing was kept, and trying again later may help."""


class NoSpace(TemporaryFailure):
    """The disk is full or nearly so."""

"""Mail as a door hands it over: bytes and where they came from, nothing parsed.

Both doors and `ingest` know these values; so neither needs to know the other.
"""

import zlib
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple, Protocol

from maillinkd.mail.message import Message
from maillinkd.mail.verdict import Verdict


@dataclass(frozen=True, slots=True)
class GmailMarks:
    """What Gmail alone says of a message (X-GM-EXT-1)."""

    message_id: int
    """X-GM-MSGID: the same in every folder, unsigned, 64 bits."""
    thread_id: int
    """X-GM-THRID: Gmail's own conversation, a hint at most. 0: not given."""
    labels: tuple[str, ...]
    """X-GM-LABELS, decoded, in the server's order; those of the system begin with a backslash ("\\Inbox")."""

    @property
    def is_draft(self) -> bool:
        """All Mail holds drafts too, each version anew; what is sent in the end is a message of its own."""
        return any(label.lower() in ("\\draft", "\\drafts") for label in self.labels)


class Fetched(NamedTuple):
    """One message that an IMAP FETCH brought. A tuple, for a first sync makes one for each message."""

    uid: int
    headers: bytes
    """The header fields (BODY.PEEK[HEADER.FIELDS (...)]) or the whole header block, raw."""
    raw: bytes | None
    """The whole message with `store = "full"`, else None."""
    received_at: datetime
    """INTERNALDATE, UTC."""
    size: int
    """RFC822.SIZE, bytes."""
    gmail: GmailMarks | None = None
    """None elsewhere."""


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
    stand: "Stand | None" = field(default=None, compare=False)
    """A memory beside the position, kept by `Ledger.settled`: None if the folder was never read to the end."""

    @property
    def first_sync_done(self) -> bool:
        return self.bottom == 0


@dataclass(frozen=True, slots=True)
class Stand:
    """How a folder stood on the server when it was last read to the end: what the next look is held against."""

    uidvalidity: int
    uidnext: int | None
    messages: int
    modseq: int | None
    """HIGHESTMODSEQ (RFC 7162), None where the server keeps none."""
    gone_marked: bool
    """What was expunged until then is marked as gone."""
    compared_at: datetime
    """When every UID on the server was last compared with the ledger, UTC."""


class Packed(NamedTuple):
    """A whole message as it is to be stored."""

    sha256: bytes
    size: int
    beginning: bytes
    """Compressed by zlib; all of it, unless it is large."""
    large: bytes | None
    """The message as it came, where it is large: what follows the beginning is compressed when it is stored."""

    @property
    def weight(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.beginning) + len(self.large or b"")

    def unpacked(self) -> bytes:
        """The message as it came."""
        return zlib.decompress(self.beginning) if self.large is None else self.large


class Parsed(NamedTuple):
    """What was made of a message on its way to be filed."""

    fetched: Fetched
    """As it came, but for its bytes where they are packed."""
    message: Message | str
    """Or why it cannot be read."""
    packed: Packed | None
    """None where the whole message is not there."""


@dataclass(frozen=True, slots=True)
class FolderBatch:
    """What FETCH brought, once or several times, and where the folder's cursor stands once it is filed."""

    mailbox: str
    folder: str
    """The folder's name, decoded from modified UTF-7."""
    cursor: FolderCursor
    messages: tuple[Fetched, ...] = ()
    """Ascending, for each FETCH."""
    gone: tuple[int, ...] = ()
    """UIDs that the server announced or that we stored, and that it no longer has (expunged)."""
    first_sync: bool = False
    """This batch is a chunk of the folder's first sync (linking.md L26): what it decides is provisional."""
    reading: Awaitable[Sequence[Parsed]] | None = field(default=None, compare=False)
    """What `Ledger.begin_reading` gave for these messages, which then say no more; None where nobody asked it."""


GONE = "gone"
"""The disposition of UIDs that the server no longer has, or lists and does not give."""
LOST = "lost"
"""What an audit calls UIDs that are marked as stored, and whose message is not there."""


@dataclass(frozen=True, slots=True)
class Run:
    """UIDs from `low` to `high`, both included, that share a disposition: stored, quarantined, gone, filtered:…"""

    low: int
    high: int
    disposition: str


class Ledger(Protocol):
    """What the IMAP door asks of the house. `app` hands it over; a test hands a list."""

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        """Where the folder stands; None if it was never read."""

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        """UIDs in low..high that have a disposition: stored, filtered or quarantined."""

    def begin_reading(self, messages: Sequence[Fetched]) -> Awaitable[Sequence[Parsed]] | None:
        """Begins to parse and to pack messages that are about to be filed, while others are fetched or filed."""

    async def file(self, batch: FolderBatch) -> None:
        """Files a batch and moves the cursor, in one transaction; returns when it is durable.

        Raises TemporaryFailure when nothing was filed and the same batch may be tried again.
        """

    async def settled(self, mailbox: str, folder: str, stand: Stand) -> None:
        """Keeps how a folder stood that is read to the end; `cursor` gives it back. Raises TemporaryFailure."""

    async def runs(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Sequence[Run]:
        """What became of the UIDs in low..high, ascending; `LOST` for what should be stored and is not."""

    async def note_audit(self, mailbox: str, folder: str, missing: int) -> None:
        """Keeps for `status` that a folder was audited now, and how many UIDs are missing."""


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
    """Of the client; behind a trusted relay of the one that it names, if it names one."""
    helo: str = ""
    tls: bool = False
    relay: str = ""
    """The trusted relay that brought it, whose Authentication-Results may be believed; "" for all others."""
    verdict: Verdict | None = None
    """What the check of its author came to, where that was made already."""


class TemporaryFailure(Exception):
    """The world's fault (database, disk): nothing was kept, and trying again later may help."""


class NoSpace(TemporaryFailure):
    """The disk is full or nearly so."""


class Damaged(TemporaryFailure):
    """The database file is damaged. Whoever waits may try again once the admin has put another in its place."""


class DiskFailed(TemporaryFailure):
    """The disk did not take what was to be made durable. What the system holds in memory may not be what is on disk:
    the process has to start anew."""

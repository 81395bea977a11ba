"""One open folder, read: searched, fetched in chunks, nothing filed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from maillinkd.imap import sync
from maillinkd.imap.account import Account
from maillinkd.imap.client import LARGEST, PIECE, Connection
from maillinkd.imap.errors import ImapError, Unreachable
from maillinkd.imap.folders import Folder
from maillinkd.imap.response import ProtocolError, TooLarge
from maillinkd.imap.sync import Chunk, Opened
from maillinkd.mail.delivery import Fetched, FolderCursor, Ledger

CHUNK = 500
"""Messages whose headers are fetched together."""
CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of whole messages that are fetched together."""
SLICE = 20.0
"""Seconds that one folder's first sync may take before the others are looked at."""
MARKED = 5_000
"""UIDs that are reported gone together."""
HEADERS_MOST = 256 * 1024
"""Bytes of header fields that are taken of a message that broke a FETCH."""
_PATIENCE = 9
"""How often a FETCH for one message alone may end the connection before less of it is asked for."""
_REFUSAL = 3
"""What an answer that is NO or garbage counts against `_PATIENCE`: networks break, answers are meant."""
_LOOK_AGAIN = (0.0, 1.0, 1.7)
"""Seconds to wait before asking again for a message that the server lists and does not give (replicas lag)."""

_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Brought:
    """What one FETCH brought, not yet filed. Without a chunk: UIDs that are gone, and nothing else."""

    chunk: Chunk | None
    messages: tuple[Fetched, ...] = ()
    gone: tuple[int, ...] = ()


class Trouble:
    """What is remembered, across connections, of FETCHes that broke: one message must not stop a mailbox.

    After a break fewer messages are fetched together, until the one that breaks the connection (or is refused, or is
    too large) is alone. When that goes on, its header fields alone are asked for, in the end nothing.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._broke: dict[tuple[str, int], int] = {}
        self._withheld: set[tuple[str, int]] = set()

    def new_connection(self) -> None:
        """What one connection did not give, another may."""
        self._withheld.clear()

    def renumbered(self, folder: str) -> None:
        """UIDVALIDITY changed: the UIDs that broke are other messages now."""
        self._broke = {key: count for key, count in self._broke.items() if key[0] != folder}

    def withheld(self, folder: str, uid: int) -> bool:
        """The server lists this message and does not give it."""
        return (folder, uid) in self._withheld

    def withhold(self, folder: str, uids: Iterable[int]) -> None:
        self._withheld.update((folder, uid) for uid in uids)

    def chunk(self, folder: str) -> int:
        """How many messages to fetch together."""
        return self._sizes.get(folder, CHUNK)

    def careful(self, folder: str) -> bool:
        """Something broke a moment ago: headers are taken only so far."""
        return self._sizes.get(folder) == 1

    def headers_only(self, folder: str, uid: int) -> bool:
        """The whole message could not be had."""
        return self._broke.get((folder, uid), 0) >= _PATIENCE

    def unreadable(self, folder: str, uid: int, *, whole: bool) -> bool:
        """Nothing of the message could be had; `whole`: whole messages are wanted, so headers were tried after."""
        return self._broke.get((folder, uid), 0) >= _PATIENCE + (_REFUSAL if whole else 0)

    @contextmanager
    def watching(self, folder: str, uids: Sequence[int]) -> Iterator[None]:
        """Around a FETCH: notes how it went."""
        try:
            yield
        except (ImapError, ProtocolError) as error:
            if not (isinstance(error, ImapError) and error.retry_after):
                self._note(folder, uids, 1 if isinstance(error, Unreachable) else _REFUSAL)
            raise
        size = self._sizes.get(folder)
        if size is not None:
            self._sizes[folder] = size * 2
            if size * 2 >= CHUNK:
                del self._sizes[folder]

    def _note(self, folder: str, uids: Sequence[int], weight: int) -> None:
        self._sizes[folder] = max(1, len(uids) // 8)
        if len(uids) == 1:
            key = (folder, uids[0])
            self._broke[key] = self._broke.get(key, 0) + weight


async def starting(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, opened: Opened
) -> FolderCursor:
    """Where to go on in a folder that was just opened."""
    highest = 0
    if opened.uidnext is None and opened.exists:
        highest = max(await connection.uid_search("UID *"), default=0)
    return sync.starting(await ledger.cursor(account.name, folder.name), opened, highest, account.since)


async def first_chunks(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, cursor: FolderCursor, size: int
) -> list[Chunk]:
    """What the first sync has still to fetch; nothing when it is done."""
    if cursor.first_sync_done:
        return []
    criteria = sync.first_criteria(cursor)
    found = await connection.uid_search(criteria) if criteria else []
    known = await ledger.known_uids(account.name, folder.name, cursor.uidvalidity, 1, max(1, cursor.bottom - 1))
    return list(sync.downwards(found, known, cursor, size))


class Reading:
    """One look at the folder that is open on a connection. Batches come in the order to file them."""

    def __init__(
        self,
        connection: Connection,
        account: Account,
        ledger: Ledger,
        fields: Sequence[str],
        trouble: Trouble,
        expect: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._account = account
        self._ledger = ledger
        self._fields = fields
        self._trouble = trouble
        self._expect = expect
        """Told how many messages were found, before they are fetched."""
        self._on_the_way: set[int] = set()
        """UIDs that were brought and may not be filed yet."""
        self.finished = True
        """False after `batches`: the first sync is to be gone on with later."""

    async def batches(self, folder: Folder, cursor: FolderCursor, *, compare: bool) -> AsyncIterator[Brought]:
        """New mail, then the first sync, newest first, for a `SLICE`; new mail also in between, when it is announced.

        With `compare`, and when the server said that mail went, and if the account wants it marked: what is gone.
        """
        async for brought in self._new(folder, cursor):
            cursor = _after(cursor, brought)
            yield brought
        async for brought in self._first(folder, cursor):
            cursor = _after(cursor, brought)
            yield brought
        if self._account.expunged == "mark" and (self._connection.take_expunged() or compare):
            async for brought in self._vanished(folder, cursor):
                yield brought

    async def _new(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        """What is above `top`, and what became visible below it meanwhile."""
        connection = self._connection
        connection.notice()
        found = await connection.uid_search(sync.new_criteria(cursor))
        criteria = sync.old_tail_criteria(cursor)
        old = await connection.uid_search(criteria) if criteria else []
        late = await self._late(folder, cursor, sync.seen_again(found, old, cursor))
        new = sync.above(found, cursor)
        self._expect(len(new) + len(late))
        size = self._trouble.chunk(folder.name)
        for chunk in (*sync.upwards(new, size), *sync.upwards(late, size, sync.Direction.LATE)):
            async for brought in self._fetch(folder, chunk):
                yield brought

    async def _late(self, folder: Folder, cursor: FolderCursor, seen: Sequence[int]) -> list[int]:
        """Those of `seen` that nobody accounted for."""
        unsure = [uid for uid in seen if uid not in self._on_the_way and not self._trouble.withheld(folder.name, uid)]
        if not unsure:
            return []
        known = await self._ledger.known_uids(
            self._account.name, folder.name, cursor.uidvalidity, unsure[0], unsure[-1]
        )
        return sorted(set(unsure).difference(known))

    async def _first(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        size = self._trouble.chunk(folder.name)
        chunks = await first_chunks(self._connection, self._account, self._ledger, folder, cursor, size)
        self._expect(sum(len(chunk.uids) for chunk in chunks))
        loop = asyncio.get_running_loop()
        end = loop.time() + SLICE
        for at, chunk in enumerate(chunks):
            if at and loop.time() > end:
                self.finished = False
                return
            if self._connection.changed:
                async for brought in self._new(folder, cursor):
                    cursor = _after(cursor, brought)
                    yield brought
            async for brought in self._fetch(folder, chunk):
                cursor = _after(cursor, brought)
                yield brought

    async def _vanished(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        """What we have and the server no longer has, at or above `bottom`."""
        on_server = await self._connection.uid_search("ALL")
        known = await self._ledger.known_uids(self._account.name, folder.name, cursor.uidvalidity, 1, cursor.top)
        gone = sync.vanished(known, {*on_server, *self._on_the_way}, cursor)
        for at in range(0, len(gone), MARKED):
            yield Brought(None, gone=tuple(gone[at : at + MARKED]))

    async def _fetch(self, folder: Folder, chunk: Chunk) -> AsyncIterator[Brought]:
        """A chunk's messages, in one batch, or in several where whole messages are wanted."""
        chunks: Sequence[Chunk] = [chunk]
        sizes: dict[int, int] = {}
        readable = [uid for uid in chunk.uids if not self._unreadable(folder, uid)]
        if self._account.store == "full" and readable:
            with self._trouble.watching(folder.name, readable):
                sizes = await self._connection.fetch_sizes(readable)
            sizes |= {uid: LARGEST + 1 for uid in readable if self._trouble.headers_only(folder.name, uid)}
            chunks = list(sync.parts(chunk, by_size(chunk.uids, sizes)))
        for part in chunks:
            wanted = [uid for uid in part.uids if not self._unreadable(folder, uid)]
            given_up = sorted(set(part.uids).difference(wanted))
            messages = [Fetched(uid, b"", None, _UNKNOWN_TIME, 0) for uid in given_up]
            gone: list[int] = []
            if wanted:
                brought, gone = await self._messages(folder, wanted, sizes)
                messages += brought
            self._on_the_way.update(part.uids)
            yield Brought(part, tuple(sorted(messages, key=lambda message: message.uid)), tuple(gone))

    def _unreadable(self, folder: Folder, uid: int) -> bool:
        return self._trouble.unreadable(folder.name, uid, whole=self._account.store == "full")

    async def _messages(
        self, folder: Folder, uids: Sequence[int], sizes: dict[int, int]
    ) -> tuple[list[Fetched], list[int]]:
        """The messages, and the UIDs that are gone: the server no longer lists them, or does not give them."""
        with self._trouble.watching(folder.name, uids):
            messages = await self._take(folder, uids, sizes)
            missing = sorted(set(uids).difference(message.uid for message in messages))
            for pause in _LOOK_AGAIN:
                if not missing:
                    break
                await asyncio.sleep(pause)
                listed = set(await self._connection.uid_search(f"UID {sync.sequence_set(missing)}"))
                there = [uid for uid in missing if uid in listed]
                if not there:
                    break
                messages += await self._take(folder, there, sizes)
                missing = sorted(set(uids).difference(message.uid for message in messages))
        self._trouble.withhold(folder.name, missing)
        return messages, missing

    async def _take(self, folder: Folder, uids: Sequence[int], sizes: dict[int, int]) -> list[Fetched]:
        connection = self._connection
        most = HEADERS_MOST if self._trouble.careful(folder.name) else 0
        expected = sum(sizes.get(uid, 0) for uid in uids)
        if self._account.store == "headers" or expected > LARGEST:
            return await connection.fetch_headers(uids, self._fields, most)
        if len(uids) > 1 or expected <= PIECE:
            return await connection.fetch_whole(uids, expected)
        try:
            message = await connection.fetch_pieces(uids[0])
        except TooLarge:
            return await connection.fetch_headers(uids, self._fields, HEADERS_MOST)
        return [message] if message else []


def by_size(uids: Sequence[int], sizes: dict[int, int]) -> list[list[int]]:
    """Ascending runs of UIDs of at most `CHUNK_BYTES` together; a message larger than `PIECE` is alone."""
    groups: list[list[int]] = []
    room = 0
    for uid in uids:
        size = sizes.get(uid, 0)
        if groups and size <= min(room, PIECE):
            groups[-1].append(uid)
        else:
            groups.append([uid])
            room = CHUNK_BYTES
        room = -1 if size > PIECE else room - size
    return groups


def _after(cursor: FolderCursor, brought: Brought) -> FolderCursor:
    return sync.moved(cursor, brought.chunk) if brought.chunk else cursor

"""One open folder, read: searched, fetched in chunks, nothing filed.

Several chunks are on their way at a time, so that the next one comes in while this one is filed. How many, and how
many bytes of them, is bounded: whatever the mailbox holds, the memory does not.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from maillinkd.imap import fetch, resync, sync
from maillinkd.imap.account import Account
from maillinkd.imap.client import Connection
from maillinkd.imap.errors import ImapError, Unreachable
from maillinkd.imap.fetch import LARGEST, PIECE
from maillinkd.imap.folders import Folder
from maillinkd.imap.response import ProtocolError, TooLarge
from maillinkd.imap.sync import Chunk, Opened
from maillinkd.mail.delivery import Fetched, FolderCursor, Ledger, Parsed

CHUNK = 2_000
"""Messages whose headers are fetched together."""
BEGIN = 250
"""How many a first sync begins with: they are there at once, and the rest comes in while they are filed."""
CHUNK_BYTES = 2 * 1024 * 1024
"""Bytes of whole messages that are fetched together."""
WINDOW = 12
"""Batches that are on their way or came and are not filed yet, together."""
WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes that these may have: by the sizes that the server gives, then as packed. A message that has more is there
alone."""
_HEADERS_EXPECTED = 1_300
"""Bytes of header fields that a message is expected to have."""
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

T = TypeVar("T")

Allows = Callable[[int, bool], bool]
"""Whether so many bytes may be fetched today (the second: of old mail, which comes after new mail)."""


@dataclass(slots=True)
class Brought:
    """What one FETCH brought, not yet filed. Without a chunk: UIDs that are gone, and nothing else.

    `Reading.filed` takes its messages away: whoever still holds it, holds no mail.
    """

    chunk: Chunk | None
    messages: tuple[Fetched, ...] = ()
    gone: tuple[int, ...] = ()
    weight: int = 0
    """Bytes that it may hold: by the sizes that the server gave, or as packed (`Reading.parsed`)."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one FETCH is to bring, and what it may weigh in memory until it is filed."""

    chunk: Chunk
    wanted: tuple[int, ...]
    """Those of the chunk's UIDs that are not given up."""
    sizes: dict[int, int]
    weight: int


@dataclass(frozen=True, slots=True)
class _OnItsWay:
    part: _Part
    messages: asyncio.Task[tuple[list[Fetched], list[int]]]
    """Those that came, and the UIDs that are gone."""


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

    def withholds(self, folder: str) -> bool:
        """The server lists messages of this folder that it does not give."""
        return any(name == folder for name, _ in self._withheld)

    def withhold(self, folder: str, uids: Iterable[int]) -> None:
        self._withheld.update((folder, uid) for uid in uids)

    def chunk(self, folder: str) -> int:
        """How many messages to fetch together."""
        return self._sizes.get(folder, CHUNK)

    def any(self, folder: str) -> bool:
        """Something broke a moment ago: one FETCH at a time, so that it is known which one breaks."""
        return folder in self._sizes

    def careful(self, folder: str) -> bool:
        """A message is being looked for that breaks: headers are taken only so far."""
        return self._sizes.get(folder) == 1

    def blames(self, folder: str) -> bool:
        """There are messages that broke a FETCH."""
        return any(blamed == folder for blamed, _ in self._broke)

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
            self.blame(folder, uids, error)
            raise
        size = self._sizes.get(folder)
        if size is not None:
            self._sizes[folder] = size * 2
            if size * 2 >= CHUNK:
                del self._sizes[folder]

    def blame(self, folder: str, uids: Sequence[int], error: ImapError | ProtocolError) -> None:
        """A FETCH for these messages broke."""
        if isinstance(error, ImapError) and error.retry_after:
            return
        weight = 1 if isinstance(error, Unreachable) else _REFUSAL
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
    return list(sync.downwards(found, known, cursor, size, BEGIN))


class Reading:
    """One look at the folder that is open on a connection. Batches come in the order to file them.

    Each batch is to be given back with `filed` once it is: what came and is not filed bounds what is fetched ahead.
    """

    def __init__(
        self,
        connection: Connection,
        account: Account,
        ledger: Ledger,
        fields: Sequence[str],
        trouble: Trouble,
        expect: Callable[[int], None],
        allows: Allows = lambda octets, old: True,
    ) -> None:
        self._connection = connection
        self._account = account
        self._ledger = ledger
        self._fields = fields
        self._trouble = trouble
        self._expect = expect
        """Told how many messages were found, before they are fetched."""
        self._allows = allows
        self._on_the_way: set[int] = set()
        """UIDs that were brought and may not be filed yet."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unfiled = 0
        """Batches that came and are not filed yet."""
        self._unfiled_bytes = 0
        self._room = asyncio.Event()
        self._marks = account.expunged == "mark"
        self.finished = True
        """False after `batches`: it is to be gone on with later."""
        self.held: tuple[int, bool] | None = None
        """What it was not allowed to fetch now, as it was asked for; then it is not `finished` either."""
        self.found = 0
        """How many UIDs were found that nobody had accounted for, those of the first sync not counted."""
        self.gone = 0
        """How many UIDs are to be marked as gone."""
        self.first = 0
        """How many messages the first sync had still to fetch when it was looked."""

    async def batches(self, folder: Folder, cursor: FolderCursor, *, compare: bool) -> AsyncGenerator[Brought, None]:
        """New mail, then the first sync, newest first, for a `SLICE`; new mail also in between, when it is announced.

        With `compare`, once the first sync is done, every UID: what became visible late, wherever. And, if the
        account wants it marked, what is gone: by comparison, else as far as the server names it (QRESYNC).
        Is to be closed (`contextlib.aclosing`) if it is left early: what is on its way takes the connection with it.
        """
        try:
            async for brought in self._batches(folder, cursor, compare=compare):
                yield brought
        finally:
            await self._stop()

    async def _batches(self, folder: Folder, cursor: FolderCursor, *, compare: bool) -> AsyncIterator[Brought]:
        async for brought in self._new(folder, cursor):
            cursor = _after(cursor, brought)
            yield brought
        if not cursor.first_sync_done and not self._allows(0, True):
            self._hold(0, old=True)
        if not self.held:
            async for brought in self._first(folder, cursor):
                cursor = _after(cursor, brought)
                yield brought
        rest = None
        if compare and self.finished:
            rest = self._compare(folder, cursor)
        elif self._marks:
            rest = self._named(folder, cursor)
        if rest is not None:
            async for brought in rest:
                yield brought

    async def missing(self, folder: Folder, uids: Sequence[int]) -> AsyncGenerator[Brought, None]:
        """What an audit missed, ascending, wherever it lies: it moves no end of the cursor. Closed as `batches`."""
        self._expect(len(uids))
        chunks = deque(sync.upwards(uids, self._trouble.chunk(folder.name), sync.Direction.LATE))
        try:
            async for brought in self._fetch(folder, chunks, old=True):
                yield brought
        finally:
            await self._stop()

    async def _new(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        """What is above `top`, and what became visible below it meanwhile."""
        connection = self._connection
        connection.news.notice()
        found = await connection.uid_search(sync.new_criteria(cursor))
        criteria = sync.old_tail_criteria(cursor)
        old = await connection.uid_search(criteria) if criteria else []
        late = await self._late(folder, cursor, sync.seen_again(found, old, cursor))
        new = sync.above(found, cursor)
        self._expect(len(new) + len(late))
        self.found += len(new) + len(late)
        size = self._trouble.chunk(folder.name)
        chunks = deque((*sync.upwards(new, size), *sync.upwards(late, size, sync.Direction.LATE)))
        async for brought in self._fetch(folder, chunks):
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
        chunks = deque(await first_chunks(self._connection, self._account, self._ledger, folder, cursor, size))
        self.first = sum(len(chunk.uids) for chunk in chunks)
        self._expect(self.first)
        loop = asyncio.get_running_loop()
        end = loop.time() + SLICE

        def go_on() -> bool:
            return loop.time() <= end and not self._connection.news.changed

        while chunks:
            async for brought in self._fetch(folder, chunks, go_on, old=True):
                cursor = _after(cursor, brought)
                yield brought
            if self._connection.news.changed:
                async for brought in self._new(folder, cursor):
                    cursor = _after(cursor, brought)
                    yield brought
            if self.held:
                return
            if chunks and loop.time() > end:
                self.finished = False
                return

    async def _compare(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        """Every UID up to `top`: what nobody accounted for, and what the server no longer has."""
        on_server = await self._connection.all_uids()
        criteria = sync.wanted_old_criteria(cursor)
        wanted = set(await self._connection.uid_search(criteria) if criteria else ())
        late: list[int] = []
        gone: list[int] = []
        for low, high, there in resync.windows(on_server, cursor.top):
            known = await self._ledger.known_uids(self._account.name, folder.name, cursor.uidvalidity, low, high)
            gone += sorted(set(known).difference(there))
            unknown = set(there).difference(known, self._on_the_way)
            late += sorted(uid for uid in unknown if uid > cursor.before_since or uid in wanted)
        late = [uid for uid in late if not self._trouble.withheld(folder.name, uid)]
        self.found += len(late)
        async for brought in self.missing(folder, late):
            yield brought
        for brought in self._all_gone(gone if self._marks else ()):
            yield brought

    async def _named(self, folder: Folder, cursor: FolderCursor) -> AsyncIterator[Brought]:
        """What we have, and the server said that it went (RFC 7162, 3.2.10)."""
        ranges = self._connection.news.take_vanished()
        known: set[int] = set()
        for low, high in resync.questions(ranges, cursor.top):
            known.update(
                await self._ledger.known_uids(self._account.name, folder.name, cursor.uidvalidity, low, high)
            )
        for brought in self._all_gone(sorted(resync.within(known, ranges))):
            yield brought

    def _all_gone(self, uids: Sequence[int]) -> Iterator[Brought]:
        self.gone += len(uids)
        for at in range(0, len(uids), MARKED):
            yield Brought(None, gone=tuple(uids[at : at + MARKED]))

    async def _fetch(
        self, folder: Folder, chunks: deque[Chunk], go_on: Callable[[], bool] = lambda: True, *, old: bool = False
    ) -> AsyncIterator[Brought]:
        """What `chunks` say, in their order, taken from them as they are begun; one at least, then while `go_on`.

        Ends as `held` before what is not allowed now.
        """
        window: deque[_OnItsWay] = deque()
        parts = self._parts(folder, chunks, go_on)
        following: _Part | None = None
        more = True
        while True:
            allowed = True
            while more and allowed and self._has_room(folder, window, following):
                if following is None:
                    following = await self._next_part(folder, parts, window, chunks)
                    more = following is not None
                elif not self._allows(following.weight + sum(each.part.weight for each in window), old):
                    allowed = False
                else:
                    window.append(_OnItsWay(following, self._start(self._messages(folder, following))))
                    following = None
            if window:
                brought = await self._brought(folder, window.popleft())
                self._unfiled += 1
                self._unfiled_bytes += brought.weight
                yield brought
            elif following is not None and not allowed:
                self._hold(following.weight, old=old)
                await asyncio.gather(*self._tasks, return_exceptions=True)  # sizes, asked for ahead
                return
            elif more:
                self._room.clear()
                await self._room.wait()
            else:
                return

    def _hold(self, octets: int, *, old: bool) -> None:
        self.held = self.held or (octets, old)
        self.finished = False

    def parsed(self, brought: Brought, mails: Sequence[Parsed]) -> None:
        """The messages were parsed, and weigh less where they are packed now: more may come in."""
        brought.messages = tuple(each.fetched for each in mails)
        if any(each.packed is not None for each in mails):
            weight = sum(len(each.fetched.headers) + (each.packed.weight if each.packed else 0) for each in mails)
            self._unfiled_bytes += weight - brought.weight
            brought.weight = weight
            self._room.set()

    def filed(self, brought: Brought) -> None:
        """What was brought is out of the memory, and something else may come in."""
        if brought.chunk is not None:
            self._unfiled -= 1
            self._unfiled_bytes -= brought.weight
            self._on_the_way.difference_update(brought.chunk.uids)
            self._room.set()
        brought.messages = ()

    def _has_room(self, folder: Folder, window: deque[_OnItsWay], part: _Part | None) -> bool:
        """Whether one more may be on its way: `part`, or one that is still to be looked for."""
        if window and self._trouble.any(folder.name):
            return False
        here = len(window) + self._unfiled
        weight = sum(each.part.weight for each in window) + self._unfiled_bytes + (part.weight if part else 0)
        return not here or (here < WINDOW and weight <= WINDOW_BYTES)

    async def _next_part(
        self, folder: Folder, parts: AsyncIterator[_Part], window: deque[_OnItsWay], chunks: deque[Chunk]
    ) -> _Part | None:
        """None after the last. Whatever breaks meanwhile, the oldest FETCH on its way is blamed for it."""
        blamed = window[0].part.wanted if window else chunks[0].uids if chunks else ()
        try:
            return await anext(parts, None)
        except (ImapError, ProtocolError) as error:
            self._trouble.blame(folder.name, blamed, error)
            raise

    async def _parts(self, folder: Folder, chunks: deque[Chunk], go_on: Callable[[], bool]) -> AsyncIterator[_Part]:
        """What to fetch together: a chunk, or parts of it by their sizes, which are asked for one chunk ahead."""
        asked: deque[asyncio.Task[dict[int, int]]] = deque()
        begun = False
        while chunks and (go_on() or not begun):
            begun = True
            if self._account.store == "headers":
                chunk = chunks.popleft()
                wanted = self._readable(folder, chunk)
                yield _Part(chunk, wanted, {}, _HEADERS_EXPECTED * len(wanted))
                continue
            ahead = 1 if self._trouble.any(folder.name) else 2
            while len(asked) < min(ahead, len(chunks)):
                asked.append(self._start(self._sizes(folder, chunks[len(asked)])))
            sizes = await asked.popleft()
            chunk = chunks.popleft()
            for part in sync.parts(chunk, by_size(chunk.uids, sizes) or [[]]):  # an empty one may be the last
                wanted = self._readable(folder, part)
                yield _Part(part, wanted, sizes, sum(sizes.get(uid, 0) for uid in wanted))

    async def _sizes(self, folder: Folder, chunk: Chunk) -> dict[int, int]:
        """Bytes by UID; more than `LARGEST` for a message that is known not to be had whole."""
        wanted = self._readable(folder, chunk)
        sizes = await fetch.sizes(self._connection, wanted) if wanted else {}
        return sizes | {uid: LARGEST + 1 for uid in wanted if self._trouble.headers_only(folder.name, uid)}

    async def _brought(self, folder: Folder, coming: _OnItsWay) -> Brought:
        part = coming.part
        with self._trouble.watching(folder.name, part.wanted):
            messages, gone = await coming.messages
        self._trouble.withhold(folder.name, gone)
        given_up = set(part.chunk.uids).difference(part.wanted)
        messages += [Fetched(uid, b"", None, _UNKNOWN_TIME, 0) for uid in given_up]
        self._on_the_way.update(part.chunk.uids)
        ascending = tuple(sorted(messages, key=lambda message: message.uid))
        return Brought(part.chunk, ascending, tuple(gone), part.weight)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits for it any more

    async def _stop(self) -> None:
        """Ends what is on its way, if this look ends before it came."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _readable(self, folder: Folder, chunk: Chunk) -> tuple[int, ...]:
        if not self._trouble.blames(folder.name):
            return chunk.uids
        return tuple(uid for uid in chunk.uids if not self._unreadable(folder, uid))

    def _unreadable(self, folder: Folder, uid: int) -> bool:
        return self._trouble.unreadable(folder.name, uid, whole=self._account.store == "full")

    async def _messages(self, folder: Folder, part: _Part) -> tuple[list[Fetched], list[int]]:
        """The messages, and the UIDs that are gone: the server no longer lists them, or does not give them."""
        uids = part.wanted
        messages = await self._take(folder, uids, part.sizes) if uids else []
        missing = sorted(set(uids).difference(message.uid for message in messages))
        for pause in _LOOK_AGAIN:
            if not missing:
                break
            await asyncio.sleep(pause)
            listed = set(await self._connection.uid_search(f"UID {sync.sequence_set(missing)}"))
            there = [uid for uid in missing if uid in listed]
            if not there:
                break
            messages += await self._take(folder, there, part.sizes)
            missing = sorted(set(uids).difference(message.uid for message in messages))
        return messages, missing

    async def _take(self, folder: Folder, uids: Sequence[int], sizes: dict[int, int]) -> list[Fetched]:
        connection = self._connection
        most = HEADERS_MOST if self._trouble.careful(folder.name) else 0
        expected = sum(sizes.get(uid, 0) for uid in uids)
        if self._account.store == "headers" or expected > LARGEST:
            return await fetch.headers(connection, uids, self._fields, most)
        if len(uids) > 1 or expected <= PIECE:
            return await fetch.whole(connection, uids, expected)
        try:
            message = await fetch.pieces(connection, uids[0])
        except TooLarge:
            return await fetch.headers(connection, uids, self._fields, HEADERS_MOST)
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

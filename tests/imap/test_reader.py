"""How one folder's messages are grouped, and what is remembered of FETCHes that broke."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Literal

import pytest

from imap.ledger import ListLedger
from imap.wire import Wire, over
from maillinkd.imap import fetch, reader
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.client import Connection
from maillinkd.imap.errors import ConnectionLost, ImapError, Refused
from maillinkd.imap.folders import Folder
from maillinkd.imap.idle import idle
from maillinkd.imap.login import log_in
from maillinkd.imap.reader import CHUNK, CHUNK_BYTES, LARGEST, PIECE, WINDOW_BYTES, Brought, Reading, Trouble, by_size
from maillinkd.imap.response import ProtocolError
from maillinkd.mail.delivery import FolderBatch, FolderCursor
from system.imap_peer import FakeFolder, _in_set

MB = 1024 * 1024
GROUPS = {
    "nothing": ([], []),
    "small ones together": ([10, 20, 30], [[1, 2, 3]]),
    "up to a size": ([MB] * 5, [[1, 2], [3, 4], [5]]),
    "a large one alone": ([10, PIECE + 1, 10, 10], [[1], [2], [3, 4]]),
    "large ones": ([PIECE + 1, 5 * MB, LARGEST + 1], [[1], [2], [3]]),
    "sizes unknown": ([0, 0, 0], [[1, 2, 3]]),
    "one of unknown size after a large one": ([2 * MB, 0], [[1], [2]]),
}


@pytest.mark.parametrize(("sizes", "groups"), GROUPS.values(), ids=GROUPS.keys())
def test_whole_messages_are_fetched_by_size(sizes: list[int], groups: list[list[int]]) -> None:
    uids = list(range(1, len(sizes) + 1))

    assert by_size(uids, dict(zip(uids, sizes, strict=True))) == groups


def test_what_is_fetched_ahead_is_bounded() -> None:
    """A batch of whole messages is a few megabytes, or one message."""
    assert CHUNK_BYTES <= 4 * MB
    assert PIECE <= CHUNK_BYTES <= WINDOW_BYTES // 3
    assert WINDOW_BYTES <= 16 * MB


def broken(trouble: Trouble, uids: list[int], error: Exception) -> None:
    with pytest.raises(type(error)), trouble.watching("INBOX", uids):
        raise error


ERRORS = {
    "the connection breaks": (ConnectionLost("gone"), 9, 3),
    "NO": (Refused("FETCH", "NO", "", "no"), 3, 1),
    "garbage": (ProtocolError("garbage"), 3, 1),
}


@pytest.mark.parametrize(("error", "times", "more"), ERRORS.values(), ids=ERRORS.keys())
def test_after_a_break_fewer_are_fetched_until_the_culprit_is_alone(error: Exception, times: int, more: int) -> None:
    """Then, with more patience for networks than for answers, its headers alone are tried, then nothing."""
    trouble = Trouble()
    sizes = []
    while not trouble.unreadable("INBOX", 1, whole=True):
        size = trouble.chunk("INBOX")
        sizes.append(size)
        broken(trouble, list(range(1, size + 1)), error)
        alone = sizes.count(1)

        assert trouble.headers_only("INBOX", 1) == trouble.unreadable("INBOX", 1, whole=False) == (alone >= times)
    assert sizes == [CHUNK, CHUNK // 8, CHUNK // 64, 3] + [1] * (times + more)
    assert not trouble.headers_only("INBOX", 2)
    assert not trouble.headers_only("Sent", 1)
    assert trouble.careful("INBOX")
    assert trouble.chunk("Sent") == CHUNK


def test_after_it_went_well_more_are_fetched_again() -> None:
    trouble = Trouble()
    broken(trouble, [1], ConnectionLost("gone"))
    sizes = []
    for _ in range(12):
        with trouble.watching("INBOX", [2]):
            sizes.append(trouble.chunk("INBOX"))

    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, CHUNK]


def test_a_server_that_asks_for_time_blames_no_message() -> None:
    trouble = Trouble()
    for _ in range(20):
        broken(trouble, [1], Refused("FETCH", "NO", "THROTTLED", "Suggested Backoff Time: 1000 milliseconds"))

    assert not trouble.headers_only("INBOX", 1)


def test_renumbered_messages_are_blamed_for_nothing() -> None:
    trouble = Trouble()
    for folder in ("INBOX", "Sent"):
        for _ in range(3):
            with pytest.raises(Refused), trouble.watching(folder, [1]):
                raise Refused("FETCH", "NO", "", "no")
    trouble.renumbered("INBOX")

    assert (trouble.headers_only("INBOX", 1), trouble.headers_only("Sent", 1)) == (False, True)


def test_what_one_connection_withholds_another_may_give() -> None:
    trouble = Trouble()
    trouble.withhold("INBOX", [4])
    assert trouble.withheld("INBOX", 4)
    trouble.new_connection()

    assert not trouble.withheld("INBOX", 4)


def test_a_look_again_takes_a_few_seconds_at_most() -> None:
    """While it waits the mailbox stands still."""
    assert sum(reader._LOOK_AGAIN) < 5


# Over a wire


DEADLINES = Deadlines(connect=5, command=5, search=5, idle_done=5, logout=5)


class Look:
    """A client that comes again and again: what it filed and where it stands is all that it keeps."""

    def __init__(self, folder: FakeFolder, store: Literal["headers", "full"]) -> None:
        self.folder = folder
        self.account = Account("anna", "wire", 143, "none", "anna", "secret", folders=("INBOX",), store=store)
        self.trouble = Trouble()
        self.ledger = ListLedger()
        self.wire: Wire

    async def once(self, room: int | None = None, coming: Sequence[bytes] = ()) -> None:
        """Log in, list, examine, search, fetch, idle until mail comes, fetch that. Raises what ends it."""
        connection, self.wire = await over(self.folder, DEADLINES, room)
        try:
            self.wire.coming = list(coming)
            await connection.capability()
            await log_in(connection, self.account, None)
            await connection.identify()
            (inbox,) = await connection.folders()
            cursor = reader.sync.starting(
                self.ledger.cursors.get("INBOX"), await connection.examine(inbox), 0, self.account.since
            )
            cursor = await self._read(connection, inbox, cursor)
            while self.wire.coming:
                await idle(connection, 60)
                cursor = await self._read(connection, inbox, cursor)
            await connection.logout()
        finally:
            connection.abort()

    async def _read(self, connection: Connection, inbox: Folder, cursor: FolderCursor) -> FolderCursor:
        reading = Reading(connection, self.account, self.ledger, ("From",), self.trouble, lambda count: None)
        async with aclosing(reading.batches(inbox, cursor, compare=False)) as batches:
            async for brought in batches:
                cursor = reader.sync.moved(cursor, brought.chunk) if brought.chunk else cursor
                await self.ledger.file(FolderBatch("anna", "INBOX", cursor, brought.messages, brought.gone))
                reading.filed(brought)
        return cursor


def mailbox(*sizes: int) -> FakeFolder:
    folder = FakeFolder()
    for at, size in enumerate(sizes, 1):
        folder.append(short(at, size))
    return folder


def short(number: int, size: int = 0) -> bytes:
    return b"From: %d\r\n\r\n" % number + b"x" * size


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a few messages exceed them."""
    monkeypatch.setattr(reader, "CHUNK", 2)
    monkeypatch.setattr(reader, "CHUNK_BYTES", 150)
    for module in (reader, fetch):
        monkeypatch.setattr(module, "PIECE", 50)


@pytest.mark.usefixtures("small")
async def test_a_dialogue_cut_at_every_byte() -> None:
    """Login, list, examine, search, FETCHes one upon the other, pieces, idle: in the end all is there, once."""
    sizes, late = (10, 60, 10), [short(4)]
    whole = Look(mailbox(*sizes), "full")
    await whole.once(coming=late)
    length = whole.wire.said
    expected = {message.uid: message for batch in whole.ledger.batches for message in batch.messages}

    assert sorted(expected) == [1, 2, 3, 4]
    for room in range(length):
        look = Look(mailbox(*sizes), "full")
        with suppress(ImapError):  # LOGOUT has none
            await look.once(room, coming=late)
        await look.once(coming=late[len(look.folder.uids) - len(sizes) :])

        filed = [message for batch in look.ledger.batches for message in batch.messages]
        assert sorted(message.uid for message in filed) == sorted(expected)
        assert all(message == expected[message.uid] for message in filed)
        assert look.ledger.cursors["INBOX"] == whole.ledger.cursors["INBOX"]
    assert length > 1_000


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("store", ["headers", "full"])
async def test_fetches_are_sent_before_others_are_answered(store: Literal["headers", "full"]) -> None:
    """The server that answers only when the next one is asked never waits; batches come in their order."""
    look = Look(mailbox(*[10] * 7), store)
    answer = Wire._answer
    held: list[str] = []

    def hold_back(wire: Wire, line: str) -> None:
        if "UID FETCH" in line:
            held.append(line)
            last = "BODY" in line and 1 in _in_set(line.split(" ")[3], look.folder.uids)
            if len(held) < 2 and not last:
                return
            line = held.pop(0)
        answer(wire, line)
        if "UID FETCH" not in line:
            return
        while held and "BODY" in held[0] and 1 in _in_set(held[0].split(" ")[3], look.folder.uids):
            answer(wire, held.pop(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "_answer", hold_back)
        async with asyncio.timeout(5):
            await look.once()

    batches = [[message.uid for message in batch.messages] for batch in look.ledger.batches]
    assert batches == [[6, 7], [4, 5], [2, 3], [1]]


@pytest.mark.parametrize(("sizes", "largest"), [([150] * 9, 300), ([150, 150, 900, 150, 900, 150], 900)])
async def test_what_came_and_is_not_filed_is_bounded(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], largest: int
) -> None:
    """However slow the filing: a few bytes, or one message alone."""
    monkeypatch.setattr(reader, "CHUNK_BYTES", 200)
    monkeypatch.setattr(reader, "WINDOW_BYTES", 400)
    monkeypatch.setattr(fetch, "PIECE", 10_000)
    folder = FakeFolder()
    for size in sizes:
        folder.append(b"x" * size)
    look = Look(folder, "full")
    connection, wire = await over(folder, DEADLINES)
    await connection.capability()
    await log_in(connection, look.account, None)
    (inbox,) = await connection.folders()
    cursor = reader.sync.starting(None, await connection.examine(inbox), 0, None)
    reading = Reading(connection, look.account, look.ledger, (), look.trouble, lambda count: None)
    asked = len(wire.commands)
    unfiled: list[Brought] = []
    most = 0
    async with aclosing(reading.batches(inbox, cursor, compare=False)) as batches:
        coming = asyncio.ensure_future(anext(batches))
        while True:
            for _ in range(50):  # all that can come comes
                await asyncio.sleep(0)
            uids = {int(line.split(" ")[3]) for line in wire.commands[asked:] if "BODY" in line}
            filed = {message.uid for batch in look.ledger.batches for message in batch.messages}
            most = max(most, sum(sizes[uid - 1] for uid in uids - filed))
            if coming.done():
                try:
                    unfiled.append(coming.result())
                except StopAsyncIteration:
                    break
                coming = asyncio.ensure_future(anext(batches))
            else:
                brought = unfiled.pop(0)
                await look.ledger.file(FolderBatch("anna", "INBOX", cursor, brought.messages))
                reading.filed(brought)
    connection.abort()

    assert most == largest
    assert sorted(uids) == list(range(1, len(sizes) + 1))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("store", ["headers", "full"])
async def test_of_several_fetches_the_right_one_is_blamed(store: Literal["headers", "full"]) -> None:
    """One message ends the connection whenever it is sent: no other one is given up for it."""
    look = Look(mailbox(10, 10, 10, 10, 10, 10, 10), store)
    answer = Wire._answer

    def break_it(wire: Wire, line: str) -> None:
        if "UID FETCH" in line and "BODY" in line and 3 in _in_set(line.split(" ")[3], look.folder.uids):
            wire._say(b"* 3 FETCH (UID 3 BODY[\r\n")
        else:
            answer(wire, line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "_answer", break_it)
        for _ in range(30):
            with suppress(ImapError, ProtocolError):
                await look.once()
                break

    filed = {message.uid: message for batch in look.ledger.batches for message in batch.messages}
    assert [uid for uid in sorted(filed) if not filed[uid].headers] == [3]
    assert sorted(filed) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.usefixtures("small")
async def test_a_look_that_is_left_leaves_nothing_running() -> None:
    look = Look(mailbox(*[10] * 9), "headers")
    connection, _ = await over(look.folder, DEADLINES)
    await connection.capability()
    await log_in(connection, look.account, None)
    (inbox,) = await connection.folders()
    cursor = reader.sync.starting(None, await connection.examine(inbox), 0, None)
    reading = Reading(connection, look.account, look.ledger, ("From",), look.trouble, lambda count: None)
    before = asyncio.all_tasks()
    answer = Wire._answer
    with pytest.MonkeyPatch.context() as patch:
        async with aclosing(reading.batches(inbox, cursor, compare=False)) as batches:
            patch.setattr(Wire, "_answer", lambda wire, line: None if "6:7" in line else answer(wire, line))
            await anext(batches)

            assert asyncio.all_tasks() > before

    await asyncio.sleep(0)  # the loop closes what is left of the generators
    assert asyncio.all_tasks() == before
    assert connection.lost

"""One command at a time, several FETCHes, and a deadline for each."""

import asyncio

import pytest

from imap.connecting import FIELDS, INBOX, SHORT, account
from maillinkd.imap import fetch
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import (
    ConnectionLost,
    Refused,
)
from maillinkd.imap.idle import idle
from maillinkd.mail.delivery import Fetched
from system.imap_peer import FakeConnection, FakeServer, Proxy, fetched, mail


async def test_fetches_do_not_wait_for_each_other(server: FakeServer, connection: Connection) -> None:
    """RFC 9051, 5.5. Their answers come in any order, mixed, and each gets its own."""
    held: list[tuple[str, str]] = []

    async def all_at_once(peer: FakeConnection, tag: str, line: str) -> bool:
        held.append((tag, line))
        if len(held) < 3:
            return True
        folder = server.inbox
        for uid in (2, 3, 1):
            await peer.send(fetched(folder, uid, held[uid - 1][1]))
        await peer.say(f"{held[2][0]} OK", f"{held[0][0]} OK", f"{held[1][0]} NO [SERVERBUG] not that one")
        return True

    server.on("UID FETCH", all_at_once)
    await connection.examine(INBOX)
    first, second, third = await asyncio.gather(
        *(fetch.headers(connection, [uid], FIELDS) for uid in (1, 2, 3)), return_exceptions=True
    )

    assert isinstance(second, Refused)
    assert [first, third] == [await _headers_of(server, 1), await _headers_of(server, 3)]
    assert not connection.lost


async def _headers_of(server: FakeServer, uid: int) -> list[Fetched]:
    message = server.inbox.messages[uid]
    return [Fetched(uid, message.header, None, message.received, len(message.raw))]


async def test_other_commands_wait_for_fetches_and_they_for_others(
    server: FakeServer, connection: Connection
) -> None:
    """What is not a FETCH is alone on the line; FETCHes for one message come one after the other."""
    await connection.examine(INBOX)
    outcomes = await asyncio.gather(
        fetch.sizes(connection, [1, 2]),
        fetch.sizes(connection, [3]),
        connection.uid_search("ALL"),
        fetch.sizes(connection, [2, 3]),
        fetch.sizes(connection, [3]),
        connection.noop(),
    )
    sizes = {uid: len(mail(uid)) for uid in (1, 2, 3)}

    assert outcomes == [
        {1: sizes[1], 2: sizes[2]}, {3: sizes[3]}, [1, 2, 3], {2: sizes[2], 3: sizes[3]}, {3: sizes[3]}, None,
    ]  # fmt: skip
    assert [line.split(" (")[0] for line in server.commands[-6:]] == [
        "UID FETCH 1:2", "UID FETCH 3", "UID SEARCH ALL", "UID FETCH 2:3", "UID FETCH 3", "NOOP",
    ]  # fmt: skip


async def test_a_fetch_has_its_time_after_those_before_it(server: FakeServer) -> None:
    """The third of three answers that take two thirds of a deadline each is not late."""
    server.inbox.append(mail(1))
    for number in (2, 3):
        server.inbox.append(mail(number))

    async def slow(peer: FakeConnection, tag: str, line: str) -> bool:
        await asyncio.sleep(0.2)
        return False

    server.on("UID FETCH", slow)
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    found = await asyncio.gather(*(fetch.sizes(connected, [uid]) for uid in (1, 2, 3)))
    connected.abort()

    assert [list(each) for each in found] == [[1], [2], [3]]


async def test_commands_wait_for_each_other(connection: Connection) -> None:
    """traps.md I10: the library mixes up what is asked at once."""
    await connection.examine(INBOX)
    found = await asyncio.gather(*(connection.uid_search(f"UID {uid}") for uid in (1, 2, 3)))

    assert found == [[1], [2], [3]]


SILENCES = {
    "SEARCH": lambda connection: connection.uid_search("ALL"),
    "FETCH": lambda connection: fetch.headers(connection, [1], FIELDS),
    "IDLE": lambda connection: idle(connection, 60),
    "STATUS": lambda connection: connection.status(INBOX),
}


@pytest.mark.parametrize("name", SILENCES.keys())
async def test_silence_ends_the_connection(server: FakeServer, name: str) -> None:
    """traps.md I8, I9: an answer that is late would be taken for the next one's."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        server.inbox.append(mail(1))
        connected = await connect(account(proxy), SHORT)
        await connected.examine(INBOX)
        proxy.silent.set()
        with pytest.raises(ConnectionLost, match="no answer"):
            await SILENCES[name](connected)

        assert connected.lost


async def test_a_dripping_server_does_not_hold_us(server: FakeServer, connection: Connection) -> None:
    """traps.md I9: each byte counts as life for the library."""

    async def drip(peer: FakeConnection, tag: str, line: str) -> bool:
        while True:
            await peer.say("* 3 EXISTS")
            await asyncio.sleep(0.01)

    server.on("UID SEARCH", drip)
    await connection.examine(INBOX)
    with pytest.raises(ConnectionLost, match="no answer"):
        await connection.uid_search("ALL")


async def test_cancelling_a_command_ends_the_connection(server: FakeServer, connection: Connection) -> None:
    async def deaf(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.reader.read()
        return True

    server.on("UID SEARCH", deaf)
    await connection.examine(INBOX)
    searching = asyncio.create_task(connection.uid_search("ALL"))
    async with asyncio.timeout(5):
        while "UID SEARCH ALL" not in server.commands:
            await asyncio.sleep(0.001)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching

    assert connection.lost

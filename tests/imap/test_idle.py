"""Waiting in IDLE."""

import asyncio

import pytest

from imap.connecting import INBOX, SHORT, account
from imap.following import idling
from maillinkd.imap.account import Deadlines
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import (
    ConnectionLost,
    Refused,
)
from maillinkd.imap.idle import idle
from system.imap_peer import FakeConnection, FakeServer, mail


async def test_idle_ends_when_something_comes(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    waiting = asyncio.create_task(idle(connection, 60))
    await idling(server)
    server.inbox.append(mail(4))
    await server.announce()
    await waiting

    assert connection.news.changed
    assert server.commands[-2:] == ["IDLE", "DONE"]
    connection.news.notice()
    assert not connection.news.changed
    await connection.noop()


async def test_idle_does_not_wait_for_what_was_said_already(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    server.inbox.append(mail(4))
    await connection.noop()
    await idle(connection, 60)

    assert "IDLE" not in server.commands


async def test_idle_is_renewed_after_silence(server: FakeServer) -> None:
    connected = await connect(account(server), Deadlines(idle_renew=0.05))
    await connected.examine(INBOX)
    await idle(connected, 60)

    assert not connected.news.changed
    assert server.commands[-2:] == ["IDLE", "DONE"]
    connected.abort()


async def test_still_here_counts_as_a_sign_of_life(server: FakeServer) -> None:
    async def chatty(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say("+ idling")
        for _ in range(20):
            await asyncio.sleep(0.02)
            await peer.say("* OK Still here")
        await peer.say("* 9 EXISTS")
        await peer.reader.readline()
        await peer.say(f"{tag} OK done")
        return True

    server.on("IDLE", chatty)
    connected = await connect(account(server), Deadlines(idle_renew=0.2))
    await connected.examine(INBOX)
    await idle(connected, 60)

    assert connected.news.changed
    connected.abort()


async def test_idle_refused(server: FakeServer, connection: Connection) -> None:
    server.on("IDLE", "{tag} NO not now")
    await connection.examine(INBOX)
    with pytest.raises(Refused):
        await idle(connection, 60)
    await connection.noop()


async def test_the_end_in_idle(server: FakeServer, connection: Connection) -> None:
    for drop in ("eof", "bye"):
        connected = await connect(account(server))
        await connected.examine(INBOX)
        waiting = asyncio.create_task(idle(connected, 60))
        await idling(server)
        peer = server.connections[-1]
        if drop == "bye":
            await peer.say("* BYE [UNAVAILABLE] shutting down")
        else:
            peer.writer.close()
        with pytest.raises(ConnectionLost):
            await waiting
        peer.idling = False


async def test_an_idle_that_does_not_end_is_ended(server: FakeServer) -> None:
    async def deaf(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say("+ idling", "* 9 EXISTS")
        await peer.reader.read()
        return True

    server.on("IDLE", deaf)
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    with pytest.raises(ConnectionLost, match="no answer to DONE"):
        await idle(connected, 60)

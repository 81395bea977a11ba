"""The receive path: who gets which answer, and how it ends."""

import asyncio

import pytest

from imap.connecting import FIELDS, INBOX
from imap.dialogues import said
from maillinkd.imap import fetch, line, protocol
from maillinkd.imap.client import Connection
from maillinkd.imap.errors import (
    ConnectionLost,
)
from maillinkd.imap.response import ProtocolError, TooLarge
from system.imap_peer import FakeConnection, FakeServer


async def test_an_answer_in_pieces_is_put_together(server: FakeServer, connection: Connection) -> None:
    """FETCH responses for one message may come apart, with others in between, and with flags nobody asked for."""
    answer = said("""
* 2 FETCH (FLAGS (\\Seen))
* 1 FETCH (UID 1 RFC822.SIZE 5)
* 3 EXPUNGE
* 2 FETCH (UID 2 BODY[HEADER.FIELDS (FROM)] "")
* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM)] "x")
* 7 FETCH (UID 7 BODY[HEADER.FIELDS (FROM)] "not asked for")
""")

    async def reply(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.send(answer + f"{tag} OK done\r\n".encode())
        return True

    server.on("UID FETCH", reply)
    await connection.examine(INBOX)
    messages = await fetch.headers(connection, [1, 2], FIELDS)

    assert [(message.uid, message.headers, message.size) for message in messages] == [(1, b"x", 5), (2, b"", 0)]


async def test_3000_lines_in_one_read(server: FakeServer, connection: Connection) -> None:
    """traps.md I1: kills the library's own receive path."""
    server.on(
        "UID SEARCH", "".join(f"* {at} FETCH (FLAGS ())\n" for at in range(1, 3_001)) + "* SEARCH 5\n{tag} OK done"
    )
    await connection.examine(INBOX)

    assert await connection.uid_search("ALL") == [5]


ENDINGS = {
    "good-bye": ("* BYE enough", ConnectionLost, "enough"),
    "garbage": ("<html>", ProtocolError, "neither"),
    "silence": ("", ConnectionLost, "no answer to FETCH"),
    "an answer to none of them": ("zz9 OK done", ProtocolError, "was not sent"),
}


@pytest.mark.parametrize(("answer", "error", "words"), ENDINGS.values(), ids=ENDINGS.keys())
async def test_the_end_of_one_fetch_is_the_end_of_all(
    server: FakeServer, connection: Connection, answer: str, error: type[Exception], words: str
) -> None:
    """At once, and each has an error of its own."""

    async def end(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say(*answer.splitlines())
        await peer.reader.read()
        return True

    server.on("UID FETCH", end)
    await connection.examine(INBOX)
    errors = await asyncio.gather(
        *(fetch.headers(connection, [uid], FIELDS) for uid in (1, 2, 3)), return_exceptions=True
    )

    assert [type(each) for each in errors] == [error] * 3
    assert all(words in str(each) for each in errors)
    assert len({id(each) for each in errors}) == 3


ENDS = {
    "good-bye": ("* BYE [UNAVAILABLE] maintenance", "maintenance"),
    "good-bye in a fetch": ("* 1 FETCH (UID 1)\n* BYE enough", "enough"),
    "half a response": ("* 1 FETCH (UID", "inside a list"),
    "nothing": ("", "closed"),
    "an answer to another command": ("zz9 OK done", "was not sent"),
    "nonsense": ("<html>", "neither"),
    "a huge literal": ("* 1 FETCH (BODY[] {99999999999}", "literals"),
}


@pytest.mark.parametrize(("answer", "words"), ENDS.values(), ids=ENDS.keys())
async def test_ends_with_a_reason(server: FakeServer, connection: Connection, answer: str, words: str) -> None:
    """Whatever waits learns of it at once (traps.md I2, I4), and so does whoever comes later."""

    async def end(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say(*answer.splitlines())
        peer.cut()
        return True

    server.on("UID SEARCH", end)
    await connection.examine(INBOX)
    for _ in range(2):
        with pytest.raises((ConnectionLost, ProtocolError), match=words):
            await connection.uid_search("ALL")

    assert connection.lost


@pytest.mark.parametrize("what", ["FETCH", "SEARCH"])
async def test_an_answer_without_end(
    connection: Connection, server: FakeServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever is asked for, so that no server fills the memory."""

    async def endless(peer: FakeConnection, tag: str, line: str) -> bool:
        while True:
            await peer.send(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM)] {900}\r\n" + b"x" * 900 + b")\r\n")

    monkeypatch.setattr(line, "_FETCH_ROOM", 5_000)
    monkeypatch.setattr(protocol, "_ANSWER_LIMIT", 5_000)
    server.on("UID FETCH", endless)
    server.on("UID SEARCH", endless)
    await connection.examine(INBOX)
    with pytest.raises(TooLarge):
        await (fetch.headers(connection, [1, 2, 3], FIELDS) if what == "FETCH" else connection.uid_search("ALL"))

    assert connection.lost

"""Mail that is fetched."""

from datetime import UTC, datetime

import pytest

from imap.connecting import FIELDS, INBOX, SHORT, account
from imap.dialogues import said
from maillinkd.imap import fetch
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.fetch import header_block
from maillinkd.mail.delivery import GmailMarks
from system.imap_peer import FakeConnection, FakeServer, mail


async def test_headers(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    messages = await fetch.headers(connection, [1, 3, 99], FIELDS)

    assert [message.uid for message in messages] == [1, 3]
    assert mail(3).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" == messages[1].headers
    assert (None, datetime(2026, 11, 22, 12, tzinfo=UTC), len(mail(3))) == (
        messages[1].raw,
        messages[1].received_at,
        messages[1].size,
    )
    assert (
        server.commands[-1]
        == "UID FETCH 1,3,99 (UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From Subject)])"
    )


async def test_whole_messages(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    (message,) = await fetch.whole(connection, [2], 100)

    assert (mail(2), mail(2).partition(b"\r\n\r\n")[0] + b"\r\n\r\n") == (message.raw, message.headers)


@pytest.mark.parametrize("size", [fetch.PIECE - 1, fetch.PIECE, 2 * fetch.PIECE + 7])
async def test_large_messages_come_in_pieces(server: FakeServer, connection: Connection, size: int) -> None:
    raw = mail(4) + b"y" * (size - len(mail(4)))
    uid = server.inbox.append(raw)
    await connection.examine(INBOX)
    message = await fetch.pieces(connection, uid)

    assert message is not None
    assert (size, raw) == (message.size, message.raw)


async def test_a_large_message_that_is_gone(connection: Connection) -> None:
    await connection.examine(INBOX)

    assert await fetch.pieces(connection, 99) is None


async def test_a_server_without_pieces(server: FakeServer, connection: Connection) -> None:
    server.on("UID FETCH", '* 1 FETCH (UID 1 BODY[] "whole")\n{tag} OK done')
    await connection.examine(INBOX)
    message = await fetch.pieces(connection, 1)

    assert message is not None
    assert message.raw == b"whole"


async def test_gmails_own_marks(server: FakeServer) -> None:
    """Asked for where they are offered; labels are quoted, atoms or literals, in modified UTF-7."""
    server.capabilities = ["IMAP4rev1", "X-GM-EXT-1"]
    server.inbox.append(mail(1))
    answer = said("""
* 1 FETCH (X-GM-THRID 1278455344230334865 X-GM-MSGID 18446744073709551615 X-GM-LABELS ("\\\\Inbox" B "M&APw-ller" {*}
⟦a "b"⟧) UID 1 RFC822.SIZE 5 INTERNALDATE "22-Nov-2026 12:00:00 +0000" BODY[HEADER.FIELDS (FROM)] {*}
⟦A: b

⟧)
""")

    async def reply(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.send(answer.replace(b"HEADER.FIELDS (FROM)", b"" if "PEEK[]" in line else b"HEADER.FIELDS (FROM)"))
        await peer.say(f"{tag} OK")
        return True

    server.on("UID FETCH", reply)
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    marks = GmailMarks(2**64 - 1, 1278455344230334865, ("\\Inbox", "B", "Müller", 'a "b"'))

    assert [message.gmail for message in await fetch.headers(connected, [1], FIELDS)] == [marks]
    assert [message.gmail for message in await fetch.whole(connected, [1], 10)] == [marks]
    whole = await fetch.pieces(connected, 1)
    assert whole is not None
    assert whole.gmail == marks
    assert all("X-GM-MSGID X-GM-THRID X-GM-LABELS" in line for line in server.commands[-3:])
    connected.abort()


async def test_elsewhere_gmails_marks_are_not_asked_for(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    (message,) = await fetch.headers(connection, [1], FIELDS)

    assert "X-GM" not in server.commands[-1]
    assert message.gmail is None


HEADERS = {
    "a message": (b"A: 1\r\nB: 2\r\n\r\ntext\r\n\r\nmore", b"A: 1\r\nB: 2\r\n\r\n"),
    "bare line feeds": (b"A: 1\n\ntext", b"A: 1\n\n"),
    "no text": (b"A: 1\r\n", b"A: 1\r\n"),
    "no header": (b"\r\ntext\r\n\r\n", b""),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize(("raw", "expected"), HEADERS.values(), ids=HEADERS.keys())
def test_header_block(raw: bytes, expected: bytes) -> None:
    assert expected == header_block(raw)

"""One connection: what it asks, what it takes, and how it ends."""

import asyncio
import logging
import re
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.dialogues import said
from imap.modern_peer import Modern
from maillinkd.imap import client
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.client import Connection, connect, header_block
from maillinkd.imap.errors import ConnectionLost, ImapError, LoginRefused, NoPassword, Refused, Unreachable, Untrusted
from maillinkd.imap.folders import Folder
from maillinkd.imap.response import ProtocolError, TooLarge
from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import Fetched, GmailMarks
from system.dovecot import certificate
from system.imap_peer import FakeConnection, FakeFolder, FakeServer, Proxy, fetched, mail

INBOX = Folder("INBOX", b"INBOX", "/", frozenset())
FIELDS = ("From", "Subject")
SHORT = Deadlines(connect=0.3, command=0.3, search=0.3, bytes_per_second=1e9, idle_done=0.3, logout=0.3)


def account(server: FakeServer | Proxy, **changes: object) -> Account:
    settings = {"name": "anna", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    return Account(**{**settings, "username": "anna", "password": "secret", **changes})  # type: ignore[arg-type]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as running:
        yield running


@pytest.fixture
async def connection(server: FakeServer) -> AsyncIterator[Connection]:
    for number in range(1, 4):
        server.inbox.append(mail(number))
    connected = await connect(account(server), SHORT)
    yield connected
    connected.abort()


# Logging in


async def test_capabilities_are_asked_again_after_the_login(server: FakeServer) -> None:
    """traps.md I14."""

    async def grow(peer: FakeConnection, tag: str, line: str) -> bool:
        server.capabilities.append("XLAST")
        return False

    server.on("AUTHENTICATE", grow)
    connected = await connect(account(server))

    assert "XLAST" in connected.capabilities
    assert server.commands == ["CAPABILITY", "AUTHENTICATE PLAIN AGFubmEAc2VjcmV0", "CAPABILITY"]
    await connected.logout()


WAYS_IN = {
    "PLAIN at once": (["IMAP4rev1", "AUTH=PLAIN", "SASL-IR"], "AUTHENTICATE PLAIN AGFubmEAc2VjcmV0"),
    "PLAIN when asked": (["IMAP4rev1", "AUTH=PLAIN"], "AUTHENTICATE PLAIN"),
    "LOGIN": (["IMAP4rev1"], 'LOGIN "anna" "secret"'),
}


@pytest.mark.parametrize(("capabilities", "command"), WAYS_IN.values(), ids=WAYS_IN.keys())
async def test_the_way_in(server: FakeServer, capabilities: list[str], command: str) -> None:
    server.capabilities = capabilities
    (await connect(account(server))).abort()

    assert (command, [("anna", "secret")]) == (server.commands[1], server.logins)


@pytest.mark.parametrize("capabilities", [way[0] for way in WAYS_IN.values()], ids=WAYS_IN.keys())
@given(
    user=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n"), min_size=1, max_size=30),
    password=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n"), max_size=30),
    plus=st.booleans(),
)
def test_any_name_and_password_arrive(capabilities: list[str], user: str, password: str, plus: bool) -> None:
    """Quotes, backslashes, blanks, every script: as one string each, whatever way is taken."""

    async def log_in() -> None:
        async with FakeServer(user=user, password=password) as server:
            server.capabilities = [*capabilities, *(["LITERAL+"] if plus else [])]
            (await connect(account(server, username=user, password=password))).abort()

            assert [(user, password)] == server.logins

    asyncio.run(log_in())


@pytest.mark.parametrize("password", ["a\r\nb", "a\nb", "a\0b", "\ud800"])
async def test_a_password_that_would_end_the_command_is_not_sent(server: FakeServer, password: str) -> None:
    with pytest.raises(NoPassword):
        await connect(account(server, password=password))

    assert server.commands == ["CAPABILITY"]


async def test_octets_that_are_no_text_arrive(server: FakeServer) -> None:
    """A password file need not be UTF-8: what came in by surrogateescape goes out as it was."""
    server.on("AUTHENTICATE", "{tag} NO [AUTHENTICATIONFAILED] no")
    with pytest.raises(LoginRefused):
        await connect(account(server, password=b"\xff".decode("utf-8", "surrogateescape")))

    assert b64decode(server.commands[-1].split()[-1]) == b"\0anna\0\xff"


async def test_the_password_is_asked_for_at_the_login(server: FakeServer) -> None:
    (await connect(account(server, password=lambda: "secret"))).abort()

    assert server.logins == [("anna", "secret")]


async def test_a_password_that_cannot_be_had(server: FakeServer) -> None:
    def fail() -> str:
        raise OSError("pass: gpg failed\n")

    with pytest.raises(NoPassword, match="no password for anna: pass: gpg failed"):
        await connect(account(server, password=fail))


REFUSALS = {
    "wrong": ("{tag} NO [AUTHENTICATIONFAILED] no", LoginRefused),
    "expired": ("{tag} NO [EXPIRED] no", LoginRefused),
    "no code at all": ("{tag} NO no", LoginRefused),
    "BAD": ("{tag} BAD no", LoginRefused),
    "unavailable": ("{tag} NO [UNAVAILABLE] later", Unreachable),
    "too many": ("{tag} NO [ALERT] Too many simultaneous connections. (Failure)", Unreachable),
    "good-bye": ("* BYE too many", Unreachable),
}


@pytest.mark.parametrize(("answer", "error"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refused_login(server: FakeServer, answer: str, error: type[ImapError]) -> None:
    server.on("AUTHENTICATE", answer)
    with pytest.raises(error) as caught:
        await connect(account(server), SHORT)

    assert type(caught.value) in {error, ConnectionLost}


async def test_login_disabled_is_respected(server: FakeServer) -> None:
    server.capabilities = ["IMAP4rev1", "LOGINDISABLED"]
    with pytest.raises(LoginRefused):
        await connect(account(server))

    assert server.logins == []


async def test_secrets_are_in_no_log_and_no_error(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """Not even when the server repeats them (traps.md I15)."""
    caplog.set_level(logging.DEBUG)
    shown = []
    for capabilities in (["AUTH=PLAIN"], ["AUTH=PLAIN", "SASL-IR"], ["IMAP4rev1"]):
        server.capabilities = capabilities
        with pytest.raises(LoginRefused) as caught:
            await connect(account(server, password='canary"pass'))
        shown += [str(caught.value), repr(caught.value), repr(account(server, password="canary"))]

    assert len(server.logins) == 3
    assert "canary" not in caplog.text + "".join(shown)
    assert "Y2FuYXJ5" not in caplog.text


# Who is who (RFC 2971)


async def test_name_and_version_are_exchanged_after_the_login(server: FakeServer) -> None:
    """Once, and nothing else is told."""
    server.capabilities = ["IMAP4rev1", "ID"]
    server.on("ID", '* ID ("Name" "Dovecot" "version" "2.3.19" "os" NIL)\n{tag} OK done')
    connected = await connect(account(server))
    connected.abort()

    assert server.commands[-1] == f'ID ("name" "maillinkd" "version" "{version("maillinkd")}")'
    assert [line.split()[0] for line in server.commands] == ["CAPABILITY", "LOGIN", "CAPABILITY", "ID"]
    assert connected.server == "Dovecot 2.3.19"


IDS = {
    "nothing told": "* ID NIL\n{tag} OK done",
    "refused": "{tag} NO not for you",
    "not known after all": "{tag} BAD what?",
    "no pairs": '* ID ("name")\n{tag} OK done',
    "other values": '* ID ("version" ("2") "name" NIL)\n{tag} OK done',
    "not a list": "* ID maybe\n{tag} OK done",
}


@pytest.mark.parametrize("answer", IDS.values(), ids=IDS.keys())
async def test_nothing_depends_on_a_servers_name(server: FakeServer, answer: str) -> None:
    server.capabilities = ["IMAP4rev1", "ID"]
    server.on("ID", answer)
    connected = await connect(account(server))

    assert (connected.server, connected.lost) == ("", False)
    connected.abort()


async def test_a_servers_name_is_safe_to_log(server: FakeServer) -> None:
    server.capabilities = ["IMAP4rev1", "ID"]
    server.on("ID", '* ID ("name" "a\x1b[31m' + "x" * 5_000 + '")\n{tag} OK done')
    connected = await connect(account(server))
    connected.abort()

    assert "\x1b" not in connected.server
    assert len(connected.server) < 400


# Reaching the server


async def test_greetings_that_are_none(server: FakeServer) -> None:
    for greeting, error, words in (
        ("* BYE [UNAVAILABLE] come later", Unreachable, "come later"),
        ("220 mail.example ESMTP", Unreachable, "neither"),
        ("* NO", Unreachable, "greeting"),
        ("{hang}", Unreachable, "does not answer"),
    ):
        server.greeting = greeting
        with pytest.raises(error, match=words):
            await connect(account(server), SHORT)


async def test_nobody_there(server: FakeServer) -> None:
    async with FakeServer() as gone:
        port = gone.port
    with pytest.raises(Unreachable, match="cannot be reached"):
        await connect(account(server, port=port))
    with pytest.raises(Unreachable, match="cannot be reached"):
        await connect(account(server, host="no-such-host.invalid"))


async def test_a_login_that_is_not_needed(server: FakeServer) -> None:
    server.greeting = "* PREAUTH welcome"
    (await connect(account(server))).abort()

    assert server.commands == ["CAPABILITY"]


async def test_what_a_server_offers_is_asked_without_a_name_or_a_password(server: FakeServer) -> None:
    found = await client.capabilities_of(account(server), Deadlines())

    assert "AUTH=PLAIN" in found
    assert (server.commands, server.logins) == (["CAPABILITY", "LOGOUT"], [])


async def test_without_tls_only_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was reached decides, not the name."""

    def elsewhere(transport: asyncio.Transport) -> None:
        peer = type("Peer", (), {"get_extra_info": lambda self, name: ("192.0.2.1", 143)})()
        only_loopback(peer)

    only_loopback = client._only_loopback
    monkeypatch.setattr(client, "_only_loopback", elsewhere)
    with pytest.raises(Untrusted):
        await connect(account(server))

    assert server.commands == []


# STARTTLS


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def tls_server(tls_files: tuple[Path, Path]) -> AsyncIterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_files)
    async with FakeServer(tls=context) as running:
        running.capabilities.append("STARTTLS")
        yield running


async def test_starttls(tls_server: FakeServer, tls_files: tuple[Path, Path]) -> None:
    """Capabilities from before TLS count for nothing; nothing secret is sent before it."""
    connected = await connect(account(tls_server, tls="starttls", tls_ca_file=str(tls_files[0])))

    assert tls_server.commands[:3] == ["CAPABILITY", "STARTTLS", "CAPABILITY"]
    assert tls_server.commands[3].startswith("AUTHENTICATE")
    await connected.logout()


STRIPPED = {
    "not offered": (lambda server: server.capabilities.remove("STARTTLS"), Untrusted),
    "refused": (lambda server: server.on("STARTTLS", "{tag} NO not now"), Untrusted),
    "logged in already (CVE-2020-12398)": (
        lambda server: setattr(server, "greeting", "* PREAUTH welcome"), Untrusted),
    "an answer in the same packet": (
        lambda server: server.on("STARTTLS", "{tag} OK go\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"), Untrusted),
    "half an answer in the same packet": (lambda server: server.on("STARTTLS", inject_half), Untrusted),
    "answers instead of TLS": (lambda server: server.on("STARTTLS", inject_later), Unreachable),
}  # fmt: skip


async def inject_half(peer: FakeConnection, tag: str, line: str) -> bool:
    await peer.send(f"{tag} OK go\r\n* OK".encode())
    return True


async def inject_later(peer: FakeConnection, tag: str, line: str) -> bool:
    await peer.say(f"{tag} OK go")
    await peer.reader.read(1)
    await peer.say("a1 OK logged in", "a2 OK logged in")
    return True


@pytest.mark.parametrize(("break_it", "error"), STRIPPED.values(), ids=STRIPPED.keys())
async def test_starttls_is_not_talked_away(
    tls_server: FakeServer, tls_files: tuple[Path, Path], break_it: object, error: type[Exception]
) -> None:
    break_it(tls_server)  # type: ignore[operator]
    with pytest.raises(error):
        await connect(account(tls_server, tls="starttls", tls_ca_file=str(tls_files[0])), SHORT)

    assert tls_server.logins == []


async def test_an_unknown_certificate_ends_it(tls_server: FakeServer) -> None:
    with pytest.raises(Untrusted, match="certificate"):
        await connect(account(tls_server, tls="starttls"))

    assert tls_server.logins == []


async def test_a_certificate_for_another_name_ends_it(tmp_path: Path) -> None:
    files = certificate(tmp_path, names="DNS:other.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    async with FakeServer(tls=context) as server:
        server.capabilities.append("STARTTLS")
        with pytest.raises(Untrusted, match="certificate"):
            await connect(account(server, tls="starttls", tls_ca_file=str(files[0])))

    assert server.logins == []


async def test_old_tls_is_refused(tls_files: tuple[Path, Path]) -> None:
    assert client._tls(str(tls_files[0])).minimum_version >= ssl.TLSVersion.TLSv1_2


# Folders and messages


async def test_folders(server: FakeServer, connection: Connection) -> None:
    server.folders = {
        "Sent": FakeFolder(attributes="\\Sent"),
        "Kunden/M&APw-ller": FakeFolder(),
        "x": FakeFolder(attributes="\\Noselect"),
        "inbox": FakeFolder(),
    }

    assert [folder.name for folder in await connection.folders()] == ["INBOX", "Kunden/Müller", "Sent"]
    assert server.commands[-1] == 'LIST "" "*"'


async def test_special_use_is_asked_for_where_it_is_known(server: FakeServer, connection: Connection) -> None:
    server.capabilities += ["SPECIAL-USE", "LIST-EXTENDED"]
    await connection.capability()
    await connection.folders()

    assert server.commands[-1] == 'LIST "" "*" RETURN (SPECIAL-USE)'


async def test_examine_and_status(server: FakeServer, connection: Connection) -> None:
    assert Opened(1, 4, 3) == await connection.examine(INBOX)
    assert connection.open == INBOX
    assert Opened(1, 4, 3) == await connection.status(INBOX)


async def test_a_server_that_says_little(server: FakeServer, connection: Connection) -> None:
    server.says_uidnext = server.says_uidvalidity = False

    assert Opened(0, None, 3) == await connection.examine(INBOX)


async def test_a_folder_that_is_not_there(connection: Connection) -> None:
    await connection.examine(INBOX)
    with pytest.raises(Refused) as caught:
        await connection.examine(Folder("Nope", b"Nope", "/", frozenset()))
    with pytest.raises(Refused):
        await connection.uid_search("ALL")

    assert (caught.value.code, connection.open) == ("NONEXISTENT", None)
    assert (await connection.examine(INBOX)).exists == 3


async def test_what_a_modern_server_tells_more(server: FakeServer) -> None:
    """HIGHESTMODSEQ, all UIDs as ranges, several folders in one answer, and what vanished since then."""
    modern = Modern(server)
    server.folders["Sent"], server.folders["a*b"] = FakeFolder(uidvalidity=2), FakeFolder(uidvalidity=3)
    for number in range(1, 6):
        server.inbox.append(mail(number))
    connected = await connect(account(server), SHORT)
    sent, wild, gone = (Folder(name, name.encode(), "/", frozenset()) for name in ("Sent", "a*b", "Gone"))
    assert await connected.enable_qresync()
    assert await connected.statuses([INBOX, sent, wild, gone]) == {
        "INBOX": Opened(1, 6, 5, 1),
        "Sent": Opened(2, 1, 0, 1),
    }
    assert await connected.status(wild) == Opened(3, 1, 0, 1)
    modern.expunge(2)
    modern.expunge(4)
    assert await connected.examine(INBOX, (1, 1)) == Opened(1, 6, 3, 3)
    assert (connected.take_vanished(), connected.take_vanished()) == ([(2, 2), (4, 4)], [])
    assert await connected.all_uids() == [1, 3, 5]
    assert await connected.examine(INBOX, (9, 1)) == Opened(1, 6, 3, 3)
    assert connected.take_vanished() == []
    connected.abort()


async def test_a_plain_server_is_asked_plainly(server: FakeServer, connection: Connection) -> None:
    assert not await connection.enable_qresync()
    assert await connection.statuses([INBOX]) == {}
    await connection.examine(INBOX)
    assert await connection.all_uids() == [1, 2, 3]
    assert "HIGHESTMODSEQ" not in str(server.commands)


async def test_ranges_of_more_than_is_there_are_not_believed(server: FakeServer) -> None:
    Modern(server)
    server.inbox.append(mail(1))
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    server.on("UID SEARCH", '* ESEARCH (TAG "x") UID ALL 1:4294967295\r\n* SEARCH 1\r\n{tag} OK done')

    assert await connected.all_uids() == [1]
    connected.abort()


async def test_what_a_server_says_unasked(server: FakeServer) -> None:
    """RFC 5465: also in the middle of another command, and not mistaken for the answer to one."""
    Modern(server)
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    await connected.notify([INBOX, Folder("Sent", b"Sent", "/", frozenset())], new_folders=True)

    async def interrupt(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say('* STATUS "Sent" (MESSAGES 5 UIDNEXT 6)', '* LIST () "/" "New"')
        await peer.say("* OK [NOTIFICATIONOVERFLOW] too much", f"{tag} OK done")
        return True

    server.on("NOOP", interrupt)
    await connected.noop()
    assert connected.news
    await connected.idle(10)
    assert (connected.take_announced(), connected.take_folders_changed(), connected.take_overflowed()) == (
        {b"Sent"}, True, True)  # fmt: skip
    assert not connected.news

    server.on("STATUS", '* STATUS "Sent" (MESSAGES 7)\r\n* STATUS inbox (MESSAGES 3 UIDNEXT 4)\r\n{tag} OK done')
    assert await connected.status(INBOX) == Opened(0, 4, 3)
    assert connected.take_announced() == {b"Sent"}
    events = "(MessageNew MessageExpunge)"
    asked_for = f'(selected {events}) (mailboxes ("INBOX" "Sent") {events}) (personal (MailboxName))'
    assert f"NOTIFY SET {asked_for}" in server.commands
    connected.abort()


async def test_search_in_several_answers(server: FakeServer, connection: Connection) -> None:
    server.on("UID SEARCH", "* SEARCH 1 2\n* SEARCH\n* 9 EXISTS\n* SEARCH 7 (MODSEQ 3)\n{tag} OK done")
    await connection.examine(INBOX)

    assert await connection.uid_search("ALL") == [1, 2, 7]
    assert connection.changed


async def test_headers(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    messages = await connection.fetch_headers([1, 3, 99], FIELDS)

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
    (message,) = await connection.fetch_whole([2], 100)

    assert (mail(2), mail(2).partition(b"\r\n\r\n")[0] + b"\r\n\r\n") == (message.raw, message.headers)


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
    messages = await connection.fetch_headers([1, 2], FIELDS)

    assert [(message.uid, message.headers, message.size) for message in messages] == [(1, b"x", 5), (2, b"", 0)]


@pytest.mark.parametrize("size", [client.PIECE - 1, client.PIECE, 2 * client.PIECE + 7])
async def test_large_messages_come_in_pieces(server: FakeServer, connection: Connection, size: int) -> None:
    raw = mail(4) + b"y" * (size - len(mail(4)))
    uid = server.inbox.append(raw)
    await connection.examine(INBOX)
    message = await connection.fetch_pieces(uid)

    assert message is not None
    assert (size, raw) == (message.size, message.raw)


async def test_a_large_message_that_is_gone(connection: Connection) -> None:
    await connection.examine(INBOX)

    assert await connection.fetch_pieces(99) is None


async def test_a_server_without_pieces(server: FakeServer, connection: Connection) -> None:
    server.on("UID FETCH", '* 1 FETCH (UID 1 BODY[] "whole")\n{tag} OK done')
    await connection.examine(INBOX)
    message = await connection.fetch_pieces(1)

    assert message is not None
    assert message.raw == b"whole"


async def test_3000_lines_in_one_read(server: FakeServer, connection: Connection) -> None:
    """traps.md I1: kills the library's own receive path."""
    server.on(
        "UID SEARCH", "".join(f"* {at} FETCH (FLAGS ())\n" for at in range(1, 3_001)) + "* SEARCH 5\n{tag} OK done"
    )
    await connection.examine(INBOX)

    assert await connection.uid_search("ALL") == [5]


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
        *(connection.fetch_headers([uid], FIELDS) for uid in (1, 2, 3)), return_exceptions=True
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
        connection.fetch_sizes([1, 2]),
        connection.fetch_sizes([3]),
        connection.uid_search("ALL"),
        connection.fetch_sizes([2, 3]),
        connection.fetch_sizes([3]),
        connection.noop(),
    )
    sizes = {uid: len(mail(uid)) for uid in (1, 2, 3)}

    assert outcomes == [
        {1: sizes[1], 2: sizes[2]}, {3: sizes[3]}, [1, 2, 3], {2: sizes[2], 3: sizes[3]}, {3: sizes[3]}, None,
    ]  # fmt: skip
    assert [line.split(" (")[0] for line in server.commands[-6:]] == [
        "UID FETCH 1:2", "UID FETCH 3", "UID SEARCH ALL", "UID FETCH 2:3", "UID FETCH 3", "NOOP",
    ]  # fmt: skip


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
        *(connection.fetch_headers([uid], FIELDS) for uid in (1, 2, 3)), return_exceptions=True
    )

    assert [type(each) for each in errors] == [error] * 3
    assert all(words in str(each) for each in errors)
    assert len({id(each) for each in errors}) == 3


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
    found = await asyncio.gather(*(connected.fetch_sizes([uid]) for uid in (1, 2, 3)))
    connected.abort()

    assert [list(each) for each in found] == [[1], [2], [3]]


# Gmail


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

    assert [message.gmail for message in await connected.fetch_headers([1], FIELDS)] == [marks]
    assert [message.gmail for message in await connected.fetch_whole([1], 10)] == [marks]
    whole = await connected.fetch_pieces(1)
    assert whole is not None
    assert whole.gmail == marks
    assert all("X-GM-MSGID X-GM-THRID X-GM-LABELS" in line for line in server.commands[-3:])
    connected.abort()


async def test_elsewhere_gmails_marks_are_not_asked_for(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    (message,) = await connection.fetch_headers([1], FIELDS)

    assert "X-GM" not in server.commands[-1]
    assert message.gmail is None


async def test_commands_wait_for_each_other(connection: Connection) -> None:
    """traps.md I10: the library mixes up what is asked at once."""
    await connection.examine(INBOX)
    found = await asyncio.gather(*(connection.uid_search(f"UID {uid}") for uid in (1, 2, 3)))

    assert found == [[1], [2], [3]]


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


# Waiting


async def test_idle_ends_when_something_comes(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    waiting = asyncio.create_task(connection.idle(60))
    await _idling(server)
    server.inbox.append(mail(4))
    await server.announce()
    await waiting

    assert connection.changed
    assert server.commands[-2:] == ["IDLE", "DONE"]
    connection.notice()
    assert not connection.changed
    await connection.noop()


async def test_idle_does_not_wait_for_what_was_said_already(server: FakeServer, connection: Connection) -> None:
    await connection.examine(INBOX)
    server.inbox.append(mail(4))
    await connection.noop()
    await connection.idle(60)

    assert "IDLE" not in server.commands


async def test_idle_is_renewed_after_silence(server: FakeServer) -> None:
    connected = await connect(account(server), Deadlines(idle_renew=0.05))
    await connected.examine(INBOX)
    await connected.idle(60)

    assert not connected.changed
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
    await connected.idle(60)

    assert connected.changed
    connected.abort()


async def test_idle_refused(server: FakeServer, connection: Connection) -> None:
    server.on("IDLE", "{tag} NO not now")
    await connection.examine(INBOX)
    with pytest.raises(Refused):
        await connection.idle(60)
    await connection.noop()


async def _idling(server: FakeServer) -> None:
    async with asyncio.timeout(5):
        while not any(peer.idling for peer in server.connections):
            await asyncio.sleep(0.001)


# Ends


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


async def test_the_end_in_idle(server: FakeServer, connection: Connection) -> None:
    for drop in ("eof", "bye"):
        connected = await connect(account(server))
        await connected.examine(INBOX)
        waiting = asyncio.create_task(connected.idle(60))
        await _idling(server)
        peer = server.connections[-1]
        if drop == "bye":
            await peer.say("* BYE [UNAVAILABLE] shutting down")
        else:
            peer.writer.close()
        with pytest.raises(ConnectionLost):
            await waiting
        peer.idling = False


SILENCES = {
    "SEARCH": lambda connection: connection.uid_search("ALL"),
    "FETCH": lambda connection: connection.fetch_headers([1], FIELDS),
    "IDLE": lambda connection: connection.idle(60),
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


async def test_an_idle_that_does_not_end_is_ended(server: FakeServer) -> None:
    async def deaf(peer: FakeConnection, tag: str, line: str) -> bool:
        await peer.say("+ idling", "* 9 EXISTS")
        await peer.reader.read()
        return True

    server.on("IDLE", deaf)
    connected = await connect(account(server), SHORT)
    await connected.examine(INBOX)
    with pytest.raises(ConnectionLost, match="no answer to DONE"):
        await connected.idle(60)


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


@pytest.mark.parametrize("what", ["FETCH", "SEARCH"])
async def test_an_answer_without_end(
    connection: Connection, server: FakeServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever is asked for, so that no server fills the memory."""

    async def endless(peer: FakeConnection, tag: str, line: str) -> bool:
        while True:
            await peer.send(b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM)] {900}\r\n" + b"x" * 900 + b")\r\n")

    monkeypatch.setattr(client, "_FETCH_ROOM", 5_000)
    monkeypatch.setattr(client, "_ANSWER_LIMIT", 5_000)
    server.on("UID FETCH", endless)
    server.on("UID SEARCH", endless)
    await connection.examine(INBOX)
    with pytest.raises(TooLarge):
        await (connection.fetch_headers([1, 2, 3], FIELDS) if what == "FETCH" else connection.uid_search("ALL"))

    assert connection.lost


async def test_alerts_are_given_once(server: FakeServer, connection: Connection) -> None:
    server.on("NOOP", "* OK [ALERT] The disk\x07 is full\n{tag} OK done")
    await connection.noop()

    assert connection.alerts() == ["The disk  is full"]
    assert connection.alerts() == []


async def test_logout_is_polite_and_cannot_fail(server: FakeServer, connection: Connection) -> None:
    await connection.logout()
    await connection.logout()

    assert server.commands[-1] == "LOGOUT"
    assert connection.lost


def test_nothing_that_writes_is_in_the_code() -> None:
    """A server is only read: not one of these commands is ever named."""
    code = " ".join(path.read_text() for path in Path(client.__file__).parent.glob("*.py"))
    asked = set(re.findall(r'(?:_(?:ask|exchange)\(\s*|"UID", )"([A-Z]+)"', code))

    assert asked == {
        "CAPABILITY", "LOGIN", "AUTHENTICATE", "STARTTLS", "LIST", "EXAMINE", "STATUS", "SEARCH", "FETCH", "IDLE",
        "NOOP", "LOGOUT", "ENABLE", "NOTIFY", "ID",
    }  # fmt: skip
    assert set(re.findall(r"[( ](BODY[.A-Z]*)\[", re.sub(r'"BODY\[|`BODY\[', "", code))) <= {"BODY.PEEK"}

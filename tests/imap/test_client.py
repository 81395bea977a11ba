"""What is asked of a server, and how it is understood."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from imap.connecting import INBOX, SHORT, account
from imap.modern_peer import Modern
from maillinkd.imap import client
from maillinkd.imap.account import Deadlines
from maillinkd.imap.client import Connection, capabilities_of, connect
from maillinkd.imap.errors import Refused
from maillinkd.imap.folders import Folder
from maillinkd.imap.idle import idle
from maillinkd.imap.sync import Opened
from system.imap_peer import FakeConnection, FakeFolder, FakeServer, mail


async def test_what_a_server_offers_is_asked_without_a_name_or_a_password(server: FakeServer) -> None:
    found = await capabilities_of(account(server), Deadlines())

    assert "AUTH=PLAIN" in found
    assert (server.commands, server.logins) == (["CAPABILITY", "LOGOUT"], [])


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
    assert (connected.news.take_vanished(), connected.news.take_vanished()) == ([(2, 2), (4, 4)], [])
    assert await connected.all_uids() == [1, 3, 5]
    assert await connected.examine(INBOX, (9, 1)) == Opened(1, 6, 3, 3)
    assert connected.news.take_vanished() == []
    connected.abort()


@pytest.mark.parametrize("plus", [True, False])
async def test_names_that_cannot_be_quoted_are_asked_for_together_with_others(server: FakeServer, plus: bool) -> None:
    """Some servers name folders in UTF-8 as it is: that goes out as a literal."""
    server.capabilities = ["IMAP4rev1", "LIST-STATUS", "LIST-EXTENDED", "NOTIFY", *(["LITERAL+"] if plus else [])]
    raw = Folder("Müll", "Müll".encode(), "/", frozenset())
    connected = await connect(account(server), SHORT)
    server.on("LIST", "* STATUS {{5}}\r\nMüll (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1)\r\n{tag} OK done")
    server.on("NOTIFY", "{tag} OK done")
    assert await connected.statuses([INBOX, raw]) == {"Müll": Opened(1, 4, 3)}
    await connected.notify([INBOX, raw], new_folders=False)
    connected.abort()

    assert all("INBOX" in line and "Müll" in line for line in server.commands[-2:])


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
    news = connected.news
    assert news
    await idle(connected, 10)
    assert (news.take_announced(), news.take_folders_changed(), news.take_overflowed()) == (
        {b"Sent"}, True, True)  # fmt: skip
    assert not news

    server.on("STATUS", '* STATUS "Sent" (MESSAGES 7)\r\n* STATUS inbox (MESSAGES 3 UIDNEXT 4)\r\n{tag} OK done')
    assert await connected.status(INBOX) == Opened(0, 4, 3)
    assert news.take_announced() == {b"Sent"}
    events = "(MessageNew MessageExpunge)"
    asked_for = f'(selected {events}) (mailboxes ("INBOX" "Sent") {events}) (personal (MailboxName))'
    assert f"NOTIFY SET {asked_for}" in server.commands
    connected.abort()


async def test_search_in_several_answers(server: FakeServer, connection: Connection) -> None:
    server.on("UID SEARCH", "* SEARCH 1 2\n* SEARCH\n* 9 EXISTS\n* SEARCH 7 (MODSEQ 3)\n{tag} OK done")
    await connection.examine(INBOX)

    assert await connection.uid_search("ALL") == [1, 2, 7]
    assert connection.news.changed


async def test_logout_is_polite_and_cannot_fail(server: FakeServer, connection: Connection) -> None:
    await connection.logout()
    await connection.logout()

    assert server.commands[-1] == "LOGOUT"
    assert connection.lost


def test_nothing_that_writes_is_in_the_code() -> None:
    """A server is only read: not one of these commands is ever named."""
    code = " ".join(path.read_text() for path in Path(client.__file__).parent.glob("*.py"))
    asked = set(re.findall(r'(?:\.(?:ask|exchange)\(\s*|"UID", )"([A-Z]+)"', code))

    assert asked == {
        "CAPABILITY", "LOGIN", "AUTHENTICATE", "STARTTLS", "LIST", "EXAMINE", "STATUS", "SEARCH", "FETCH", "IDLE",
        "NOOP", "LOGOUT", "ENABLE", "NOTIFY", "ID",
    }  # fmt: skip
    assert set(re.findall(r"[( ](BODY[.A-Z]*)\[", re.sub(r'"BODY\[|`BODY\[', "", code))) <= {"BODY.PEEK"}

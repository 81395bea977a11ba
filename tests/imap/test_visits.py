"""Which folders are read again, and how far."""

import asyncio
from datetime import timedelta

import pytest

from imap.following import OPENS, Following, asked, idling, once
from imap.ledger import ListLedger
from imap.modern_peer import EXTENSIONS, Modern
from maillinkd.imap import reader, sync
from system.imap_peer import NOON, FakeFolder, FakeServer, mail

MAILS = 7


async def test_folders_take_turns_in_a_first_sync(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1)
    monkeypatch.setattr(reader, "SLICE", 0.0)
    server.folders["Sent"] = FakeFolder()
    for number in range(1, 4):
        server.folders["Sent"].append(mail(number))
    await once(server, ledger, folders=("INBOX", "Sent"))

    assert (ledger.uids("INBOX"), ledger.uids("Sent")) == ([7, 6, 5, 4, 3, 2, 1], [3, 2, 1])
    assert [batch.folder for batch in ledger.batches].index("Sent") < 6


async def test_a_message_seen_late_is_fetched(server: FakeServer, ledger: ListLedger) -> None:
    late = server.inbox.append(mail(8), visible=False)
    server.inbox.append(mail(9))
    await once(server, ledger)
    server.inbox.messages[late].visible = True
    await once(server, ledger)
    await once(server, ledger)

    assert ledger.uids("INBOX") == [1, 2, 3, 4, 5, 6, 7, 9, 8]
    assert ledger.cursors["INBOX"].top == 9


async def test_expunged_mail_is_marked_if_wanted(server: FakeServer, ledger: ListLedger) -> None:
    await once(server, ledger)
    del server.inbox.messages[2], server.inbox.messages[7]
    await once(server, ledger)
    assert ledger.uids("INBOX") == [1, 2, 3, 4, 5, 6, 7]

    await once(server, ledger, expunged="mark")
    assert ledger.uids("INBOX") == [1, 3, 4, 5, 6]
    assert ledger.batches[-1].gone == (2, 7)


@pytest.mark.parametrize("expunged", ["keep", "mark"])
async def test_a_folder_that_stands_as_it_stood_is_not_opened(
    server: FakeServer, ledger: ListLedger, expunged: str
) -> None:
    modern = Modern(server)
    server.folders["Sent"] = FakeFolder()
    server.folders["Sent"].append(mail(1))
    folders = ("INBOX", "Sent")
    await once(server, ledger, folders=folders, expunged=expunged)
    await once(server, ledger, folders=folders, expunged=expunged)
    assert asked(server, *OPENS) == []

    modern.touch("Sent")
    server.folders["Sent"].append(mail(2))
    await once(server, ledger, folders=folders, expunged=expunged)
    assert asked(server, *OPENS) == list(OPENS)
    assert ledger.uids("Sent") == [1, 2]
    await once(server, ledger, folders=folders, expunged=expunged)
    assert asked(server, *OPENS) == []


async def test_without_highestmodseq_a_pass_always_looks(server: FakeServer, ledger: ListLedger) -> None:
    """One message went and another became visible below UIDNEXT: no other number tells."""
    late = server.inbox.append(mail(8), visible=False)
    server.inbox.append(mail(9))
    await once(server, ledger)
    del server.inbox.messages[2]
    server.inbox.messages[late].visible = True
    await once(server, ledger)

    assert late in ledger.uids("INBOX")


@pytest.mark.parametrize("extensions", [(), ("ESEARCH",), ("CONDSTORE", "ESEARCH", "ENABLE", "QRESYNC")])
async def test_mail_that_becomes_visible_late_far_below_is_found(
    server: FakeServer, ledger: ListLedger, extensions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more messages than those found explain, so every UID is compared; else none is."""
    monkeypatch.setattr(sync, "TAIL", 2)
    monkeypatch.setattr("maillinkd.imap.resync.WINDOW", 3)
    modern = Modern(server, extensions)
    server.inbox.messages[3].visible = False
    await once(server, ledger)
    server.inbox.append(mail(8))
    modern.touch()
    await once(server, ledger)
    assert sorted(ledger.uids("INBOX")) == [1, 2, 4, 5, 6, 7, 8]
    assert len(asked(server, "UID SEARCH")) == 1

    server.inbox.messages[3].visible = True
    modern.touch()
    await once(server, ledger)
    assert sorted(ledger.uids("INBOX")) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_late_mail_that_lies_before_since_is_left_alone(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "TAIL", 2)
    for uid, message in server.inbox.messages.items():
        message.received = NOON - timedelta(days=30 if uid < 4 else 0)
    server.inbox.messages[2].visible = server.inbox.messages[4].visible = False
    since = NOON.date() - timedelta(days=7)
    await once(server, ledger, since=since)
    server.inbox.messages[2].visible = server.inbox.messages[4].visible = True
    await once(server, ledger, since=since)

    assert sorted(ledger.uids("INBOX")) == [4, 5, 6, 7]


async def test_every_uid_is_compared_now_and_then(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One became visible far below and another one went: without HIGHESTMODSEQ no number tells."""
    monkeypatch.setattr(sync, "TAIL", 2)
    server.inbox.messages[3].visible = False
    await once(server, ledger)
    server.inbox.messages[3].visible = True
    del server.inbox.messages[1]
    await once(server, ledger)
    assert 3 not in ledger.uids("INBOX")

    monkeypatch.setattr("maillinkd.imap.resync.WHOLE_EVERY", timedelta(0))
    await once(server, ledger)
    assert 3 in ledger.uids("INBOX")


@pytest.mark.parametrize("extensions", [(), ("ESEARCH",), EXTENSIONS], ids=["UIDs alone", "ESEARCH", "QRESYNC"])
async def test_what_went_while_nobody_looked_is_marked(
    server: FakeServer, ledger: ListLedger, extensions: tuple[str, ...]
) -> None:
    """With QRESYNC the server names it; else all UIDs are compared, once, because there are fewer messages."""
    modern = Modern(server, extensions)
    await once(server, ledger, expunged="mark")
    for uid in (2, 5, 7):
        modern.expunge(uid)
    server.inbox.append(mail(8))
    modern.touch()
    await once(server, ledger, expunged="mark")
    searches = len(asked(server, "UID SEARCH"))

    assert sorted(ledger.uids("INBOX")) == [1, 3, 4, 6, 8]
    assert ledger.batches[-1].gone == (2, 5, 7)
    assert searches == (1 if extensions == EXTENSIONS else 3)
    await once(server, ledger, expunged="mark")
    assert len(asked(server, "UID SEARCH")) == (0 if extensions == EXTENSIONS else 1)


async def test_what_goes_is_marked_as_the_server_names_it(server: FakeServer, ledger: ListLedger) -> None:
    modern = Modern(server)
    async with Following(server, ledger, expunged="mark"):
        for uid in (3, 6):
            await idling(server)
            modern.expunge(uid)
            for peer in server.connections:
                peer.idling = False
            await server.connections[-1].say(f"* VANISHED {uid}")
            async with asyncio.timeout(5):
                while uid in ledger.uids("INBOX"):
                    await asyncio.sleep(0.001)

    assert not any("UID SEARCH ALL" in line or "RETURN" in line for line in server.commands)


async def test_from_now_on_what_went_is_marked(server: FakeServer, ledger: ListLedger) -> None:
    """`expunged` was "keep" so far: what went then is marked as well."""
    modern = Modern(server)
    await once(server, ledger)
    modern.expunge(2)
    await once(server, ledger)
    await once(server, ledger, expunged="mark")

    assert ledger.uids("INBOX") == [1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("validity", [0, 2**31, 2**40])
async def test_uidvalidity_of_any_size(server: FakeServer, ledger: ListLedger, validity: int) -> None:
    Modern(server)
    server.inbox.uidvalidity = validity
    await once(server, ledger)
    await once(server, ledger)

    assert ledger.cursors["INBOX"].uidvalidity == validity
    assert asked(server, *OPENS) == []

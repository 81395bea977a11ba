"""How news come: by NOTIFY, by IDLE, by asking."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from imap.following import QUICK, SHORT, Following, account, idling
from imap.ledger import ListLedger
from imap.modern_peer import Modern
from maillinkd.imap import watch
from maillinkd.imap.poller import follow
from maillinkd.imap.state import MailboxState, State
from system.imap_peer import FakeConnection, FakeFolder, FakeServer, Proxy, mail

MAILS = 7


async def test_new_mail_comes_by_idle(server: FakeServer, ledger: ListLedger) -> None:
    """Within 50 ms of the server's announcement; measured over ten, the median counts."""
    delays = []
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        for number in range(8, 18):
            await idling(server)
            server.inbox.append(mail(number))
            start = asyncio.get_running_loop().time()
            await server.announce()
            await ledger.until(number)
            delays.append(asyncio.get_running_loop().time() - start)

    assert list(range(1, 18)) == ledger.uids("INBOX")
    assert sorted(delays)[5] < 0.05


async def test_mail_that_comes_while_idle_ends_is_not_lost(server: FakeServer, ledger: ListLedger) -> None:
    """EXISTS between DONE and its answer."""
    late = False

    async def idle(peer: FakeConnection, tag: str, line: str) -> bool:
        nonlocal late
        if late:
            return False
        late = True
        await peer.say("+ idling")
        server.inbox.append(mail(8))
        await peer.say("* 8 EXISTS")
        await peer.reader.readline()
        server.inbox.append(mail(9))
        peer.told = 9
        await peer.say("* 9 EXISTS", f"{tag} OK done")
        return True

    server.on("IDLE", idle)
    async with Following(server, ledger):
        await ledger.until(9)

    assert list(range(1, 10)) == ledger.uids("INBOX")


@pytest.mark.parametrize("how", ["not offered", "refused"])
async def test_without_idle_it_polls(server: FakeServer, ledger: ListLedger, how: str) -> None:
    if how == "refused":
        server.on("IDLE", "{tag} NO not here")
    else:
        server.capabilities.remove("IDLE")
    async with Following(server, ledger, poll_interval=0.02) as following:
        await following.ever(State.POLLING)
        server.inbox.append(mail(8))
        await ledger.until(8)

    assert list(range(1, 9)) == ledger.uids("INBOX")


async def test_other_folders_are_polled(server: FakeServer, ledger: ListLedger) -> None:
    server.folders["Sent"] = FakeFolder()
    async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=0.02) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        server.folders["Sent"].append(mail(1))
        await ledger.until(1, "Sent")
        server.inbox.append(mail(8))
        await ledger.until(8)
        server.folders["Sent"] = FakeFolder(uidvalidity=2)
        server.folders["Sent"].append(mail(1))
        await ledger.until(2, "Sent")

    assert ([*range(1, 9)], [1]) == (ledger.uids("INBOX"), ledger.uids("Sent"))


async def test_expunges_are_noticed_while_watching(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger, expunged="mark") as following:
        await following.until(lambda state: state.state is State.WATCHING)
        await idling(server)
        del server.inbox.messages[3]
        await server.connections[-1].say("* 3 EXPUNGE")
        async with asyncio.timeout(5):
            while 3 in ledger.uids("INBOX"):
                await asyncio.sleep(0.001)


async def test_the_silent_death_of_idle_is_noticed(server: FakeServer, ledger: ListLedger) -> None:
    """As when a NAT box forgets the connection: nobody says a word."""
    deadlines = replace(SHORT, connect=0.1, idle_renew=0.1, idle_done=0.1, command=0.3)
    async with Proxy("127.0.0.1", server.port) as proxy:
        states: list[MailboxState] = []
        task = asyncio.create_task(
            follow(account(proxy), ledger, report=states.append, deadlines=deadlines, backoffs=QUICK)
        )
        await ledger.until(7)
        await idling(server)
        proxy.silent.set()
        server.inbox.append(mail(8))
        async with asyncio.timeout(5):
            while State.WAITING not in [state.state for state in states]:
                await asyncio.sleep(0.01)
        proxy.silent.clear()
        await ledger.until(8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_without_names_all_uids_are_compared_rarely(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many expunges, one comparison at once and one a while after: the last of them is marked too."""
    monkeypatch.setattr(watch, "_COMPARE_PAUSE", 0.3)
    async with Following(server, ledger, expunged="mark"):
        for uid in (1, 2, 3, 4, 5):
            await idling(server)
            del server.inbox.messages[uid]
            for peer in server.connections:
                peer.idling, peer.told = False, peer.told - 1
            await server.connections[-1].say("* 1 EXPUNGE")
        async with asyncio.timeout(5):
            while ledger.uids("INBOX") != [6, 7]:
                await asyncio.sleep(0.001)

    assert server.commands.count("UID SEARCH ALL") in {1, 2}


async def test_every_folder_announces_by_notify(server: FakeServer, ledger: ListLedger) -> None:
    """On one connection, and none is asked for in between."""
    modern = Modern(server)
    server.folders["Sent"], server.folders["Other"] = FakeFolder(), FakeFolder()
    async with Following(server, ledger, folders=("INBOX", "Sent", "Other"), poll_interval=3_600) as following:
        for number in range(1, 4):
            for name in ("Sent", "Other", "INBOX"):
                state = await following.until(lambda state: state.waits_for.startswith("NOTIFY"))
                await idling(server)
                server.folders[name].append(mail(number))
                modern.touch(name)
                await modern.announce(name)
                await server.announce()
                await ledger.until(number + (7 if name == "INBOX" else 0), name)

    assert state.waits_for == "NOTIFY: 3 folders"
    assert state.next_look is not None
    assert len(server.connections) == 1
    assert (ledger.uids("Sent"), ledger.uids("Other"), len(ledger.uids("INBOX"))) == ([1, 2, 3], [1, 2, 3], 10)


async def test_mail_that_came_before_the_server_took_note_is_found(server: FakeServer, ledger: ListLedger) -> None:
    modern = Modern(server)
    server.folders["Sent"] = FakeFolder()

    async def late(peer: FakeConnection, tag: str, line: str) -> bool:
        server.folders["Sent"].append(mail(1))
        modern.touch("Sent")
        await peer.say(f"{tag} OK done")
        return True

    server.on("NOTIFY", late)
    async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=3_600):
        await ledger.until(1, "Sent")


async def test_a_folder_made_later_is_announced_and_followed(server: FakeServer, ledger: ListLedger) -> None:
    modern = Modern(server)
    async with Following(server, ledger, folders=("*",), poll_interval=3_600):
        await idling(server)
        server.folders["New"] = FakeFolder()
        server.folders["New"].append(mail(1))
        await server.connections[-1].say('* LIST () "/" "New"')
        await ledger.until(1, "New")
        async with asyncio.timeout(5):
            while len(modern.notified) < 2:
                await asyncio.sleep(0.001)
        await idling(server)
        server.folders["New"].append(mail(2))
        modern.touch("New")
        await modern.announce("New")
        await ledger.until(2, "New")

    assert '"New"' in [line for line in server.commands if line.startswith("NOTIFY")][-1]


async def test_a_server_that_refuses_to_notify_is_watched_by_idle(server: FakeServer, ledger: ListLedger) -> None:
    """Said once, whatever connections follow."""
    Modern(server)
    server.on("NOTIFY", "{tag} NO [BADEVENT (MessageNew MessageExpunge)] not that")
    server.folders["Sent"] = FakeFolder()
    with capture_logs() as lines:
        async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=0.05) as following:
            for number in range(1, 4):
                await following.until(lambda state: state.waits_for.startswith("IDLE: INBOX; 1 more every"))
                server.folders["Sent"].append(mail(number))
                await ledger.until(number, "Sent")
                await server.drop_all()

    assert [line["log_level"] for line in lines if line["event"].startswith("imap notify refused")] == ["warning"]
    assert sum(line.startswith("NOTIFY") for line in server.commands) == 1


async def test_a_server_that_stops_to_notify_is_asked_again_and_in_the_end_no_more(
    server: FakeServer, ledger: ListLedger
) -> None:
    """NOTIFICATIONOVERFLOW (RFC 5465, 5.8): what it did not say is looked for."""
    modern = Modern(server)
    server.folders["Sent"] = FakeFolder()
    async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=3_600) as following:
        for number in range(1, 5):
            await following.until(lambda state: state.state is State.WATCHING)
            await idling(server)
            server.folders["Sent"].append(mail(number))
            modern.touch("Sent")
            for peer in server.connections:
                peer.idling = False
            await server.connections[-1].say("* OK [NOTIFICATIONOVERFLOW] too much")
            await ledger.until(number, "Sent")
        await following.until(lambda state: state.waits_for.startswith("IDLE"))

    assert sum(line.startswith("NOTIFY") for line in server.commands) == 4


async def test_the_silent_death_of_notify_is_noticed(server: FakeServer, ledger: ListLedger) -> None:
    Modern(server)
    server.folders["Sent"] = FakeFolder()
    deadlines = replace(SHORT, connect=0.1, idle_renew=0.1, idle_done=0.1, command=0.3)
    async with Proxy("127.0.0.1", server.port) as proxy:
        task = asyncio.create_task(
            follow(account(proxy, folders=("INBOX", "Sent")), ledger, deadlines=deadlines, backoffs=QUICK)
        )
        await ledger.until(7)
        await idling(server)
        proxy.silent.set()
        server.folders["Sent"].append(mail(1))
        async with asyncio.timeout(5):
            while len(server.connections) < 2:
                await asyncio.sleep(0.01)
                if server.connections[0].writer.transport.is_closing():
                    proxy.silent.clear()
        await ledger.until(1, "Sent")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_server_without_uidnext_is_polled_without_a_gap(server: FakeServer, ledger: ListLedger) -> None:
    """One comes and another goes between two looks: as many messages as before."""
    server.says_uidnext = False
    server.folders["Sent"] = FakeFolder()
    server.folders["Sent"].append(mail(1))
    async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=0.02) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        del server.folders["Sent"].messages[1]
        server.folders["Sent"].append(mail(2))
        await ledger.until(2, "Sent")

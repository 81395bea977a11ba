"""The IMAP door against a real Dovecot."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path

import pytest

from imap.ledger import ListLedger
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.backoff import Backoff, Backoffs
from maillinkd.imap.client import connect
from maillinkd.imap.errors import LoginRefused, Unreachable, Untrusted
from maillinkd.imap.plan import plan
from maillinkd.imap.poller import follow
from maillinkd.imap.reader import BEGIN, CHUNK
from maillinkd.imap.state import MailboxState, State
from maillinkd.imap.sync import Opened
from system.dovecot import Dovecot, certificate, running_dovecot
from system.imap_peer import Proxy, mail

pytestmark = pytest.mark.dovecot

QUICK = Backoffs(Backoff(0.05, 0.2), Backoff(0.05, 0.2), Backoff(0.05, 0.2))
WAYS = ["none", "implicit", "starttls"]
_USERS = count(1)


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """One server for all tests of this file."""
    with running_dovecot() as server:
        yield server


@pytest.fixture
def user() -> str:
    """A mailbox of the test's own, empty."""
    return f"user{next(_USERS)}"


def account(dovecot: Dovecot, user: str, **changes: object) -> Account:
    tls = changes.get("tls", "implicit")
    settings: dict[str, object] = {
        "name": user,
        "host": "127.0.0.1",
        "port": dovecot.tls_port if tls == "implicit" else dovecot.port,
        "tls": tls,
        "username": user,
        "password": dovecot.password,
        "folders": ("INBOX",),
        "tls_ca_file": dovecot.ca_file,
    }
    return Account(**{**settings, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def following(account: Account, ledger: ListLedger) -> AsyncIterator[list[MailboxState]]:
    states: list[MailboxState] = []
    task = asyncio.create_task(follow(account, ledger, report=states.append, backoffs=QUICK))
    try:
        yield states
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def watching(states: list[MailboxState]) -> None:
    async with asyncio.timeout(20):
        while not states or states[-1].state is not State.WATCHING:
            await asyncio.sleep(0.01)


async def once(account: Account, ledger: ListLedger) -> None:
    async with asyncio.timeout(60):
        await follow(account, ledger, once=True, backoffs=QUICK)


async def doveadm(dovecot: Dovecot, *arguments: str, text: str = "") -> str:
    return await asyncio.to_thread(lambda: dovecot.doveadm(*arguments, text=text))


async def append(dovecot: Dovecot, user: str, number: int, folder: str = "INBOX") -> None:
    await doveadm(dovecot, "save", "-u", user, "-m", folder, text=mail(number).decode())


# Getting in


@pytest.mark.parametrize("tls", WAYS)
async def test_the_ways_in(dovecot: Dovecot, user: str, tls: str) -> None:
    connection = await connect(account(dovecot, user, tls=tls))

    assert connection.protocol.authenticated
    assert "IDLE" in connection.capabilities
    await connection.logout()


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_a_server_that_nobody_vouches_for(dovecot: Dovecot, user: str, tls: str, tmp_path: Path) -> None:
    """Neither the system's authorities nor one that made another certificate."""
    for ca_file in (None, str(certificate(tmp_path)[0])):
        with pytest.raises(Untrusted, match="certificate"):
            await connect(account(dovecot, user, tls=tls, tls_ca_file=ca_file))


async def test_tls_spoken_to_a_plain_port(dovecot: Dovecot, user: str) -> None:
    with pytest.raises(Unreachable):
        await connect(account(dovecot, user, port=dovecot.port), Deadlines(connect=2))


async def test_a_wrong_password(dovecot: Dovecot, user: str) -> None:
    with pytest.raises(LoginRefused, match="AUTHENTICATIONFAILED"):
        await connect(account(dovecot, user, password="wrong"))


# Reading


async def test_5000_messages_in_several_folders(dovecot: Dovecot, user: str) -> None:
    """All read, newest first, each once; no flag touched; a second pass files nothing; a plan agrees beforehand."""
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(1, 5_001)])
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(6_001, 6_201)], "Sent")
    await asyncio.to_thread(dovecot.deliver, user, [mail(7_000)], "Trash")
    await doveadm(dovecot, "mailbox", "create", "-u", user, "Kunden/Müller & Söhne")
    await append(dovecot, user, 8_000, "Kunden/Müller & Söhne")
    mine = account(dovecot, user, folders=("*",))
    ledger = ListLedger()
    planned = await plan(mine, ledger)
    await once(mine, ledger)

    assert [(each.folder, each.first) for each in planned.folders] == [
        ("INBOX", 5_000),
        ("Kunden/Müller & Söhne", 1),
        ("Sent", 200),
    ]
    uids = ledger.uids("INBOX")
    assert sorted(uids) == list(range(1, 5_001))
    assert uids[:BEGIN] == list(range(5_001 - BEGIN, 5_001))
    assert uids[-1] < CHUNK
    assert len(set(ledger.subjects("INBOX"))) == 5_000
    assert len(ledger.subjects("Sent")) == 200
    assert ledger.subjects("Kunden/Müller & Söhne") == [b"number 8000 ("]
    assert set(ledger.cursors) == {"INBOX", "Sent", "Kunden/Müller & Söhne"}
    for folder in ("INBOX", "Sent"):
        seen = await doveadm(dovecot, "search", "-u", user, "mailbox", folder, "seen")
        assert seen == ""
    filed = len(ledger.batches)
    await once(mine, ledger)
    assert len(ledger.batches) == filed


async def test_special_use(dovecot: Dovecot, user: str) -> None:
    await append(dovecot, user, 1, "Sent")
    await append(dovecot, user, 2, "Junk")
    ledger = ListLedger()
    await once(account(dovecot, user, folders=("\\Sent", "\\Junk", "\\Archive")), ledger)

    assert (ledger.subjects("Sent"), ledger.subjects("Junk")) == ([b"number 1 ("], [b"number 2 ("])


async def test_since(dovecot: Dovecot, user: str) -> None:
    """INTERNALDATE counts, not the Date field; widening fetches the rest."""
    for number, day in ((1, 1), (2, 10), (3, 20)):
        received = datetime(2026, 6, day, 12, tzinfo=UTC)
        await asyncio.to_thread(dovecot.deliver, user, [mail(number)], received=received)
    ledger = ListLedger()
    for since in (date(2026, 6, 15), date(2026, 6, 5), None):
        await once(account(dovecot, user, since=since), ledger)

    assert ledger.subjects("INBOX") == [b"number 3 (", b"number 2 (", b"number 1 ("]


async def test_whole_messages(dovecot: Dovecot, user: str) -> None:
    """Byte for byte, small and large."""
    originals = [mail(1), mail(2, 3_000_000), mail(3, 500_000), mail(4, 1_048_576 - len(mail(4)))]
    await asyncio.to_thread(dovecot.deliver, user, originals)
    ledger = ListLedger()
    await once(account(dovecot, user, store="full"), ledger)

    raw = {message.uid: message.raw for batch in ledger.batches for message in batch.messages}
    assert [raw[uid] for uid in sorted(raw)] == originals
    assert await doveadm(dovecot, "search", "-u", user, "mailbox", "INBOX", "seen") == ""


# Following


@pytest.mark.parametrize("tls", WAYS)
async def test_new_mail_comes_by_idle(dovecot: Dovecot, user: str, tls: str) -> None:
    await append(dovecot, user, 1)
    ledger = ListLedger()
    async with following(account(dovecot, user, tls=tls), ledger) as states:
        await watching(states)
        for number in (2, 3, 4):
            await append(dovecot, user, number)
            await ledger.until(number)

    assert ledger.uids("INBOX") == [1, 2, 3, 4]
    assert State.WAITING not in {state.state for state in states}


async def test_other_folders_are_polled(dovecot: Dovecot, user: str) -> None:
    ledger = ListLedger()
    mine = account(dovecot, user, folders=("INBOX", "\\Sent"), poll_interval=0.2)
    async with following(mine, ledger) as states:
        await watching(states)
        await append(dovecot, user, 1, "Sent")
        await ledger.until(1, "Sent")
        await append(dovecot, user, 2)
        await ledger.until(1)


async def test_another_uidvalidity(dovecot: Dovecot, user: str) -> None:
    """The list of UIDs is lost, the server makes a new one: everything is read anew, under the new UIDVALIDITY."""
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(1, 21)])
    ledger = ListLedger()
    await once(account(dovecot, user), ledger)
    old = ledger.cursors["INBOX"].uidvalidity
    for each in dovecot.mail_directory(user).glob("dovecot[.-]*"):
        each.unlink()
    await doveadm(dovecot, "mailbox", "update", "-u", user, "--uid-validity", str(old + 1_000), "INBOX")
    await once(account(dovecot, user), ledger)

    assert ledger.cursors["INBOX"].uidvalidity == old + 1_000
    assert sorted(ledger.uids("INBOX")) == list(range(1, 21))
    assert len(set(ledger.subjects("INBOX"))) == 20


async def test_expunged_mail_is_marked(dovecot: Dovecot, user: str) -> None:
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(1, 6)])
    ledger = ListLedger()
    async with following(account(dovecot, user, expunged="mark"), ledger) as states:
        await watching(states)
        await doveadm(dovecot, "expunge", "-u", user, "mailbox", "INBOX", "uid", "2,4")
        async with asyncio.timeout(20):
            while len(ledger.uids("INBOX")) > 3:
                ledger.filed.clear()
                await ledger.filed.wait()

    assert ledger.uids("INBOX") == [1, 3, 5]


async def test_a_user_who_is_kicked_comes_back(dovecot: Dovecot, user: str) -> None:
    ledger = ListLedger()
    async with following(account(dovecot, user), ledger) as states:
        await watching(states)
        await doveadm(dovecot, "kick", user)
        await append(dovecot, user, 1)
        await ledger.until(1)
        await watching(states)

    assert State.WAITING in {state.state for state in states}


async def test_a_connection_cut_in_the_middle_of_a_fetch(dovecot: Dovecot, user: str) -> None:
    """Again and again, a little later each time: in the end everything is there once."""
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(1, 1_001)])
    ledger = ListLedger()
    async with Proxy("127.0.0.1", dovecot.port) as proxy:
        proxy.cuts = [3_000, 9_000, 27_000, 81_000, 100_000]
        mine = account(dovecot, user, port=proxy.port, tls="none")
        async with following(mine, ledger) as states:
            await ledger.until(1_000)
            await watching(states)

    assert not proxy.cuts
    assert sorted(ledger.uids("INBOX")) == list(range(1, 1_001))
    assert len(set(ledger.subjects("INBOX"))) == 1_000


async def test_a_server_with_too_few_connections_is_waited_for() -> None:
    """Not taken for a wrong password."""
    with running_dovecot("mail_max_userip_connections = 1") as server:
        first = await connect(account(server, "anna"))
        with pytest.raises(Unreachable):
            await connect(account(server, "anna"))
        await first.logout()
        ledger = ListLedger()
        await append(server, "anna", 1)
        await once(account(server, "anna"), ledger)

        assert ledger.uids("INBOX") == [1]


# Looking again, and being told


FOLDERS = ("INBOX", "\\Sent", "\\Junk")


async def test_all_folders_are_announced_on_one_connection(dovecot: Dovecot, user: str) -> None:
    """By NOTIFY, within a second, of which Dovecot takes half by itself."""
    ledger = ListLedger()
    async with following(account(dovecot, user, folders=FOLDERS, poll_interval=3_600), ledger) as states:
        await watching(states)
        assert states[-1].waits_for == "NOTIFY: 3 folders"
        for number, (folder, count) in enumerate((("Sent", 1), ("Junk", 1), ("INBOX", 1), ("Sent", 2)), 1):
            await append(dovecot, user, number, folder)
            await ledger.until(count, folder, seconds=10)

    assert [len(ledger.subjects(folder)) for folder in ("INBOX", "Sent", "Junk")] == [1, 2, 1]
    assert State.WAITING not in {state.state for state in states}


async def test_a_folder_made_later_is_announced(dovecot: Dovecot, user: str) -> None:
    ledger = ListLedger()
    async with following(account(dovecot, user, folders=("*",), poll_interval=3_600), ledger) as states:
        await watching(states)
        await doveadm(dovecot, "mailbox", "create", "-u", user, "Kunden")
        await append(dovecot, user, 1, "Kunden")
        await ledger.until(1, "Kunden")
        await watching(states)
        await append(dovecot, user, 2, "Kunden")
        await ledger.until(2, "Kunden")


async def test_what_went_while_nobody_looked_is_named(dovecot: Dovecot, user: str) -> None:
    """By QRESYNC; the next pass files nothing."""
    await asyncio.to_thread(dovecot.deliver, user, [mail(number) for number in range(1, 101)])
    mine = account(dovecot, user, expunged="mark")
    ledger = ListLedger()
    await once(mine, ledger)
    await doveadm(dovecot, "expunge", "-u", user, "mailbox", "INBOX", "uid", "10:19,50")
    await append(dovecot, user, 101)
    await once(mine, ledger)
    assert sorted(ledger.uids("INBOX")) == [*range(1, 10), *range(20, 50), *range(51, 102)]

    filed, stood = len(ledger.batches), ledger.cursors["INBOX"].stand
    await once(mine, ledger)
    assert (len(ledger.batches), ledger.cursors["INBOX"].stand) == (filed, stood)
    assert stood is not None
    assert stood.modseq is not None


async def test_a_second_pass_opens_nothing(dovecot: Dovecot, user: str) -> None:
    """Also after the very first look at a folder, of which Dovecot says NOMODSEQ unless it is asked for CONDSTORE."""
    await append(dovecot, user, 1)
    ledger = ListLedger()
    await once(account(dovecot, user), ledger)

    stood = ledger.cursors["INBOX"].stand
    assert stood is not None
    assert stood.modseq is not None
    connection = await connect(account(dovecot, user))
    folders = [folder for folder in await connection.folders() if folder.is_inbox]
    assert await connection.statuses(folders) == {
        "INBOX": Opened(stood.uidvalidity, stood.uidnext, stood.messages, stood.modseq)
    }
    await connection.logout()


async def test_the_same_set_after_churn(dovecot: Dovecot, user: str) -> None:
    """Mail comes and goes and moves between folders while it is followed: what is left is what the server has."""
    ledger = ListLedger()
    mine = account(dovecot, user, folders=("INBOX", "\\Sent"), expunged="mark", poll_interval=0.5)
    async with following(mine, ledger) as states:
        await watching(states)
        for number in range(1, 31):
            await append(dovecot, user, number)
            if number % 3 == 0:
                await doveadm(dovecot, "move", "-u", user, "Sent", "mailbox", "INBOX", "uid", str(number - 1))
            if number % 5 == 0:
                await doveadm(dovecot, "expunge", "-u", user, "mailbox", "INBOX", "uid", str(number - 3))
    await once(mine, ledger)

    for folder in ("INBOX", "Sent"):
        listed = await doveadm(dovecot, "-f", "flow", "fetch", "-u", user, "uid", "mailbox", folder)
        on_server = sorted(int(line.removeprefix("uid=")) for line in listed.split())
        assert sorted(ledger.uids(folder)) == on_server


# One connection


async def test_one_connection_is_enough(user: str) -> None:
    """Watching, auditing and beginning anew, where the server permits no second connection."""
    with running_dovecot("mail_max_userip_connections = 1") as server:
        mine = account(server, user, audit_interval=0.05)
        for _ in range(2):
            ledger = ListLedger()
            async with following(mine, ledger) as states, asyncio.timeout(20):
                await watching(states)
                await append(server, user, 1)
                while not ledger.audits:
                    ledger.filed.clear()
                    await ledger.filed.wait()
                with pytest.raises(Unreachable, match="number of connections") as refused:
                    await connect(mine)
            assert refused.value.no_connection_left
            assert [state for state in states if state.state is State.WAITING] == []

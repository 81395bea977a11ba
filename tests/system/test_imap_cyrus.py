"""The IMAP door against Cyrus, which is stricter than Dovecot: no literal, quote or state out of place."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from imap.ledger import ListLedger
from maillinkd.imap import reader
from maillinkd.imap.account import Account
from maillinkd.imap.audit import audit
from maillinkd.imap.backoff import Backoff, Backoffs
from maillinkd.imap.client import connect
from maillinkd.imap.errors import LoginRefused
from maillinkd.imap.plan import plan
from maillinkd.imap.poller import follow
from maillinkd.imap.state import MailboxState, State
from system.cyrus import Cyrus, running_cyrus
from system.imap_peer import mail

pytestmark = pytest.mark.cyrus

QUICK = Backoffs(Backoff(0.05, 0.2), Backoff(0.05, 0.2), Backoff(0.05, 0.2))
NAMES = ("Отправленные", "日本語/受信", "Kunden/Müller & Söhne", "odd (name) [1] + ~", "مرحبا")
_USERS = count(1)


@pytest.fixture(scope="module")
def cyrus() -> Iterator[Cyrus]:
    """One server for all tests of this file."""
    with running_cyrus() as server:
        yield server


@pytest.fixture
def user(cyrus: Cyrus) -> str:
    """A mailbox of the test's own, empty."""
    return f"user{next(_USERS)}"


def account(cyrus: Cyrus, user: str, **changes: object) -> Account:
    settings: dict[str, object] = {"name": user, "host": "127.0.0.1", "port": cyrus.port, "tls": "none"}
    settings |= {"username": user, "password": cyrus.password, "folders": ("INBOX",)}
    return Account(**{**settings, **changes})  # type: ignore[arg-type]


async def once(account: Account, ledger: ListLedger) -> None:
    async with asyncio.timeout(60):
        await follow(account, ledger, once=True, backoffs=QUICK)


async def append(cyrus: Cyrus, user: str, *numbers: int, folder: str = "INBOX") -> None:
    await asyncio.to_thread(cyrus.append, user, [mail(number) for number in numbers], folder)


async def do(work: Callable[..., object], *arguments: object) -> None:
    await asyncio.to_thread(work, *arguments)


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


async def until(ledger: ListLedger, uids: list[int], folder: str = "INBOX") -> None:
    """Waits until the ledger holds these and no others."""
    async with asyncio.timeout(20):
        while folder not in ledger.cursors or sorted(ledger.uids(folder)) != uids:
            ledger.filed.clear()
            await ledger.filed.wait()


async def test_login(cyrus: Cyrus, user: str) -> None:
    connection = await connect(account(cyrus, user))
    assert {"IDLE", "CONDSTORE", "QRESYNC"} <= connection.capabilities
    assert await connection.enable_qresync()
    opened = await connection.examine((await connection.folders())[0])
    assert opened.highestmodseq
    await connection.logout()
    with pytest.raises(LoginRefused):
        await connect(account(cyrus, user, password="wrong"))


async def test_a_first_sync_and_nothing_twice(cyrus: Cyrus, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, newest first; no flag touched; the plan agrees beforehand, the audit afterwards."""
    monkeypatch.setattr(reader, "CHUNK", 40)
    await append(cyrus, user, *range(1, 101))
    mine, ledger = account(cyrus, user), ListLedger()
    planned = await plan(mine, ledger)
    await once(mine, ledger)
    filed = len(ledger.batches)
    await once(mine, ledger)

    assert [(each.folder, each.first) for each in planned.folders] == [("INBOX", 100)]
    assert sorted(ledger.uids("INBOX")) == list(range(1, 101))
    assert ledger.uids("INBOX")[:40] == list(range(61, 101))
    assert len(set(ledger.subjects("INBOX"))) == 100
    assert len(ledger.batches) == filed
    assert await asyncio.to_thread(cyrus.seen, user) == ""
    found = await audit(mine, ledger)
    assert (found.missing, found.folders[0].tally.dispositions["stored"]) == (0, 100)
    ledger.forget("INBOX", 7, 8, 30)
    assert (await audit(mine, ledger)).folders[0].tally.missing == [(7, 8), (30, 30)]


async def test_whole_messages(cyrus: Cyrus, user: str) -> None:
    originals = [mail(1), mail(2, 1_500_000)]
    await do(cyrus.append, user, originals)
    ledger = ListLedger()
    await once(account(cyrus, user, store="full"), ledger)

    raw = {message.uid: message.raw for batch in ledger.batches for message in batch.messages}
    assert [raw[uid] for uid in sorted(raw)] == originals


async def test_folder_names_in_every_script(cyrus: Cyrus, user: str) -> None:
    for number, name in enumerate(NAMES, 1):
        await do(cyrus.create, user, name)
        await append(cyrus, user, number, folder=name)
    ledger = ListLedger()
    await once(account(cyrus, user, folders=("*",)), ledger)

    assert {name: ledger.subjects(name) for name in NAMES} == {
        name: [b"number %d (" % number] for number, name in enumerate(NAMES, 1)
    }


async def test_new_mail_comes_by_idle(cyrus: Cyrus, user: str) -> None:
    await append(cyrus, user, 1)
    ledger = ListLedger()
    async with following(account(cyrus, user), ledger) as states:
        await watching(states)
        for number in (2, 3, 4):
            await append(cyrus, user, number)
            await until(ledger, list(range(1, number + 1)))

    assert State.WAITING not in {state.state for state in states}


async def test_expunged_mail_is_marked_while_watching_and_after_a_pause(cyrus: Cyrus, user: str) -> None:
    await append(cyrus, user, 1, 2, 3, 4, 5, 6)
    mine, ledger = account(cyrus, user, expunged="mark"), ListLedger()
    async with following(mine, ledger) as states:
        await until(ledger, [1, 2, 3, 4, 5, 6])
        await watching(states)
        await do(cyrus.expunge, user, "2,4")
        await until(ledger, [1, 3, 5, 6])
    await do(cyrus.expunge, user, "5")
    await append(cyrus, user, 7)
    await once(mine, ledger)

    assert sorted(ledger.uids("INBOX")) == [1, 3, 6, 7]


async def test_another_uidvalidity(cyrus: Cyrus, user: str) -> None:
    """A folder that was deleted and made again is read anew."""
    await do(cyrus.create, user, "Clients")
    await append(cyrus, user, 1, 2, 3, folder="Clients")
    mine, ledger = account(cyrus, user, folders=("Clients",)), ListLedger()
    await once(mine, ledger)
    old = ledger.cursors["Clients"].uidvalidity
    await do(cyrus.delete, user, "Clients")
    await do(cyrus.create, user, "Clients")
    await append(cyrus, user, 2, 3, 4, folder="Clients")
    await once(mine, ledger)

    assert ledger.cursors["Clients"].uidvalidity != old
    assert sorted(ledger.uids("Clients")) == [1, 2, 3]
    assert set(ledger.subjects("Clients")) == {b"number 1 (", b"number 2 (", b"number 3 (", b"number 4 ("}


async def test_other_folders_are_followed_too(cyrus: Cyrus, user: str) -> None:
    await do(cyrus.create, user, "Sent")
    ledger = ListLedger()
    mine = account(cyrus, user, folders=("INBOX", "Sent"), poll_interval=0.2)
    async with following(mine, ledger) as states:
        await watching(states)
        await append(cyrus, user, 1, folder="Sent")
        await until(ledger, [1], "Sent")
        await append(cyrus, user, 2)
        await until(ledger, [1])

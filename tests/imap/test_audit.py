"""An audit of a mailbox: what is missing is found, and nothing else is called so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta

import pytest

from imap.ledger import ListLedger
from maillinkd.imap import tally
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.audit import Audit, audit
from maillinkd.imap.backoff import Backoff, Backoffs
from maillinkd.imap.errors import LoginRefused
from maillinkd.imap.poller import follow
from system.imap_peer import NOON, FakeConnection, FakeFolder, FakeServer, mail

QUICK = Backoffs(Backoff(0.001, 0.01), Backoff(0.001, 0.01), Backoff(0.001, 0.01))
SHORT = Deadlines(connect=5, command=5, search=5, bytes_per_second=1e9, idle_done=1, logout=1)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as running:
        for number in range(1, 8):
            running.inbox.append(mail(number))
        yield running


def account(server: FakeServer, **changes: object) -> Account:
    settings: dict[str, object] = {"name": "anna", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    settings |= {"username": "anna", "password": "secret", "folders": ("INBOX",)}
    return Account(**{**settings, **changes})  # type: ignore[arg-type]


async def read(server: FakeServer, ledger: ListLedger, **changes: object) -> None:
    await follow(account(server, **changes), ledger, once=True, backoffs=QUICK, deadlines=SHORT)


async def audited(server: FakeServer, ledger: ListLedger, **changes: object) -> Audit:
    return await audit(account(server, **changes), ledger, deadlines=SHORT)


async def inbox(server: FakeServer, ledger: ListLedger, **changes: object) -> dict[str, object]:
    """What the audit says of INBOX, without noughts."""
    (found,) = (await audited(server, ledger, **changes)).folders
    numbers = {
        "stored": found.tally.dispositions["stored"],
        "before_since": found.tally.before_since,
        "unread": found.tally.unread,
        "missing": found.tally.missing,
        "expunged": found.tally.expunged,
        "gone": found.tally.gone,
    }
    return {word: number for word, number in numbers.items() if number}


@pytest.fixture
async def ledger(server: FakeServer) -> ListLedger:
    """All seven mails are read."""
    ledger = ListLedger()
    await read(server, ledger)
    return ledger


async def test_what_is_read_is_accounted_for(server: FakeServer, ledger: ListLedger) -> None:
    assert await inbox(server, ledger) == {"stored": 7}
    assert ledger.audits == [("INBOX", 0)]


async def test_what_was_never_filed_is_missing(server: FakeServer, ledger: ListLedger) -> None:
    ledger.forget("INBOX", 2, 3, 5)

    assert await inbox(server, ledger) == {"stored": 4, "missing": [(2, 3), (5, 5)]}
    assert ledger.audits == [("INBOX", 3)]


async def test_new_mail_that_nobody_has_read_is_not_missing(server: FakeServer, ledger: ListLedger) -> None:
    server.inbox.append(mail(8))

    assert await inbox(server, ledger) == {"stored": 7, "unread": 1}


async def test_expunged_mail_is_not_missing(server: FakeServer, ledger: ListLedger) -> None:
    del server.inbox.messages[2]
    assert await inbox(server, ledger) == {"stored": 6, "expunged": 1}
    await read(server, ledger, expunged="mark")

    assert await inbox(server, ledger) == {"stored": 6, "gone": 1}


async def test_a_folder_that_was_never_read(server: FakeServer) -> None:
    assert await inbox(server, ListLedger()) == {"unread": 7}


async def test_a_first_sync_that_is_half_done(server: FakeServer, ledger: ListLedger) -> None:
    ledger.cursors["INBOX"] = replace(ledger.cursors["INBOX"], bottom=4)
    ledger.forget("INBOX", 1, 2, 3, 6)

    assert await inbox(server, ledger) == {"stored": 3, "unread": 3, "missing": [(6, 6)]}


async def test_mail_before_since(server: FakeServer) -> None:
    """Older mail counts as filtered; what is not older, among it, must have been read."""
    for uid, message in server.inbox.messages.items():
        message.received = NOON - timedelta(days=7 - uid)
    ledger = ListLedger()
    await read(server, ledger, since=date(2026, 11, 19))
    assert await inbox(server, ledger, since=date(2026, 11, 19)) == {"stored": 4, "before_since": 3}
    ledger.forget("INBOX", 4)
    assert await inbox(server, ledger, since=date(2026, 11, 19)) == {
        "stored": 3, "before_since": 3, "missing": [(4, 4)]
    }  # fmt: skip

    # A wider `since` is still to be read back to.
    assert await inbox(server, ledger, since=date(2026, 11, 17)) == {"stored": 3, "before_since": 1, "unread": 3}


async def test_another_uidvalidity(server: FakeServer, ledger: ListLedger) -> None:
    server.inbox.uidvalidity = 2
    (found,) = (await audited(server, ledger)).folders

    assert (found.uidvalidity, found.renumbered_from) == (2, 1)
    assert (found.tally.unread, found.tally.missing) == (7, [])


async def test_what_is_filed_between_two_looks_is_not_missing(server: FakeServer, ledger: ListLedger) -> None:
    """The other process has just filed a mail that became visible late."""
    kept = list(ledger.batches)
    ledger.forget("INBOX", 4)
    looks = 0

    async def search(connection: FakeConnection, tag: str, rest: str) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            ledger.batches[:] = kept
        return False

    server.on("UID SEARCH", search)

    assert await inbox(server, ledger) == {"stored": 7}
    assert looks == 2


async def test_what_is_expunged_between_two_looks_is_not_missing(server: FakeServer, ledger: ListLedger) -> None:
    ledger.forget("INBOX", 4)
    looks = 0

    async def search(connection: FakeConnection, tag: str, rest: str) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            del server.inbox.messages[4]
        return False

    server.on("UID SEARCH", search)

    assert await inbox(server, ledger) == {"stored": 6}


async def test_a_large_folder_is_compared_in_parts(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "WINDOW", 3)
    server.inbox.append(mail(8))
    ledger.forget("INBOX", 3, 4, 7)
    server.commands.clear()

    assert await inbox(server, ledger) == {"stored": 4, "unread": 1, "missing": [(3, 4), (7, 7)]}
    searches = [line for line in server.commands if "UID SEARCH" in line]
    assert len(searches) == 6  # each part has something missing, and is looked at twice


async def test_a_folder_that_is_not_there_and_one_that_does_not_open(server: FakeServer, ledger: ListLedger) -> None:
    server.folders["Closed"] = FakeFolder()

    async def examine(connection: FakeConnection, tag: str, rest: str) -> bool:
        if "Closed" not in rest:
            return False
        await connection.say(f"{tag} NO [NOPERM] no")
        return True

    server.on("EXAMINE", examine)
    found = await audited(server, ledger, folders=("Closed", "INBOX", "Nowhere"))

    assert [each.folder for each in found.folders] == ["INBOX"]
    assert (found.missing_folders, found.unopened) == (("Nowhere",), ("Closed",))


async def test_nothing_is_filed_and_nothing_is_marked(server: FakeServer, ledger: ListLedger) -> None:
    ledger.forget("INBOX", 4)
    filed = len(ledger.batches)
    server.commands.clear()
    await audited(server, ledger)

    assert len(ledger.batches) == filed
    assert not [line for line in server.commands if "FETCH" in line or "SELECT" in line or "STORE" in line]


async def test_a_wrong_password(server: FakeServer, ledger: ListLedger) -> None:
    with pytest.raises(LoginRefused):
        await audited(server, ledger, password="wrong")


# With a repair: a pass of the follower


async def repaired(server: FakeServer, ledger: ListLedger, **changes: object) -> Audit:
    summary = await follow(account(server, **changes), ledger, audit=True, backoffs=QUICK, deadlines=SHORT)
    assert summary.audit is not None
    return summary.audit


async def test_what_is_missing_is_fetched(server: FakeServer, ledger: ListLedger) -> None:
    cursor = ledger.cursors["INBOX"]
    ledger.forget("INBOX", 1, 2, 5)
    server.inbox.append(mail(8))
    found = await repaired(server, ledger)

    assert (found.missing, found.repaired) == (0, 3)
    assert sorted(ledger.uids("INBOX")) == [1, 2, 3, 4, 5, 6, 7]
    assert ledger.cursors["INBOX"] == cursor
    assert ledger.audits == [("INBOX", 0)]


async def test_what_the_server_lists_and_does_not_give_stays_missing(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maillinkd.imap.reader._LOOK_AGAIN", (0.0,))
    ledger.forget("INBOX", 2)
    server.on("UID FETCH", "{tag} OK nothing to see")
    found = await repaired(server, ledger)

    assert (found.missing, found.repaired) == (1, 0)
    assert found.folders[0].tally.missing == [(2, 2)]
    server.on("UID FETCH", None)

    assert (await repaired(server, ledger)).repaired == 1


async def test_a_repair_goes_on_after_the_connection_broke(server: FakeServer, ledger: ListLedger) -> None:
    ledger.forget("INBOX", *range(1, 8))
    broken = 0

    async def fetch(connection: FakeConnection, tag: str, rest: str) -> bool:
        nonlocal broken
        broken += 1
        if broken < 3:
            connection.writer.transport.abort()
        return broken < 3

    server.on("UID FETCH", fetch)
    found = await repaired(server, ledger)

    assert found.missing == 0
    assert sorted(ledger.uids("INBOX")) == list(range(1, 8))


async def test_who_follows_audits_now_and_then(server: FakeServer, ledger: ListLedger) -> None:
    """And repairs, and misses nothing that comes meanwhile."""
    ledger.forget("INBOX", 2)
    server.capabilities.remove("IDLE")
    mine = account(server, poll_interval=0.01, audit_interval=0.02)
    task = asyncio.create_task(follow(mine, ledger, backoffs=QUICK, deadlines=SHORT))
    try:
        async with asyncio.timeout(10):
            while len(ledger.audits) < 3:
                ledger.filed.clear()
                await ledger.filed.wait()
            server.inbox.append(mail(8))
            while 8 not in ledger.uids("INBOX"):
                ledger.filed.clear()
                await ledger.filed.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert sorted(ledger.uids("INBOX")) == list(range(1, 9))
    assert set(ledger.audits) == {("INBOX", 0)}

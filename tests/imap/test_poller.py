"""The life of a mailbox's task: catching up, watching, breaking and coming back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from imap.ledger import ListLedger
from imap.modern_peer import EXTENSIONS, Modern
from maillinkd.imap import poller, reader, sync
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.budget import Traffic
from maillinkd.imap.client import Connection
from maillinkd.imap.errors import ImapError, LoginRefused, Refused, Unreachable
from maillinkd.imap.poller import Backoff, Backoffs, MailboxState, State, Summary, follow, plan
from maillinkd.mail.delivery import FolderBatch, FolderCursor, TemporaryFailure
from system.imap_peer import NOON, FakeConnection, FakeFolder, FakeServer, Proxy, fetched, mail
from system.providers import BYE_BACK_OFF, TOO_MUCH

QUICK = Backoffs(Backoff(0.001, 0.01), Backoff(0.001, 0.01), Backoff(0.001, 0.01))
SHORT = Deadlines(connect=5, command=1, search=1, bytes_per_second=1e9, idle_done=1, logout=1)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as running:
        for number in range(1, 8):
            running.inbox.append(mail(number))
        yield running


@pytest.fixture
def ledger() -> ListLedger:
    return ListLedger()


def account(server: FakeServer | Proxy, **changes: object) -> Account:
    settings: dict[str, object] = {"name": "anna", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    settings |= {"username": "anna", "password": "secret", "folders": ("INBOX",)}
    return Account(**{**settings, **changes})  # type: ignore[arg-type]


async def once(server: FakeServer | Proxy, ledger: ListLedger, **changes: object) -> Summary:
    async with asyncio.timeout(30):
        return await follow(account(server, **changes), ledger, once=True, backoffs=QUICK, deadlines=SHORT)


class Following:
    """A task that follows, and what it reported. `async with Following(...) as following: ...`"""

    def __init__(
        self,
        server: FakeServer | Proxy,
        ledger: ListLedger,
        backoffs: Backoffs = QUICK,
        traffic: Traffic | None = None,
        **changes: object,
    ) -> None:
        self.states: list[MailboxState] = []
        self._reported = asyncio.Event()
        self._start = lambda: follow(
            account(server, **changes),
            ledger,
            report=self._report,
            backoffs=backoffs,
            deadlines=SHORT,
            traffic=traffic,
        )

    def _report(self, state: MailboxState) -> None:
        self.states.append(state)
        self._reported.set()

    async def until(self, wanted: Callable[[MailboxState], bool], seconds: float = 10.0) -> MailboxState:
        """Waits for a state that is reported from now on, or holds now."""
        async with asyncio.timeout(seconds):
            while not (self.states and wanted(self.states[-1])):
                self._reported.clear()
                await self._reported.wait()
        return self.states[-1]

    async def ever(self, state: State) -> MailboxState:
        async with asyncio.timeout(10):
            while not (found := [each for each in self.states if each.state is state]):
                self._reported.clear()
                await self._reported.wait()
        return found[-1]

    async def __aenter__(self) -> "Following":
        self.task = asyncio.create_task(self._start())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


# One pass


async def test_a_pass_reads_everything_newest_first(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 3)
    summary = await once(server, ledger)

    assert [[message.uid for message in batch.messages] for batch in ledger.batches] == [[5, 6, 7], [2, 3, 4], [1]]
    assert [batch.cursor.bottom for batch in ledger.batches] == [5, 2, 0]
    assert all(batch.first_sync for batch in ledger.batches)
    assert Summary("anna", ("INBOX",), (), 7, 0) == summary
    assert FolderCursor(1, 7, 0, None, 0) == ledger.cursors["INBOX"]


async def test_a_second_pass_files_nothing(server: FakeServer, ledger: ListLedger) -> None:
    await once(server, ledger)
    await once(server, ledger)

    assert len(ledger.batches) == 1


async def test_nothing_is_marked_as_read(server: FakeServer, ledger: ListLedger) -> None:
    """EXAMINE and PEEK alone, in both modes."""
    await once(server, ledger)
    await once(server, ListLedger(), store="full")

    assert not [line for line in server.commands if "SELECT" in line or "BODY[" in line or "STORE" in line]


async def test_since(server: FakeServer, ledger: ListLedger) -> None:
    """Back to a date; later mail counts whatever its age; a wider date fetches the difference."""
    for uid, message in server.inbox.messages.items():
        message.received = NOON - timedelta(days=7 - uid)
    await once(server, ledger, since=date(2026, 11, 20))
    server.inbox.append(mail(8), NOON - timedelta(days=300))
    await once(server, ledger, since=date(2026, 11, 21))
    await once(server, ledger, since=date(2026, 11, 18))

    assert ledger.uids("INBOX") == [5, 6, 7, 8, 3, 4]
    assert FolderCursor(1, 8, 0, date(2026, 11, 18), 7) == ledger.cursors["INBOX"]


async def test_an_empty_folder(server: FakeServer, ledger: ListLedger) -> None:
    server.folders["INBOX"] = FakeFolder()
    await once(server, ledger)
    server.inbox.append(mail(1))
    await once(server, ledger)

    assert ledger.uids("INBOX") == [1]
    assert not ledger.batches[-1].first_sync


async def test_a_server_without_uidnext_and_uidvalidity(server: FakeServer, ledger: ListLedger) -> None:
    server.says_uidnext = server.says_uidvalidity = False
    await once(server, ledger)
    server.inbox.append(mail(8))
    await once(server, ledger)

    assert list(range(1, 9)) == sorted(ledger.uids("INBOX"))
    assert ledger.cursors["INBOX"].uidvalidity == 0


async def test_another_uidvalidity(server: FakeServer, ledger: ListLedger) -> None:
    """Read anew, back to where it was first read to; nothing is told twice under one UIDVALIDITY."""
    await once(server, ledger, since=date(2026, 11, 1))
    for at in range(2, 8):
        server.folders["INBOX"] = FakeFolder(uidvalidity=at)
        for number in range(1, at):
            server.inbox.append(mail(number))
        await once(server, ledger, since=date(2026, 11, 20))

        assert list(range(1, at)) == ledger.uids("INBOX")
        assert FolderCursor(at, at - 1, 0, date(2026, 11, 1), at - 1) == ledger.cursors["INBOX"]


async def test_a_message_expunged_before_it_was_fetched_is_gone(server: FakeServer, ledger: ListLedger) -> None:
    async def expunge(peer: FakeConnection, tag: str, line: str) -> bool:
        server.inbox.messages.pop(4, None)
        return False

    server.on("UID FETCH", expunge)
    summary = await once(server, ledger)

    assert ledger.uids("INBOX") == [1, 2, 3, 5, 6, 7]
    assert (ledger.batches[0].gone, summary.gone) == ((4,), 1)


async def test_a_message_listed_and_not_given_is_asked_for_again(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that lags gives it at the second time; one that never gives it: gone, until another connection."""
    monkeypatch.setattr(reader, "_LOOK_AGAIN", (0.0, 0.0, 0.0))
    asked = 0

    async def lag(peer: FakeConnection, tag: str, line: str) -> bool:
        nonlocal asked
        asked += 1
        uids = [1, 2, 3, 5, 6, 7] if asked == 1 else [4] if asked == 3 else []
        for uid in uids:
            await peer.send(fetched(server.inbox, uid, line))
        await peer.say(f"{tag} OK done")
        return True

    server.on("UID FETCH", lag)
    await once(server, ledger)
    assert ledger.uids("INBOX") == [1, 2, 3, 4, 5, 6, 7]

    server.inbox.append(mail(8))
    await once(server, ledger)
    assert ledger.batches[-1].gone == (8,)

    server.on("UID FETCH", None)
    await once(server, ledger)
    assert [message.uid for message in ledger.batches[-1].messages] == [8]


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


async def test_new_mail_does_not_wait_for_a_first_sync(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1)

    async def deliver(peer: FakeConnection, tag: str, line: str) -> bool:
        if " 5 " in line:
            server.inbox.append(mail(8))
        return False

    server.on("UID FETCH", deliver)
    await once(server, ledger)

    filed = ledger.uids("INBOX")
    assert [uid for uid in filed if uid != 8] == [7, 6, 5, 4, 3, 2, 1]
    assert filed.index(8) < filed.index(2)  # what was on its way comes first
    assert FolderCursor(1, 8, 0, None, 0) == ledger.cursors["INBOX"]


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


async def test_folders_that_are_not_there_are_reported(server: FakeServer, ledger: ListLedger) -> None:
    server.folders["Locked"] = FakeFolder()
    server.on("EXAMINE", None)

    async def locked(peer: FakeConnection, tag: str, line: str) -> bool:
        if "Locked" in line:
            await peer.say(f"{tag} NO [NOPERM] not yours")
        return "Locked" in line

    server.on("EXAMINE", locked)
    summary = await once(server, ledger, folders=("Nope", "Locked", "INBOX"))

    assert summary.missing_folders == ("Nope", "Locked")
    assert summary.filed == 7


async def test_no_folder_at_all(server: FakeServer, ledger: ListLedger) -> None:
    with pytest.raises(ImapError, match="none of the configured folders"):
        await once(server, ledger, folders=("Nope",))


# Whole messages


async def test_whole_messages(server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones together up to a size, large ones alone and in pieces, giants as headers."""
    monkeypatch.setattr(reader, "CHUNK_BYTES", 3_500)
    monkeypatch.setattr(reader, "PIECE", 2_000)
    monkeypatch.setattr(reader, "LARGEST", 9_000)
    monkeypatch.setattr("maillinkd.imap.client.PIECE", 2_000)
    server.folders["INBOX"] = FakeFolder()
    sizes = (500, 900, 2_500, 5_000, 100, 12_000, 800, 1_000, 900)
    for number, size in enumerate(sizes, 1):
        server.inbox.append(mail(number, size))
    await once(server, ledger, store="full")

    assert [[each.uid for each in batch.messages] for batch in ledger.batches] == [
        [7, 8, 9],
        [6],
        [5],
        [4],
        [3],
        [1, 2],
    ]
    assert [batch.cursor.bottom for batch in ledger.batches] == [7, 6, 5, 4, 3, 0]
    for batch in ledger.batches:
        for message in batch.messages:
            raw = server.inbox.messages[message.uid].raw
            assert (None if message.uid == 6 else raw) == message.raw
            assert raw.startswith(message.headers)


async def test_whole_messages_that_are_gone(server: FakeServer, ledger: ListLedger) -> None:
    async def expunge(peer: FakeConnection, tag: str, line: str) -> bool:
        if "BODY" in line:
            server.inbox.messages.pop(3, None)
        return False

    server.on("UID FETCH", expunge)
    await once(server, ledger, store="full")

    assert ledger.uids("INBOX") == [1, 2, 4, 5, 6, 7]
    assert ledger.batches[0].gone == (3,)


# Faults


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.torture), 3])
async def test_a_connection_cut_at_every_byte(server: FakeServer, ledger: ListLedger, step: int) -> None:
    """No wrong batch, nothing twice, nothing missing, wherever it is cut."""
    server.folders["INBOX"] = FakeFolder()
    for number in range(1, 4):
        server.inbox.append(mail(number))
    server.folders["Sent"] = FakeFolder()
    server.folders["Sent"].append(mail(9))
    subjects = [b"number 1 (", b"number 2 (", b"number 3 ("]
    ends = {"INBOX": FolderCursor(1, 3, 0, None, 0), "Sent": FolderCursor(1, 1, 0, None, 0)}
    cut, whole = 0, False
    while not whole:
        broken = ListLedger()
        server.cuts = [cut]
        made = len(server.connections)
        try:
            await once(server, broken, folders=("INBOX", "Sent"))
        except Unreachable:  # so early that a pass does not try again
            await once(server, broken, folders=("INBOX", "Sent"))
        whole = len(server.connections) == made + 1
        cut += step

        assert (sorted(broken.uids("INBOX")), broken.uids("Sent")) == ([1, 2, 3], [1])
        assert sorted(broken.subjects("INBOX")) == subjects
        assert broken.cursors == ends
    assert cut > 1_000


BREAKS = {
    "the connection drops": "drop",
    "the server says NO": "{tag} NO [SERVERBUG] cannot read that",
    "the server says BAD": "{tag} BAD cannot read that",
    "garbage": "* 3 FETCH (UID 3 BODY[)",
    "a literal too large": "* 3 FETCH (UID 3 BODY[] {{99999999999}}",
}


@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS.keys())
@pytest.mark.parametrize("store", ["headers", "full"])
async def test_one_message_that_breaks_every_fetch_stops_nothing(
    server: FakeServer, ledger: ListLedger, answer: str, store: str
) -> None:
    """It is found by fetching fewer at a time, and handed over without its bytes; all others are read."""

    async def break_it(peer: FakeConnection, tag: str, line: str) -> bool:
        low, _, high = line.split(" ")[2].partition(":")
        if "BODY" not in line or not int(low) <= 3 <= int(high or low):
            return False
        if answer == "drop":
            peer.cut()
        await peer.say(answer.format(tag=tag))
        return True

    server.on("UID FETCH", break_it)
    await once(server, ledger, store=store)

    assert sorted(ledger.uids("INBOX")) == [1, 2, 3, 4, 5, 6, 7]
    assert [each.headers for batch in ledger.batches for each in batch.messages if each.uid == 3] == [b""]
    assert len(ledger.subjects("INBOX")) == 6


async def test_of_a_message_that_cannot_be_had_whole_the_headers_are_taken(
    server: FakeServer, ledger: ListLedger
) -> None:
    async def break_it(peer: FakeConnection, tag: str, line: str) -> bool:
        if "BODY.PEEK[]" in line and "FETCH 3 " in line.replace("1:7", "3"):
            peer.cut()
        return False

    server.on("UID FETCH", break_it)
    await once(server, ledger, store="full")
    messages = {message.uid: message for batch in ledger.batches for message in batch.messages}

    assert [uid for uid, message in messages.items() if message.raw is None] == [3]
    assert messages[3].headers == server.inbox.messages[3].header


async def test_a_batch_that_cannot_be_filed_is_filed_later(server: FakeServer, ledger: ListLedger) -> None:
    """The same batch, and the cursor does not move before."""
    ledger.failing = 3
    async with Following(server, ledger) as following:
        paused = await following.ever(State.PAUSED)
        await ledger.until(7)
        await following.until(lambda state: state.state is State.WATCHING)

    assert paused.last_error == "the disk is full"
    assert paused.next_try is not None
    assert ledger.uids("INBOX") == [1, 2, 3, 4, 5, 6, 7]
    assert sum("UID FETCH" in line for line in server.commands) == 1


async def test_a_pass_gives_up_when_nothing_can_be_filed(server: FakeServer, ledger: ListLedger) -> None:
    ledger.failing = 1_000
    with pytest.raises(TemporaryFailure):
        await once(server, ledger)

    assert ledger.cursors == {}


async def test_a_database_that_is_away_at_first(server: FakeServer) -> None:
    class Away(ListLedger):
        asked = 0

        async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
            self.asked += 1
            if self.asked < 3:
                raise TemporaryFailure("no database")
            return await super().cursor(mailbox, folder)

    ledger = Away()
    async with Following(server, ledger) as following:
        await following.ever(State.PAUSED)
        await ledger.until(7)


async def test_a_bug_of_ours_stops_a_pass_and_delays_the_daemon(server: FakeServer) -> None:
    class Buggy(ListLedger):
        fixed = False

        async def file(self, batch: FolderBatch) -> None:
            if not self.fixed:
                self.fixed = True
                raise KeyError("oops")
            await super().file(batch)

    with pytest.raises(KeyError):
        await once(server, Buggy())
    ledger = Buggy()
    async with Following(server, ledger) as following:
        waiting = await following.ever(State.WAITING)
        await ledger.until(7)

    assert "KeyError" in waiting.last_error


async def test_while_a_batch_is_filed_the_next_is_fetched(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not more than a few: a slow database does not fill the memory."""
    monkeypatch.setattr(reader, "CHUNK", 1)

    class Slow(ListLedger):
        def __init__(self) -> None:
            super().__init__()
            self.gate = asyncio.Event()
            self.waiting = asyncio.Event()

        async def file(self, batch: FolderBatch) -> None:
            self.waiting.set()
            await self.gate.wait()
            await super().file(batch)

    ledger = Slow()
    passing = asyncio.create_task(once(server, ledger))
    await ledger.waiting.wait()
    async with asyncio.timeout(5):
        while sum("UID FETCH" in line for line in server.commands) < reader.WINDOW:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # would more be asked for, it would be now

    assert sum("UID FETCH" in line for line in server.commands) == reader.WINDOW
    ledger.gate.set()
    await passing
    assert ledger.uids("INBOX") == [7, 6, 5, 4, 3, 2, 1]


# Logging in


async def test_a_refused_login_ends_a_pass(server: FakeServer, ledger: ListLedger) -> None:
    with pytest.raises(LoginRefused):
        await once(server, ledger, password="wrong")

    assert len(server.logins) == 1


async def test_an_absent_server_ends_a_pass(ledger: ListLedger) -> None:
    async with FakeServer() as gone:
        pass
    with pytest.raises(Unreachable):
        await once(gone, ledger)


async def test_a_refused_login_is_not_repeated_soon(server: FakeServer, ledger: ListLedger) -> None:
    """Five minutes at the least, then longer; the mailbox says so."""
    async with Following(
        server, ledger, backoffs=replace(QUICK, login=Backoffs().login), password="wrong"
    ) as following:
        refused = await following.ever(State.REFUSED)

    assert refused.next_try is not None
    assert timedelta(minutes=4.9) < refused.next_try - datetime.now(UTC) < timedelta(minutes=10.1)
    assert len(server.logins) == 1
    assert "AUTHENTICATIONFAILED" in refused.last_error


async def test_after_a_password_was_changed_it_goes_on(server: FakeServer, ledger: ListLedger) -> None:
    passwords = iter(["wrong", "wrong"])
    async with Following(server, ledger, password=lambda: next(passwords, "secret")) as following:
        await following.ever(State.REFUSED)
        await ledger.until(7)

    assert len(server.logins) == 3


WISHES = {
    "a time": ("{tag} NO [THROTTLED] Suggested Backoff Time: 600000 milliseconds", 599),
    "the mailbox is away": ("{tag} BAD User is authenticated but not connected.", 59),
}


@pytest.mark.parametrize(("answer", "seconds"), WISHES.values(), ids=WISHES.keys())
@pytest.mark.parametrize("command", ["AUTHENTICATE", "LIST", "EXAMINE", "UID SEARCH", "UID FETCH"])
async def test_a_server_that_asks_for_time_gets_it(
    server: FakeServer, ledger: ListLedger, command: str, answer: str, seconds: int
) -> None:
    server.on(command, answer)
    async with Following(server, ledger) as following:
        waiting = await following.ever(State.WAITING)

    assert waiting.next_try is not None
    assert waiting.next_try - datetime.now(UTC) > timedelta(seconds=seconds - 1)


# Watching


async def test_new_mail_comes_by_idle(server: FakeServer, ledger: ListLedger) -> None:
    """Within 50 ms of the server's announcement; measured over ten, the median counts."""
    delays = []
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        for number in range(8, 18):
            await _idling(server)
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


async def test_a_folder_that_is_made_later_is_found(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_RELIST", 0.0)
    async with Following(server, ledger, folders=("*",), poll_interval=0.02) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        server.folders["New"] = FakeFolder()
        server.folders["New"].append(mail(1))
        await ledger.until(1, "New")


async def test_expunges_are_noticed_while_watching(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger, expunged="mark") as following:
        await following.until(lambda state: state.state is State.WATCHING)
        await _idling(server)
        del server.inbox.messages[3]
        await server.connections[-1].say("* 3 EXPUNGE")
        async with asyncio.timeout(5):
            while 3 in ledger.uids("INBOX"):
                await asyncio.sleep(0.001)


async def test_a_hundred_drops_lose_nothing(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger) as following:
        for number in range(8, 108):
            await _idling(server)
            server.inbox.append(mail(number))
            await server.drop_all()
            for peer in server.connections:
                peer.idling = False
            await ledger.until(number)
        await following.until(lambda state: state.state is State.WATCHING and not state.last_error)

    assert list(range(1, 108)) == ledger.uids("INBOX")


BYES = ["CAPABILITY", "AUTHENTICATE", "LIST", "EXAMINE", "UID SEARCH", "UID FETCH", "IDLE", "STATUS"]


@pytest.mark.parametrize("command", BYES)
async def test_good_bye_in_any_state(server: FakeServer, ledger: ListLedger, command: str) -> None:
    """Its reason is shown, nothing is lost, and the next connection goes on."""
    server.folders["Sent"] = FakeFolder()
    said = False

    async def bye(peer: FakeConnection, tag: str, line: str) -> bool:
        nonlocal said
        if not said:
            said = True
            await peer.say("* BYE [UNAVAILABLE] maintenance")
            return True
        return False

    server.on(command, bye)
    async with Following(server, ledger, folders=("INBOX", "Sent"), poll_interval=0.02) as following:
        waiting = await following.ever(State.WAITING)
        server.inbox.append(mail(8))
        await ledger.until(8)
        up = await following.until(lambda state: state.state is State.WATCHING and state.last_success is not None)

    assert "maintenance" in waiting.last_error
    assert list(range(1, 9)) == sorted(ledger.uids("INBOX"))
    assert up.last_error == ""


async def test_the_silent_death_of_idle_is_noticed(server: FakeServer, ledger: ListLedger) -> None:
    """As when a NAT box forgets the connection: nobody says a word."""
    deadlines = replace(SHORT, connect=0.1, idle_renew=0.1, idle_done=0.1, command=0.3)
    async with Proxy("127.0.0.1", server.port) as proxy:
        states: list[MailboxState] = []
        task = asyncio.create_task(
            follow(account(proxy), ledger, report=states.append, deadlines=deadlines, backoffs=QUICK)
        )
        await ledger.until(7)
        await _idling(server)
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


async def test_states_tell_the_story(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger, folders=("INBOX", "Nope")) as following:
        watching = await following.until(lambda state: state.state is State.WATCHING)

    story = list(dict.fromkeys(state.state for state in following.states))
    assert story == [State.CONNECTING, State.CATCHING_UP, State.WATCHING]
    assert (
        watching.folder,
        watching.missing_folders,
        watching.filed,
        watching.pending,
        watching.last_error,
        watching.next_try,
    ) == ("INBOX", ("Nope",), 7, 0, "", None)
    assert watching.last_success is not None
    assert 7 in {state.pending for state in following.states}


async def test_cancelling_closes_the_connection(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger):
        await _idling(server)
    async with asyncio.timeout(5):
        while not server.connections[-1].writer.transport.is_closing():
            await asyncio.sleep(0.001)


async def test_a_plan_files_nothing(server: FakeServer, ledger: ListLedger) -> None:
    await once(server, ledger)
    server.inbox.append(mail(8))
    server.folders["Sent"] = FakeFolder()
    server.folders["Sent"].append(mail(1, 1_000))
    planned = await plan(account(server, folders=("INBOX", "Sent", "Nope")), ledger)

    assert [("INBOX", 1, 0, len(mail(8))), ("Sent", 0, 1, len(mail(1, 1_000)))] == [
        (each.folder, each.new, each.first, each.size) for each in planned.folders
    ]
    assert planned.missing_folders == ("Nope",)
    assert len(ledger.batches) == 1


DELAYS = {
    "the first": (1, None, 0.5, 1.0),
    "the second": (2, None, 1.0, 2.0),
    "the fifth": (5, None, 8.0, 16.0),
    "the hundredth": (100, None, 150.0, 300.0),
    "the millionth": (1_000_000, None, 150.0, 300.0),
    "as long as the server asks": (1, 700.0, 700.0, 700.0),
}


@pytest.mark.parametrize(("failures", "wish", "low", "high"), DELAYS.values(), ids=DELAYS.keys())
def test_backoff(failures: int, wish: float | None, low: float, high: float) -> None:
    delays = [Backoff().delay(failures, wish) for _ in range(200)]

    assert low <= min(delays) <= max(delays) <= high
    assert wish or len(set(delays)) > 100


def test_a_refused_login_waits_five_minutes_to_an_hour() -> None:
    assert min(Backoffs().login.delay(1) for _ in range(200)) >= 300
    assert max(Backoffs().login.delay(50) for _ in range(200)) <= 3_600


async def _idling(server: FakeServer) -> None:
    async with asyncio.timeout(5):
        while not any(peer.idling for peer in server.connections):
            await asyncio.sleep(0.001)


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 3_000)),
        st.tuples(st.just("hide"), st.just(0)),
        st.tuples(st.just("show"), st.just(0)),
        st.tuples(st.just("expunge"), st.integers(0, 100)),
        st.tuples(st.just("renumber"), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 4_000)),
        st.tuples(st.just("fail"), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.just(0)),
    ),
    max_size=25,
)


@given(HAPPENINGS, st.sampled_from(["headers", "full"]), st.booleans(), st.integers(1, 4))
def test_whatever_happens_in_the_end_all_is_there_once(
    happenings: list[tuple[str, int]], store: str, says_uidnext: bool, chunk: int
) -> None:
    """Mail comes, goes, shows up late and is numbered anew; connections are cut, filing fails.

    Not more than eight cuts: nine in a FETCH of the same message are taken for the message's fault.
    """
    assume(sum(what == "cut" for what, _ in happenings) <= 8)

    async def live() -> None:
        number = 0
        async with FakeServer() as server:
            server.says_uidnext = says_uidnext
            ledger = ListLedger()
            for what, value in happenings:
                match what:
                    case "append" | "hide":
                        number += 1
                        # Without UIDNEXT a hidden message can be above all that is known: the next look finds it.
                        server.inbox.append(mail(number, value), visible=what == "append")
                    case "show":
                        for message in server.inbox.messages.values():
                            message.visible = True
                    case "expunge" if server.inbox.uids:
                        del server.inbox.messages[server.inbox.uids[value % len(server.inbox.uids)]]
                    case "renumber":
                        old = server.inbox
                        server.folders["INBOX"] = FakeFolder(uidvalidity=old.uidvalidity + 1)
                        for _, message in sorted(old.messages.items()):
                            server.inbox.append(message.raw, visible=message.visible)
                    case "cut":
                        server.cuts.append(value)
                    case "fail":
                        ledger.failing = value
                    case "pass":
                        with suppress(Unreachable):
                            await once(server, ledger, store=store)
            server.cuts.clear()
            for message in server.inbox.messages.values():
                message.visible = True
            await once(server, ledger, store=store, expunged="mark")

            filed = {
                message.uid: message
                for batch in ledger.batches
                if batch.cursor.uidvalidity == server.inbox.uidvalidity
                for message in batch.messages
            }
            assert sorted(ledger.uids("INBOX")) == server.inbox.uids
            for uid, message in server.inbox.messages.items():
                assert filed[uid].raw == (message.raw if store == "full" else None)
                assert message.raw.startswith(filed[uid].headers)
            assert ledger.cursors["INBOX"].first_sync_done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "CHUNK", chunk)
        patch.setattr(reader, "PIECE", 1_000)
        patch.setattr("maillinkd.imap.client.PIECE", 1_000)
        asyncio.run(live())


# Looking again


def asked(server: FakeServer, *names: str) -> list[str]:
    """The commands of these names that were given since the last login, without arguments."""
    start = max(at for at, line in enumerate(server.commands) if line.startswith(("AUTHENTICATE", "LOGIN")))
    words = [" ".join(line.split(" ")[: 2 if line.startswith("UID") else 1]) for line in server.commands[start:]]
    return [word for word in words if word in names]


OPENS = ("EXAMINE", "UID SEARCH", "UID FETCH")


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
            await _idling(server)
            modern.expunge(uid)
            for peer in server.connections:
                peer.idling = False
            await server.connections[-1].say(f"* VANISHED {uid}")
            async with asyncio.timeout(5):
                while uid in ledger.uids("INBOX"):
                    await asyncio.sleep(0.001)

    assert not any("UID SEARCH ALL" in line or "RETURN" in line for line in server.commands)


async def test_without_names_all_uids_are_compared_rarely(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many expunges, one comparison at once and one a while after: the last of them is marked too."""
    monkeypatch.setattr(poller, "_COMPARE_PAUSE", 0.3)
    async with Following(server, ledger, expunged="mark"):
        for uid in (1, 2, 3, 4, 5):
            await _idling(server)
            del server.inbox.messages[uid]
            for peer in server.connections:
                peer.idling, peer.told = False, peer.told - 1
            await server.connections[-1].say("* 1 EXPUNGE")
        async with asyncio.timeout(5):
            while ledger.uids("INBOX") != [6, 7]:
                await asyncio.sleep(0.001)

    assert server.commands.count("UID SEARCH ALL") in {1, 2}


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


async def test_a_uidvalidity_that_changes_again_and_again_raises_an_alarm_and_stops_nothing(
    server: FakeServer, ledger: ListLedger
) -> None:
    with capture_logs() as lines:
        async with Following(server, ledger):
            for validity in range(2, 52):
                await _idling(server)
                server.inbox.uidvalidity = validity
                for peer in server.connections:
                    peer.idling = False
                await server.drop_all()
                async with asyncio.timeout(10):
                    while ledger.cursors["INBOX"].uidvalidity != validity or len(ledger.uids("INBOX")) < 7:
                        await asyncio.sleep(0.001)

    said = [line["log_level"] for line in lines if line["event"] == "imap uidvalidity changed"]
    assert said == ["warning"] * 5 + ["error"] * 45
    assert len(ledger.subjects("INBOX")) == 51 * 7


# Announcements (RFC 5465)


async def test_every_folder_announces_by_notify(server: FakeServer, ledger: ListLedger) -> None:
    """On one connection, and none is asked for in between."""
    modern = Modern(server)
    server.folders["Sent"], server.folders["Other"] = FakeFolder(), FakeFolder()
    async with Following(server, ledger, folders=("INBOX", "Sent", "Other"), poll_interval=3_600) as following:
        for number in range(1, 4):
            for name in ("Sent", "Other", "INBOX"):
                state = await following.until(lambda state: state.waits_for.startswith("NOTIFY"))
                await _idling(server)
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
        await _idling(server)
        server.folders["New"] = FakeFolder()
        server.folders["New"].append(mail(1))
        await server.connections[-1].say('* LIST () "/" "New"')
        await ledger.until(1, "New")
        async with asyncio.timeout(5):
            while len(modern.notified) < 2:
                await asyncio.sleep(0.001)
        await _idling(server)
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
            await _idling(server)
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
        await _idling(server)
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


async def test_how_much_of_a_first_sync_is_left(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 3)
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.WATCHING)

    assert list(dict.fromkeys(state.first_sync for state in following.states)) == [0, 4, 1]
    assert following.states[-1].first_sync == 0


# The provider's limits

HOUR = timedelta(hours=1)


class Clock:
    """What time it is, for the bytes of a day."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        monkeypatch.setattr(poller, "_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def used(octets: int) -> Traffic:
    return Traffic().plus(octets, NOON)


def fetches(server: FakeServer) -> list[str]:
    return [line for line in server.commands if "BODY.PEEK" in line]


async def test_a_first_sync_waits_for_the_bytes_of_another_day_while_new_mail_goes_on(
    server: FakeServer, ledger: ListLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest chunk goes in, the next is too much; new mail has a tenth for itself. Nothing is skipped."""
    monkeypatch.setattr(reader, "CHUNK", 3)
    with capture_logs() as lines:
        async with Following(server, ledger, traffic=used(85_000), bytes_a_day=100_000) as following:
            waits = await following.until(lambda state: state.state is State.WAITING)
            read = sorted(ledger.uids("INBOX"))
            server.inbox.append(mail(8))
            await server.announce()
            await ledger.until(len(read) + 1)
            still = await following.until(lambda state: state.waits_for != "" and state.filed == len(read) + 1)
            clock.now = NOON + 25 * HOUR
            server.inbox.append(mail(9))
            await server.announce()
            done = await following.until(lambda state: state.state is State.WATCHING)

    told = [line["event"] for line in lines if "bytes a day" in line["event"]]
    assert read == [5, 6, 7]
    assert waits.waits_for == still.waits_for == "the provider's limit of bytes a day"
    assert waits.next_try == still.next_try == NOON + 25 * HOUR
    assert waits.last_success is None
    assert (done.waits_for, done.next_try, done.last_error) == ("IDLE: INBOX", None, "")
    assert sorted(ledger.uids("INBOX")) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert told == ["imap waits for the limit of bytes a day", "imap goes on below the limit of bytes a day"]


async def test_what_was_received_before_a_restart_counts(
    server: FakeServer, ledger: ListLedger, clock: Clock
) -> None:
    async with Following(server, ledger, traffic=used(90_000), bytes_a_day=100_000) as following:
        state = await following.until(lambda state: state.state is State.WAITING)
        server.inbox.append(mail(8))
        await server.announce()
        await ledger.until(1)

    assert ledger.uids("INBOX") == [8]
    assert not [line for line in server.commands if "SEARCH" in line and "1:7" in line]
    assert state.traffic.total(NOON) > 90_000


async def test_whole_new_mail_waits_in_full_mode_and_takes_no_connection_with_it(
    server: FakeServer, ledger: ListLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three mails of 20 kB are too much for the rest of the day; the sizes of the next three are on their way."""

    async def slowly(connection: FakeConnection, tag: str, line: str) -> bool:
        await asyncio.sleep(0.02)
        return False

    server.on("UID FETCH", slowly)
    monkeypatch.setattr(reader, "CHUNK", 3)
    server.folders["INBOX"] = FakeFolder()
    for number in range(1, 4):
        server.inbox.append(mail(number))
    await once(server, ledger, store="full")
    for number in range(4, 14):
        server.inbox.append(mail(number, size=20_000))
    traffic, more = used(950_000), {"store": "full", "bytes_a_day": 1_000_000}
    async with Following(server, ledger, traffic=traffic, **more) as following:
        await following.until(lambda state: state.state is State.WAITING)
        early = ledger.uids("INBOX")
        clock.now = NOON + 25 * HOUR
        server.inbox.append(mail(14))
        await server.announce()
        await following.until(lambda state: state.state is State.WATCHING)

    assert early == [1, 2, 3]
    assert ledger.uids("INBOX") == list(range(1, 15))
    assert all(message.raw for batch in ledger.batches for message in batch.messages)
    assert len(server.connections) == 2  # one for each who followed


async def test_bytes_are_counted_as_they_come(server: FakeServer, ledger: ListLedger, clock: Clock) -> None:
    for number in range(8, 18):
        server.inbox.append(mail(number, size=10_000))
    async with Following(server, ledger, store="full") as following:
        state = await following.until(lambda state: state.state is State.WATCHING)

    assert 100_000 < state.traffic.total(NOON) < 120_000


async def test_a_pass_that_has_to_wait_a_day_says_so(server: FakeServer, ledger: ListLedger, clock: Clock) -> None:
    mine = account(server, bytes_a_day=100_000)

    with pytest.raises(TemporaryFailure, match="bytes a day is reached; there is room again at 2026-11-23 13:00:00"):
        await follow(mine, ledger, once=True, backoffs=QUICK, deadlines=SHORT, traffic=used(95_000))

    assert server.commands[-1] == "LOGOUT"
    assert fetches(server) == []


async def test_an_audit_repairs_no_more_than_the_day_permits(
    server: FakeServer, ledger: ListLedger, clock: Clock
) -> None:
    await once(server, ledger)
    ledger.forget("INBOX", 2, 5)
    repairing = account(server, bytes_a_day=100_000)

    async def audit(traffic: Traffic) -> int:
        summary = await follow(repairing, ledger, audit=True, backoffs=QUICK, deadlines=SHORT, traffic=traffic)
        assert summary.audit is not None
        return summary.audit.missing

    assert await audit(used(95_000)) == 2
    assert await audit(used(0)) == 0


@pytest.mark.parametrize("words", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_who_asked_for_too_much_stays_away_for_half_an_hour(
    server: FakeServer, ledger: ListLedger, clock: Clock, words: str
) -> None:
    server.on("UID FETCH", words)
    async with Following(server, ledger) as following:
        state = await following.until(lambda state: state.state is State.WAITING)

    assert state.next_try == NOON + timedelta(minutes=30)
    assert "limit" in state.last_error
    assert len(server.connections) == 1
    server.on("UID FETCH", None)
    await once(server, ledger)
    assert sorted(ledger.uids("INBOX")) == [1, 2, 3, 4, 5, 6, 7]  # and no message was blamed for it


async def test_a_good_bye_that_names_a_time_is_obeyed(server: FakeServer, ledger: ListLedger, clock: Clock) -> None:
    server.on("UID FETCH", BYE_BACK_OFF)
    async with Following(server, ledger) as following:
        state = await following.until(lambda state: state.state is State.WAITING)

    assert state.next_try == NOON + timedelta(seconds=2_298.732)


async def test_a_login_that_is_too_much_is_no_wrong_password(
    server: FakeServer, ledger: ListLedger, clock: Clock
) -> None:
    server.on("AUTHENTICATE", TOO_MUCH["Gmail, to a command"])
    async with Following(server, ledger) as following:
        state = await following.ever(State.WAITING)

    assert state.next_try == NOON + timedelta(minutes=30)


async def test_a_pass_does_not_wait_half_an_hour(server: FakeServer, ledger: ListLedger) -> None:
    server.on("UID FETCH", TOO_MUCH["Gmail, to a command"])

    with pytest.raises(Refused, match="bandwidth limits"):
        await once(server, ledger)

    assert len(server.connections) == 1
    assert server.commands[-1] == "LOGOUT"


async def test_who_is_stopped_in_idle_says_good_bye(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    idling = asyncio.Event()
    until_stirred = Connection._until_stirred

    async def waiting(connection: Connection, end: float) -> None:
        idling.set()
        await until_stirred(connection, end)

    monkeypatch.setattr(Connection, "_until_stirred", waiting)
    async with Following(server, ledger):
        await idling.wait()

    assert server.commands[-2:] == ["DONE", "LOGOUT"]


async def test_who_is_stopped_between_two_looks_says_good_bye(server: FakeServer, ledger: ListLedger) -> None:
    server.capabilities.remove("IDLE")
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.POLLING)

    assert server.commands[-1] == "LOGOUT"

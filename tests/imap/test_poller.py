"""The life of a mailbox's task: reading, filing, breaking and coming back."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from imap.connecting import Source
from imap.following import QUICK, SHORT, Following, account, idling, once
from imap.ledger import ListLedger
from maillinkd.imap import idle, login, poller, reader
from maillinkd.imap.backoff import Backoffs
from maillinkd.imap.budget import Traffic
from maillinkd.imap.errors import LoginRefused, Refused, Unreachable
from maillinkd.imap.line import Line
from maillinkd.imap.poller import Summary, follow
from maillinkd.imap.state import State
from maillinkd.mail.delivery import Fetched, FolderBatch, FolderCursor, Packed, Parsed, TemporaryFailure
from maillinkd.oauth.token import LoginNeeded
from system.imap_peer import NOON, FakeConnection, FakeFolder, FakeServer, fetched, mail
from system.providers import ACCESS_TOKEN_EXPIRED, BYE_BACK_OFF, TOO_MUCH, gmail, microsoft

MAILS = 7


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


async def test_new_mail_does_not_wait_for_a_first_sync(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1)
    monkeypatch.setattr(reader, "WINDOW", 3)

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


async def test_whole_messages(server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones together up to a size, large ones alone and in pieces, giants as headers."""
    monkeypatch.setattr(reader, "CHUNK_BYTES", 3_500)
    monkeypatch.setattr(reader, "PIECE", 2_000)
    monkeypatch.setattr(reader, "LARGEST", 9_000)
    monkeypatch.setattr("maillinkd.imap.fetch.PIECE", 2_000)
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
    monkeypatch.setattr(reader, "WINDOW", 5)

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


class Packing(ListLedger):
    """Packs what is brought, and takes the first batch only when all is packed."""

    def __init__(self) -> None:
        super().__init__()
        self._packed: list[asyncio.Future[list[Parsed]]] = []

    def begin_reading(self, messages: Sequence[Fetched]) -> asyncio.Future[list[Parsed]]:  # type: ignore[override]
        self._packed.append(asyncio.ensure_future(self._pack(messages)))
        return self._packed[-1]

    async def _pack(self, messages: Sequence[Fetched]) -> list[Parsed]:
        await asyncio.sleep(0)
        packed = Packed(b"", 0, b"x", None)
        return [Parsed(each._replace(raw=None), "no message", packed) for each in messages]

    async def file(self, batch: FolderBatch) -> None:
        if not self.batches:
            async with asyncio.timeout(5):
                while len(self._packed) < 7 or not all(each.done() for each in self._packed):
                    await asyncio.sleep(0.001)
        assert batch.reading is not None
        read = await batch.reading
        assert [each.fetched.uid for each in read] == [each.uid for each in batch.messages]
        await super().file(batch)


@pytest.mark.parametrize(
    ("bytes_", "together"),
    [
        (100, [[7], [6, 5, 4, 3], [2, 1]]),
        (3, [[7], [6, 5], [4, 3], [2, 1]]),
        (1, [[7], [6], [5], [4], [3], [2], [1]]),
    ],
)
async def test_what_is_packed_when_its_turn_comes_is_filed_together(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, bytes_: int, together: list[list[int]]
) -> None:
    """So many messages, and so many bytes; what was packed weighs less: the window has room for two that are not."""
    monkeypatch.setattr(reader, "CHUNK", 1)
    monkeypatch.setattr(reader, "WINDOW_BYTES", 2_500)
    monkeypatch.setattr(poller, "CHUNK", 4)
    headers = mail(1).index(b"\r\n\r\n") + 4
    monkeypatch.setattr(poller, "_TOGETHER_BYTES", bytes_ * headers)
    ledger = Packing()
    server.folders["INBOX"] = FakeFolder()
    for number in range(1, 8):
        server.inbox.append(mail(number, 1_000))

    await once(server, ledger, store="full")

    assert [[each.uid for each in batch.messages] for batch in ledger.batches] == together
    assert [batch.cursor.bottom for batch in ledger.batches] == [uids[-1] if uids[-1] > 1 else 0 for uids in together]
    assert all(each.raw is None for batch in ledger.batches[1:] for each in batch.messages)


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


async def test_a_hundred_drops_lose_nothing(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger) as following:
        for number in range(8, 108):
            await idling(server)
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


async def test_cancelling_closes_the_connection(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger):
        await idling(server)
    async with asyncio.timeout(5):
        while not server.connections[-1].writer.transport.is_closing():
            await asyncio.sleep(0.001)


async def test_who_is_stopped_in_idle_says_good_bye(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_idle = asyncio.Event()
    until_stirred = idle._until_stirred

    async def waiting(line: Line, end: float) -> None:
        in_idle.set()
        await until_stirred(line, end)

    monkeypatch.setattr(idle, "_until_stirred", waiting)
    async with Following(server, ledger):
        await in_idle.wait()

    assert server.commands[-2:] == ["DONE", "LOGOUT"]


async def test_who_is_stopped_between_two_looks_says_good_bye(server: FakeServer, ledger: ListLedger) -> None:
    server.capabilities.remove("IDLE")
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.POLLING)

    assert server.commands[-1] == "LOGOUT"


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
        patch.setattr("maillinkd.imap.fetch.PIECE", 1_000)
        asyncio.run(live())


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


async def test_a_connection_is_renewed_before_its_token_ends_and_no_mail_is_lost(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_SHORTEST", 0.05)
    gmail(server, lambda token: True)
    async with Following(server, ledger, tokens=Source("good", life=0.05)) as following:
        for number in (8, 9, 10):
            await following.until(lambda state: state.state is State.WATCHING)
            server.inbox.append(mail(number))
            await server.announce()
            await following.until(lambda state: state.state is State.CONNECTING)
        await following.until(lambda state: state.state is State.WATCHING)

    assert len(server.connections) >= 4
    assert server.commands.count("LOGOUT") >= 3  # left as one leaves, not lost
    assert State.WAITING not in [state.state for state in following.states]
    assert ledger.uids("INBOX") == list(range(1, 11))


async def test_when_the_server_ends_the_session_with_the_token_a_new_one_is_fetched(
    server: FakeServer, ledger: ListLedger
) -> None:
    good = {"one"}
    microsoft(server, lambda token: token in good)
    source = Source("one", "two")
    async with Following(server, ledger, tokens=source) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        good.clear()
        good.add("two")
        server.inbox.append(mail(8))
        await server.connections[-1].say(ACCESS_TOKEN_EXPIRED)
        lost = await following.ever(State.WAITING)
        await following.until(lambda state: state.state is State.WATCHING)

    assert "AccessTokenExpired" in lost.last_error
    assert source.refused == ["one"]
    assert ledger.uids("INBOX") == list(range(1, 9))


async def test_a_login_that_is_needed_is_said_and_awaited(server: FakeServer, ledger: ListLedger) -> None:
    gmail(server, {"good"}.__contains__)
    source = Source(LoginNeeded("mailbox anna: revoked; run `maillinkd auth login anna`"))
    async with Following(server, ledger, tokens=source) as following:
        refused = await following.ever(State.REFUSED)
        source.tokens = ["good"]
        await following.until(lambda state: state.state is State.WATCHING)

    assert refused.last_error == "mailbox anna: revoked; run `maillinkd auth login anna`"

"""Logging in with access tokens, as Gmail's and Microsoft's servers see it, and what follows when one ends."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from imap.ledger import ListLedger
from maillinkd.imap import client
from maillinkd.imap.account import Account
from maillinkd.imap.client import connect
from maillinkd.imap.errors import LoginRefused, NoPassword, NoToken, Refused, Unreachable
from maillinkd.imap.poller import Backoff, Backoffs, MailboxState, State, follow
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, Tokens, TryLater
from system.imap_peer import FakeConnection, FakeServer, mail
from system.providers import ACCESS_TOKEN_EXPIRED, BACK_OFF, NOT_CONNECTED, gmail, microsoft, play


class Source:
    """Tokens in a row; the last one stays. An exception in their place is raised."""

    def __init__(self, *tokens: str | Exception, life: float = 3600) -> None:
        self.tokens = list(tokens)
        self.life = life
        self.asked = 0
        self.refused: list[str] = []

    async def current(self) -> AccessToken:
        self.asked += 1
        first = self.tokens[0]
        if isinstance(first, Exception):
            raise first
        now = datetime.now(UTC)
        return AccessToken(first, now, now + timedelta(seconds=self.life))

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.refused.append(refused.secret)
        if len(self.tokens) > 1:
            self.tokens.pop(0)
        return await self.current()


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


def account(server: FakeServer, tokens: Tokens) -> Account:
    return Account(
        "anna", "127.0.0.1", server.port, "none", "anna@ourco.example", "", folders=("INBOX",), tokens=tokens
    )


# --- The dialogue ---------------------------------------------------------------------------------------------------


async def test_the_standard_mechanism_is_taken_where_both_are_offered(server: FakeServer) -> None:
    said = gmail(server, {"good"}.__contains__)

    connection = await connect(account(server, Source("good")))
    await connection.logout()

    message = f"n,a=anna@ourco.example,\x01host=127.0.0.1\x01port={server.port}\x01auth=Bearer good\x01\x01"
    assert said == [("OAUTHBEARER", message.encode())]


async def test_microsoft_offers_xoauth2_alone(server: FakeServer) -> None:
    said = microsoft(server, {"good"}.__contains__)

    connection = await connect(account(server, Source("good")))
    await connection.logout()

    assert said == [("XOAUTH2", b"user=anna@ourco.example\x01auth=Bearer good\x01\x01")]


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("mechanism", ["AUTH=XOAUTH2", "AUTH=OAUTHBEARER"])
async def test_without_sasl_ir_the_message_waits_its_turn(server: FakeServer, mechanism: str, holds: bool) -> None:
    said = play(server, ("IMAP4rev1", mechanism), lambda token: holds, "NO no")

    if holds:
        await (await connect(account(server, Source("good")))).logout()
    else:
        with pytest.raises(LoginRefused, match="NO no status 400"):
            await connect(account(server, Source("good")))

    assert len(said) == 1
    assert f"AUTHENTICATE {mechanism.removeprefix('AUTH=')}" in server.commands


async def test_a_server_that_takes_no_token_is_not_sent_one(server: FakeServer) -> None:
    source = Source("canary")

    with pytest.raises(LoginRefused, match="neither OAUTHBEARER nor XOAUTH2"):
        await connect(account(server, source))

    assert source.refused == []
    assert not any("canary" in command for command in server.commands)


async def test_a_further_challenge_to_a_password_is_answered_too(server: FakeServer) -> None:
    """Else both sides wait until the deadline (RFC 9051, 6.2.2)."""

    async def challenge(connection: FakeConnection, tag: str, line: str) -> bool:
        await connection.say("+ ")
        assert await connection.reader.readline() == b"*\r\n"
        await connection.say(f"{tag} BAD cancelled")
        return True

    server.on("AUTHENTICATE", challenge)

    with pytest.raises(LoginRefused, match="cancelled"):
        await connect(Account("anna", "127.0.0.1", server.port, "none", "anna", "secret"))


# --- One that is refused --------------------------------------------------------------------------------------------


async def test_a_token_that_is_refused_is_renewed_once_and_tried_on_a_new_connection(server: FakeServer) -> None:
    said = gmail(server, {"new"}.__contains__)
    source = Source("old", "new")

    connection = await connect(account(server, source))
    await connection.logout()

    assert len(said) == len(server.connections) == 2
    assert source.refused == ["old"]


async def test_when_the_renewed_one_is_refused_too_it_is_not_asked_for_again(server: FakeServer) -> None:
    said = gmail(server, lambda token: False)
    source = Source("old", "new", "newest")

    with pytest.raises(LoginRefused, match=r"AUTHENTICATIONFAILED.*status 400, scope https://mail.google.com/"):
        await connect(account(server, source))

    assert len(said) == 2
    assert source.refused == ["old"]


async def test_where_no_other_token_is_to_be_had_the_same_is_not_tried_twice(server: FakeServer) -> None:
    said = microsoft(server, lambda token: False)

    with pytest.raises(LoginRefused, match="AUTHENTICATE failed"):
        await connect(account(server, Source("old")))

    assert len(said) == 1


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (LoginNeeded("run it"), NoToken, "run it"),
        (TokenError("no key"), NoPassword, "no token for anna: no key"),
        (TryLater("busy", 120.0), Unreachable, "no token for anna: busy"),
    ],
)
async def test_without_a_token_no_connection_is_made(
    server: FakeServer, error: Exception, expected: type[Exception], words: str
) -> None:
    with pytest.raises(expected, match=words) as caught:
        await connect(account(server, Source(error)))

    assert type(caught.value) is expected
    assert getattr(caught.value, "retry_after", None) == getattr(error, "retry_after", None)
    assert server.connections == []


@pytest.mark.parametrize(
    ("answer", "away"),
    [(NOT_CONNECTED, 60.0), (BACK_OFF, 298.732)],
)
async def test_what_microsoft_says_when_it_is_busy_keeps_us_away_and_costs_no_token(
    server: FakeServer, answer: str, away: float
) -> None:
    server.capabilities = ["IMAP4rev1", "SASL-IR", "AUTH=XOAUTH2"]
    server.on("AUTHENTICATE", answer)
    source = Source("good", "other")

    with pytest.raises(Unreachable) as caught:
        await connect(account(server, source))

    assert caught.value.retry_after == away
    assert source.refused == []


async def test_authenticated_but_not_connected_may_come_with_the_next_command_too(server: FakeServer) -> None:
    microsoft(server, {"good"}.__contains__)
    server.on("LIST", NOT_CONNECTED)
    connection = await connect(account(server, Source("good")))

    with pytest.raises(Refused) as caught:
        await connection.folders()
    connection.abort()

    assert caught.value.retry_after == 60.0


@pytest.mark.parametrize("given_back", ["whole", "a part", "base64"])
async def test_a_server_that_gives_the_token_back_does_not_get_it_into_the_log(
    server: FakeServer, given_back: str
) -> None:
    token = "canary-" + "x" * 2_000
    message = b64encode(f"user=anna@ourco.example\x01auth=Bearer {token}\x01\x01".encode()).decode()
    text = {"whole": token, "a part": token[:250], "base64": message}[given_back]
    server.capabilities = ["IMAP4rev1", "SASL-IR", "AUTH=XOAUTH2"]
    server.on("AUTHENTICATE", f"{{tag}} NO [AUTHENTICATIONFAILED] not {text} here")

    with pytest.raises(LoginRefused) as caught:
        await connect(account(server, Source(token)))

    assert "canary" not in str(caught.value)
    assert message[:40] not in str(caught.value)
    assert "not ***" in str(caught.value)


# --- While the mailbox is followed ----------------------------------------------------------------------------------


QUICK = Backoffs(Backoff(0.01, 0.02), Backoff(0.01, 0.02), Backoff(0.01, 0.02))


class Watcher:
    """What a mailbox reports, to be waited for."""

    def __init__(self) -> None:
        self.states: list[MailboxState] = []
        self._told = asyncio.Event()

    def __call__(self, state: MailboxState) -> None:
        self.states.append(state)
        self._told.set()

    async def until(self, state: State, *, since: int = 0) -> MailboxState:
        async with asyncio.timeout(10):
            while True:
                if found := [each for each in self.states[since:] if each.state is state]:
                    return found[0]
                self._told.clear()
                await self._told.wait()


async def test_a_connection_is_renewed_before_its_token_ends_and_no_mail_is_lost(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_SHORTEST", 0.05)
    gmail(server, lambda token: True)
    ledger, source, watcher = ListLedger(), Source("good", life=0.05), Watcher()
    task = asyncio.create_task(follow(account(server, source), ledger, report=watcher, backoffs=QUICK))
    try:
        await watcher.until(State.WATCHING)
        for number in range(3):
            server.inbox.append(mail(number))
            await server.announce()
            seen = len(watcher.states)
            await watcher.until(State.CONNECTING, since=seen)
            await watcher.until(State.WATCHING, since=len(watcher.states))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert len(server.connections) >= 4
    assert server.commands.count("LOGOUT") >= 3  # left as one leaves, not lost
    assert [state.state for state in watcher.states if state.state is State.WAITING] == []
    assert len(ledger.uids("INBOX", 1)) == 3


async def test_when_the_server_ends_the_session_with_the_token_a_new_one_is_fetched(server: FakeServer) -> None:
    good = {"one"}
    microsoft(server, lambda token: token in good)
    ledger, source, watcher = ListLedger(), Source("one", "two"), Watcher()
    server.inbox.append(mail(1))
    task = asyncio.create_task(follow(account(server, source), ledger, report=watcher, backoffs=QUICK))
    try:
        await watcher.until(State.WATCHING)
        good.clear()
        good.add("two")
        server.inbox.append(mail(2))
        seen = len(watcher.states)
        for connection in server.connections:
            await connection.say(ACCESS_TOKEN_EXPIRED)
        lost = await watcher.until(State.WAITING, since=seen)
        await watcher.until(State.WATCHING, since=len(watcher.states))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert "AccessTokenExpired" in lost.last_error
    assert source.refused == ["one"]
    assert len(ledger.uids("INBOX", 1)) == 2


async def test_a_login_that_is_needed_is_said_and_awaited(server: FakeServer) -> None:
    gmail(server, {"good"}.__contains__)
    source, watcher = Source(LoginNeeded("mailbox anna: revoked; run `maillinkd auth login anna`")), Watcher()
    task = asyncio.create_task(follow(account(server, source), ListLedger(), report=watcher, backoffs=QUICK))
    try:
        refused = await watcher.until(State.REFUSED)
        source.tokens = ["good"]
        await watcher.until(State.WATCHING)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert refused.last_error == "mailbox anna: revoked; run `maillinkd auth login anna`"


def test_after_a_refusal_the_provider_has_its_peace_for_five_minutes_to_an_hour() -> None:
    delays = [[Backoffs().login.delay(refusals) for _ in range(100)] for refusals in range(1, 9)]

    assert min(map(min, delays)) >= 300
    assert max(map(max, delays)) <= 3_600
    assert min(delays[-1]) >= 1_800

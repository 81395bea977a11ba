"""Logging in, with a password and with access tokens as Gmail's and Microsoft's servers see them."""

import asyncio
import logging
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.connecting import SHORT, Source, account
from maillinkd.imap.account import Account
from maillinkd.imap.client import connect
from maillinkd.imap.errors import (
    ConnectionLost,
    ImapError,
    LoginRefused,
    NoPassword,
    NoToken,
    Refused,
    Unreachable,
)
from maillinkd.oauth.token import LoginNeeded, TokenError, Tokens, TryLater
from system.imap_peer import FakeConnection, FakeServer
from system.providers import BACK_OFF, NOT_CONNECTED, gmail, microsoft, play


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


async def test_a_login_that_is_not_needed(server: FakeServer) -> None:
    server.greeting = "* PREAUTH welcome"
    (await connect(account(server))).abort()

    assert server.commands == ["CAPABILITY"]


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


def with_tokens(server: FakeServer, tokens: Tokens) -> Account:
    return Account(
        "anna", "127.0.0.1", server.port, "none", "anna@ourco.example", "", folders=("INBOX",), tokens=tokens
    )


async def test_the_standard_mechanism_is_taken_where_both_are_offered(server: FakeServer) -> None:
    said = gmail(server, {"good"}.__contains__)

    connection = await connect(with_tokens(server, Source("good")))
    await connection.logout()

    message = f"n,a=anna@ourco.example,\x01host=127.0.0.1\x01port={server.port}\x01auth=Bearer good\x01\x01"
    assert said == [("OAUTHBEARER", message.encode())]


async def test_microsoft_offers_xoauth2_alone(server: FakeServer) -> None:
    said = microsoft(server, {"good"}.__contains__)

    connection = await connect(with_tokens(server, Source("good")))
    await connection.logout()

    assert said == [("XOAUTH2", b"user=anna@ourco.example\x01auth=Bearer good\x01\x01")]


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("mechanism", ["AUTH=XOAUTH2", "AUTH=OAUTHBEARER"])
async def test_without_sasl_ir_the_message_waits_its_turn(server: FakeServer, mechanism: str, holds: bool) -> None:
    said = play(server, ("IMAP4rev1", mechanism), lambda token: holds, "NO no")

    if holds:
        await (await connect(with_tokens(server, Source("good")))).logout()
    else:
        with pytest.raises(LoginRefused, match="NO no status 400"):
            await connect(with_tokens(server, Source("good")))

    assert len(said) == 1
    assert f"AUTHENTICATE {mechanism.removeprefix('AUTH=')}" in server.commands


async def test_a_server_that_takes_no_token_is_not_sent_one(server: FakeServer) -> None:
    source = Source("canary")

    with pytest.raises(LoginRefused, match="neither OAUTHBEARER nor XOAUTH2"):
        await connect(with_tokens(server, source))

    assert source.refused == []
    assert not any("canary" in command for command in server.commands)


async def test_a_token_that_is_refused_is_renewed_once_and_tried_on_a_new_connection(server: FakeServer) -> None:
    said = gmail(server, {"new"}.__contains__)
    source = Source("old", "new")

    connection = await connect(with_tokens(server, source))
    await connection.logout()

    assert len(said) == len(server.connections) == 2
    assert source.refused == ["old"]


async def test_when_the_renewed_one_is_refused_too_it_is_not_asked_for_again(server: FakeServer) -> None:
    said = gmail(server, lambda token: False)
    source = Source("old", "new", "newest")

    with pytest.raises(LoginRefused, match=r"AUTHENTICATIONFAILED.*status 400, scope https://mail.google.com/"):
        await connect(with_tokens(server, source))

    assert len(said) == 2
    assert source.refused == ["old"]


async def test_where_no_other_token_is_to_be_had_the_same_is_not_tried_twice(server: FakeServer) -> None:
    said = microsoft(server, lambda token: False)

    with pytest.raises(LoginRefused, match="AUTHENTICATE failed"):
        await connect(with_tokens(server, Source("old")))

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
        await connect(with_tokens(server, Source(error)))

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
        await connect(with_tokens(server, source))

    assert caught.value.retry_after == away
    assert source.refused == []


async def test_authenticated_but_not_connected_may_come_with_the_next_command_too(server: FakeServer) -> None:
    microsoft(server, {"good"}.__contains__)
    server.on("LIST", NOT_CONNECTED)
    connection = await connect(with_tokens(server, Source("good")))

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
        await connect(with_tokens(server, Source(token)))

    assert "canary" not in str(caught.value)
    assert message[:40] not in str(caught.value)
    assert "not ***" in str(caught.value)

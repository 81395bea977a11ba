"""Logging in: where the password or the token comes from, which way the server takes it, and why it refuses."""

import asyncio
import math
import re
from base64 import b64encode
from collections.abc import Awaitable
from datetime import UTC, datetime

from maillinkd.imap import sasl
from maillinkd.imap.account import Account
from maillinkd.imap.command import Astring, Secret, Unsendable
from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, NoToken, Refused, Unreachable, printable
from maillinkd.imap.line import Line
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, TryLater

_NOT_THE_TOKEN = frozenset({"CANNOT", "PRIVACYREQUIRED"})
"""Codes of refusals that another token does not help."""
_SHORTEST = 60.0
"""Seconds for which a connection is used at least, however short its token lives."""


async def log_in(line: Line, account: Account, token: AccessToken | None) -> None:
    """With the token, else with the account's password; then asks for the capabilities again (traps.md I14).

    Raises LoginRefused, NoPassword, Unreachable if the server has no time for us now.
    """
    if line.protocol.authenticated:  # PREAUTH
        return
    if token is None:
        await _with_password(line, account.username, await _password(account))
    else:
        await _with_token(line, account, token)
    line.protocol.logged_in()
    await line.capability()


def another_token_helps(refused: LoginRefused) -> bool:
    return refused.code not in _NOT_THE_TOKEN


async def token_of(account: Account, asked: Awaitable[AccessToken]) -> AccessToken:
    """What the source of tokens gives. Raises NoToken, NoPassword, Unreachable."""
    try:
        return await asked
    except LoginNeeded as error:
        raise NoToken(printable(str(error))) from error
    except TokenError as error:
        raise NoPassword(f"no token for {account.name}: {printable(str(error))}") from error
    except TryLater as error:
        later = Unreachable(f"no token for {account.name}: {printable(str(error))}")
        later.retry_after = error.retry_after
        raise later from error


async def _password(account: Account) -> str:
    if isinstance(account.password, str):
        return account.password
    try:
        return await asyncio.to_thread(account.password)
    except Exception as error:
        raise NoPassword(f"no password for {account.name}: {printable(str(error))}") from error


async def _with_password(line: Line, username: str, password: str) -> None:
    """AUTHENTICATE PLAIN (RFC 4616) where it is offered, else LOGIN."""
    user, secret = _text(username), _text(password)
    try:
        if "AUTH=PLAIN" in line.capabilities:
            await _authenticate(line, "PLAIN", sasl.plain(user.octets, secret.octets), sasl.CANCEL)
        elif "LOGINDISABLED" in line.capabilities:
            raise LoginRefused("LOGIN", "NO", "PRIVACYREQUIRED", "the server permits no login on this connection")
        else:
            await line.ask("LOGIN", user, secret)
    except Refused as refused:
        raise _login_error(refused, password) from None


async def _with_token(line: Line, account: Account, token: AccessToken) -> None:
    """AUTHENTICATE OAUTHBEARER (RFC 7628) where it is offered, else XOAUTH2; CANNOT if neither is."""
    mechanism = next((each for each in sasl.BEARER if f"AUTH={each}" in line.capabilities), None)
    if mechanism is None:
        raise LoginRefused("AUTHENTICATE", "NO", "CANNOT", "the server offers neither OAUTHBEARER nor XOAUTH2")
    user = _text(account.username)
    try:
        message = sasl.bearer(mechanism, user.octets, token.secret, account.host, account.port)
        await _authenticate(line, mechanism, message, sasl.DISMISSAL[mechanism])
    except Refused as refused:
        raise _login_error(refused, token.secret) from None
    line.renew_at = _renewal(token)


async def _authenticate(line: Line, mechanism: str, message: bytes, dismissal: bytes) -> None:
    """RFC 9051, 6.2.2. `dismissal` answers a further challenge: why the server refuses (traps.md I13)."""
    encoded = b64encode(message)
    immediate = "SASL-IR" in line.capabilities  # RFC 4959
    async with line.exchange("AUTHENTICATE") as exchange:
        async with line.within(line.deadlines.command, "AUTHENTICATE"):
            await line.send(exchange, ["AUTHENTICATE", mechanism, *([Secret(encoded)] if immediate else [])])
            await exchange.go_ahead.wait()
            if not exchange.done and not immediate:
                exchange.go_ahead.clear()
                line.protocol.write(encoded + b"\r\n")
                await exchange.go_ahead.wait()
            if not exchange.done:
                line.protocol.write(dismissal + b"\r\n")
            await exchange.wait()
        try:
            exchange.accepted()
        except Refused as refused:
            said = " ".join(filter(None, (refused.text, sasl.reason(exchange.challenge))))
            text = _without(said, encoded.decode())
            raise Refused(refused.command, refused.condition, refused.code, text) from None


def _text(text: str) -> Astring:
    """In UTF-8; octets that were read as surrogates (PEP 383) go out as they were."""
    try:
        return Astring(text.encode("utf-8", "surrogateescape"))
    except (Unsendable, UnicodeEncodeError):
        raise NoPassword("the user name or password has characters that cannot be sent") from None


def _login_error(refused: Refused, password: str) -> ImapError:
    text = _without(refused.text, password)
    if isinstance(refused, LoginRefused):
        return refused
    if refused.transient:
        return Unreachable(f"login: {refused.condition} [{refused.code}] {text}", f"[{refused.code}] {refused.text}")
    return LoginRefused("login", refused.condition, refused.code, text)


def _without(text: str, secret: str) -> str:
    """A server's words without the secret, of which it may have given back no more than the beginning."""
    text = text.replace(secret, "***") if secret else text
    return re.sub(re.escape(secret[:16]) + r"\S*", "***", text) if len(secret) > 16 else text


def _renewal(token: AccessToken) -> float:
    """When, by the loop's clock, a connection is to be renewed; not at once, whatever the token says of its life."""
    if token.renew_at is None:
        return math.inf
    remaining = (token.renew_at - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().time() + max(remaining, _SHORTEST)

"""What is asked of a token endpoint (RFC 6749, 4 to 6; RFC 7523), and how its answers are read.

By the standard library's HTTP, in a thread: one small POST an hour and mailbox is worth no HTTP library in the
daemon's memory. TLS is verified against the system's certificates. Proxies are those of the environment. Redirects
are refused.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from maillinkd.oauth.client import Client
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, TryLater

SECONDS = 30.0
"""How long a provider may take."""
_LARGEST_ANSWER = 256 * 1024
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SECRETS = ("refresh_token", "code", "code_verifier", "assertion")
_LONGEST_LIFE = timedelta(days=366)
_TRANSIENT = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Clock = Callable[[], datetime]


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server said."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token endpoint granted (RFC 6749, 5.1)."""

    access: AccessToken
    refresh_token: str = field(repr=False)
    """Empty if there is none, or where the old one goes on to hold (RFC 6749, 6)."""


def fetch(url: str, form: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Asks an HTTP server: GET, or POST of a form. Blocks. Raises TryLater if there is no answer."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.parse import urlencode
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Unmoved(HTTPRedirectHandler):
        """A redirect would carry secrets to whatever address the answer names."""

        def redirect_request(self, *_: Any) -> None:
            return None

    data = None if form is None else urlencode(form).encode()
    request = Request(url, data, {"Accept": "application/json", **(headers or {})})  # noqa: S310 # checked in settings
    try:
        try:
            response = build_opener(Unmoved).open(request, timeout=SECONDS)
        except HTTPError as refusal:
            response = refusal
        with response:
            return Answer(response.status, response.read(_LARGEST_ANSWER), dict(response.headers.items()))
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TryLater(f"{_host(url)} cannot be asked: {printable(str(reason))}") from None


async def refresh(client: Client, refresh_token: str, secret: str | None, clock: Clock = now) -> Granted:
    """Another access token (RFC 6749, 6). Raises LoginNeeded if the grant is revoked, TokenError, TryLater."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return await _ask(client, form, secret, clock)


async def by_code(
    client: Client, code: str, verifier: str, redirect_uri: str, secret: str | None, clock: Clock = now
) -> Granted:
    """The tokens for an authorization code (RFC 6749, 4.1.3; RFC 7636, 4.5). Raises TokenError, TryLater."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
    }
    return await _ask(client, form, secret, clock)


async def by_client_credentials(client: Client, secret: str | None, clock: Clock = now) -> Granted:
    """A token for the client itself (RFC 6749, 4.4). Raises TokenError, TryLater."""
    form = {"grant_type": "client_credentials", "scope": " ".join(client.scopes)}
    return await _ask(client, form, secret, clock)


async def by_service_account(client: Client, key_file: bytes, subject: str, clock: Clock = now) -> Granted:
    """A token by which a Google service account acts for `subject` (RFC 7523, 2.1). Raises TokenError, TryLater."""
    import jwt

    try:
        account = json.loads(key_file)
        key, issuer, key_id = account["private_key"], account["client_email"], account.get("private_key_id")
    except (ValueError, KeyError, TypeError):
        raise TokenError("the service account file is not a key in JSON, as Google gives it") from None
    at = int(clock().timestamp())
    claims = {
        "iss": issuer,
        "sub": subject,
        "scope": " ".join(client.scopes),
        "aud": client.token_endpoint,
        "iat": at,
        "exp": at + 3600,
    }
    try:
        assertion = jwt.encode(claims, key, algorithm="RS256", headers={"kid": key_id} if key_id else None)
    except (jwt.PyJWTError, ValueError, TypeError):  # whose texts may quote the key
        raise TokenError("the service account file holds no RSA key that can be used") from None
    form = {"grant_type": _JWT_BEARER, "assertion": assertion}
    return await _ask(client, form, None, clock, named=False)


async def _ask(
    client: Client, form: Mapping[str, str], secret: str | None, clock: Clock, *, named: bool = True
) -> Granted:
    """`named`: the client says which one it is; a public one sends no secret (RFC 6749, 2.1)."""
    whole = dict(form)
    if named:
        whole["client_id"] = client.client_id
    if secret:
        whole["client_secret"] = secret
    asked_at = clock()
    try:
        async with asyncio.timeout(2 * SECONDS):
            answer = await asyncio.to_thread(fetch, client.token_endpoint, whole)
    except TimeoutError:
        raise TryLater(f"{_host(client.token_endpoint)} does not answer") from None
    return granted(answer if answer.status == 200 else _without(answer, form, secret), client, asked_at)


def _without(answer: Answer, form: Mapping[str, str], secret: str | None) -> Answer:
    """A refusal in which the server gives back nothing that is secret."""
    body = answer.body
    for value in (*(value for name, value in form.items() if name in _SECRETS), secret):
        if value:
            body = body.replace(value.encode(), b"***").replace(value.replace("/", "\\/").encode(), b"***")
    return replace(answer, body=body)


def granted(answer: Answer, client: Client, asked_at: datetime) -> Granted:
    """Reads a token endpoint's answer (RFC 6749, 5). The token's life counts from before it was asked for.

    Raises LoginNeeded for a grant that is over, TryLater for what may pass, TokenError for the rest.
    """
    host = _host(client.token_endpoint)
    try:
        fields = json.loads(answer.body)
    except (ValueError, RecursionError):
        fields = None
    if answer.status in _TRANSIENT_STATUS or not isinstance(fields, dict):
        raise TryLater(f"{host} answers with HTTP status {answer.status}", _retry_after(answer))
    if answer.status != 200:
        raise refusal(fields, host)
    return granted_by(fields, client, asked_at)


def granted_by(fields: Mapping[str, Any], client: Client, asked_at: datetime) -> Granted:
    """Reads what a token endpoint's answer holds. Raises as `granted`."""
    host = _host(client.token_endpoint)
    if "error" in fields:
        raise refusal(fields, host)
    secret, kind, refresh_token = fields.get("access_token"), fields.get("token_type"), fields.get("refresh_token")
    if not isinstance(secret, str) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise TryLater(f"{host} answers without a bearer token")
    try:
        access = AccessToken(secret, asked_at, _expiry(asked_at, fields.get("expires_in")))
    except ValueError:
        raise TryLater(f"{host} answers with a token that cannot be sent") from None
    return Granted(access, refresh_token if isinstance(refresh_token, str) else "")


def refusal(fields: Mapping[str, Any], host: str) -> TokenError | TryLater:
    """An error answer (RFC 6749, 5.2) as what is to be done about it."""
    code = printable(str(fields.get("error") or "no reason"))
    description = fields.get("error_description")
    said = f"{host} says {code}" + (f": {printable(description)}" if isinstance(description, str) else "")
    if code in _TRANSIENT:
        return TryLater(said)
    if code in ("invalid_grant", "interaction_required", "consent_required", "login_required"):
        return LoginNeeded(said)
    return TokenError(said)


def printable(text: str) -> str:
    """A server's words on one line, not endless."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return re.sub(r" {2,}", " ", line)[:300].strip()


def _expiry(issued_at: datetime, seconds: object) -> datetime | None:
    try:
        life = float(seconds) if isinstance(seconds, int | float | str) else math.nan
    except ValueError:
        life = math.nan
    if not life > 0:  # absent, or nonsense
        return None
    return issued_at + timedelta(seconds=min(life, _LONGEST_LIFE.total_seconds()))


def _retry_after(answer: Answer) -> float | None:
    """RFC 9110, 10.2.3; a date is not worth reading here."""
    value = next((value for name, value in answer.headers.items() if name.lower() == "retry-after"), "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).netloc

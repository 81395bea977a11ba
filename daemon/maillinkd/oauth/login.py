"""How a person grants access, once: with a browser (RFC 8252, loopback; PKCE), or with a code (RFC 8628, by msal)."""

import asyncio
import hmac
import json
import secrets
import socket
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from maillinkd.oauth import grant
from maillinkd.oauth.client import Client
from maillinkd.oauth.grant import Granted
from maillinkd.oauth.token import LoginNeeded, TokenError, TryLater

PATIENCE = 900.0
"""Seconds that somebody has for granting access."""
_REQUEST_LIMIT = 16_384
_RESERVED_SCOPES = frozenset({"openid", "profile", "offline_access"})
_PENDING = frozenset({"authorization_pending", "slow_down"})

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a person is asked to do: to open `url`, and to type `code` there if there is one."""

    url: str
    code: str = ""


Invite = Callable[[Invitation], None]


class WrongRedirect(ValueError):
    """An address that does not end this login: another one's, or none at all."""


@dataclass(frozen=True, slots=True)
class Request:
    """One authorization request (RFC 6749, 4.1.1) with its proof key (RFC 7636)."""

    client: Client
    username: str
    redirect_uri: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)

    @property
    def url(self) -> str:
        """What is opened in the browser."""
        challenge = urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.client.scopes),
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": self.username,
            **dict(self.client.authorization_parameters),
        }
        endpoint = self.client.authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(parameters)}"

    def code_in(self, target: str) -> str:
        """The code in the address to which the browser was sent (RFC 6749, 4.1.2).

        Raises WrongRedirect if it is none of this request, TokenError if access was denied.
        """
        try:
            query = parse_qs(urlsplit(target.strip()).query)
        except ValueError:
            query = {}
        fields = {name: values[0] for name, values in query.items()}
        if not hmac.compare_digest(fields.get("state", "").encode(), self.state.encode()):
            raise WrongRedirect("this address does not belong to this login")
        if "error" in fields:
            raise grant.refusal(fields, urlsplit(self.client.authorization_endpoint).netloc)
        if "code" not in fields:
            raise WrongRedirect("this address holds no code")
        return fields["code"]


async def by_browser(
    client: Client, secret: str | None, username: str, invite: Invite, pasted: AsyncIterator[str] | None = None
) -> Granted:
    """Authorization code, by a browser that comes back to us at 127.0.0.1, or by its address that somebody pastes.

    `pasted`: lines that a person types, for a browser on another machine. Raises TokenError, TryLater; LoginNeeded
    when nobody has granted access within `PATIENCE`.
    """
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    listening = socket.create_server(("127.0.0.1", 0))
    request = Request(client, username, f"http://{client.redirect_host}:{listening.getsockname()[1]}")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(reader, writer, lambda target: _take(request, target, found))

    async def read(lines: AsyncIterator[str]) -> None:
        async for line in lines:
            if line.strip() and not _take(request, line, found):
                invite(Invitation(request.url))  # once more: that was another address

    server = await asyncio.start_server(answer, sock=listening, limit=_REQUEST_LIMIT)
    reading = asyncio.create_task(read(pasted)) if pasted is not None else None
    try:
        invite(Invitation(request.url))
        async with asyncio.timeout(PATIENCE):
            code = await found
    except TimeoutError:
        raise LoginNeeded(f"nobody has granted access within {PATIENCE / 60:g} minutes") from None
    finally:
        if reading is not None:
            reading.cancel()
        server.close()
    return await grant.by_code(client, code, request.verifier, request.redirect_uri, secret)


def _take(request: Request, target: str, found: asyncio.Future[str]) -> bool:
    """Whether this address ends the login; one that does not is no reason to stop waiting."""
    try:
        code = request.code_in(target)
    except WrongRedirect:
        return False
    except (TokenError, TryLater) as error:
        if not found.done():
            found.set_exception(error)
    else:
        if not found.done():
            found.set_result(code)
    return True


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, take: Callable[[str], bool]) -> None:
    """Answers one HTTP request of a browser, with a page of one sentence."""
    try:
        async with asyncio.timeout(10):
            line = (await reader.readline()).decode("latin-1")
            while (await reader.readline()).strip():
                pass
            method, _, rest = line.partition(" ")
            ours = method == "GET" and take(rest.rpartition(" ")[0])
            status, text = ("200 OK", "maillinkd has it. You may close this page.") if ours else ("404 Not Found", "")
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
                "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
            )
            writer.write((head + text).encode())
            await writer.drain()
    except (OSError, ValueError, TimeoutError):
        pass  # a browser that went away, or something that is none
    finally:
        writer.close()


async def by_device(
    client: Client, invite: Invite, fetch: Callable[..., grant.Answer] = grant.fetch, sleep: Sleep = asyncio.sleep
) -> Granted:
    """Device code (RFC 8628): somebody types a code at the provider's page, on whatever machine.

    Raises TokenError, TryLater; LoginNeeded if access was denied, or not granted in time.
    """
    app = await asyncio.to_thread(_public_client, client, fetch)
    scopes = [scope for scope in client.scopes if scope not in _RESERVED_SCOPES]  # msal asks for those by itself
    flow = await asyncio.to_thread(app.initiate_device_flow, scopes)
    host = urlsplit(client.token_endpoint).netloc
    if "user_code" not in flow:
        raise grant.refusal(flow, host)
    flow["interval"] = max(1, flow["interval"])  # with 0 msal asks and asks
    invite(Invitation(str(flow["verification_uri"]), str(flow["user_code"])))
    ends_at = asyncio.get_running_loop().time() + min(float(flow["expires_in"]), PATIENCE)
    while asyncio.get_running_loop().time() < ends_at:
        await sleep(float(flow["interval"]))
        asked_at = grant.now()
        try:
            fields = await asyncio.to_thread(app.acquire_token_by_device_flow, flow, exit_condition=lambda _: True)
        except TryLater:
            continue  # RFC 8628, 3.5
        if fields.get("error") in _PENDING:
            continue
        if fields.get("error") in ("expired_token", "code_expired", "authorization_declined", "access_denied"):
            raise LoginNeeded(f"{host} says {grant.printable(str(fields['error']))}")
        return grant.granted_by(fields, client, asked_at)
    raise LoginNeeded("nobody has typed the code in time")


def _public_client(client: Client, fetch: Callable[..., grant.Answer]) -> Any:
    """msal's application: it knows Microsoft's ways. Public, so that no secret is ever sent."""
    import msal

    try:
        return msal.PublicClientApplication(
            client.client_id, authority=client.authority, http_client=_Http(fetch), instance_discovery=False
        )
    except ValueError as error:
        raise TokenError(f"{grant.printable(str(error))}; expected the tenant's name or id in `tenant`") from None


class _Response:
    """An HTTP answer as msal reads it."""

    def __init__(self, answer: grant.Answer) -> None:
        self.status_code = answer.status
        self.text = answer.body.decode("utf-8", "replace")
        self.headers = answer.headers

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise TryLater(f"HTTP status {self.status_code}")

    def json(self) -> Any:
        return json.loads(self.text)


class _Http:
    """HTTP as msal asks for it, by our own means: no further library, and errors that we know."""

    def __init__(self, fetch: Callable[..., grant.Answer]) -> None:
        self._fetch = fetch

    def get(self, url: str, headers: Mapping[str, str] | None = None, **_: Any) -> _Response:
        return _Response(self._fetch(url, None, headers))

    def post(
        self, url: str, data: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> _Response:
        return _Response(self._fetch(url, data or {}, headers))

    def close(self) -> None:
        """Nothing is kept open."""

"""An authorization server (RFC 6749) for one test: real HTTP on a free port of 127.0.0.1.

It plays the authorization endpoint (whoever opens it grants access), the token endpoint with all grants that we use,
and Microsoft's device flow. What it issues it remembers, and it is as strict as the providers are.
"""

import asyncio
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

from maillinkd.oauth import grant
from maillinkd.oauth.client import Client

SCOPE = "https://mail.example/imap"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class Said:
    """An answer in the place of the usual one."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def error(code: str, description: str = "", status: int = 400) -> Said:
    """RFC 6749, 5.2."""
    return Said(status, json.dumps({"error": code, "error_description": description}).encode(), {})


class TokenServer:
    """`async with TokenServer() as server: ...`"""

    def __init__(self, *, client_id: str = "client-1", secret: str | None = None, life: int = 3600) -> None:
        self.client_id = client_id
        self.secret = secret
        """A public client has none, and one that sends a secret is refused as Microsoft does."""
        self.life = life
        self.rotates = False
        """Each refresh gives a new refresh token, and voids the old one."""
        self.grace = False
        """The old one is void only once the new one was used."""
        self.public_key = ""
        """Of the service account."""
        self.device: list[str] = []
        """What a device that asks is answered, in turn; at the end it is granted."""
        self.says: list[Said] = []
        """Answers for the next requests to the token endpoint."""
        self.gate = asyncio.Event()
        """The token endpoint answers while it is set."""
        self.gate.set()
        self.asked = asyncio.Event()
        self.forms: list[dict[str, str]] = []
        """What the token endpoint was asked."""
        self.paths: list[str] = []
        self.access: list[str] = []
        """Access tokens as they were issued; those in `revoked` no longer hold."""
        self.revoked: set[str] = set()
        self.refresh: set[str] = set()
        """Refresh tokens that hold."""
        self.assertions: list[dict[str, Any]] = []
        self._before: dict[str, str] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def client(self, kind: str = "authorization_code") -> Client:
        """A client that is registered here."""
        return Client(
            "generic", kind, self.client_id, f"{self.url}/token", f"{self.url}/authorize", (SCOPE, "offline_access")
        )

    def holds(self, token: str) -> bool:
        """Whether a server that asks us would take this access token."""
        return token in self.access and token not in self.revoked

    def revoke_access(self) -> None:
        """All access tokens that were issued until now."""
        self.revoked.update(self.access)

    def consent(self, url: str) -> str:
        """The address to which the browser is sent when somebody grants access at `url` (RFC 6749, 4.1.2)."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize"
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert (asked["response_type"], asked["client_id"]) == ("code", self.client_id)
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}/?{urlencode({'code': code, 'state': asked['state']})}"

    def login(self) -> tuple[str, str]:
        """An access and a refresh token, as if somebody had logged in."""
        issued = json.loads(self._grant(with_refresh=True).body)
        return issued["access_token"], issued["refresh_token"]

    def as_microsoft(self, url: str, form: Mapping[str, Any] | None = None, headers: Any = None) -> grant.Answer:
        """`grant.fetch`, with Microsoft's site in the place of ours: msal insists on https."""
        assert url.startswith("https://login.microsoftonline.com/"), url
        return grant.fetch(self.url + urlsplit(url).path, form, headers)

    async def __aenter__(self) -> "TokenServer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.paths.append(f"{method} {path}")
        answer = await self._answer(path, form)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} x\r\n{lines}Connection: close\r\n\r\n".encode() + answer.body)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async def _answer(self, path: str, form: dict[str, str]) -> Said:
        if path.endswith("/.well-known/openid-configuration"):
            site = "https://login.microsoftonline.com/common"
            return _good(
                issuer=f"{site}/v2.0",
                token_endpoint=f"{site}/oauth2/v2.0/token",
                authorization_endpoint=f"{site}/oauth2/v2.0/authorize",
                device_authorization_endpoint=f"{site}/oauth2/v2.0/devicecode",
            )
        if path.endswith("/devicecode"):
            return self._device_code(form)
        if not path.endswith("/token"):
            return Said(404, b"what?", {})
        self.forms.append(form)
        self.asked.set()
        await self.gate.wait()
        return self.says.pop(0) if self.says else self._token(form)

    def _device_code(self, form: dict[str, str]) -> Said:
        if form.get("client_id") != self.client_id:
            return error("unauthorized_client", "AADSTS700016: no such application")
        return _good(
            device_code="device-1",
            user_code="ABCD1234",
            verification_uri="https://login.example/device",
            interval="0",
            expires_in=900,
        )

    def _token(self, form: dict[str, str]) -> Said:
        kind = form.get("grant_type")
        if kind == JWT_BEARER:
            return self._service_account(form)
        if form.get("client_id") != self.client_id:
            return error("invalid_client", "no such client", 401)
        if self.secret is None and "client_secret" in form:
            return error("invalid_client", "AADSTS700025: Client is public", 401)
        if self.secret is not None and form.get("client_secret") != self.secret:
            return error("invalid_client", "wrong secret", 401)
        match kind:
            case "authorization_code":
                return self._code(form)
            case "refresh_token":
                return self._refresh(form)
            case "client_credentials":
                return self._grant(with_refresh=False)
            case kind if kind == DEVICE:
                answer = self.device.pop(0) if self.device else "granted"
                return self._grant(with_refresh=True) if answer == "granted" else error(answer)
        return error("unsupported_grant_type")

    def _code(self, form: dict[str, str]) -> Said:
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or form.get("redirect_uri") != asked["redirect_uri"]:
            return error("invalid_grant", "no such code")
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        if urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return error("invalid_grant", "wrong code_verifier")
        return self._grant(with_refresh=True)

    def _refresh(self, form: dict[str, str]) -> Said:
        token = form.get("refresh_token", "")
        if token not in self.refresh:
            return error("invalid_grant", f"Token has been expired or revoked: {token}")
        self.refresh.discard(self._before.pop(token, ""))
        answer = self._grant(with_refresh=self.rotates)
        if self.rotates:
            new = json.loads(answer.body)["refresh_token"]
            if self.grace:
                self._before[new] = token
            else:
                self.refresh.discard(token)
        return answer

    def _service_account(self, form: dict[str, str]) -> Said:
        try:
            claims = jwt.decode(
                form.get("assertion", ""), self.public_key, algorithms=["RS256"], audience=f"{self.url}/token"
            )
        except jwt.PyJWTError as failure:
            return error("invalid_grant", f"Invalid JWT: {failure}")
        self.assertions.append(claims)
        return self._grant(with_refresh=False)

    def _grant(self, *, with_refresh: bool) -> Said:
        access = f"access-{len(self.access)}-{secrets.token_hex(8)}"
        self.access.append(access)
        fields: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": self.life}
        if with_refresh:
            fields["refresh_token"] = f"refresh-{secrets.token_hex(16)}"
            self.refresh.add(fields["refresh_token"])
        return _good(**fields)


def _good(**fields: Any) -> Said:
    return Said(200, json.dumps(fields).encode(), {})

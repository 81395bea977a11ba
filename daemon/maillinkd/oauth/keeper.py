"""Where each mailbox's access tokens come from, kept and renewed in time (`Tokens`).

One refresh at a time: a lock among this process's tasks, a lease in the database among processes and hosts. What a
provider has granted is stored before it is used, in one statement in the place of what was there, so that a process
that dies at any moment leaves either the old refresh token or the new one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import structlog

from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.oauth import grant, login
from maillinkd.oauth.client import Client, client_of
from maillinkd.oauth.grant import Clock, Granted
from maillinkd.oauth.login import Invite
from maillinkd.oauth.seal import Seal, make_key
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, Tokens
from maillinkd.settings import ConfigurationError, Problem, Settings
from maillinkd.store import cursors, tokens
from maillinkd.store.database import Database

_LEASE = timedelta(seconds=90)
"""Longer than a provider may take."""
_LOOK = 0.2
"""Seconds between looks while another process refreshes."""
_GRACE = 10.0
"""Seconds for which a refresh goes on when we are told to stop: what the provider grants then would be lost."""

_NOBODY = "nobody has logged in yet"

_T = TypeVar("_T")

log = structlog.get_logger("maillinkd.oauth")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a mailbox's login."""

    access: AccessToken
    refresh_token: str = field(repr=False)
    username: str
    client_id: str
    token_endpoint: str

    def values(self) -> dict[str, Any]:
        """As it is sealed."""
        expires_at = self.access.expires_at
        return {
            "access_token": self.access.secret,
            "issued_at": self.access.issued_at.timestamp(),
            "expires_at": None if expires_at is None else expires_at.timestamp(),
            "refresh_token": self.refresh_token,
            "username": self.username,
            "client_id": self.client_id,
            "token_endpoint": self.token_endpoint,
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Kept":
        """What `values` gave."""
        expires_at = values["expires_at"]
        access = AccessToken(
            values["access_token"],
            datetime.fromtimestamp(values["issued_at"], UTC),
            None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
        )
        return cls(access, values["refresh_token"], values["username"], values["client_id"], values["token_endpoint"])

    def is_of(self, username: str, client: Client) -> bool:
        """Whether it is for the account that is configured now; no refresh token goes to another endpoint."""
        mine = (self.username, self.client_id, self.token_endpoint)
        return mine == (username, client.client_id, client.token_endpoint)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where one mailbox's login is stored. Raises TokenError where the key is missing or another one."""

    mailbox: str
    database: Database
    keys: Callable[[], bytes | None]
    """The content of the key file, read anew each time; None while there is none."""

    async def load(self) -> Kept | None:
        """What is stored, None if nothing is. Raises TokenError, TemporaryFailure."""
        async with self.database.reading() as connection:
            sealed = await tokens.kept(connection, self.mailbox)
        return None if sealed is None else Kept.of((await asyncio.to_thread(self._seal)).open(sealed))

    async def save(self, kept: Kept) -> None:
        """Puts it in the place of what was stored. Raises TokenError, TemporaryFailure."""
        sealed = (await asyncio.to_thread(self._seal)).close(kept.values())
        async with self.database.transaction() as connection:
            await tokens.keep(connection, self.mailbox, sealed, grant.now())

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else, on whatever host, refreshes this mailbox's token meanwhile. Raises TemporaryFailure."""
        name, holder = f"oauth:{self.mailbox}", uuid4().hex
        while True:
            at = grant.now()
            async with self.database.transaction() as connection:
                if await cursors.take_lease(connection, name, holder, at, at + _LEASE) is None:
                    break
            await asyncio.sleep(_LOOK)
        try:
            yield
        finally:
            with suppress(TemporaryFailure):  # it runs out by itself
                async with self.database.transaction() as connection:
                    await cursors.drop_lease(connection, name, holder)

    def _seal(self) -> Seal:
        _require_extra()
        try:
            keys = self.keys()
        except ConfigurationError as error:
            raise TokenError(str(error)) from error
        if keys is None:
            raise TokenError(
                f"the key that the token of mailbox {self.mailbox} is encrypted with is not here: "
                "expected the key file of [oauth]"
            )
        return Seal(keys)


class KeptTokens:
    """The tokens of a mailbox to which a person has logged in."""

    def __init__(
        self, shelf: Shelf, username: str, client: Client, secret: Callable[[], str | None], clock: Clock = grant.now
    ) -> None:
        self._shelf = shelf
        self._username = username
        self._client = client
        self._secret = secret
        self._clock = clock
        self._turn = asyncio.Lock()
        self._held: Kept | None = None
        self._unsaved = False

    async def current(self) -> AccessToken:
        async with self._turn:
            if self._unsaved and self._held is not None:
                await self._save(self._held)
            if self._held is not None and self._held.access.is_fresh(self._clock()):
                return self._held.access
            return await self._renew(None)

    async def renewed(self, refused: AccessToken) -> AccessToken:
        async with self._turn:
            return await self._renew(refused.secret)

    async def _renew(self, refused: str | None) -> AccessToken:
        """Unless somebody else has done so: another process, or a new login."""
        if self._unsaved and self._held is not None:
            return await _finished(self._refresh(self._held))
        self._held = kept = await self._load()
        if self._serves(kept, refused):
            return kept.access
        return await _finished(self._renew_alone(refused))

    async def _renew_alone(self, refused: str | None) -> AccessToken:
        async with self._shelf.alone():
            self._held = kept = await self._load()
            return kept.access if self._serves(kept, refused) else await self._refresh(kept)

    def _serves(self, kept: Kept, refused: str | None) -> bool:
        return kept.access.is_fresh(self._clock()) and kept.access.secret != refused

    async def _load(self) -> Kept:
        return _owned(await self._shelf.load(), self._shelf.mailbox, self._username, self._client)

    async def _refresh(self, kept: Kept) -> AccessToken:
        if not kept.refresh_token:
            raise _login_needed(self._shelf.mailbox, "the provider gave no refresh token")
        try:
            secret = await _blocking(self._secret)
            answer = await grant.refresh(self._client, kept.refresh_token, secret, self._clock)
        except LoginNeeded as error:
            raise _login_needed(self._shelf.mailbox, str(error)) from None
        self._held = replace(kept, access=answer.access, refresh_token=answer.refresh_token or kept.refresh_token)
        await self._save(self._held)
        log.info("token refreshed", mailbox=self._shelf.mailbox, expires_at=_shown(answer.access.expires_at))
        return answer.access

    async def _save(self, kept: Kept) -> None:
        """What cannot be stored now is held, and stored with the next look: the old one may be void already."""
        self._unsaved = True
        try:
            await self._shelf.save(kept)
        except TemporaryFailure as failure:
            log.warning("token cannot be stored", mailbox=self._shelf.mailbox, error=str(failure))
        else:
            self._unsaved = False


class NoTokens:
    """The tokens of a mailbox for which nothing can be stored yet."""

    def __init__(self, mailbox: str) -> None:
        self._mailbox = mailbox

    async def current(self) -> AccessToken:
        raise _login_needed(self._mailbox, _NOBODY)

    async def renewed(self, refused: AccessToken) -> AccessToken:
        return await self.current()


class ClientTokens:
    """The tokens of a mailbox that the client may open by itself: no login, nothing to store."""

    def __init__(self, ask: Callable[[], Awaitable[Granted]], clock: Clock = grant.now) -> None:
        self._ask = ask
        self._clock = clock
        self._turn = asyncio.Lock()
        self._held: AccessToken | None = None

    async def current(self) -> AccessToken:
        async with self._turn:
            if self._held is None or not self._held.is_fresh(self._clock()):
                await self._renew()
            assert self._held is not None
            return self._held

    async def renewed(self, refused: AccessToken) -> AccessToken:
        async with self._turn:
            if self._held is None or self._held.secret == refused.secret:
                await self._renew()
            assert self._held is not None
            return self._held

    async def _renew(self) -> None:
        self._held = (await self._ask()).access


class CommandTokens:
    """The tokens that a program of the admin's prints. It is asked at each login; nobody says how long one lives."""

    def __init__(self, command: Callable[[], str]) -> None:
        self._command = command

    async def current(self) -> AccessToken:
        secret = await _blocking(self._command)
        try:
            return AccessToken(secret, grant.now(), None)
        except ValueError as error:
            raise TokenError(f"token_command: {error}") from None

    async def renewed(self, refused: AccessToken) -> AccessToken:
        return await self.current()


def tokens_of(settings: Settings, mailbox: str, database: Database | None) -> Tokens | None:
    """Where this mailbox's tokens come from; None if it has a password. No database: nothing is stored yet."""
    mine = settings.mailboxes[mailbox]
    if mine.auth != "oauth2":
        return None
    if mine.token_command:
        return CommandTokens(lambda: settings.read_token(mailbox))
    name = mine.oauth_client
    client = client_of(settings.oauth_clients[name])

    def secret() -> str | None:
        return settings.read_client_secret(name)

    async def for_the_account() -> Granted:
        _require_extra()
        key_file = await _blocking(lambda: settings.read_service_account(name))
        return await grant.by_service_account(client, key_file, mine.username)

    async def for_the_client() -> Granted:
        return await grant.by_client_credentials(client, await _blocking(secret))

    match client.grant:
        case "service_account":
            return ClientTokens(for_the_account)
        case "client_credentials":
            return ClientTokens(for_the_client)
    if database is None:
        return NoTokens(mailbox)
    return KeptTokens(Shelf(mailbox, database, settings.read_oauth_key), mine.username, client, secret)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mailbox's login stands."""

    stored: bool
    """Else nothing needs to be: the token is fetched when it is needed."""
    expires_at: datetime | None
    """When the stored access token ends. It is renewed before, so nothing ends with it."""


async def standing(settings: Settings, mailbox: str, database: Database | None) -> Standing:
    """How the login of a mailbox with `auth = "oauth2"` stands, without asking anybody else.

    Raises LoginNeeded if a person has to log in, TokenError, TemporaryFailure.
    """
    mine = settings.mailboxes[mailbox]
    if mine.token_command:
        return Standing(False, None)
    client = client_of(settings.oauth_clients[mine.oauth_client])
    if not settings.oauth_clients[mine.oauth_client].needs_a_person:
        return Standing(False, None)
    kept = await Shelf(mailbox, database, settings.read_oauth_key).load() if database is not None else None
    kept = _owned(kept, mailbox, mine.username, client)
    return Standing(True, kept.access.expires_at)


async def log_in(
    settings: Settings, mailbox: str, database: Database, invite: Invite, pasted: AsyncIterator[str] | None = None
) -> AccessToken:
    """Has a person grant access to a mailbox, and stores what comes of it; where nobody is needed, proves that.

    `invite` is told what the person is to do, `pasted` is what he types. Raises TokenError, TryLater,
    TemporaryFailure; ConfigurationError for a mailbox with a password.
    """
    mine = settings.mailboxes[mailbox]
    registration = settings.oauth_client_of(mailbox)
    if registration is None or not registration.needs_a_person:
        source = tokens_of(settings, mailbox, database)
        if source is None:
            expected = 'expected auth = "oauth2": a mailbox with a password needs no login'
            raise ConfigurationError([Problem(settings.source_of("mailboxes", mailbox), mailbox, expected)])
        return await source.current()
    client = client_of(registration)
    shelf = Shelf(mailbox, database, settings.read_oauth_key)
    await _ensure_key(settings, database)
    secret = await _blocking(lambda: settings.read_client_secret(mine.oauth_client))
    if client.grant == "device_code":
        granted = await login.by_device(client, invite)
    else:
        granted = await login.by_browser(client, secret, mine.username, invite, pasted)
    if not granted.refresh_token:
        raise TokenError("the provider gave no refresh token: expected a scope that allows one (offline_access)")
    await shelf.save(
        Kept(granted.access, granted.refresh_token, mine.username, client.client_id, client.token_endpoint)
    )
    return granted.access


async def _ensure_key(settings: Settings, database: Database) -> None:
    """Sees to it, before anybody is asked for anything, that a token can be stored."""
    _require_extra()
    if (keys := await _blocking(settings.read_oauth_key)) is not None:
        Seal(keys)
        return
    path = settings.oauth_key_path()
    if path is None:
        raise TokenError("expected `key_file` in [oauth]: the file for the key that tokens are encrypted with")
    async with database.reading() as connection:
        others = await tokens.mailboxes(connection)
    if others:
        raise TokenError(
            f"tokens are stored already ({', '.join(others)}), but their key is not in {path}: bring it there, "
            "or forget them (`maillinkd auth forget`)"
        )
    try:
        await asyncio.to_thread(make_key, path)
    except OSError as error:
        raise TokenError(f"the key file {path} cannot be made: {error.strerror}") from error


def _owned(kept: Kept | None, mailbox: str, username: str, client: Client) -> Kept:
    if kept is None:
        raise _login_needed(mailbox, _NOBODY)
    if not kept.is_of(username, client):
        raise _login_needed(mailbox, "the stored token is for another user name or OAuth client")
    return kept


def _require_extra() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise TokenError("OAuth 2.0 needs more libraries: pip install 'maillinkd[oauth]'") from None


async def _finished(refresh: Coroutine[Any, Any, _T]) -> _T:
    """Awaits it; one that is cancelled is brought to its end first, for its old refresh token may be void by now."""
    task = asyncio.ensure_future(refresh)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_GRACE)
        task.cancel()
        raise


async def _blocking(read: Callable[[], _T]) -> _T:
    """A secret that takes time to be read. Raises TokenError where it can't be had."""
    try:
        return await asyncio.to_thread(read)
    except ConfigurationError as error:
        raise TokenError(str(error)) from error


def _login_needed(mailbox: str, why: str) -> LoginNeeded:
    return LoginNeeded(f"mailbox {mailbox}: {why}; run `maillinkd auth login {mailbox}`")


def _shown(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")

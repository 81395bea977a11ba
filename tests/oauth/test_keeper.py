"""Tokens are renewed in time, by one at a time, and what was granted is never lost."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.oauth import grant, keeper, login
from maillinkd.oauth.keeper import Kept, KeptTokens, Shelf, Standing
from maillinkd.oauth.login import Invitation
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, TryLater
from maillinkd.settings import ConfigurationError, Settings, load
from maillinkd.store import cursors, tokens
from maillinkd.store.database import Database, open_database
from maillinkd.store.upgrade import upgrade
from oauth.test_login import Person, browse
from system.token_server import Said, TokenServer, error


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty database file."""
    path = tmp_path_factory.mktemp("migrated") / "mail.db"

    async def make() -> None:
        database = open_database(f"sqlite+aiosqlite:///{path}")
        await upgrade(database)
        await database.close()

    asyncio.run(make())
    return path.read_bytes()


@pytest.fixture
async def database(tmp_path: Path, migrated: bytes) -> AsyncIterator[Database]:
    (tmp_path / "mail.db").write_bytes(migrated)
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/mail.db")
    yield database
    await database.close()


class Clock:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Scene:
    """Anna's mailbox, to which she has logged in."""

    server: TokenServer
    database: Database
    clock: Clock = field(default_factory=Clock)
    key: bytes | None = field(default_factory=Fernet.generate_key)
    secret: str | None = None

    @property
    def shelf(self) -> Shelf:
        return Shelf("anna", self.database, lambda: self.key)

    def process(self) -> KeptTokens:
        """A process of its own, as it begins."""
        return KeptTokens(
            self.shelf, "anna@ourco.example", self.server.client(), lambda: self.secret, clock=self.clock
        )

    async def logged_in(self, **changes: Any) -> Kept:
        access, refresh_token = self.server.login()
        life = timedelta(seconds=self.server.life)
        client = self.server.client()
        kept = Kept(
            AccessToken(access, self.clock.now, self.clock.now + life),
            refresh_token,
            "anna@ourco.example",
            client.client_id,
            client.token_endpoint,
        )
        await self.shelf.save(replace(kept, **changes))
        return kept

    async def stored(self) -> Kept:
        kept = await self.shelf.load()
        assert kept is not None
        return kept


@pytest.fixture
def scene(server: TokenServer, database: Database) -> Scene:
    return Scene(server, database)


# --- When ----------------------------------------------------------------------------------------------------------


async def test_a_token_serves_for_four_fifths_of_its_life(scene: Scene) -> None:
    kept, anna = await scene.logged_in(), scene.process()

    assert await anna.current() == kept.access
    scene.clock.pass_(minutes=47)
    assert await anna.current() == kept.access
    assert scene.server.forms == []
    scene.clock.pass_(minutes=1)
    renewed = await anna.current()

    assert scene.server.holds(renewed.secret)
    assert renewed.secret != kept.access.secret
    assert await anna.current() == renewed == (await scene.stored()).access
    assert len(scene.server.forms) == 1


@pytest.mark.parametrize("days", [365, -365])
async def test_a_clock_that_jumps_makes_it_ask_and_not_fail(scene: Scene, days: int) -> None:
    kept, anna = await scene.logged_in(), scene.process()
    await anna.current()

    scene.clock.pass_(days=days)

    assert (await anna.current()).secret != kept.access.secret
    assert len(scene.server.forms) == 1


async def test_one_that_is_refused_before_its_time_is_renewed_once(scene: Scene) -> None:
    kept, anna = await scene.logged_in(), scene.process()

    renewed = await anna.renewed(kept.access)

    assert scene.server.holds(renewed.secret)
    assert await anna.renewed(kept.access) == renewed  # refused meanwhile to somebody else
    assert len(scene.server.forms) == 1


# --- One at a time -------------------------------------------------------------------------------------------------


async def test_many_that_need_one_at_once_refresh_once(scene: Scene) -> None:
    await scene.logged_in()
    scene.clock.pass_(hours=2)
    anna = scene.process()

    found = await asyncio.gather(*(anna.current() for _ in range(20)))

    assert len(set(found)) == 1
    assert len(scene.server.forms) == 1


async def test_two_processes_refresh_once_even_if_both_begin_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Providers take a refresh token that is used twice for a stolen one, and revoke all."""
    monkeypatch.setattr(keeper, "_LOOK", 0.001)
    scene.server.rotates = True
    await scene.logged_in()
    scene.clock.pass_(hours=2)

    found = await asyncio.gather(*(scene.process().current() for _ in range(5)))

    assert len(set(found)) == 1
    assert len(scene.server.forms) == 1


async def test_a_process_that_died_while_it_refreshed_keeps_nobody_for_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOOK", 0.001)
    await scene.logged_in()
    scene.clock.pass_(hours=2)
    now = grant.now()
    async with scene.database.transaction() as connection:
        await cursors.take_lease(connection, "oauth:anna", "dead", now, now + timedelta(seconds=0.05))

    assert scene.server.holds((await scene.process().current()).secret)


async def test_a_new_login_of_another_process_is_taken_over(scene: Scene) -> None:
    kept, anna = await scene.logged_in(), scene.process()
    await anna.current()
    scene.server.refresh.clear()
    newer = await scene.logged_in()

    assert await anna.renewed(kept.access) == newer.access
    assert scene.server.forms == []


# --- Nothing that was granted is lost ------------------------------------------------------------------------------


async def test_a_refresh_token_that_is_replaced_is_stored_before_it_is_used(scene: Scene) -> None:
    scene.server.rotates = True
    kept, anna = await scene.logged_in(), scene.process()

    for _ in range(3):
        scene.clock.pass_(hours=1)
        await anna.current()
        assert (await scene.stored()).refresh_token in scene.server.refresh

    assert kept.refresh_token not in scene.server.refresh
    assert await scene.process().current() == (await scene.stored()).access  # as after a restart


class Death(BaseException):
    """As kill -9: nothing that comes after it is done."""


@pytest.mark.parametrize("last", ["lease", "answer"])
async def test_a_process_that_dies_before_it_has_stored_leaves_the_old_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """With a provider that takes the old one until the new one was used, nothing is lost."""
    scene.server.rotates = scene.server.grace = True
    kept = await scene.logged_in()
    scene.clock.pass_(hours=1)

    async def die(*_: object) -> None:
        raise Death

    with monkeypatch.context() as death:
        death.setattr(keeper, "_LEASE", timedelta(seconds=0.05))
        death.setattr(cursors, "drop_lease", die)
        death.setattr(*((grant, "refresh") if last == "lease" else (tokens, "keep")), die)
        with pytest.raises(Death):
            await scene.process().current()

    assert (await scene.stored()).refresh_token == kept.refresh_token
    assert scene.server.holds((await scene.process().current()).secret)
    assert (await scene.stored()).refresh_token in scene.server.refresh - {kept.refresh_token}


async def test_what_cannot_be_stored_now_serves_and_is_stored_with_the_next_look(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.server.rotates = True
    await scene.logged_in()
    anna = scene.process()
    scene.clock.pass_(hours=1)

    async def fail(*_: object) -> None:
        raise TemporaryFailure("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(tokens, "keep", fail)
        renewed = await anna.current()
        assert scene.server.holds(renewed.secret)
        assert await anna.current() == renewed
        scene.clock.pass_(hours=1)
        again = await anna.current()  # from what is held: the stored refresh token is void by now
        assert scene.server.holds(again.secret)

    assert await anna.current() == again
    assert (await scene.stored()).access == again
    assert (await scene.stored()).refresh_token in scene.server.refresh


async def test_a_refresh_that_is_under_way_is_finished_when_we_are_told_to_stop(scene: Scene) -> None:
    scene.server.rotates = True
    await scene.logged_in()
    scene.clock.pass_(hours=1)
    scene.server.gate.clear()
    task = asyncio.create_task(scene.process().current())
    await scene.server.asked.wait()

    task.cancel()
    await asyncio.sleep(0)
    scene.server.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await scene.stored()).refresh_token in scene.server.refresh


# --- What is said ---------------------------------------------------------------------------------------------------


LOG_IN = "run `maillinkd auth login anna`"


async def test_where_nobody_has_logged_in_it_says_what_to_do(scene: Scene) -> None:
    with pytest.raises(LoginNeeded, match=f"mailbox anna: nobody has logged in yet; {LOG_IN}"):
        await scene.process().current()


async def test_a_grant_that_was_revoked_says_what_to_do(scene: Scene) -> None:
    await scene.logged_in()
    scene.server.refresh.clear()
    scene.clock.pass_(hours=1)

    with pytest.raises(LoginNeeded, match=f"invalid_grant.*{LOG_IN}"):
        await scene.process().current()


@pytest.mark.parametrize(
    "changes",
    [{"username": "ben@ourco.example"}, {"client_id": "other"}, {"token_endpoint": "https://other.example/token"}],
)
async def test_a_token_of_another_account_is_not_used_nor_sent(scene: Scene, changes: dict[str, str]) -> None:
    await scene.logged_in(**changes)
    scene.clock.pass_(hours=1)

    with pytest.raises(LoginNeeded, match="another user name or OAuth client"):
        await scene.process().current()
    assert scene.server.forms == []


async def test_without_a_refresh_token_a_person_is_needed(scene: Scene) -> None:
    await scene.logged_in(refresh_token="")
    scene.clock.pass_(hours=1)

    with pytest.raises(LoginNeeded, match="no refresh token"):
        await scene.process().current()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Said(503, b"", {"Retry-After": "7"}), TryLater),
        (error("invalid_client", status=401), TokenError),
        (error("temporarily_unavailable"), TryLater),
    ],
)
async def test_what_may_pass_is_told_from_what_may_not_and_the_next_try_is_a_new_one(
    scene: Scene, said: Said, expected: type[Exception]
) -> None:
    await scene.logged_in()
    scene.clock.pass_(hours=1)
    scene.server.says = [said]
    anna = scene.process()

    with pytest.raises(expected):
        await anna.current()
    assert scene.server.holds((await anna.current()).secret)


@pytest.mark.parametrize(
    ("key", "words"), [(None, "is not here"), (Fernet.generate_key(), "another key")], ids=["no key", "another key"]
)
async def test_without_the_key_the_token_cannot_be_had(scene: Scene, key: bytes | None, words: str) -> None:
    await scene.logged_in()
    scene.key = key

    with pytest.raises(TokenError, match=words):
        await scene.process().current()


async def test_nothing_can_be_read_out_of_the_database_file(scene: Scene, tmp_path: Path) -> None:
    kept = await scene.logged_in()

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("mail.db*"))

    assert kept.refresh_token.encode() not in stored
    assert kept.access.secret.encode() not in stored
    assert kept.refresh_token not in repr(kept)
    assert kept.access.secret not in repr(kept)


# --- From the configuration -----------------------------------------------------------------------------------------


Configure = Callable[..., Settings]


@pytest.fixture
def configure(tmp_path: Path, server: TokenServer) -> Configure:
    """A configuration with mailbox anna; `client` is what stands in [oauth_clients.own], `mailbox` more of hers."""

    def configure(client: str = "", mailbox: str = 'oauth_client = "own"') -> Settings:
        path = tmp_path / "maillinkd.toml"
        path.write_text(f"""
[database]
url = "sqlite:///{tmp_path}/mail.db"
[users.anna]
address = "anna@ourco.example"
[mailboxes.anna]
host = "imap.example.com"
username = "anna@ourco.example"
auth = "oauth2"
{mailbox}
[oauth_clients.own]
provider = "generic"
client_id = "client-1"
authorization_endpoint = "{server.url}/authorize"
token_endpoint = "{server.url}/token"
scopes = ["https://mail.example/imap", "offline_access"]
{client}
""")
        return load(path, {})

    return configure


async def _log_in(settings: Settings, database: Database, server: TokenServer) -> AccessToken:
    person = Person()
    task = asyncio.create_task(keeper.log_in(settings, "anna", database, person))
    waiting = asyncio.create_task(person.invited())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        await browse(server.consent(waiting.result().url))
    return await task


async def test_a_login_makes_the_key_and_is_what_the_daemon_then_goes_on_with(
    configure: Configure, server: TokenServer, database: Database, tmp_path: Path
) -> None:
    settings = configure()
    with pytest.raises(LoginNeeded):
        await keeper.standing(settings, "anna", database)

    token = await _log_in(settings, database, server)

    source = keeper.tokens_of(settings, "anna", database)
    assert source is not None
    assert (await source.current()).secret == token.secret
    assert (tmp_path / "oauth.key").stat().st_mode & 0o777 == 0o600
    assert await keeper.standing(settings, "anna", database) == Standing(True, token.expires_at)


async def test_no_second_key_is_made_where_the_first_one_is_only_elsewhere(
    configure: Configure, server: TokenServer, database: Database, tmp_path: Path
) -> None:
    settings = configure()
    await _log_in(settings, database, server)
    (tmp_path / "oauth.key").unlink()

    with pytest.raises(TokenError, match="bring it there"):
        await _log_in(settings, database, server)
    assert not (tmp_path / "oauth.key").exists()


async def test_a_login_that_brings_no_refresh_token_is_none(
    configure: Configure, server: TokenServer, database: Database
) -> None:
    server.says = [Said(200, b'{"access_token":"a","token_type":"Bearer"}', {})]

    with pytest.raises(TokenError, match="no refresh token"):
        await _log_in(configure(), database, server)


async def test_microsoft_s_login_is_by_a_code(
    configure: Configure, server: TokenServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def by_device(client: object, invite: object) -> grant.Granted:
        return grant.Granted(AccessToken("a", grant.now(), None), "r")

    monkeypatch.setattr(login, "by_device", by_device)
    settings = configure('[oauth_clients.m365]\nprovider = "microsoft"\nclient_id = "x"', 'oauth_client = "m365"')

    assert (await keeper.log_in(settings, "anna", database, _nobody)).secret == "a"


def _nobody(to: Invitation) -> None:
    raise AssertionError("nobody is to be asked")


async def test_clients_that_need_nobody_fetch_their_token_and_store_nothing(
    configure: Configure, server: TokenServer, database: Database, tmp_path: Path
) -> None:
    server.secret = "s3"
    (tmp_path / "secret").write_text("s3\n")
    settings = configure(f'grant = "client_credentials"\nclient_secret_file = "{tmp_path}/secret"')
    source = keeper.tokens_of(settings, "anna", None)
    assert source is not None

    token = await source.current()
    assert await source.current() == token
    renewed = await source.renewed(token)

    assert (await source.current(), await source.renewed(token)) == (renewed, renewed)
    assert len(server.forms) == 2
    assert server.holds((await keeper.log_in(settings, "anna", database, _nobody)).secret)
    assert await keeper.standing(settings, "anna", None) == Standing(False, None)


async def test_a_token_command_is_run_at_each_login(configure: Configure, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print(f'token-{time.time_ns()}\\nmore')"]
    source = keeper.tokens_of(configure(mailbox=f"token_command = {command!r}"), "anna", None)
    assert source is not None

    first, second = await source.current(), await source.current()

    assert first.secret.startswith("token-")
    assert first.expires_at is None
    assert first.secret != second.secret


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no agent')", "exit code 1: no agent"),
        ("print()", "expected the token in the first line"),
        ("print('two words')", "without spaces"),
    ],
)
async def test_a_token_command_that_fails_says_how(configure: Configure, program: str, words: str) -> None:
    source = keeper.tokens_of(configure(mailbox=f"token_command = {[sys.executable, '-c', program]!r}"), "anna", None)
    assert source is not None

    with pytest.raises(TokenError, match=words):
        await source.current()


async def test_a_mailbox_with_a_password_has_no_tokens(configure: Configure, database: Database) -> None:
    settings = configure()
    password = settings.mailboxes["anna"].model_copy(update={"auth": "password", "oauth_client": ""})
    settings = settings.model_copy(update={"mailboxes": {"anna": password}})

    assert keeper.tokens_of(settings, "anna", database) is None
    with pytest.raises(ConfigurationError, match="needs no login"):
        await keeper.log_in(settings, "anna", database, _nobody)


async def test_where_no_database_is_yet_nobody_has_logged_in(configure: Configure) -> None:
    source = keeper.tokens_of(configure(), "anna", None)
    assert source is not None

    with pytest.raises(LoginNeeded, match=LOG_IN):
        await source.current()

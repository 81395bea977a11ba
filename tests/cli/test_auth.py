"""`auth`: granting access, looking at it, forgetting it; and no secret in anything that is said."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from cli.shell import SOURCE, Ran, Shell
from maillinkd.cli import auth, exit_codes
from maillinkd.cli.given import Given
from maillinkd.oauth.login import Invitation
from oauth.test_login import browse
from system.imap_peer import FakeServer, mail
from system.providers import gmail
from system.token_server import TokenServer, error

CLIENT = """
[mailboxes.carol]
owner = "anna"
host = "127.0.0.1"
port = {port}
tls = "none"
username = "carol@ourco.example"
folders = ["INBOX"]
since = "all"
auth = "oauth2"
oauth_client = "own"

[oauth_clients.own]
provider = "generic"
client_id = "client-1"
client_secret_file = "{secret}"
authorization_endpoint = "{url}/authorize"
token_endpoint = "{url}/token"
scopes = ["https://mail.example/imap", "offline_access"]
"""
SECRET = "canary-client-secret"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer(secret=SECRET) as server:
        yield server


@pytest.fixture
async def imap(server: TokenServer) -> AsyncIterator[FakeServer]:
    async with FakeServer() as imap:
        gmail(imap, server.holds)
        yield imap


@pytest.fixture(autouse=True)
def _annas_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS_PASSWORD", "x")


@pytest.fixture
def carol(shell: Shell, server: TokenServer, imap: FakeServer) -> Shell:
    """A shell with a mailbox that needs a login."""
    shell.configure(CLIENT.format(port=imap.port, url=server.url, secret=shell.write("secret", f"{SECRET}\n")))
    return shell


async def run(shell: Shell, *arguments: str) -> Ran:
    """Runs a command, while the servers go on here."""
    return await asyncio.to_thread(shell.run, *arguments)


async def log_in(shell: Shell, server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Logs in: whatever address is shown, is visited by a browser."""
    loop = asyncio.get_running_loop()

    def invite(given: Given, to: Invitation) -> None:
        show(given, to)
        asyncio.run_coroutine_threadsafe(browse(server.consent(to.url)), loop)

    show = auth._invite
    with monkeypatch.context() as visited:
        visited.setattr(auth, "_invite", invite)
        return await run(shell, "--json", "auth", "login", "carol")


async def test_a_login_lets_the_mailbox_be_opened(
    carol: Shell, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await run(carol, "--json", "auth", "show")
    logged_in = await log_in(carol, server, monkeypatch)
    after = await run(carol, "--json", "auth", "show")

    assert (before.code, before.lines[0]["way"]) == (exit_codes.NOT_PERMITTED, "authorization_code")
    assert before.lines[0]["state"] == "mailbox carol: nobody has logged in yet; run `maillinkd auth login carol`"
    assert logged_in.code == 0, logged_in
    assert [line["event"] for line in logged_in.lines] == ["visit", "logged_in"]
    (shown,) = after.lines
    assert (after.code, shown["state"], shown["expires_at"]) == (0, "good", logged_in.lines[1]["expires_at"])


async def test_the_browser_may_run_elsewhere_and_its_last_address_be_pasted(
    carol: Shell, server: TokenServer
) -> None:
    """As over ssh; without --json, as a person sees it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maillinkd", "--config", str(carol.config), "auth", "login", "carol"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = await process.stdout.readuntil(b"paste that page's address here:\n")
        (url,) = [line for line in said.decode().splitlines() if line.startswith("http")]
        process.stdin.write(f"not this\n{server.consent(url)}\n".encode())
        rest, complaint = await process.communicate()

    assert (process.returncode, complaint) == (0, b"")
    assert rest.endswith(b"mailbox carol can be opened; maillinkd check --connect tries it\n")


async def test_no_secret_stands_in_anything_that_is_said_nor_in_any_file_but_the_key(
    carol: Shell, server: TokenServer, imap: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run from the login to a revoked grant, in which every answer of the server gives back what it was sent."""
    server.rotates = True
    imap.inbox.append(mail(1))
    said = [await log_in(carol, server, monkeypatch)]
    server.revoke_access()  # so that the next login is refused, and the token renewed
    said.append(await run(carol, "--json", "sync", "--mailbox", "carol"))
    assert said[-1].code == 0, said[-1]
    said.append(await run(carol, "sync", "--mailbox", "carol", "--dry-run"))
    said.append(await run(carol, "check", "--connect"))
    assert "login of carol: good" in said[-1].output
    server.revoke_access()
    given_back = f"{' '.join(server.refresh)} {SECRET}"
    server.says = [error("invalid_grant", f"revoked: {given_back}")]
    revoked = await run(carol, "--json", "sync", "--mailbox", "carol")
    said += [revoked, await run(carol, "status"), await run(carol, "auth", "show")]

    assert revoked.code == exit_codes.NOT_PERMITTED
    assert "run `maillinkd auth login carol`" in revoked.complaint
    assert "run `maillinkd auth login carol`" in said[-2].output
    texts = "".join(ran.output + ran.complaint for ran in said)
    stored = b"".join(path.read_bytes() for path in carol.directory.iterdir() if path.name.startswith("mail.db"))
    issued = [*server.access, *(form.get("refresh_token", SECRET) for form in server.forms), *server.refresh, SECRET]
    assert len(set(issued)) >= 5
    assert "token refreshed" in texts
    assert [secret for secret in issued if secret in texts or secret.encode() in stored] == []


async def test_a_token_that_a_dry_run_renews_is_not_lost_with_the_copy(
    carol: Shell, server: TokenServer, imap: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rotates = True
    await log_in(carol, server, monkeypatch)
    server.revoke_access()

    imap.inbox.append(mail(1))
    dry = await run(carol, "--json", "sync", "--mailbox", "carol", "--dry-run")
    server.revoke_access()
    real = await run(carol, "sync", "--mailbox", "carol")

    assert (dry.code, real.code) == (0, 0), (dry, real)
    assert [line["event"] for line in dry.lines].count("link") == 1  # also the pass on the copy could log in


async def test_a_login_that_is_forgotten_is_needed_again(
    carol: Shell, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log_in(carol, server, monkeypatch)

    assert (await run(carol, "--json", "auth", "forget", "carol")).lines == [
        {"v": 1, "event": "forgotten", "mailbox": "carol", "was_there": True}
    ]
    assert (await run(carol, "auth", "forget", "carol")).code == exit_codes.FAILED
    assert (await run(carol, "check")).code == exit_codes.NOT_PERMITTED


async def test_who_is_denied_access_is_told(
    carol: Shell, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.says = [error("access_denied", "not you")]

    refused = await log_in(carol, server, monkeypatch)

    assert (refused.code, refused.lines[-1]["event"]) == (exit_codes.CONFIGURATION, "visit")
    assert "access_denied: not you" in refused.complaint


def test_a_mailbox_that_is_not_there_or_has_a_password_is_told(shell: Shell) -> None:
    unknown, password = shell.run("auth", "login", "nobody"), shell.run("auth", "login", "anna")

    assert (unknown.code, password.code) == (exit_codes.USAGE, exit_codes.CONFIGURATION)
    assert "no mailbox 'nobody' in the configuration (there: anna)" in unknown.complaint
    assert "needs no login" in password.complaint


def test_where_no_mailbox_needs_a_login_there_is_nothing_to_show(shell: Shell) -> None:
    assert shell.good("auth", "show").output == 'no mailbox has auth = "oauth2"\n'

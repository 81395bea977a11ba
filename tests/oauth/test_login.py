"""How somebody grants access: a browser that comes back, an address that is pasted, a code that is typed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from maillinkd.oauth import grant, login
from maillinkd.oauth.client import Client
from maillinkd.oauth.login import Invitation, WrongRedirect
from maillinkd.oauth.token import LoginNeeded, TokenError
from system.token_server import TokenServer

pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon:UserWarning")


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


class Person:
    """Somebody who is shown where to go."""

    def __init__(self) -> None:
        self.shown: list[Invitation] = []
        self._arrived = asyncio.Event()

    def __call__(self, to: Invitation) -> None:
        self.shown.append(to)
        self._arrived.set()

    async def invited(self) -> Invitation:
        await self._arrived.wait()
        self._arrived.clear()
        return self.shown[-1]


async def browse(url: str, method: str = "GET") -> bytes:
    """What a browser gets at a loopback address."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    writer.write(f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_browser_comes_back_with_the_code(server: TokenServer) -> None:
    person = Person()
    task = asyncio.create_task(login.by_browser(server.client(), None, "anna@ourco.example", person))
    url = (await person.invited()).url

    page = await browse(server.consent(url))
    answer = await task

    assert b"200 OK" in page
    assert server.holds(answer.access.secret)
    assert answer.refresh_token in server.refresh
    asked = parse_qs(urlsplit(url).query)
    assert (asked["login_hint"], asked["code_challenge_method"]) == (["anna@ourco.example"], ["S256"])
    assert asked["redirect_uri"][0].startswith("http://127.0.0.1:")


async def test_an_address_with_another_state_ends_nothing(server: TokenServer) -> None:
    """Any page in the browser can send it here: only who was asked knows the state (RFC 6749, 10.12)."""
    person = Person()
    task = asyncio.create_task(login.by_browser(server.client(), None, "anna", person))
    redirected = server.consent((await person.invited()).url)
    forged = urlsplit(redirected)._replace(query="code=stolen&state=guess").geturl()

    assert b"404" in await browse(forged)
    assert b"404" in await browse(forged.partition("?")[0] + "favicon.ico?x")
    assert b"404" in await browse(redirected, method="POST")
    assert not task.done()
    await browse(redirected)
    await task


async def test_the_address_may_be_pasted_from_a_browser_elsewhere(server: TokenServer) -> None:
    person = Person()
    typed: asyncio.Queue[str] = asyncio.Queue()

    async def lines() -> AsyncIterator[str]:
        while True:
            yield await typed.get()

    task = asyncio.create_task(login.by_browser(server.client(), None, "anna", person, lines()))
    redirected = server.consent((await person.invited()).url)
    typed.put_nowait("\n")
    typed.put_nowait("http://127.0.0.1/?state=another&code=x\n")

    assert len([await person.invited(), *person.shown]) == 3  # shown once more: that was another address
    typed.put_nowait(f"  {redirected}\n")
    assert server.holds((await task).access.secret)


async def test_who_denies_access_ends_the_login(server: TokenServer) -> None:
    person = Person()
    task = asyncio.create_task(login.by_browser(server.client(), None, "anna", person))
    parts = urlsplit(server.consent((await person.invited()).url))
    state = parse_qs(parts.query)["state"][0]

    await browse(parts._replace(query=f"error=access_denied&state={state}").geturl())

    with pytest.raises(TokenError, match="access_denied"):
        await task


async def test_nobody_is_waited_for_without_end(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "PATIENCE", 0.01)

    with pytest.raises(LoginNeeded, match="nobody has granted access"):
        await login.by_browser(server.client(), None, "anna", Person())


async def test_a_code_that_was_caught_is_worth_nothing_without_the_verifier(server: TokenServer) -> None:
    request = login.Request(server.client(), "anna", "http://127.0.0.1:1")
    code = request.code_in(server.consent(request.url))

    with pytest.raises(LoginNeeded, match="code_verifier"):
        await grant.by_code(server.client(), code, "guess" * 10, request.redirect_uri, None)


@pytest.mark.parametrize("target", ["", "/", "http://[", "/?code=x", "/?state=&code=x", "no address", "/?state=ä"])
def test_what_is_no_redirect_is_told_from_one(target: str) -> None:
    request = login.Request(Client("generic", "", "id", "https://t", "https://a", ()), "anna", "http://127.0.0.1:1")

    with pytest.raises(WrongRedirect):
        request.code_in(target)


def test_neither_state_nor_verifier_is_shown() -> None:
    request = login.Request(Client("generic", "", "id", "https://t", "https://a", ()), "anna", "http://127.0.0.1:1")

    assert request.state not in repr(request)
    assert request.verifier not in repr(request)


# --- With a code, by msal -------------------------------------------------------------------------------------------


def microsoft(server: TokenServer) -> Client:
    site = "https://login.microsoftonline.com/common/oauth2/v2.0"
    scopes = ("https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access")
    return Client("microsoft", "device_code", server.client_id, f"{site}/token", f"{site}/authorize", scopes)


class Naps:
    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


async def test_a_code_is_typed_elsewhere_while_we_ask_as_slowly_as_we_are_told(server: TokenServer) -> None:
    server.device = ["authorization_pending", "slow_down", "authorization_pending"]
    person, naps = Person(), Naps()

    answer = await login.by_device(microsoft(server), person, server.as_microsoft, naps)

    assert person.shown == [Invitation("https://login.example/device", "ABCD1234")]
    assert naps.taken == [1, 1, 6, 6]  # RFC 8628, 3.5: five seconds more
    assert server.holds(answer.access.secret)
    assert answer.refresh_token in server.refresh
    assert [form.get("client_secret") for form in server.forms] == [None] * 4


@pytest.mark.parametrize("error", ["expired_token", "authorization_declined", "access_denied"])
async def test_a_code_that_is_denied_or_too_old_ends_the_login(server: TokenServer, error: str) -> None:
    server.device = ["authorization_pending", error]

    with pytest.raises(LoginNeeded, match=error):
        await login.by_device(microsoft(server), Person(), server.as_microsoft, Naps())


async def test_a_client_that_microsoft_does_not_know_is_said_so(server: TokenServer) -> None:
    client = replace(microsoft(server), client_id="another")

    with pytest.raises(TokenError, match="AADSTS700016"):
        await login.by_device(client, Person(), server.as_microsoft, Naps())


async def test_a_code_that_nobody_types_is_given_up(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "PATIENCE", 0.0)

    with pytest.raises(LoginNeeded, match="in time"):
        await login.by_device(microsoft(server), Person(), server.as_microsoft, Naps())

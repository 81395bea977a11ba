"""Reaching a server, and who is trusted."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from imap.connecting import SHORT, account
from maillinkd.imap import dial
from maillinkd.imap.client import connect
from maillinkd.imap.errors import (
    Unreachable,
    Untrusted,
)
from system.dovecot import certificate
from system.imap_peer import FakeConnection, FakeServer


async def test_greetings_that_are_none(server: FakeServer) -> None:
    for greeting, error, words in (
        ("* BYE [UNAVAILABLE] come later", Unreachable, "come later"),
        ("220 mail.example ESMTP", Unreachable, "neither"),
        ("* NO", Unreachable, "greeting"),
        ("{hang}", Unreachable, "does not answer"),
    ):
        server.greeting = greeting
        with pytest.raises(error, match=words):
            await connect(account(server), SHORT)


async def test_nobody_there(server: FakeServer) -> None:
    async with FakeServer() as gone:
        port = gone.port
    with pytest.raises(Unreachable, match="cannot be reached"):
        await connect(account(server, port=port))
    with pytest.raises(Unreachable, match="cannot be reached"):
        await connect(account(server, host="no-such-host.invalid"))


async def test_without_tls_only_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was reached decides, not the name."""

    def elsewhere(transport: asyncio.Transport) -> None:
        peer = type("Peer", (), {"get_extra_info": lambda self, name: ("192.0.2.1", 143)})()
        only_loopback(peer)

    only_loopback = dial._only_loopback
    monkeypatch.setattr(dial, "_only_loopback", elsewhere)
    with pytest.raises(Untrusted):
        await connect(account(server))

    assert server.commands == []


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def tls_server(tls_files: tuple[Path, Path]) -> AsyncIterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_files)
    async with FakeServer(tls=context) as running:
        running.capabilities.append("STARTTLS")
        yield running


async def test_starttls(tls_server: FakeServer, tls_files: tuple[Path, Path]) -> None:
    """Capabilities from before TLS count for nothing; nothing secret is sent before it."""
    connected = await connect(account(tls_server, tls="starttls", tls_ca_file=str(tls_files[0])))

    assert tls_server.commands[:3] == ["CAPABILITY", "STARTTLS", "CAPABILITY"]
    assert tls_server.commands[3].startswith("AUTHENTICATE")
    await connected.logout()


STRIPPED = {
    "not offered": (lambda server: server.capabilities.remove("STARTTLS"), Untrusted),
    "refused": (lambda server: server.on("STARTTLS", "{tag} NO not now"), Untrusted),
    "logged in already (CVE-2020-12398)": (
        lambda server: setattr(server, "greeting", "* PREAUTH welcome"), Untrusted),
    "an answer in the same packet": (
        lambda server: server.on("STARTTLS", "{tag} OK go\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"), Untrusted),
    "half an answer in the same packet": (lambda server: server.on("STARTTLS", inject_half), Untrusted),
    "answers instead of TLS": (lambda server: server.on("STARTTLS", inject_later), Unreachable),
}  # fmt: skip


async def inject_half(peer: FakeConnection, tag: str, line: str) -> bool:
    await peer.send(f"{tag} OK go\r\n* OK".encode())
    return True


async def inject_later(peer: FakeConnection, tag: str, line: str) -> bool:
    await peer.say(f"{tag} OK go")
    await peer.reader.read(1)
    await peer.say("a1 OK logged in", "a2 OK logged in")
    return True


@pytest.mark.parametrize(("break_it", "error"), STRIPPED.values(), ids=STRIPPED.keys())
async def test_starttls_is_not_talked_away(
    tls_server: FakeServer, tls_files: tuple[Path, Path], break_it: object, error: type[Exception]
) -> None:
    break_it(tls_server)  # type: ignore[operator]
    with pytest.raises(error):
        await connect(account(tls_server, tls="starttls", tls_ca_file=str(tls_files[0])), SHORT)

    assert tls_server.logins == []


async def test_an_unknown_certificate_ends_it(tls_server: FakeServer) -> None:
    with pytest.raises(Untrusted, match="certificate"):
        await connect(account(tls_server, tls="starttls"))

    assert tls_server.logins == []


async def test_a_certificate_for_another_name_ends_it(tmp_path: Path) -> None:
    files = certificate(tmp_path, names="DNS:other.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    async with FakeServer(tls=context) as server:
        server.capabilities.append("STARTTLS")
        with pytest.raises(Untrusted, match="certificate"):
            await connect(account(server, tls="starttls", tls_ca_file=str(files[0])))

    assert server.logins == []


async def test_old_tls_is_refused(tls_files: tuple[Path, Path]) -> None:
    assert dial._tls(str(tls_files[0])).minimum_version >= ssl.TLSVersion.TLSv1_2

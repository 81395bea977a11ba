"""The way to a server: TCP, TLS before or after the greeting, and who is trusted."""

import asyncio
import functools
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.errors import ConnectionLost, Refused, Unreachable, Untrusted, printable
from maillinkd.imap.line import Line
from maillinkd.imap.protocol import ImapProtocol
from maillinkd.imap.response import Status

_KEEP_ALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}


async def dial(account: Account, deadlines: Deadlines) -> ImapProtocol:
    """TCP, TLS if it comes first, and the greeting. Raises Unreachable (Untrusted among them), ProtocolError."""
    loop = asyncio.get_running_loop()
    protocol = ImapProtocol(loop)
    context = _tls(account.tls_ca_file) if account.tls == "implicit" else None
    try:
        with _network_errors(account.host):
            async with asyncio.timeout(2 * deadlines.connect):
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    account.host,
                    account.port,
                    ssl=context,
                    server_hostname=account.host if context else None,
                    ssl_handshake_timeout=deadlines.connect if context else None,
                )
                _keep_alive(transport)
                if account.tls == "none":
                    _only_loopback(transport)
                greeting = await protocol.greeting
        _not_logged_in(greeting, account)
    except BaseException:
        protocol.fail(ConnectionLost("the connection was closed"))
        raise
    return protocol


async def secure(line: Line, account: Account) -> None:
    """STARTTLS (RFC 9051, 6.2.1) where it is configured; then asks what the server can do.

    Raises Untrusted if it is not offered or not to be trusted, Unreachable if TLS fails.
    """
    if account.tls == "starttls":
        with _network_errors(account.host):
            await _start_tls(line, _tls(account.tls_ca_file), account.host)
    await line.capability()


async def _start_tls(line: Line, context: ssl.SSLContext, host: str) -> None:
    protocol = line.protocol
    if "STARTTLS" not in await line.capability():
        raise Untrusted("the server does not offer STARTTLS")
    try:
        await line.ask("STARTTLS")
    except Refused as refused:
        raise Untrusted(str(refused)) from None
    if protocol.transport is None:
        raise RuntimeError("STARTTLS without a connection")
    secured = await protocol.loop.start_tls(
        protocol.transport, protocol, context, server_hostname=host, ssl_handshake_timeout=line.deadlines.connect
    )
    if secured is None:  # closed meanwhile
        raise Unreachable("the connection broke while TLS was set up")
    protocol.secured(secured)


def _not_logged_in(greeting: Status, account: Account) -> None:
    """PREAUTH before STARTTLS: whoever sits in between may have sent it, to have us go on without TLS."""
    if account.tls == "starttls" and greeting.condition == "PREAUTH":  # CVE-2020-12398
        raise Untrusted("the server greets as if logged in already; with STARTTLS this is refused")


@contextmanager
def _network_errors(host: str) -> Iterator[None]:
    """Names what goes wrong below IMAP: in the network, in TLS."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"the certificate of {host} is not valid: {printable(error.verify_message)}") from None
    except ssl.SSLError as error:
        raise Unreachable(f"TLS with {host} failed: {printable(error.reason or str(error))}") from None
    except TimeoutError:
        raise Unreachable(f"{host} does not answer") from None
    except OSError as error:
        raise Unreachable(f"{host} cannot be reached: {printable(error.strerror or str(error))}") from None


@functools.lru_cache(maxsize=16)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and name verified. Shared, for each costs some hundred kilobytes."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _only_loopback(transport: asyncio.BaseTransport) -> None:
    address = str(transport.get_extra_info("peername")[0]).partition("%")[0]
    if not ip_address(address).is_loopback:
        raise Untrusted("without TLS only a server on this machine is spoken to")


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    """Lets the system notice a peer that is gone without a word, also while nothing is sent."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

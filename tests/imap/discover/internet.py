"""A small internet on 127.0.0.1: a name server and an HTTPS server, each on a free port."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from system.dovecot import certificate

SILENT = "silent."
"""Questions below this name get no answer."""


class _NameServer(asyncio.DatagramProtocol):
    def __init__(self, zone: Mapping[str, list[str]]) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        if asked.name.to_text().endswith(SILENT):
            return
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        records = self._zone.get(f"{asked.name} {dns.rdatatype.to_text(asked.rdtype)}")
        if records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif records == ["SERVFAIL"]:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records:
            answer.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", asked.rdtype, records))
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server(zone: Mapping[str, list[str]]) -> AsyncIterator[tuple[str, int]]:
    """Serves `{"ourco.example. MX": ["10 mx.example."]}`; what is not there does not exist."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _NameServer(zone), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")
    finally:
        transport.close()


@contextmanager
def https_server(pages: Mapping[str, tuple[int, bytes]], directory: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """Serves pages by path, as (status, body), where a body of 3xx is the address that it leads to.

    Gives its port, and a context that believes its certificate, which is for localhost.
    """
    cert, key = certificate(directory)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, b""))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
                body = b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that refuses us is no error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port, ssl.create_default_context(cafile=str(cert))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def autoconfig(*servers: str, domain: str = "ourco.example") -> bytes:
    """A document with servers as `server` makes them."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1"><emailProvider id="{domain}"><domain>{domain}</domain>
<incomingServer type="pop3"><hostname>pop.{domain}</hostname><port>995</port><socketType>SSL</socketType>
<username>x</username><authentication>password-cleartext</authentication></incomingServer>
{"".join(servers)}</emailProvider></clientConfig>""".encode()


def server(
    host: str = "imap.ourco.example",
    port: str = "993",
    socket: str = "SSL",
    username: str = "%EMAILADDRESS%",
    auth: str = "password-cleartext",
) -> str:
    ways = "".join(f"<authentication>{way}</authentication>" for way in auth.split())
    return (
        f'<incomingServer type="imap"><hostname>{host}</hostname><port>{port}</port><socketType>{socket}</socketType>'
        f"<username>{username}</username>{ways}</incomingServer>"
    )


@contextmanager
def running_name_server(zone: Mapping[str, list[str]]) -> Iterator[tuple[str, int]]:
    """The same in a thread, for a command that has an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = name_server(zone)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(5)
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()

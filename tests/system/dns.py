"""A name server on a free port of loopback for tests, UDP and TCP, with a zone that may be hostile."""

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SERVFAIL = "SERVFAIL"
SILENCE = "SILENCE"
"""The question is never answered."""
UDP_OCTETS = 1_232

Zone = Mapping[str, str | Sequence[tuple[str, str]]]
"""By name, its records as (type, text), or SERVFAIL, or SILENCE. The text of TXT stands without quotes."""


@dataclass
class NameServer:
    """Answers from `zone`, which may be changed at any time. Names that are not in it do not exist."""

    zone: dict[str, str | Sequence[tuple[str, str]]]
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Names and types, in the order in which they were asked for."""

    @property
    def endpoint(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def answer(self, wire: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        records = self.zone.get(name)
        response = dns.message.make_response(query)
        match records:
            case None:
                response.set_rcode(dns.rcode.NXDOMAIN)
            case "SERVFAIL":
                response.set_rcode(dns.rcode.SERVFAIL)
            case "SILENCE":
                return None
            case _:
                texts = [_text(type_, text) for type_, text in records if type_ == kind]
                if texts:
                    response.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, texts))
        return response


def _text(kind: str, text: str) -> str:
    if kind != "TXT":
        return text if text.endswith(".") or kind not in ("MX", "PTR") else f"{text}."
    pieces = [text[at : at + 255] for at in range(0, len(text), 255)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)


@contextlib.contextmanager
def name_server(zone: Zone) -> Iterator[NameServer]:
    """Serves the zone until it is left."""
    server = NameServer(dict(zone))

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            response = server.answer(wire)
            if response is None:
                return
            octets = response.to_wire(max_size=65_535)
            if len(octets) > UDP_OCTETS:
                response.answer.clear()
                response.flags |= dns.flags.TC
                octets = response.to_wire()
            sock.sendto(octets, self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = self.rfile.read(2)
            if len(head) == 2 and (response := server.answer(self.rfile.read(*struct.unpack("!H", head)))):
                octets = response.to_wire(max_size=65_535)
                self.wfile.write(struct.pack("!H", len(octets)) + octets)

    with contextlib.ExitStack() as stack:
        udp, tcp = _both(Datagram, Stream)
        server.port = udp.server_address[1]
        for each in (udp, tcp):
            stack.callback(each.server_close)
            thread = threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(each.shutdown)
        yield server


def _both(datagram: Any, stream: Any) -> tuple[Any, Any]:
    """A UDP and a TCP server on one free port."""
    for _ in range(50):
        udp = socketserver.ThreadingUDPServer(("127.0.0.1", 0), datagram)
        try:
            return udp, socketserver.ThreadingTCPServer(("127.0.0.1", udp.server_address[1]), stream)
        except OSError:
            udp.server_close()
    raise AssertionError("no port is free for both")


def closed_port() -> tuple[str, int]:
    """Where nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return "127.0.0.1", found.getsockname()[1]

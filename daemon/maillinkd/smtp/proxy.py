"""What a trusted relay says of its client: the PROXY protocol's header, and the arguments of XCLIENT and XFORWARD.

PROXY protocol: haproxy's specification of 2020-03-05. XCLIENT, XFORWARD: Postfix's XCLIENT_README, XFORWARD_README.
"""

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from maillinkd.smtp.command import SyntaxRefusal, is_host_name

MAX_HEADER = 4_096
"""Octets of a PROXY header; version 2 could have 65,551, all but the addresses in extensions that we skip."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = re.compile(rb"PROXY (?:UNKNOWN[^\r]*|TCP[46] ([0-9A-Fa-f.:]+) [0-9A-Fa-f.:]+ [0-9]{1,5} [0-9]{1,5})\r\n")
_V1_LONGEST = 107

XCLIENT = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})")
_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


class NotProxy(ValueError):
    """A connection that does not begin with a PROXY header as the protocol has it."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The client for whom a relay speaks."""

    address: str | None
    """None where the relay does not say, or speaks for itself."""
    helo: str | None = None


def read_proxy(data: bytes) -> tuple[Announced, int] | None:
    """The header at the beginning of a connection and its length; None while more octets are needed.

    Raises NotProxy.
    """
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _version_2(data)
    if not b"PROXY "[: len(data)] == data[:6]:
        raise NotProxy("no PROXY header")
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise NotProxy("a PROXY header without end")
        return None
    found = _V1.fullmatch(data, 0, end + 2)
    if found is None:
        raise NotProxy("a malformed PROXY header")
    return Announced(_address(found[1].decode()) if found[1] else None), end + 2


def _version_2(data: bytes) -> tuple[Announced, int] | None:
    if len(data) < 16:
        return None
    version_command, family, length = struct.unpack_from("!BBH", data, 12)
    if version_command >> 4 != 2 or version_command & 15 > 1 or length > MAX_HEADER - 16:
        raise NotProxy("a malformed PROXY header")
    if len(data) < 16 + length:
        return None
    if version_command & 15 == 0:  # LOCAL: the relay itself, to see whether we are there
        return Announced(None), 16 + length
    size = {1: 4, 2: 16}.get(family >> 4)
    if size is None:  # a Unix socket, or unknown
        return Announced(None), 16 + length
    if length < 2 * size + 4:
        raise NotProxy("a malformed PROXY header")
    return Announced(_address(ip_address(data[16 : 16 + size]).compressed)), 16 + length


def read_attributes(argument: str, known: tuple[str, ...]) -> Announced:
    """The arguments of XCLIENT or XFORWARD. Raises SyntaxRefusal."""
    given: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        if not equals or name.upper() not in known:
            raise SyntaxRefusal("501 5.5.4 Attribute not recognised")
        given[name.upper()] = _XTEXT.sub(lambda code: chr(int(code[1], 16)), value)
    if not given:
        raise SyntaxRefusal("501 5.5.4 Expected attributes")
    address, helo = given.get("ADDR"), given.get("HELO")
    if helo is not None and (helo.upper() in _UNKNOWN or not is_host_name(helo)):
        helo = None
    if address is None or address.upper() in _UNKNOWN:
        return Announced(None, helo)
    try:
        return Announced(_address(re.sub(r"\A(?i:IPV6):", "", address)), helo)
    except NotProxy:
        raise SyntaxRefusal("501 5.5.4 ADDR is no address") from None


def _address(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise NotProxy("no address") from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)

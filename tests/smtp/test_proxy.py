"""PROXY headers, versions 1 and 2, and the arguments of XCLIENT and XFORWARD."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.smtp.command import SyntaxRefusal
from maillinkd.smtp.proxy import XCLIENT, Announced, NotProxy, read_attributes, read_proxy

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(source: str, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    address = ip_address(source)
    body = address.packed * 2 + struct.pack("!HH", 4_000, 25) + extra
    return SIGNATURE + struct.pack("!BBH", command, 0x11 if address.version == 4 else 0x21, len(body)) + body


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4000 25\r\n", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n", None),
        (version_2("192.0.2.7"), "192.0.2.7"),
        (version_2("2001:db8::7"), "2001:db8::7"),
        (version_2("192.0.2.7", extra=b"\x20\x00\x05hello"), "192.0.2.7"),
        (version_2("192.0.2.7", command=0x20), None),
        (SIGNATURE + b"\x21\x00\x00\x00", None),
        (SIGNATURE + b"\x21\x31\x00\x02ab", None),
    ],
)
def test_headers_however_they_are_cut(header: bytes, address: str | None) -> None:
    for end in range(len(header)):
        assert read_proxy(header[:end]) is None
    assert read_proxy(header + b"EHLO x\r\n") == (Announced(address), len(header))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 anna 198.51.100.1 4000 25\r\n",
        b"PROXY TCP4 999.0.2.7 198.51.100.1 4000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\n\r\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\nEHLO",
        SIGNATURE + b"\x11\x11\x00\x0c" + b"x" * 12,
        SIGNATURE + b"\x22\x11\x00\x0c" + b"x" * 12,
        SIGNATURE + b"\x21\x11\x00\x0b" + b"x" * 11,
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(NotProxy):
        read_proxy(data)


@given(st.binary(max_size=60), st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21\x11", b"PROXY ", b"PROXY TCP4 "]))
def test_whatever_comes_it_is_read_awaited_or_refused(data: bytes, start: bytes) -> None:
    try:
        found = read_proxy(start + data)
    except NotProxy:
        return
    assert found is None or found[1] <= len(start + data)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("ADDR=192.0.2.7 NAME=client.example", Announced("192.0.2.7")),
        ("addr=IPv6:2001:db8::7 helo=mail.example", Announced("2001:db8::7", "mail.example")),
        ("ADDR=[UNAVAILABLE] HELO=[TEMPUNAVAIL]", Announced(None)),
        ("HELO=a+2Bb.example", Announced(None, "a+b.example")),
        ("HELO=a+20b", Announced(None)),
        ("HELO=a+0D+0Ab", Announced(None)),
        ("NAME=x PORT=25 PROTO=ESMTP LOGIN=l DESTADDR=192.0.2.1 DESTPORT=25", Announced(None)),
    ],
)
def test_attributes(argument: str, expected: Announced) -> None:
    assert read_attributes(argument, XCLIENT) == expected


@pytest.mark.parametrize("argument", ["", "ADDR", "ADDR=anna", "ADDR=", "SOURCE=LOCAL", "ADDR=192.0.2.7+0D"])
def test_attributes_that_are_refused(argument: str) -> None:
    with pytest.raises(SyntaxRefusal):
        read_attributes(argument, XCLIENT)

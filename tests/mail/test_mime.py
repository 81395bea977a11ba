"""Encoded words, charsets, transfer encodings and parts (RFC 2045 to 2047)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, nested, repeated
from maillinkd.mail.mime import MAX_DEPTH, MAX_PARTS, decode_text, decode_transfer, decode_words, walk


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?ISO-8859-1?q?Gr=FC=DFe_an?= alle", "Grüße an alle"),
        ("=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?utf-8?B?R3LDvMOfZQ?=", "Grüße"),
        ("=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?Q?a?= \r\n =?utf-8?Q?b?=", "ab"),
        ("=?utf-8?Q?a?= =?iso-8859-1?Q?=FC?=", "aü"),
        ("=?utf-8?Q?Gr=C3?= =?utf-8?Q?=BC?=", "Grü"),
        ("a =?utf-8?Q?b?= c =?utf-8?Q?d?=", "a b c d"),
        ("x=?utf-8?Q?b?=y", "xby"),
        ("=?utf-8?Q?why? not?=", "why? not"),
        ("=?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=", "テスト"),
        ("=?gb2312?B?suLK1A==?=", "测试"),
        ("=?nowhere?Q?=E4?=", "ä"),
        ("=?punycode?Q?bcher-kva?=", "bcher-kva"),
        ("=?utf-7?Q?+2AA-?=", "\ufffd"),
        ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
        ("=?utf-8?Q?never closed", "=?utf-8?Q?never closed"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_encoded_words_are_decoded(text: str, expected: str) -> None:
    assert expected == decode_words(text)


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["=?", "utf-8", "utf-7", "utf-16", "?", "q", "B", "?=", "=41", "+2AA-", " ", "é"])
        ).map("".join),
    )
)
def test_decoding_words_gives_utf_8(text: str) -> None:
    decoded = decode_words(text)

    assert decoded == decoded.encode().decode()


@given(st.binary(), st.one_of(st.text(), st.sampled_from(["utf-8", "UTF_16", "hex", "idna", "utf-7", "us-ascii"])))
def test_bytes_in_any_charset_give_utf_8(data: bytes, charset: str) -> None:
    text = decode_text(data, charset)

    assert text == text.encode().decode()


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        (b"R3LDvMOfZQ==", " Base64 ", "Grüße".encode()),
        (b"R3LD\r\nvMOf!ZQ", "base64", "Grüße".encode()),
        (b"R3LDv", "base64", b"Gr\xc3"),
        (b"Gr=C3=BC=\r\n=C3=9Fe", "quoted-printable", "Grüße".encode()),
        (b"50=ZZ%", "quoted-printable", b"50=ZZ%"),
        (b"a=", "8bit", b"a="),
        (b"a", "x-unknown", b"a"),
    ],
)
def test_transfer_encodings_are_undone(data: bytes, encoding: str, expected: bytes) -> None:
    assert expected == decode_transfer(data, encoding)


@given(st.binary(), st.sampled_from(["base64", "quoted-printable", "7bit"]))
def test_no_bytes_are_refused(data: bytes, encoding: str) -> None:
    decode_transfer(data, encoding)


MIXED = b"""\
Content-Type: multipart/mixed;\r
 boundary="=_a b"\r
\r
preamble\r
--=_a b\r
Content-Type: text/plain; charset="iso-8859-1"\r
Content-Transfer-Encoding: quoted-printable\r
\r
Gr=FC=DFe\r
--=_a b \r
\r
second\r
--=_a b\r
Content-Type: message/rfc822\r
\r
From: carla@client.example\r
Content-Type: text/html\r
\r
<p>\r
--=_a b\r
Content-Disposition: attachment; filename=x\r
\r
--=_a bc\r
--=_a b--\r
epilogue\r
"""


def test_a_message_is_walked_part_by_part() -> None:
    parts = [(part.content_type, part.message, part.messages, part.attachment) for part in walk(MIXED)]

    assert parts == [
        ("multipart/mixed", False, 0, False),
        ("text/plain", False, 0, False),
        ("text/plain", False, 0, False),
        ("message/rfc822", False, 0, False),
        ("text/html", True, 1, False),
        ("text/plain", False, 0, True),
    ]


def test_the_text_of_parts_is_decoded() -> None:
    texts = [part.text(1000) for part in walk(MIXED) if part.content_type.startswith("text/")]

    assert texts == ["Grüße", "second", "<p>", "--=_a bc"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\r\nbody", ["text/plain"]),
        (b"", ["text/plain"]),
        (b"Content-Type: TEXT/HTML\n\nx", ["text/html"]),
        (b"Content-Type: nonsense\n\nx", ["text/plain"]),
        (b"Content-Type: multipart/mixed\n\nx", ["text/plain"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx", ["multipart/mixed"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx", ["multipart/mixed", "text/plain"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx--b\n\n--bX\n --b\n", ["multipart/mixed"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b \t\r\rx--b\r--b--", ["multipart/mixed", "text/plain"]),
        (
            b'Content-Type: multipart/mixed; boundary="(b.*+)"\n\n--(b.*+)\n\nx\n--(b.*+)',
            ["multipart/mixed", "text/plain", "text/plain"],
        ),
        (
            b"Content-Type: multipart/mixed; boundary=" + b"b" * 251 + b"\n\n--" + b"b" * 251 + b"\n\nx",
            ["text/plain"],
        ),
        (
            b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nTo: x\n\n",
            ["multipart/digest", "message/rfc822", "text/plain"],
        ),
        (
            b'Content-Type: multipart/mixed; x="; boundary=c"; boundary=b\n\n--b\n\nx',
            ["multipart/mixed", "text/plain"],
        ),
        (
            b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nVG86IHgKCg==",
            ["message/rfc822", "text/plain"],
        ),
    ],
)
def test_odd_messages_have_parts_too(raw: bytes, expected: list[str]) -> None:
    assert expected == [part.content_type for part in walk(raw)]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Content-Disposition: attachment; filename=x.eml", "x.eml"),
        (b'Content-Disposition: attachment; filename="x \\"y\\".eml"', 'x "y".eml'),
        (b"Content-Type: text/plain; name=x.eml", "x.eml"),
        (b"Content-Type: text/plain; name=x.txt\nContent-Disposition: inline; filename=y.txt", "y.txt"),
        (b'Content-Disposition: attachment; filename*0="x "; filename*1=y; filename*2*=.eml', "x y.eml"),
        (b"Content-Disposition: attachment; filename*=utf-8''x.eml", "utf-8''x.eml"),
        (b'Content-Type: text/plain; name="=?utf-8?q?=C3=A4=2Eeml?="', "ä.eml"),
        (b"Content-Disposition: attachment; filename=x; filename=y", "x"),
        (b"Content-Disposition: attachment", ""),
    ],
)
def test_parts_have_the_name_of_their_file(header: bytes, expected: str) -> None:
    (part,) = walk(header + b"\n\nx")

    assert part.name == expected


def test_a_boundary_in_sections_is_put_together() -> None:
    """RFC 2231, 3."""
    raw = b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\n\nx\n--ab--\n"

    assert [part.content_type for part in walk(raw)] == ["multipart/mixed", "text/plain"]


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
BOMBS = {
    "300 levels of 5 MB": nested(300, 5_000_000),
    "100,000 attached messages in each other": b"Content-Type: message/rfc822\r\n\r\n" * 100_000,
    "a million parts": MULTIPART + b"--b\r\n\r\n" * 1_000_000,
    "boundaries that are none": MULTIPART + b"--bX\n" * 4_000_000,
    "20 MB of dashes": MULTIPART.replace(b"=b", b'="-"') + b"-" * 20_000_000,
    "160 kB of semicolons in a parameter": b'Content-Type: multipart/mixed; x="' + b";" * 160_000 + b'"\r\n\r\n',
    "16 MB of empty lines": b"Content-Type: text/plain\r\n\r\n" + b"\r\n" * 8_000_000,
    "a header without an end": b"Content-Type: multipart/mixed; boundary=b\r\n" + b" \r\n" * 5_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_walked_in_time(name: str) -> None:
    with in_time():
        count = sum(1 for _ in walk(BOMBS[name]))

    assert count <= max(MAX_PARTS, MAX_DEPTH + 1)


@given(
    st.lists(st.sampled_from([MULTIPART, b"--b\r\n", b"--b--\n", b"\r\n", b"x", b"Content-Type: message/rfc822\n\n"]))
)
def test_any_message_is_walked(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)

    for part in walk(raw):
        assert 0 <= part.start <= part.end
        assert len(part.content(100)) <= 100


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_words_are_decoded_in_time(fragment: str) -> None:
    with in_time():
        decode_words(repeated(fragment))
        list(walk(b"Content-Type: multipart/mixed" + repeated(fragment).encode() + b"\r\n\r\nx"))

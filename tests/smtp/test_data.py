"""The end of DATA, dots and line ends (RFC 5321, 4.5.2; SMTP smuggling)."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.smtp.data import BareLineEnding, ChunkDecoder, DataDecoder


def decoded(*chunks: bytes) -> tuple[bytes, bytes, bool]:
    """Message, what came after it, and whether its end was seen."""
    decoder = DataDecoder()
    message, rest = b"", b""
    for chunk in chunks:
        if decoder.finished:
            rest += chunk
        else:
            message += decoder.feed(chunk)
    assert decoder.octets == len(message)
    return message, decoder.rest + rest, decoder.finished


def octet_by_octet(text: bytes) -> Iterable[bytes]:
    return (text[at : at + 1] for at in range(len(text)))


@pytest.mark.parametrize(
    ("wire", "message", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"A: b\r\n\r\nc\r\n.\r\n", b"A: b\r\n\r\nc\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b".a\r\n..b\r\nc.d\r\n...\r\n.\r\n", b"a\r\n.b\r\nc.d\r\n..\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
        (b"a\r\n. \r\n.\r\n", b"a\r\n \r\n", b""),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n", b""),
    ],
)
def test_dots_are_unstuffed_and_the_end_is_found_however_it_arrives(wire: bytes, message: bytes, rest: bytes) -> None:
    expected = (message, rest, True)

    assert decoded(wire) == expected
    assert decoded(*octet_by_octet(wire)) == expected
    for at in range(len(wire) + 1):
        assert decoded(wire[:at], wire[at:]) == expected


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\n",
        b"\r\n.\r\r\n",
        b"\r\n\x00.\r",
        b"\n\n.\r\n",
        b"\r\r\n.\r\n",
    ],
)
def test_a_bare_cr_or_lf_is_refused_however_it_arrives(end: bytes) -> None:
    wire = b"a: b\r\n\r\ntext" + end + b"MAIL FROM:<evil@other.example>\r\n.\r\n"

    with pytest.raises(BareLineEnding):
        decoded(wire)
    with pytest.raises(BareLineEnding):
        decoded(*octet_by_octet(wire))
    for at in range(len(wire) + 1):
        with pytest.raises(BareLineEnding):
            decoded(wire[:at], wire[at:])


@pytest.mark.parametrize("wire", [b"", b"a", b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"a\r\n..\r\n"])
def test_without_its_end_a_message_is_not_finished(wire: bytes) -> None:
    assert not decoded(wire)[2]
    assert not decoded(*octet_by_octet(wire))[2]


lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\r", b".").replace(b"\n", b".")), max_size=12)


@given(lines, st.data())
def test_any_message_arrives_as_it_was_sent(message_lines: list[bytes], data: st.DataObject) -> None:
    message = b"".join(line + b"\r\n" for line in message_lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in message_lines)
    wire = stuffed + b".\r\nNOOP\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))

    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]

    assert decoded(*chunks) == (message, b"NOOP\r\n", True)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a"]), max_size=14), st.data())
def test_how_octets_are_split_changes_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    """The same message, or the same refusal."""

    def outcome(*chunks: bytes) -> object:
        try:
            return decoded(*chunks)
        except BareLineEnding:
            return "bare"

    wire = b"".join(pieces) + b"x\r\n.\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))

    assert outcome(*(wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True))) == outcome(wire)


@given(lines, st.integers(1, 9))
def test_the_longest_line_is_measured(message_lines: list[bytes], size: int) -> None:
    wire = b"".join(b"x" + line + b"\r\n" for line in message_lines) + b".\r\n"
    decoder = DataDecoder()
    for start in range(0, len(wire), size):
        if not decoder.finished:
            decoder.feed(wire[start : start + size])

    assert decoder.longest_line == max((len(line) + 1 for line in message_lines), default=0)


def test_a_line_without_end_is_measured_while_it_comes() -> None:
    decoder = DataDecoder()
    for _ in range(10):
        decoder.feed(b"x" * 1000)

    assert decoder.longest_line == 10_000


# BDAT


def in_chunks(*chunks: bytes) -> tuple[bytes, int]:
    """Message and its longest line."""
    decoder = ChunkDecoder()
    message = b"".join(map(decoder.feed, chunks))
    decoder.finish()
    assert decoder.octets == len(message)
    return message, decoder.longest_line


@given(lines, st.data())
def test_chunks_are_the_message_dots_and_all(message_lines: list[bytes], data: st.DataObject) -> None:
    message = b".\r\n..\r\n".join(line + b"\r\n" for line in message_lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=8)))

    chunks = [message[start:end] for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True)]

    assert in_chunks(*chunks) == (message, max(map(len, message.split(b"\r\n"))))


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b""]), max_size=14))
def test_a_bare_cr_or_lf_in_chunks_is_refused_wherever_they_are_cut(chunks: list[bytes]) -> None:
    message = b"".join(chunks)
    if message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n"):
        assert in_chunks(*chunks)[0] == message
    else:
        with pytest.raises(BareLineEnding):
            in_chunks(*chunks)

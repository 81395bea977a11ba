"""What is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap.command import Argument, Astring, Secret, Unsendable, wire

COMMANDS: dict[str, tuple[list[Argument], bool, list[bytes]]] = {
    "words": (["UID", "SEARCH", "UID 5:*"], False, [b"t UID SEARCH UID 5:*\r\n"]),
    "a quoted string": (["EXAMINE", Astring(b'a "b" \\c')], False, [b't EXAMINE "a \\"b\\" \\\\c"\r\n']),
    "an empty string": (["LOGIN", Astring(b""), Astring(b"")], False, [b't LOGIN "" ""\r\n']),
    "not ASCII, asked first": (
        ["LOGIN", Astring("zoë".encode()), Astring(b"x")],
        False,
        [b"t LOGIN {4}\r\n", b'zo\xc3\xab "x"\r\n'],
    ),
    "not ASCII, with LITERAL+": (["EXAMINE", Astring(b"\xff")], True, [b"t EXAMINE {1+}\r\n\xff\r\n"]),
    "two literals": (
        ["LOGIN", Astring(b"\x80"), Astring(b"\x7f")],
        False,
        [b"t LOGIN {1}\r\n", b"\x80 {1}\r\n", b"\x7f\r\n"],
    ),
    "a list": (
        ["LIST", '""', (Astring(b"INBOX"), Astring(b"a b")), "RETURN ()"],
        False,
        [b't LIST "" ("INBOX" "a b") RETURN ()\r\n'],
    ),
    "a list with a literal": (
        ["LIST", (Astring(b"INBOX"), Astring(b"\xff")), "x"],
        False,
        [b't LIST ("INBOX" {1}\r\n', b"\xff) x\r\n"],
    ),
    "a list with a literal, with LITERAL+": (["LIST", (Astring(b"\xff"),)], True, [b"t LIST ({1+}\r\n\xff)\r\n"]),
    "a secret goes out as it stands": (
        ["AUTHENTICATE", "PLAIN", Secret(b"AGE=")],
        False,
        [b"t AUTHENTICATE PLAIN AGE=\r\n"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "plus", "expected"), COMMANDS.values(), ids=COMMANDS.keys())
def test_wire(words: list[Argument], plus: bool, expected: list[bytes]) -> None:
    assert expected == wire("t", words, literal_plus=plus)


@pytest.mark.parametrize("octets", [b"a\r\nx LOGOUT", b"a\nb", b"a\rb", b"a\0b"])
def test_what_would_end_a_command_is_refused(octets: bytes) -> None:
    """traps.md I16."""
    with pytest.raises(Unsendable):
        Astring(octets)


@given(st.binary(max_size=60).filter(lambda octets: not set(octets) & set(b"\0\r\n")), st.booleans())
def test_a_string_never_becomes_another_command(octets: bytes, plus: bool) -> None:
    """Whatever it holds, a server that follows the grammar reads back the same string and one line."""
    data = b"".join(wire("t", ["EXAMINE", Astring(octets)], literal_plus=plus)).removeprefix(b"t EXAMINE ")
    if data.startswith(b'"'):
        read, end = _read_quoted(data)
    else:
        size, _, rest = data.removeprefix(b"{").partition(b"}\r\n")
        count = int(size.rstrip(b"+"))
        read, end = rest[:count], rest[count:]

    assert (octets, b"\r\n") == (read, end)


def _read_quoted(data: bytes) -> tuple[bytes, bytes]:
    out, at = bytearray(), 1
    while data[at] != 0x22:
        at += data[at] == 0x5C
        out.append(data[at])
        at += 1
    return bytes(out), data[at + 1 :]


def test_a_secret_shows_nowhere() -> None:
    """Tracebacks with locals and log lines with values must not show it (traps.md I15)."""
    assert "hunter2" not in repr(Secret(b"hunter2"))
    assert "hunter2" not in repr(Astring(b"hunter2"))

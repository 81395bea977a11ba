"""Mailbox files (RFC 4155) and Maildir names."""

import re
import tracemalloc
from datetime import UTC, datetime
from io import BufferedReader, BytesIO, RawIOBase
from itertools import pairwise

import pytest
from _pytest.monkeypatch import MonkeyPatch
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import in_time
from maillinkd.mail import mbox
from maillinkd.mail.mbox import maildir_received_at, read_mbox, received_in

NOON = b"From carla@client.example Mon Jan  5 12:00:00 2026\n"


def messages(data: bytes) -> list[bytes]:
    return [raw for raw, _ in read_mbox(BytesIO(data))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"no mbox at all\n", []),
        (NOON, [b""]),
        (NOON + b"A: b\n\nbody\n", [b"A: b\n\nbody\n"]),
        (NOON + b"A: b\n\nbody\n\n" + NOON + b"A: c\n\n", [b"A: b\n\nbody\n", b"A: c\n"]),
        (NOON + b"A: b\n\nbody\n" + NOON + b"A: c\n", [b"A: b\n\nbody\n", b"A: c\n"]),
        (NOON + b"A: b\n\nbody\n" + NOON + b"words\n", [b"A: b\n\nbody\n" + NOON + b"words\n"]),
        (NOON + b"A: b\n\nFrom here\nwords\n", [b"A: b\n\nFrom here\nwords\n"]),
        (NOON + b"A: b\n\nbody\n\nFrom carla\nA: c\n", [b"A: b\n\nbody\n", b"A: c\n"]),
        (b"From carla\nA: b\n", [b"A: b\n"]),
        (NOON + b"A: b\n\n>From here\n>>From there\n", [b"A: b\n\nFrom here\n>From there\n"]),
        (NOON + b"A: b\r\n\r\nx\r\n\r\n" + NOON + b"A: c\r\n\r\ny", [b"A: b\r\n\r\nx\r\n", b"A: c\r\n\r\ny"]),
        (NOON + b"Content-Length: 999\n\nx\n\n" + NOON + b"y\n", [b"Content-Length: 999\n\nx\n", b"y\n"]),
        (b"junk\n\n" + NOON + b"A: b\n", [b"A: b\n"]),
    ],
)
def test_an_mbox_is_cut_into_its_messages(data: bytes, expected: list[bytes]) -> None:
    assert expected == messages(data)


@given(st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\r", b"").rstrip(b"\n") + b"\n"), min_size=1))
def test_what_was_written_as_mboxrd_is_read_again(mails: list[bytes]) -> None:
    """Quoted as mboxrd asks: each line of >*From gets one more >."""

    def quoted(mail: bytes) -> bytes:
        lines = mail.splitlines(keepends=True) if mail.strip(b"\n") else [mail]
        return b"".join(b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in lines)

    assert mails == messages(b"".join(NOON + quoted(mail) + b"\n" for mail in mails))


def line_by_line(data: bytes) -> list[tuple[bytes, datetime | None]]:
    """What `read_mbox` says of it."""
    mails: list[tuple[list[bytes], datetime | None]] = []
    lines = BytesIO(data).readlines()
    before = b"\n"
    for line, following in pairwise([*lines, b""]):
        if line.startswith(b"From "):
            empty, field = before in (b"\n", b"\r\n"), re.match(rb"[!-9;-~]+[ \t]*:", following)
        if line.startswith(b"From ") and [empty, received_in(line) is not None, field is not None].count(True) >= 2:
            mails.append(([], received_in(line)))
        elif mails:
            mails[-1][0].append(line[1:] if re.match(rb">+From ", line) else line)
        before = line
    for content, _ in mails:
        if len(content) > 1 and content[-1] in (b"\n", b"\r\n"):
            content.pop()
    return [(b"".join(content), time) for content, time in mails]


pieces = st.sampled_from(
    [
        NOON,
        b"From ",
        b"From carla\n",
        b"From",
        b">From ",
        b">",
        b"A: b\n",
        b"A",
        b":",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b" ",
    ]
)


@given(st.lists(pieces, max_size=30).map(b"".join), st.integers(1, 200))
def test_wherever_the_blocks_are_cut_the_messages_are_those_of_the_lines(data: bytes, block: int) -> None:
    with MonkeyPatch.context() as patch:
        patch.setattr(mbox, "_BLOCK", block)

        assert line_by_line(data) == list(read_mbox(BytesIO(data)))


class Zeros(RawIOBase):
    """Text without end, or nearly."""

    def __init__(self, start: bytes, length: int) -> None:
        self._start, self._left = start, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        given = self._start[: len(buffer)] or (b"words\n" * (len(buffer) // 6 + 1))[: min(len(buffer), self._left)]
        self._start = self._start[len(given) :]
        self._left -= len(given)
        buffer[: len(given)] = given
        return len(given)


def test_what_stands_before_the_first_message_is_not_kept_in_memory() -> None:
    tracemalloc.start()
    try:
        found = list(read_mbox(BufferedReader(Zeros(b"From nobody\n", 50_000_000))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (found, peak < 10_000_000) == ([], True)


def test_a_long_message_takes_time_that_grows_with_its_length_alone() -> None:
    with in_time():
        ((content, _),) = read_mbox(BytesIO(NOON + b"A: b\n\n" + b"From here\n" * 200_000 + b"words\n" * 5_000_000))

    assert len(content) == 6 + 2_000_000 + 30_000_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"From cras@irccrew.org  Tue Jul 23 19:39:23 2002\r\n", "2002-07-23T19:39:23"),
        (b"From user at example.com Tue Jul  3 09:39:23 2002\n", "2002-07-03T09:39:23"),
        (b"From a@b Tue Jul 23 19:39 2002\n", "2002-07-23T19:39:00"),
        (b"From a@b Tue Jul 23 19:39:23 2002 +0300\n", "2002-07-23T16:39:23"),
        (b"From a@b Tue Jul 23 19:39:23 +0300 2002\n", "2002-07-23T16:39:23"),
        (b"From a@b Tue Jul 23 19:39:23 EST 2002\n", "2002-07-24T00:39:23"),
        (b"From a@b Tue, 23 Jul 2002 19:39:23 +0300\n", "2002-07-23T16:39:23"),
        (b"From a@b Tue Jul 23 19:39:23 2002 remote from host\n", "2002-07-23T19:39:23"),
        (b"From - Tue Jul 23 19:39:23 2002\n", "2002-07-23T19:39:23"),
        (b"From a@b Tue Jul 41 19:39:23 2002\n", None),
        (b"From a@b\n", None),
    ],
)
def test_the_from_line_tells_the_time_received(line: bytes, expected: str | None) -> None:
    assert (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None) == received_in(line)


@given(st.binary())
def test_no_from_line_raises(rest: bytes) -> None:
    received_in(b"From " + rest)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1382298793.M2P3.host:2,S", datetime(2013, 10, 20, 19, 53, 13, tzinfo=UTC)),
        ("1382298793", datetime(2013, 10, 20, 19, 53, 13, tzinfo=UTC)),
        ("999999999999.x", None),
        ("x.1382298793", None),
        ("1382298793x", None),
        ("", None),
    ],
)
def test_a_maildir_name_tells_the_time_received(name: str, expected: datetime | None) -> None:
    assert expected == maildir_received_at(name)

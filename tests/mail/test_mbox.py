"""Mailbox files (RFC 4155) and Maildir names."""

from datetime import UTC, datetime
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

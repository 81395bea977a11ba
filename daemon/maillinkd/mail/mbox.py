"""Mail in files: mbox (RFC 4155 and its kin) and the names of Maildir files. Nothing is opened here."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from maillinkd.mail.date import parse_date

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_ASCTIME = re.compile(
    rb"\b([A-Za-z]{3})\s+(\d{1,2})\s+(\d{1,2}:\d\d(?::\d\d)?)\s+(?:([A-Za-z]{1,5}|[+-]\d{4})\s+)?(\d{4})(?:\s+([+-]\d{4}|[A-Z]{1,5}))?"
)
_RFC_DATE = re.compile(rb"\b\d{1,2}\s+[A-Za-z]{3}\s+\d{4}\s.*")
_MAILDIR_TIME = re.compile(r"(\d{1,12})(?:\.|$)")
_MAX_LINE = 1_000
"""Bytes of a `From ` line in which its date is looked for."""
_BLOCK = 1 << 20
"""Bytes read at once; more where a message is longer, so that the time taken grows with its length alone."""
_LINE = b"\nFrom "
_EMPTY_LINE = (b"\n\n", b"\n\r\n")
_CONTEXT = 3
"""Bytes before a line that tell whether an empty one stands there."""


def read_mbox(stream: BinaryIO) -> Iterator[tuple[bytes, datetime | None]]:
    """The messages of an mbox, one at a time: their bytes, and the time received that the `From ` line tells (UTC).

    A `From ` line begins a message if two of these hold: it follows an empty line or begins the file; it tells a
    date; a header field follows it. (Some writers leave out the empty line, some do not quote `From ` in the text.)
    `>From ` is unquoted as in mboxrd, which undoes what mboxo does too; Content-Length is not believed. Line ends
    stay as they are; the empty line before the next `From ` line is no part of the message. What stands before the
    first message is passed over.
    """
    begun: int | None = None
    received_at: datetime | None = None
    data, at = b"\n\n", 0  # as if an empty line stood before the first
    more = True
    while more:
        block = stream.read(max(_BLOCK, len(data)))
        data, more = data + block, bool(block)
        while (line := _from_line(data, at, ended=not more)) is not None:
            start, end = line
            time = received_in(data[start:end])
            if data.endswith(_EMPTY_LINE, 0, start) + (time is not None) + (_FIELD.match(data, end) is not None) >= 2:
                if begun is not None:
                    yield _message(data[begun:start]), received_at
                begun, received_at = end, time
            at = end - 1
        done = max(0, (_next(data, at) if begun is None else begun) - _CONTEXT)
        data, at = data[done:], max(0, at - done)
        begun = None if begun is None else begun - done
    if begun is not None:
        yield _message(data[begun:]), received_at


def _next(data: bytes, at: int) -> int:
    """Where the next line that may be a `From ` line begins, seen from `at`, or will when more of it is there."""
    found = data.find(_LINE, at)
    return found if found >= 0 else max(at, len(data) - len(_LINE) + 1)


def _from_line(data: bytes, at: int, *, ended: bool) -> tuple[int, int] | None:
    """Where the next `From ` line begins and ends, if that and the line after it are there, or the data has ended."""
    start = data.find(_LINE, at) + 1
    if not start:
        return None
    end = data.find(b"\n", start) + 1
    if end and (ended or data.find(b"\n", end) >= 0):
        return start, end
    return (start, end or len(data)) if ended else None


def _message(content: bytes) -> bytes:
    if content.endswith(_EMPTY_LINE):
        content = content[:-1] if content.endswith(b"\n\n") else content[:-2]
    return _QUOTED_FROM.sub(rb"\1", content) if b">From " in content else content


def received_in(from_line: bytes) -> datetime | None:
    """The time in a `From ` line, in UTC: asctime, perhaps with a zone before or after the year, or RFC 5322's form.

    Without a zone it counts as UTC. None where there is no readable date.
    """
    line = from_line[:_MAX_LINE]
    if asctime := _ASCTIME.search(line):
        month, day, clock, zone_before, year, zone_after = (
            part.decode() if part else "" for part in asctime.groups()
        )
        zone = zone_before or zone_after or "+0000"  # said, so that the date is of the common kind
        return parse_date(f"{day} {month} {year} {clock} {zone}")
    written = _RFC_DATE.search(line)
    return parse_date(written[0].decode("ascii", "replace")) if written else None


def maildir_received_at(name: str) -> datetime | None:
    """The time received that the name of a Maildir file begins with, `1382298793.M2P3.host:2,S`; None without one."""
    seconds = _MAILDIR_TIME.match(name)
    try:
        return datetime.fromtimestamp(int(seconds[1]), UTC) if seconds else None
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None

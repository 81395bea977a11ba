"""Mail in files: mbox (RFC 4155 and its kin) and the names of Maildir files. Nothing is opened here."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import BinaryIO

from maillinkd.mail.date import parse_date

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_QUOTED_FROM = re.compile(rb">+From ")
_ASCTIME = re.compile(
    rb"\b([A-Za-z]{3})\s+(\d{1,2})\s+(\d{1,2}:\d\d(?::\d\d)?)\s+(?:([A-Za-z]{1,5}|[+-]\d{4})\s+)?(\d{4})(?:\s+([+-]\d{4}|[A-Z]{1,5}))?"
)
_RFC_DATE = re.compile(rb"\b\d{1,2}\s+[A-Za-z]{3}\s+\d{4}\s.*")
_MAILDIR_TIME = re.compile(r"(\d{1,12})(?:\.|$)")
_MAX_LINE = 1_000
"""Bytes of a `From ` line in which its date is looked for."""


def read_mbox(stream: BinaryIO) -> Iterator[tuple[bytes, datetime | None]]:
    """The messages of an mbox, one at a time: their bytes, and the time received that the `From ` line tells (UTC).

    A `From ` line begins a message if two of these hold: it follows an empty line or begins the file; it tells a
    date; a header field follows it. (Some writers leave out the empty line, some do not quote `From ` in the text.)
    `>From ` is unquoted as in mboxrd, which undoes what mboxo does too; Content-Length is not believed. Line ends
    stay as they are; the empty line before the next `From ` line is no part of the message. What stands before the
    first message is passed over.
    """
    lines: list[bytes] | None = None
    received_at: datetime | None = None
    after_empty = True
    for line, following in pairwise(chain(stream, [b""])):
        if line.startswith(b"From ") and _begins_message(line, after_empty, following):
            if lines is not None:
                yield _message(lines), received_at
            lines, received_at = [], received_in(line)
        elif lines is not None:
            lines.append(line[1:] if line.startswith(b">") and _QUOTED_FROM.match(line) else line)
        after_empty = line in (b"\n", b"\r\n")
    if lines is not None:
        yield _message(lines), received_at


def _begins_message(line: bytes, after_empty: bool, following: bytes) -> bool:
    return after_empty + (received_in(line) is not None) + (_FIELD.match(following) is not None) >= 2


def received_in(from_line: bytes) -> datetime | None:
    """The time in a `From ` line, in UTC: asctime, perhaps with a zone before or after the year, or RFC 5322's form.

    Without a zone it counts as UTC. None where there is no readable date.
    """
    line = from_line[:_MAX_LINE]
    if asctime := _ASCTIME.search(line):
        month, day, clock, zone_before, year, zone_after = (
            part.decode() if part else "" for part in asctime.groups()
        )
        return parse_date(f"{day} {month} {year} {clock} {zone_before or zone_after}")
    written = _RFC_DATE.search(line)
    return parse_date(written[0].decode("ascii", "replace")) if written else None


def maildir_received_at(name: str) -> datetime | None:
    """The time received that the name of a Maildir file begins with, `1382298793.M2P3.host:2,S`; None without one."""
    seconds = _MAILDIR_TIME.match(name)
    try:
        return datetime.fromtimestamp(int(seconds[1]), UTC) if seconds else None
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def _message(lines: list[bytes]) -> bytes:
    if len(lines) > 1 and lines[-1] in (b"\n", b"\r\n"):
        lines.pop()
    return b"".join(lines)

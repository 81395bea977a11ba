"""Dates as mail writes them (RFC 5322, 3.3 and 4.3)."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from functools import lru_cache

MAX_DATE = 200
"""Characters of a date that are looked at; the rest is a comment."""

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}
_COMMON = re.compile(
    r"\s*(?:[A-Za-z]{3},\s*)?(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d\d):(\d\d)(?::(\d\d))?\s+([+-]\d{4})\b",
    re.ASCII,
)


def parse_date(value: str) -> datetime | None:
    """The date in UTC, or None where it is missing, unreadable or outside the years 1 to 9999.

    Reads what the standard library reads (two-digit years, named zones, missing seconds); a date without a zone, or
    with an unknown one, counts as UTC. A leap second counts as the second before it. Never raises.
    """
    common = _COMMON.match(value)
    try:
        if common is not None:
            return _common_date(common)
        parts = parsedate_tz(value[:MAX_DATE])
        return None if parts is None else _utc(*parts[:6], offset=timedelta(seconds=parts[9] or 0))
    except (ValueError, OverflowError, IndexError, TypeError):  # what the parser and the calendar refuse
        return None


def _common_date(found: re.Match[str]) -> datetime:
    day, month, year, hour, minute, second, zone = found.groups()
    number = _MONTHS.get(month.lower(), 0)
    return _utc(int(year), number, int(day), int(hour), int(minute), int(second or 0), offset=_offset(zone))


@lru_cache(maxsize=256)
def _offset(zone: str) -> timedelta:
    """How far the clock of a zone `+hhmm` or `-hhmm` is ahead of UTC."""
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return -ahead if zone[0] == "-" else ahead


def _utc(year: int, month: int, day: int, hour: int, minute: int, second: int, *, offset: timedelta) -> datetime:
    local = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC)
    return local - offset if offset else local

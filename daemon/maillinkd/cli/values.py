"""How values on the command line are read: items, times. What is wrong is a wrong usage (exit 2)."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from maillinkd.directory.item import ItemRef

_AGO = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def item(text: str) -> "ItemRef":
    """KIND:ID."""
    from maillinkd.directory.item import ItemRef

    try:
        return ItemRef.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str, now: datetime | None = None) -> datetime:
    """A time such as 2026-01-05T09:00:00Z, a date (its midnight in UTC), or how long ago: 90m, 24h, 30d, 2w."""
    if ago := _AGO.fullmatch(text):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "expected a time such as 2026-01-05T09:00:00Z, a date, or how long ago: 90m, 24h, 30d"
        raise typer.BadParameter(f"{text!r} is no time: {expected}") from None


def number(text: str) -> int:
    """The number of a thread."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text!r} is no thread: expected its number, as `maillinkd threads list` shows it")
    return int(text)

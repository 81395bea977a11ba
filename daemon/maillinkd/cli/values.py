"""How values on the command line are read: items, times, numbers, names. What is wrong is a wrong usage (exit 2)."""

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from maillinkd.directory.item import ItemKind, ItemRef
    from maillinkd.settings import Settings

LARGEST = 2**63 - 1
"""The largest number that a row of a database can have (64 bit, signed)."""

_AGO = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def item(text: str) -> "ItemRef":
    """KIND:ID."""
    from maillinkd.directory.item import ItemRef

    try:
        return ItemRef.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def kind(text: str, option: str) -> "ItemKind":
    """The kind that an option names, in any letter case."""
    from maillinkd.directory.item import ItemKind

    if text.lower() not in ItemKind.__members__.values():
        raise typer.BadParameter(f"{option}: expected one of {', '.join(ItemKind)}, not {text!r}")
    return ItemKind(text.lower())


def moment(text: str, now: datetime | None = None) -> datetime:
    """A time with its zone (RFC 3339), a date (its midnight in UTC), or how long ago: 90m, 24h, 30d, 2w."""
    from maillinkd.directory.lines import read_time

    try:
        if ago := _AGO.fullmatch(text):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        with suppress(ValueError):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        return read_time(text)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is before the year 1") from None
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}; else a date, or how long ago: 90m, 24h, 30d") from None


def number(text: str, of: str = "thread", shown: str = "`maillinkd threads list` shows it", *, least: int = 1) -> int:
    """The number of a row, by default of a thread: from `least` to LARGEST."""
    found = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if not least <= found <= LARGEST:
        raise typer.BadParameter(f"{text!r} is no {of}: expected its number, as {shown}")
    return found


def check_mailboxes(settings: "Settings", names: Iterable[str], also: Collection[str] = ()) -> None:
    """Raises typer.BadParameter for the first name that is neither a mailbox of the configuration nor in `also`."""
    there = {*settings.mailboxes, *also}
    for name in names:
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise typer.BadParameter(f"no mailbox {name!r} in the configuration (there: {known})")

"""How commands print: JSON Lines for programs, tables for people. Nothing that mail says can steer the terminal."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maillinkd.logs import UNSAFE, plain


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of JSON that begins with `"v":1` and holds nothing that could steer a terminal."""
    text = json.dumps({"v": 1} | dict(fields), ensure_ascii=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say_json(fields: Mapping[str, Any]) -> None:
    """Prints one line of JSON at once: a reader at the other end of a pipe may be waiting for it."""
    say(json_line(fields))


def say(text: str = "") -> None:
    """Prints one line on standard output. The text is printed as it stands."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def escaped(text: str) -> str:
    """The text on one line, with what could steer a terminal written as an escape."""
    return plain(text, 10_000)


def paragraph(text: str, first: str = "", rest: str = "") -> None:
    """Prints one line that begins with `first`; on a terminal as many as it takes, the others begin with `rest`."""
    line = escaped(text)
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, len(rest) + 20)
        say(textwrap.fill(line, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False))
    else:
        say(f"{first}{line}")


def complain(text: str) -> None:
    """Prints one line on standard error."""
    sys.stderr.write(f"{escaped(text)}\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str) -> None:
    """Prints a table: on a terminal one that fits it, elsewhere one that is as wide as it must be.

    A column whose name begins with "#" is set flush right, without the sign. `nothing` is said where there are no
    rows.
    """
    cells = [[_cell(each) for each in row] for row in rows]
    if not cells:
        say(nothing)
    elif sys.stdout.isatty():
        _table_that_fits(columns, cells)
    else:
        _plain_table(columns, cells)


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Prints names and values, one a line; those without a value are left out."""
    shown = [(name, _cell(value)) for name, value in rows]
    width = max((len(name) for name, value in shown if value), default=0)
    for name, value in shown:
        if value:
            say(f"{name:<{width}}  {value}")


def _cell(value: object) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case str():
            return plain(value)
        case Mapping():
            return plain(json.dumps(value, ensure_ascii=False))
        case Iterable():
            return plain(" ".join(map(str, value)))
    return plain(str(value))


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    names = [column.removeprefix("#") for column in columns]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in (names, *cells):
        parts = (
            f"{cell:>{width}}" if column.startswith("#") else f"{cell:<{width}}"
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        say("  ".join(parts).rstrip())


def _table_that_fits(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith("#")
        shown.add_column(
            column.removeprefix("#"), justify="right" if right else "left", overflow="ellipsis", no_wrap=True
        )
    for row in cells:
        shown.add_row(*map(Text, row))
    Console(highlight=False).print(shown)

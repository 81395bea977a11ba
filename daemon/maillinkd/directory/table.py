"""Tables in files: rows of cells, from CSV (RFC 4180 and its relatives) here and from XLSX in `workbook`."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

Cell = str | float | datetime
"""A text, a number of a workbook, or a date of a workbook, which has no time zone."""

MAX_CELL = 1_000_000
"""Characters of a cell; a quote that is left open would make one of the rest of the file."""
MAX_LINE = 10_000_000
"""Characters of a line."""
DELIMITERS = ",;\t"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 1 << 20


class TableError(ValueError):
    """Why a file cannot be read, or not to its end; `row` says where, 0 means as a whole."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is not empty."""

    number: int
    """The line on which it begins, or the number that the spreadsheet shows. From 1."""
    cells: Mapping[int, Cell]
    """By column, from 0; empty ones are absent."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, the first of them the headers."""

    rows: Iterator[Row]
    """Raises TableError while it is read."""
    day_zero: datetime | None = None
    """From which day on numbers count days, where they can be dates (a workbook)."""


def moment(serial: float, day_zero: datetime) -> datetime:
    """The date that a workbook's number means (ECMA-376 part 1, 18.17.4.1), to the second; it has no time zone.

    Raises ValueError for one outside 1901 to 9999: the first sixty days of 1900 are counted wrongly by design.
    """
    if not 366 < serial < 2_958_466:
        raise ValueError(f"{serial:g} is no day of a spreadsheet")
    when = day_zero + timedelta(seconds=round(serial * 86_400))
    if when.year > 9998:
        raise ValueError(f"{serial:g} is no day of a spreadsheet")
    return when


def read_csv(stream: BinaryIO, known: Callable[[Sequence[str]], int], encoding: str | None = None) -> Table:
    """The rows of a CSV file, which must be seekable.

    `known` counts the headers that mean something: of comma, semicolon and tab, that one separates which gives the
    most. The encoding is what a byte order mark says, else `encoding`, else UTF-8; none is guessed. Raises TableError
    for a file in another encoding, before any row of it is given.
    """
    name = _encoding(stream, encoding)
    text = io.TextIOWrapper(stream, name, newline="")
    return Table(_rows(text, known))


def _encoding(stream: BinaryIO, declared: str | None) -> str:
    head = stream.read(4)
    stream.seek(0)
    name = next((name for mark, name in _BOMS if head.startswith(mark)), declared or "utf-8")
    decoder = codecs.getincrementaldecoder(name)()
    line = 1
    try:
        while block := stream.read(_BLOCK):
            line += decoder.decode(block).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        if isinstance(error, UnicodeDecodeError):
            line += error.object[: error.start].count(b"\n")
        remedy = "declare its encoding (--encoding cp1252), or save it as UTF-8"
        raise TableError(line, f"is no {name}: {remedy}") from None
    stream.seek(0)
    return name


def _rows(text: io.TextIOWrapper, known: Callable[[Sequence[str]], int]) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL)
    lines = _lines(text)
    first = next(lines, "")
    delimiter = ""
    if first[:4].lower() == "sep=" and first[4:5] in DELIMITERS:  # a hint that Excel reads and writes
        delimiter = first[4]
        skipped = 1
        first = next(lines, "")
    else:
        skipped = 0
    delimiter = delimiter or max(DELIMITERS, key=lambda each: known(next(csv.reader([first], delimiter=each), [])))
    reader = csv.reader(_before(first, lines), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1 + skipped
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(number, f"{error}: is a quote left open? What follows is not read") from None
        if cells := {column: value for column, value in enumerate(values) if value and not value.isspace()}:
            yield Row(number, cells)


def _before(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and line[-1] not in "\r\n":
            raise TableError(number, f"is longer than {MAX_LINE:,} characters. What follows is not read")
        yield line

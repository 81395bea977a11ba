"""Workbooks (ECMA-376, `.xlsx`): the cells of the first sheet, read as they stream by.

Nothing is evaluated: of a formula the value counts that was saved with it. Nothing grows with what a file merely
claims: parts are read to a limit, the shared texts alone stay in memory, empty rows and columns cost nothing, and a
document type, which could define entities, is refused.
"""

import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from maillinkd.directory.table import MAX_CELL, Cell, Row, Table, TableError, moment

MAX_SHEET = 1_000_000_000
"""Bytes of the sheet, expanded; they stream by."""
MAX_PART = 128_000_000
"""Bytes of any other part, expanded; the shared texts stay in memory."""
MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384
"""What a sheet can have (Excel's limits)."""

_BLOCK = 1 << 16
_DATES = frozenset({*range(14, 23), *range(27, 37), *range(50, 59)})
"""Number formats that show a day or a time of day, built in (ECMA-376 part 1, 18.8.30)."""
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|[_*].')
"""What stands for itself in a number format, and colours, conditions, and elapsed time."""
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")

_Attributes = dict[str, str]


def read_xlsx(stream: BinaryIO) -> Table:
    """The rows of the first sheet of a workbook. Raises TableError for what is none."""
    try:
        book = _Book(ZipFile(stream))
        day_zero = datetime.fromisoformat("1904-01-01" if book.since_1904 else "1899-12-30")
        return Table(_guarded(book.rows(day_zero)), day_zero)
    except _FAULTS as error:
        raise _fault(error) from None


def _guarded(rows: Iterator[Row]) -> Iterator[Row]:
    number = 0
    try:
        for row in rows:
            number = row.number
            yield row
    except _FAULTS as error:
        raise _fault(error, number) from None


_FAULTS = (BadZipFile, zlib.error, expat.ExpatError, EOFError, KeyError, NotImplementedError, RuntimeError, OSError)
"""What zipfile and expat raise for bytes that they cannot read; RuntimeError: a password is needed."""


def _fault(error: Exception, after: int = 0) -> TableError:
    where = f"cannot be read after row {after}" if after else "cannot be read as a workbook"
    return TableError(after, f"{where} ({error}): save it anew as .xlsx, without a password, or as CSV")


class _Book:
    """The parts of a workbook."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._sheet = ""
        self.since_1904 = False
        main = self._related("", "officeDocument").get("officeDocument", {}).popitem()[1]
        self._parts = self._related(main, "worksheet", "sharedStrings", "styles")
        sheets: list[str] = []

        def start(name: str, attributes: _Attributes) -> None:
            if name == "sheet":
                id_ = next((value for key, value in attributes.items() if key.endswith("}id")), "")
                sheets.append(id_)
            elif name == "workbookPr":
                self.since_1904 = attributes.get("date1904") in ("1", "true")

        self._walk(main, start)
        known = self._parts.get("worksheet", {})
        found = next((known[id_] for id_ in sheets if id_ in known), None)
        if found is None:
            raise TableError(0, "has no sheet of cells")
        self._sheet = found

    def rows(self, day_zero: datetime) -> Iterator[Row]:
        sheet = _Sheet(self._texts(), self._date_styles(), day_zero)
        for _ in self._steps(self._sheet, MAX_SHEET, sheet.start, sheet.end, sheet.text):
            yield from sheet.take()

    def _related(self, part: str, *kinds: str) -> dict[str, dict[str, str]]:
        """The parts to which `part` points, by kind and then by id."""
        folder, name = posixpath.split(part)
        found: dict[str, dict[str, str]] = {}

        def start(tag: str, attributes: _Attributes) -> None:
            kind = attributes.get("Type", "").rpartition("/")[2]
            if tag == "Relationship" and kind in kinds and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", ""))).lstrip("/")
                found.setdefault(kind, {})[attributes.get("Id", "")] = target

        self._walk(posixpath.join(folder, "_rels", f"{name}.rels"), start)
        return found

    def _texts(self) -> list[str]:
        texts: list[str] = []
        current: list[str] = []
        inside = skip = False

        def start(name: str, _: _Attributes) -> None:
            nonlocal inside, skip
            if name == "si":
                current.clear()
            elif name == "rPh":  # how it is pronounced
                skip = True
            elif name == "t":
                inside = not skip

        def end(name: str) -> None:
            nonlocal inside, skip
            if name == "si":
                texts.append(_unescaped("".join(current)))
            elif name == "rPh":
                skip = False
            elif name == "t":
                inside = False

        def text(some: str) -> None:
            if inside:
                current.append(some)

        for part in self._parts.get("sharedStrings", {}).values():
            self._walk(part, start, end, text)
        return texts

    def _date_styles(self) -> frozenset[int]:
        """Numbers of the cell styles that show dates."""
        formats: dict[int, str] = {}
        styles: list[int] = []
        inside = False

        def start(name: str, attributes: _Attributes) -> None:
            nonlocal inside
            if name == "numFmt":
                formats[_number(attributes.get("numFmtId"))] = attributes.get("formatCode", "")
            elif name == "cellXfs":
                inside = True
            elif name == "xf" and inside:
                styles.append(_number(attributes.get("numFmtId")))

        def end(name: str) -> None:
            nonlocal inside
            if name == "cellXfs":
                inside = False

        for part in self._parts.get("styles", {}).values():
            self._walk(part, start, end)
        return frozenset(
            style
            for style, number in enumerate(styles)
            if (_shows_a_date(formats[number]) if number in formats else number in _DATES)
        )

    def _walk(
        self,
        part: str,
        start: Callable[[str, _Attributes], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        for _ in self._steps(part, MAX_PART, start, end, text):
            pass

    def _steps(
        self,
        part: str,
        limit: int,
        start: Callable[[str, _Attributes], None],
        end: Callable[[str], None] | None,
        text: Callable[[str], None] | None,
    ) -> Iterator[None]:
        """Reads a part block by block. Element names are given without their namespace: there are two of each."""
        info = self._archive.getinfo(part)
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # ECMA-376 part 2, 7.3.1 allows no other
            raise TableError(0, "is compressed in a way that workbooks are not: save it anew as .xlsx, or as CSV")
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = lambda name, attributes: start(name.rpartition("}")[2], attributes)
        if end is not None:
            parser.EndElementHandler = lambda name: end(name.rpartition("}")[2])
        if text is not None:
            parser.CharacterDataHandler = text
        size = 0
        with self._archive.open(info) as stream:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > limit:
                    raise TableError(0, f"has more than {limit:,} bytes in {part}: export it in parts, or as CSV")
                parser.Parse(block, False)
                yield
        parser.Parse(b"", True)
        yield


class _Sheet:
    """Takes the elements of a sheet and gives its rows."""

    def __init__(self, texts: list[str], dates: frozenset[int], day_zero: datetime) -> None:
        self._texts, self._dates, self._day_zero = texts, dates, day_zero
        self._done: list[Row] = []
        self._row = 0
        self._column = -1
        self._cells: dict[int, Cell] = {}
        self._type = self._style = ""
        self._text: list[str] = []
        self._size = 0
        self._inside = self._skip = False

    def take(self) -> list[Row]:
        """The rows that are complete."""
        done, self._done = self._done, []
        return done

    def start(self, name: str, attributes: _Attributes) -> None:
        if name == "c":
            found = _REFERENCE.fullmatch(attributes.get("r", ""))
            self._column = _column(found[1]) if found else self._column + 1
            self._type, self._style = attributes.get("t", "n"), attributes.get("s", "")
            self._text.clear()
            self._size = 0
        elif name in ("v", "t"):
            self._inside = not self._skip
        elif name == "row":
            self._row = _number(attributes.get("r")) or self._row + 1
            self._column = -1
            self._cells = {}
            if self._row > MAX_ROWS:
                raise TableError(MAX_ROWS, f"has more than {MAX_ROWS:,} rows")
        elif name == "rPh":
            self._skip = True

    def text(self, some: str) -> None:
        if self._inside:
            self._size += len(some)
            if self._size > MAX_CELL:
                raise TableError(self._row, f"a cell has more than {MAX_CELL:,} characters. What follows is not read")
            self._text.append(some)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._inside = False
        elif name == "c":
            if self._text and self._column < MAX_COLUMNS:
                value = self._value("".join(self._text))
                if value != "":
                    self._cells[self._column] = value
        elif name == "row":
            if self._cells:
                self._done.append(Row(self._row, self._cells))
        elif name == "rPh":
            self._skip = False

    def _value(self, text: str) -> Cell:
        match self._type:
            case "s":
                number = _number(text)
                return self._texts[number] if number < len(self._texts) else ""
            case "b":
                return "TRUE" if text == "1" else "FALSE"
            case "n":
                return self._number(text)
            case "inlineStr" | "str":
                return _unescaped(text) if not text.isspace() else ""
            case _:  # "d", a date as ISO 8601 writes it, and "e", an error
                return text

    def _number(self, text: str) -> Cell:
        try:
            value = float(text)
            if self._style and _number(self._style) in self._dates:
                return moment(value, self._day_zero)
        except ValueError:
            return text
        return value


def _refuse_doctype(*_: object) -> None:
    raise TableError(0, "defines a document type, which no workbook does")


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def _unescaped(text: str) -> str:
    """Characters that XML cannot hold are written as _x000D_ (ECMA-376 part 1, 22.9.2.19)."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _shows_a_date(format_: str) -> bool:
    return any(letter in "dmyhs" for letter in _LITERAL.sub("", format_.partition(";")[0]).lower())

"""CSV as spreadsheets and Pipedrive write it."""

import codecs
import io
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory import table
from maillinkd.directory.table import Row, TableError, moment, read_csv

DAY_ZERO = datetime.fromisoformat("1899-12-30")


def known(headers: Sequence[str]) -> int:
    return sum(each in ("ID", "Name") for each in headers)


def rows(content: bytes, encoding: str | None = None) -> list[tuple[int, list[object]]]:
    return [(row.number, list(row.cells.values())) for row in read_csv(io.BytesIO(content), known, encoding).rows]


@pytest.mark.parametrize(
    ("about", "content"),
    [
        ("commas", b"ID,Name\n1,B\xc3\xb6rge\n"),
        ("semicolons, as Excel writes them where the comma is a decimal", b"ID;Name\n1;B\xc3\xb6rge\n"),
        ("tabs", b"ID\tName\n1\tB\xc3\xb6rge\n"),
        ("a hint for Excel", b"sep=;\r\nID;Name\r\n1;B\xc3\xb6rge\r\n"),
        ("CRLF, and no end of the last line", b"ID,Name\r\n1,B\xc3\xb6rge"),
        ("bare CR", b"ID,Name\r1,B\xc3\xb6rge\r"),
        ("quotes", b'"ID","Name"\n"1","B\xc3\xb6rge"\n'),
        ("UTF-8 with a mark", codecs.BOM_UTF8 + b"ID,Name\n1,B\xc3\xb6rge\n"),
        ("UTF-16, little end first", codecs.BOM_UTF16_LE + "ID,Name\n1,Börge\n".encode("utf-16-le")),
        ("UTF-16, big end first", codecs.BOM_UTF16_BE + "ID\tName\n1\tBörge\n".encode("utf-16-be")),
    ],
)
def test_a_table_is_read_whatever_wrote_it(about: str, content: bytes) -> None:
    assert [cells for _, cells in rows(content)] == [["ID", "Name"], ["1", "Börge"]], about


def test_another_encoding_is_taken_when_it_is_declared() -> None:
    assert rows("ID,Name\n1,Börge\n".encode("cp1252"), "cp1252")[1] == (2, ["1", "Börge"])


def test_a_mark_says_more_than_what_is_declared() -> None:
    assert rows(codecs.BOM_UTF8 + "ID,Name\n1,Börge\n".encode(), "cp1252")[1] == (2, ["1", "Börge"])


def test_no_encoding_is_guessed_and_no_row_given_before_that_is_known() -> None:
    content = b"ID,Name\n" + b"1,x\n" * 400_000 + "2,Börge\n".encode("cp1252")

    with pytest.raises(TableError, match=r"is no utf-8: declare its encoding \(--encoding cp1252\)") as caught:
        read_csv(io.BytesIO(content), known)

    assert caught.value.row == 400_002


def test_a_file_that_is_cut_off_within_a_character_is_told() -> None:
    with pytest.raises(TableError, match="is no utf-8") as caught:
        read_csv(io.BytesIO("ID,Name\n1,Börge".encode()[:-4]), known)

    assert caught.value.row == 2


def test_rows_are_called_by_the_line_on_which_they_begin() -> None:
    content = b'sep=,\nID,Name\n1,"two\nlines"\n\n,  ,\n2,"x, y"\n'

    assert rows(content) == [(2, ["ID", "Name"]), (3, ["1", "two\nlines"]), (7, ["2", "x, y"])]


def test_a_quote_that_is_left_open_is_told_where_it_begins() -> None:
    content = b'ID,Name\n1,a\n2,"b\n3,c\n'
    found = read_csv(io.BytesIO(content), known).rows

    assert [next(found).number, next(found).number] == [1, 2]
    with pytest.raises(TableError, match="is a quote left open") as caught:
        next(found)
    assert caught.value.row == 3


@pytest.mark.parametrize(
    "content", [b"ID,Name\n1," + b"x" * (table.MAX_CELL + 1), b'ID,Name\n1,"' + b"x\n" * table.MAX_CELL]
)
def test_a_cell_has_an_end(content: bytes) -> None:
    found = read_csv(io.BytesIO(content), known).rows
    next(found)

    with pytest.raises(TableError, match="field larger than field limit"):
        next(found)


def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_LINE", 20)

    with pytest.raises(TableError, match="is longer than 20 characters"):
        rows(b"ID,Name\n" + b"1,2,3,4,5," * 3)


def test_empty_rows_cost_nothing_to_the_reader() -> None:
    assert rows(b"ID,Name\n" + b",,,\n" * 200_000 + b"1,x\n")[1] == (200_002, ["1", "x"])


@given(st.binary(max_size=200), st.sampled_from([None, "cp1252", "utf-16", "shift_jis"]))
def test_no_bytes_break_the_reader(content: bytes, encoding: str | None) -> None:
    try:
        found = list(read_csv(io.BytesIO(content), known, encoding).rows)
    except TableError:
        return
    assert all(isinstance(row, Row) and row.cells for row in found)


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        (46027.375, datetime.fromisoformat("2026-01-05T09:00")),
        (46027.0, datetime.fromisoformat("2026-01-05")),
        (46027.3749999999, datetime.fromisoformat("2026-01-05T09:00")),
    ],
)
def test_a_number_of_a_workbook_is_a_day(serial: float, expected: datetime) -> None:
    assert moment(serial, DAY_ZERO) == expected


@pytest.mark.parametrize("serial", [0.0, 59.0, -1.0, 1e300, float("nan"), float("inf"), 2_958_466.0])
def test_a_number_that_is_no_day_is_refused(serial: float) -> None:
    with pytest.raises(ValueError, match="is no day"):
        moment(serial, DAY_ZERO)

"""Workbooks: those that another program writes are read as it reads them, and hostile ones do no harm."""

import contextlib
import io
import zipfile
from datetime import datetime
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory import workbook
from maillinkd.directory.table import Row, TableError
from maillinkd.directory.workbook import read_xlsx

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
STRICT = 'xmlns="http://purl.oclc.org/ooxml/spreadsheetml/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def written(*rows: list[Any], formats: dict[str, str] | None = None) -> bytes:
    """A workbook that openpyxl writes."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in rows:
        sheet.append(row)
    for place, format_ in (formats or {}).items():
        sheet[place].number_format = format_
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def built(
    sheet: str, *, strings: str = "", styles: str = "", book: str = "", method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A workbook made of bare parts: what no program writes, too."""
    kinds = {"worksheet": "worksheets/sheet1.xml", "sharedStrings": "sharedStrings.xml", "styles": "styles.xml"}
    links = "".join(
        f'<Relationship Id="{kind}" Type="{OFFICE}/{kind}" Target="{target}"/>' for kind, target in kinds.items()
    )
    parts = {
        "_rels/.rels": f'<R><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="/xl/workbook.xml"/></R>',
        "xl/workbook.xml": book
        or f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets><sheet name="a" r:id="worksheet"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f"<R>{links}</R>",
        "xl/worksheets/sheet1.xml": sheet,
        "xl/sharedStrings.xml": f"<sst>{strings}</sst>",
        "xl/styles.xml": f"<styleSheet>{styles}</styleSheet>",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def cells(content: bytes) -> list[tuple[int, dict[int, Any]]]:
    return [(row.number, dict(row.cells)) for row in read_xlsx(io.BytesIO(content)).rows]


def test_a_workbook_is_read_as_it_was_written() -> None:
    when = datetime.fromisoformat("2026-01-05T09:00:30")

    found = cells(written(["ID", "Name"], [61, "Börge & Co <1>"], [], [None, when, 1.5, True]))

    assert [
        (1, {0: "ID", 1: "Name"}),
        (2, {0: 61.0, 1: "Börge & Co <1>"}),
        (4, {1: when, 2: 1.5, 3: "TRUE"}),
    ] == found


@pytest.mark.parametrize("format_", ["yyyy-mm-dd", "d.m.yy", "[$-409]mmmm d, yyyy", "dd/mm/yyyy hh:mm", 'yyyy"年"'])
def test_a_number_is_a_date_where_its_format_shows_one(format_: str) -> None:
    assert cells(written([46027], formats={"A1": format_})) == [(1, {0: datetime.fromisoformat("2026-01-05")})]


@pytest.mark.parametrize("format_", ["General", "0.00", "0.00E+00", '0 "days"', "#,##0\\ \\d", "[Red]0", "@"])
def test_and_a_number_where_it_does_not(format_: str) -> None:
    assert cells(written([46027], formats={"A1": format_})) == [(1, {0: 46027.0})]


def test_days_may_be_counted_from_1904() -> None:
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    book.active.append([datetime.fromisoformat("2026-01-05T09:00")])
    stream = io.BytesIO()
    book.save(stream)

    assert cells(stream.getvalue()) == [(1, {0: datetime.fromisoformat("2026-01-05T09:00")})]


def test_texts_are_read_wherever_they_are_kept() -> None:
    sheet = (
        f'<worksheet {STRICT}><sheetData><row><c t="s"><v>0</v></c><c t="s"><v>1</v></c>'
        '<c t="inlineStr"><is><r><t>in</t></r><r><t xml:space="preserve"> line</t></r></is></c>'
        '<c t="str"><f>A1</f><v>worked out</v></c><c t="s"><v>99</v></c><c t="d"><v>2026-01-05T09:00:00</v></c>'
        '<c t="e"><v>#REF!</v></c></row></sheetData></worksheet>'
    )
    strings = "<si><t>plain</t></si><si><r><t>ri</t></r><r><t>ch_x000A_</t></r><rPh><t>aloud</t></rPh></si>"

    found = cells(built(sheet, strings=strings))

    expected = {0: "plain", 1: "rich\n", 2: "in line", 3: "worked out", 5: "2026-01-05T09:00:00", 6: "#REF!"}
    assert [(1, expected)] == found


def test_a_formula_counts_for_the_value_that_was_saved_with_it() -> None:
    row = '<row r="7"><c r="B7"><f>1+1</f><v>3</v></c><c r="C7"><f>NOW()</f></c></row>'

    assert cells(built(_sheet(row))) == [(7, {1: 3.0})]


def test_the_first_sheet_counts() -> None:
    book = openpyxl.Workbook()
    book.active.append(["first"])
    book.create_sheet("more").append(["second"])
    stream = io.BytesIO()
    book.save(stream)

    assert cells(stream.getvalue()) == [(1, {0: "first"})]


def _sheet(rows: str) -> str:
    return f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("about", "content", "said"),
    [
        ("no archive", b"PK\x03\x04 and nothing more", "cannot be read as a workbook"),
        ("cut off", written(["a"])[:-200], "cannot be read as a workbook"),
        ("no XML", built("<worksheet"), "cannot be read"),
        ("entities", built(BOMB + _sheet("<row><c t='str'><v>&c;</v></c></row>")), "defines a document type"),
        ("entities among the texts", built(_sheet(""), book=BOMB + "<workbook/>"), "defines a document type"),
        (
            "a method that streams without bounds",
            built(_sheet(""), method=zipfile.ZIP_BZIP2),
            "is compressed in a way",
        ),
        ("no sheet", built("", book=f"<workbook {MAIN}/>"), "has no sheet"),
        (
            "a row beyond the last",
            built(_sheet('<row r="99999999"><c><v>1</v></c></row>')),
            "has more than 1,048,576 rows",
        ),
    ],
)
def test_what_is_no_workbook_is_refused_with_its_reason(about: str, content: bytes, said: str) -> None:
    with pytest.raises(TableError, match=said):
        cells(content)


def test_an_archive_may_expand_so_far_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_SHEET", 1_000_000)
    content = built(_sheet('<row r="1"><c><v>1</v></c></row>' + " " * 50_000_000))

    assert len(content) < 100_000
    with pytest.raises(TableError, match=r"more than 1,000,000 bytes in xl/worksheets/sheet1\.xml"):
        cells(content)


def test_texts_may_take_so_much_room_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_PART", 1_000_000)

    with pytest.raises(TableError, match=r"more than 1,000,000 bytes in xl/sharedStrings\.xml"):
        cells(built(_sheet(""), strings="<si/>" * 500_000))


def test_a_cell_has_an_end() -> None:
    huge = "x" * (workbook.MAX_CELL + 1)

    with pytest.raises(TableError, match="a cell has more than"):
        cells(built(_sheet(f"<row><c t='str'><v>{huge}</v></c></row>")))


def test_cells_far_out_cost_no_more_than_near_ones() -> None:
    far = '<row><c r="XFD{0}"><v>1</v></c><c r="ZZZ{0}"><v>2</v></c></row>'
    content = built(_sheet("".join(far.format(number) for number in range(1, 20_001))))

    found = cells(content)

    assert (len(found), found[-1]) == (20_000, (20_000, {16_383: 1.0}))


def test_rows_that_are_read_before_a_fault_are_given() -> None:
    rows = read_xlsx(io.BytesIO(built(_sheet("<row><c><v>1</v></c></row>" + " " * 100_000 + "<row><c></row>")))).rows

    assert next(rows) == Row(1, {0: 1.0})
    with pytest.raises(TableError, match="cannot be read after row 1"):
        next(rows)


_values = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    st.floats(-1e9, 1e9),
    st.booleans(),
)


@given(st.lists(st.lists(_values, max_size=5), max_size=6))
def test_both_readers_agree(rows: list[list[Any]]) -> None:
    content = written(*rows)

    sheet = openpyxl.load_workbook(io.BytesIO(content), data_only=True).active
    expected = [
        (number, {column: _shown(value) for column, value in enumerate(row) if value not in (None, "")})
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1)
    ]

    assert [each for each in expected if each[1]] == cells(content)


def _shown(value: Any) -> Any:
    return str(value).upper() if isinstance(value, bool) else value


@given(st.data())
def test_no_damage_breaks_the_reader(data: st.DataObject) -> None:
    content = bytearray(DAMAGED)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TableError):
        cells(bytes(content))


DAMAGED = written(["ID", "Name"], [1, "x"], [datetime.fromisoformat("2026-01-05"), "y"])

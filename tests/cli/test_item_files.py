"""Items in files: which kind of file it is, what is told of it, and what is done."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pytest
import typer

from cli.shell import Shell
from maillinkd.cli.item_files import encoding, kinds, read, zone
from maillinkd.directory.item import ItemKind


def test_wrong_lines_are_named_by_file_and_number_and_the_others_go_in(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"kind":"deal","id":"1"}\n'
        b"\n"
        b"{oops}\n"
        b'{"kind":"boat","id":"2"}\n'
        b'{"kind":"deal","id":"3","addresses":[]}\r\n'
        b'{"kind":"deal","id":"4"}'
    )

    found = read([path])

    assert [str(change.ref) for change in found.changes] == ["deal:1", "deal:4"]
    assert [problem.split(": ")[:2] for problem in found.problems] == [
        [f"{path}:3", "is no JSON"],
        [f"{path}:4", "kind"],
        [f"{path}:5", "addresses"],
    ]


def test_a_file_that_cannot_be_read_stops_nothing_else(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text('{"kind":"deal","id":"1"}\n')

    found = read([tmp_path / "nowhere", good])

    assert found.problems == [f"{tmp_path / 'nowhere'}: No such file or directory"]
    assert len(found.changes) == 1


def test_kinds_are_read_whatever_their_case() -> None:
    assert kinds(["Deal", "lead"]) == {ItemKind.DEAL, ItemKind.LEAD}


def test_an_unknown_kind_is_a_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="--complete: expected one of deal, lead"):
        kinds(["boat"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deals.csv", b"Deal - ID,Deal - Title\n61,Roof\n"),
        ("export", b"Deal - ID;Deal - Title\r\n61;Roof\r\n"),
        ("deals.json", b'{"kind":"deal","id":"61","title":"Roof"}\n'),
        ("deals.csv", b'{"kind":"deal","id":"61","title":"Roof"}\n'),
        ("deals.csv", "\ufeffDeal - ID\tDeal - Title\n61\tRoof\n".encode("utf-16-le")),
    ],
)
def test_a_file_is_what_it_looks_like_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    found = read([path])

    assert [(str(change.ref), change.fields["title"]) for change in found.changes] == [("deal:61", "Roof")]
    assert found.problems == []


def test_a_workbook_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "deals.xlsx"
    book = openpyxl.Workbook()
    for row in (
        ["Deal - ID", "Deal - Title", "Deal - Deal created"],
        [61, "Roof", datetime.fromisoformat("2026-01-05T10:00")],
    ):
        book.active.append(row)
    book.save(path)

    [change] = read([path], ZoneInfo("Europe/Berlin")).changes

    assert change.fields == {"title": "Roof", "added_at": datetime(2026, 1, 5, 9, tzinfo=UTC)}


def test_what_is_wrong_with_a_table_is_named_by_file_and_line(tmp_path: Path) -> None:
    rows, broken, none = (tmp_path / name for name in ("rows.csv", "broken.csv", "none.xls"))
    rows.write_text('Deal - ID,Deal - Status,Stage\n1,"open"\n2,shut\n,open\n4,won\n')
    broken.write_text('Deal - ID\n5\n"6\n')
    none.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))

    found = read([rows, broken, none])

    assert [str(change.ref) for change in found.changes] == ["deal:1", "deal:4", "deal:5"]
    assert [problem[: len(start)] == start for problem, start in zip(found.problems, (
        f'{rows}:3: "Deal - Status": expected one of',
        f'{rows}:4: "Deal - ID": is empty',
        f"{broken}:3: ",
        f"{none}: is an old workbook (.xls)",
    ), strict=True)] == [True] * 4  # fmt: skip
    assert found.notes[0] == f"{rows}: columns that are not read: 'Stage'"


def test_a_file_full_of_faults_is_not_told_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "deals.csv"
    path.write_text("Deal - ID,Deal - Status\n" + "1,shut\n" * 1_500)

    problems = read([path]).problems

    assert (len(problems), problems[-1]) == (1_001, f"{path}: 500 more lines are wrong or unclear")


def test_a_time_without_a_zone_is_a_wrong_usage(tmp_path: Path) -> None:
    path = tmp_path / "deals.csv"
    path.write_text("Deal - ID,Deal - Deal created\n1,2026-01-05 09:00:00\n")

    with pytest.raises(typer.BadParameter, match=f'{path}:2: "Deal - Deal created".*--timezone Europe/Berlin'):
        read([path])


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe", "x\0y", "x" * 5_000])
def test_an_unknown_zone_is_a_wrong_usage(name: str) -> None:
    with pytest.raises(typer.BadParameter, match="--timezone: expected a zone"):
        zone(name)


@pytest.mark.parametrize("name", ["klingon", "", "base64", "hex", "x\0y"])
def test_an_unknown_encoding_is_a_wrong_usage(name: str) -> None:
    with pytest.raises(typer.BadParameter, match="--encoding: expected an encoding"):
        encoding(name)


def test_a_table_may_come_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"Deal - ID,Deal - Title\n61,Roof\n",))
    writer.start()

    found = read([path])
    writer.join()

    assert [str(change.ref) for change in found.changes] == ["deal:61"]


def test_standard_input_may_be_a_table(shell: Shell) -> None:
    shell.good("import", "items", "-", stdin=b"Deal - ID,Deal - Title\n61,Roof\n")

    assert [each["id"] for each in shell.good("items", "list", "--json").lines] == ["61"]


PEOPLE = """Person - ID,Person - Name,Person - Email - Work,Person - Organization
3,Carla Client,carla@client.example,Client Ltd
4,Dora,dora@client.example,
5,Dora,dora@other.example,
"""
DEALS = """Deal - ID,Deal - Title,Deal - Status,Deal - Contact person,Deal - Deal created
61,New roof,Open,Carla Client,2026-01-05 10:00:00
62,Cellar,Open,Dora,2026-01-05 10:00:00
63,Fence,Won,Nobody,2026-01-05 10:00:00
"""
ORGANIZATIONS = "Organization - ID,Organization - Name\n7,Client Ltd\n"


def test_an_export_is_linked_by_names_that_one_alone_bears(shell: Shell) -> None:
    files = [
        shell.write(name, content)
        for name, content in (("d.csv", DEALS), ("p.csv", PEOPLE), ("o.csv", ORGANIZATIONS))
    ]

    ran = shell.run("import", "items", *files, "--timezone", "Europe/Berlin")

    items = {f"{each['kind']}:{each['id']}": each for each in shell.good("items", "list", "--json").lines}
    assert ran.code == 1
    assert ran.output.strip() == "read 7, new 7, changed 0, unchanged 0, deleted 0, wrong 2"
    assert items["deal:61"] == {
        "v": 1, "kind": "deal", "id": "61", "title": "New roof", "status": "open", "person": "3",
        "added_at": "2026-01-05T09:00:00Z",
    }  # fmt: skip
    assert items["person:3"]["organization"] == "7"
    assert "person" not in items["deal:62"]
    assert "person" not in items["deal:63"]
    assert f"{files[0]}:3: \"Deal - Contact person\": person 'Dora' is unclear, 2 have this name" in ran.complaint
    assert f"{files[0]}:4: \"Deal - Contact person\": person 'Nobody' is unclear, none has this name" in ran.complaint


def test_names_that_are_known_already_count_too(shell: Shell) -> None:
    shell.good("import", "items", shell.write("o.csv", ORGANIZATIONS))
    shell.good("import", "items", shell.write("p.csv", PEOPLE))
    shell.good("items", "set", "person:5", "deleted=true")

    shell.good("import", "items", shell.write("d.csv", DEALS.replace("Nobody", "")), "--timezone", "UTC")

    assert [each.get("person") for each in shell.good("items", "list", "--kind", "deal", "--json").lines] == [
        "3", "4", None,
    ]  # fmt: skip


def test_nothing_is_written_where_a_zone_is_missing(shell: Shell) -> None:
    ran = shell.run("import", "items", shell.write("p.csv", PEOPLE), shell.write("d.csv", DEALS))

    assert (ran.code, shell.good("items", "list", "--json").lines) == (2, [])


def test_what_a_complete_export_does_not_have_is_deleted(shell: Shell) -> None:
    shell.import_items(
        {"kind": "deal", "id": "61", "title": "New roof"}, {"kind": "deal", "id": "99", "title": "Old"}
    )
    path = shell.write("d.csv", "Deal - ID,Deal - Status\n61,open\n")

    rehearsed = shell.good("import", "items", path, "--complete", "deal", "--dry-run")
    before = shell.good("items", "list", "--json").lines
    shell.good("import", "items", path, "--complete", "deal")

    assert "deleted 1" in rehearsed.output
    assert [each.get("deleted") for each in before] == [None, None]
    assert [each.get("deleted") for each in shell.good("items", "list", "--json").lines] == [None, True]


def test_an_export_of_deals_is_no_complete_list_of_persons(shell: Shell) -> None:
    shell.import_items(
        {"kind": "person", "id": "3", "title": "Carla"}, {"kind": "person", "id": "4", "title": "Dora"}
    )
    path = shell.write("d.csv", "Deal - ID,Deal - Status,Person - ID\n61,open,3\n")

    ran = shell.run("import", "items", path, "--complete", "person")

    assert ran.code == 1
    assert "--complete person: the files have none at all" in ran.complaint
    assert not any(each.get("deleted") for each in shell.good("items", "list", "--json").lines)

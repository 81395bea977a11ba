"""Pipedrive's exports: headers, rows, and names that are never guessed."""

import io
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.directory.lines import Change
from maillinkd.directory.pipedrive import (
    MAX_TEXT,
    Export,
    Named,
    Reading,
    ZoneNeeded,
    bearers,
    beside,
    clean,
    columns_of,
    known_headers,
    read_rows,
    resolve,
)
from maillinkd.directory.table import Row, Table, TableError, read_csv

BERLIN = ZoneInfo("Europe/Berlin")


def export(*headers: str) -> Export:
    return columns_of(dict(enumerate(headers)))


def read(*lines: str, zone: Any = BERLIN) -> list[Reading]:
    table = read_csv(io.BytesIO("\n".join(lines).encode()), known_headers)
    return list(read_rows(table, columns_of(next(table.rows).cells), zone))


def one(*lines: str) -> Change:
    """The change that a table of one row comes to."""
    [reading] = read(*lines)
    assert reading.problems == ()
    [draft] = reading.drafts
    return draft.change


def test_a_deal_is_read_with_all_that_is_said_of_it() -> None:
    change = one(
        "Deal - ID,Deal - Title,Deal - Status,Deal - Contact person ID,Deal - Organization ID,Deal - Owner,"
        "Deal - Deal created,Deal - Update time,Deal - Archive status",
        "61,New roof,Won,3,7,Anna A.,2026-01-05 10:00:00,2026-02-01 10:00,Not archived",
    )

    assert (
        Change(
            ItemRef(ItemKind.DEAL, "61"),
            {
                "title": "New roof",
                "owner": "Anna A.",
                "added_at": datetime(2026, 1, 5, 9, tzinfo=UTC),
                "updated_at": datetime(2026, 2, 1, 9, tzinfo=UTC),
                "status": "won",
                "deleted": False,
                "archived": False,
                "person": "3",
                "organization": "7",
            },
        )
        == change
    )


def test_a_person_has_all_addresses_in_the_order_of_the_columns() -> None:
    change = one(
        "Person - ID;Person - Name;Person - Email - Work;Person - Email - Home;Person - Email - Other;"
        "Person - Email messages count",
        "3;Carla Client;Carla@Client.example;c@home.example, <c2@home.example>;carla@client.example;17",
    )

    assert change.fields["addresses"] == ("carla@client.example", "c@home.example", "c2@home.example")


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("Deal - Title", "title"),
        ("deal -  title", "title"),
        ("Deal - Contact person", "person"),
        ("Contact person", "person"),
        ("Deal \u2013 Contact Person", "person"),
        ("Deal - Person", "person"),
        ("Deal - Organisation", "organization"),
        ("Organization", "organization"),
        ("Deal - Deal created", "added_at"),
        ("Deal - Add time", "added_at"),
        ("Deal - Created", "added_at"),
        ("Deal - Deal created on", "added_at"),
        ("Deal - Update time", "updated_at"),
        ("Deal - Last updated", "updated_at"),
        ("Deal - Won time", "won"),
        ("Deal - Lost time", "lost"),
        ("Deal - Lost reason", None),
        ("Deal - Archived", "archived"),
        ("Deal - Archive time", "archive_time"),
        ("Deal - Email messages count", None),
        ("Deal - Last email received", None),
        ("Deal - Currency of Value", None),
        ("Deal - Stage", None),
        ("Comment", None),
        ("Obchod - Název", None),
    ],
)
def test_a_header_means_what_it_says(header: str, field: str | None) -> None:
    found = export("Deal - ID", header)

    assert ({"id"} | ({field} if field else set())) == found.columns[ItemKind.DEAL].keys()
    assert found.ignored == (() if field else (clean(header),))


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        (["Deal - ID", "Person - Name", "Organization - Name"], ItemKind.DEAL),
        (["Person - Name", "Lead - ID"], ItemKind.LEAD),
        (["Project - ID", "Deal - ID"], ItemKind.PROJECT),
        (["Person - ID", "Organization - Name"], ItemKind.PERSON),
        (["Organization - ID", "Name"], ItemKind.ORGANIZATION),
        (["Deal - Pipedrive System ID"], ItemKind.DEAL),
    ],
)
def test_what_the_rows_are_about(headers: list[str], kind: ItemKind) -> None:
    assert export(*headers).kind is kind


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (["Name", "Email"], "has no header of Pipedrive's"),
        (["Obchod - Název"], "headers are read in English"),
        (["Deal - Title", "Person - ID"], 'has no column "Deal - ID", and titles are no identity'),
        (["Activity - Subject", "Deal - ID"], "is an export of activity records"),
    ],
)
def test_a_table_that_cannot_be_taken_is_refused_as_a_whole(headers: list[str], said: str) -> None:
    with pytest.raises(TableError, match=said):
        export(*headers)


def test_columns_that_are_not_read_are_named_once() -> None:
    found = export("Deal - ID", "Deal - Value", "Person - Name", "Person - Phone", "Person - Owner")

    assert found.notes() == [
        "columns that are not read: 'Deal - Value', 'Person - Phone', 'Person - Owner'",
        'no column "Deal - Status": those that are new here count as open',
    ]


@pytest.mark.parametrize(
    ("headers", "cells", "expected"),
    [
        ("Deal - Status", "open", {"status": "open", "deleted": False}),
        ("Deal - Status", "LOST", {"status": "lost", "deleted": False}),
        ("Deal - Status", "Deleted", {"deleted": True}),
        ("Deal - Status", "", {}),
        ("Project - Status", "Cancelled", {"status": "canceled", "deleted": False}),
        ("Deal - Won time,Deal - Lost time", "2026-02-01 10:00:00,", {"status": "won"}),
        ("Deal - Won time,Deal - Lost time", ",2026-02-01 10:00:00", {"status": "lost"}),
        ("Deal - Won time,Deal - Lost time", ",", {"status": "open"}),
        ("Deal - Won time", "", {}),
        ("Deal - Status,Deal - Won time", "open,2026-02-01 10:00:00", {"status": "open", "deleted": False}),
        ("Lead - Archived", "Yes", {"archived": True}),
        ("Lead - Archive status", "Not archived", {"archived": False}),
        ("Lead - Archive time", "2026-02-01 10:00:00", {"archived": True}),
        ("Lead - Archive time", "", {"archived": False}),
        ("Deal - Owner", "", {"owner": None}),
        ("Person - First name,Person - Last name", "Carla,Client", {"title": "Carla Client"}),
        ("Deal - Contact person ID,Deal - Contact person", "3,Another", {"person": "3"}),
        ("Deal - Contact person ID,Deal - Contact person", ",", {"person": None}),
        ("Deal - Contact person,Person - ID", "Carla,3", {"person": "3"}),
        ("Person - Organization ID", "7", {"organization": "7"}),
        ("Deal - Title", "a\x1b[31m\u202eb\tc", {"title": "a [31m b c"}),
    ],
)
def test_what_cells_mean(headers: str, cells: str, expected: dict[str, Any]) -> None:
    kind = headers.partition(" - ")[0]

    [reading] = read(f"{kind} - ID,{headers}", f"61,{cells}")

    assert expected == reading.drafts[0].change.fields


@pytest.mark.parametrize(
    ("headers", "cells", "said"),
    [
        ("Deal - ID,Deal - Title", ",New roof", '"Deal - ID": is empty, and a title is no identity'),
        ("Deal - ID,Deal - Title", "6 1,x", "\"Deal - ID\": expected 1 to 64 letters, digits, '_' or '-', not '6 1'"),
        ("Deal - ID,Deal - Status", "61,ouvert", '"Deal - Status": expected one of open, won, lost, deleted, not'),
        ("Deal - ID,Deal - Won time,Deal - Lost time", "61,2026-02-01,2026-02-02", "which holds?"),
        ("Deal - ID,Deal - Deal created", "61,05/01/2026 09:00", "expected a time as in 2026-01-05 09:00:00, not"),
        ("Deal - ID,Deal - Deal created", "61,2026-13-01", "expected a time as in"),
        ("Deal - ID,Deal - Deal created", "61,46027.375", "expected a time as in"),
        ("Deal - ID,Deal - Deal created", "61,0001-01-01", "expected a time as in"),
        ("Deal - ID,Deal - Deal created", "61,2026-03-29 02:30:00", "there is no 2026-03-29 02:30 in Europe/Berlin"),
        ("Deal - ID,Deal - Archived", "61,perhaps", "expected Archived or Not archived"),
        ("Deal - ID,Deal - Title", "61," + "x" * (MAX_TEXT + 1), "has 32,768 characters; 32,767 are allowed"),
    ],
)
def test_a_row_that_cannot_be_read_says_why_and_the_others_are_read(headers: str, cells: str, said: str) -> None:
    wrong, good = read(headers, cells, "62" + "," * headers.count(","))

    assert (wrong.row, wrong.drafts, good.row, str(good.drafts[0].change.ref)) == (2, (), 3, "deal:62")
    [problem] = wrong.problems
    assert said in problem


def test_what_is_no_address_is_left_out_and_told() -> None:
    [reading] = read("Person - ID,Person - Email", "3,none carla@client.example")

    assert reading.drafts[0].change.fields["addresses"] == ("carla@client.example",)
    assert reading.problems == ("\"Person - Email\": 'none' is no mail address, and is left out",)


@pytest.mark.parametrize(
    ("about", "cell", "expected"),
    [
        ("winter", "2026-01-05 10:00:00", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("summer", "2026-07-05 10:00", datetime(2026, 7, 5, 8, tzinfo=UTC)),
        ("a day alone begins at midnight", "2026-01-05", datetime(2026, 1, 4, 23, tzinfo=UTC)),
        ("a zone of its own", "2026-01-05T10:00:00+05:00", datetime(2026, 1, 5, 5, tzinfo=UTC)),
        ("clocks set back: the earlier of the two", "2026-10-25 02:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_times_are_taken_to_utc(about: str, cell: str, expected: datetime) -> None:
    assert one("Deal - ID,Deal - Deal created", f"61,{cell}").fields["added_at"] == expected, about


def test_a_time_without_a_zone_needs_one() -> None:
    with pytest.raises(ZoneNeeded, match='2: "Deal - Deal created": 2026-01-05 09:00:00 has no time zone'):
        read("Deal - ID,Deal - Deal created", "61,2026-01-05 09:00:00", zone=None)


def test_no_zone_is_needed_where_no_time_is_read() -> None:
    lines = ("Deal - ID,Deal - Deal created,Deal - Next activity date", "61,2026-01-05T09:00:00Z,2026-02-01")

    assert read(*lines, zone=None)[0].problems == ()


def test_days_and_numbers_of_a_workbook_are_times_too() -> None:
    rows = [Row(2, {0: 61.0, 1: datetime.fromisoformat("2026-01-05T10:00")}), Row(3, {0: 62.0, 1: 46027.416666667})]
    table = Table(iter(rows), datetime.fromisoformat("1899-12-30"))

    found = list(read_rows(table, export("Deal - ID", "Deal - Deal created"), BERLIN))

    assert [(str(each.drafts[0].change.ref), each.drafts[0].change.fields["added_at"]) for each in found] == [
        ("deal:61", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("deal:62", datetime(2026, 1, 5, 9, tzinfo=UTC)),
    ]


def test_a_row_tells_of_the_records_that_it_is_linked_to() -> None:
    [reading] = read(
        "Deal - ID,Deal - Title,Person - ID,Person - Name,Person - Email,Organization - ID,Organization - Name",
        "61,Roof,3,Carla,carla@client.example,7,Client Ltd",
    )

    assert [(str(each.change.ref), each.aside, dict(each.change.fields)) for each in reading.drafts] == [
        ("deal:61", False, {"title": "Roof", "person": "3", "organization": "7"}),
        ("person:3", True, {"title": "Carla", "addresses": ("carla@client.example",)}),
        ("organization:7", True, {"title": "Client Ltd"}),
    ]


def test_without_their_ids_linked_records_serve_as_names_alone() -> None:
    [reading] = read(
        "Deal - ID,Person - Name,Person - Email,Organization - Name", "61,Carla,c@client.example,Client Ltd"
    )

    [draft] = reading.drafts
    assert draft.wanted == (
        Named("person", "Carla", "Person - Name"),
        Named("organization", "Client Ltd", "Organization - Name"),
    )


DEAL = Change(ItemRef(ItemKind.DEAL, "61"), {"title": "Roof"})
PEOPLE = [
    (ItemRef(ItemKind.PERSON, "3"), "Carla Client"),
    (ItemRef(ItemKind.PERSON, "4"), "Dora"),
    (ItemRef(ItemKind.PERSON, "5"), " Dora\t"),
    (ItemRef(ItemKind.ORGANIZATION, "7"), "Carla Client"),
]


@pytest.mark.parametrize(
    ("name", "person", "said"),
    [
        ("Carla Client", "3", ""),
        ("carla client", None, "none has this name"),
        ("Carla", None, "none has this name"),
        ("Dora", None, "2 have this name (person:4, person:5)"),
    ],
)
def test_a_name_counts_if_one_alone_bears_it(name: str, person: str | None, said: str) -> None:
    wanted = [Named("person", name, "Deal - Contact person")]

    change, problems = resolve(DEAL, wanted, bearers(PEOPLE, {(ItemKind.PERSON, name)}))

    assert change.fields.get("person") == person
    assert [said in each and '"Deal - Contact person"' in each for each in problems] == ([True] if said else [])


def test_a_row_about_a_deal_takes_no_address_from_a_person() -> None:
    ref = ItemRef(ItemKind.PERSON, "3")
    change = Change(ref, {"title": "Carla", "addresses": ("new@client.example",)})

    assert beside(change, None) == change
    known = Item(ref, addresses=("old@client.example",))
    assert beside(change, known).fields["addresses"] == ("old@client.example", "new@client.example")


_cells = st.one_of(
    st.text(max_size=30), st.floats(), st.datetimes(), st.sampled_from(["open", "3", "a@b", "2026-01-05"])
)


@given(
    st.lists(
        st.sampled_from(["Deal - ID", "Deal - Status", "Deal - Deal created", "Deal - Archived", "Person - ID",
                         "Person - Email", "Person - Name", "Lead - ID", "Organization", "x"]),
        min_size=1,
    ),
    st.lists(st.dictionaries(st.integers(0, 9), _cells), max_size=5),
)  # fmt: skip
def test_no_cells_break_the_reader(headers: list[str], rows: list[dict[int, Any]]) -> None:
    try:
        found = columns_of(dict(enumerate(headers)))
    except TableError:
        return
    table = Table((Row(number, cells) for number, cells in enumerate(rows, 2)), datetime.fromisoformat("1899-12-30"))

    readings = list(read_rows(table, found, BERLIN))

    assert len(readings) == len(rows)
    for draft in (draft for each in readings for draft in each.drafts):
        draft.change.apply(None, datetime.now(UTC))

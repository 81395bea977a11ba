"""Item lines (contract.md, JSON)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.directory.lines import LineError, as_line, read_fields, read_line, read_time, rfc3339

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CONTRACT = [
    {"kind": "organization", "id": "7", "title": "Client Ltd"},
    {"kind": "person", "id": "3", "title": "Carla", "addresses": ["carla@client.example"], "organization": "7"},
    {"kind": "deal", "id": "61", "title": "New roof", "status": "open", "person": "3", "organization": "7",
     "owner": "anna", "added_at": "2026-01-05T09:00:00Z"},
    {"kind": "lead", "id": "adf21080-0e10-11eb-879b-05d71fb426ec", "title": "Asks for a price", "person": "3",
     "added_at": "2026-01-07T09:00:00Z", "archived": False},
    {"kind": "project", "id": "9", "title": "Roof works", "status": "open", "person": "3",
     "added_at": "2026-02-01T09:00:00Z"},
]  # fmt: skip


def item(**fields: Any) -> Item:
    return read_line(json.dumps({"kind": "deal", "id": "61"} | fields)).apply(None, NOW)


@pytest.mark.parametrize("line", CONTRACT, ids=lambda line: line["kind"])
def test_the_lines_of_the_contract_come_back_as_they_went_in(line: dict[str, Any]) -> None:
    assert as_line(read_line(json.dumps(line)).apply(None, NOW)) == line


def test_a_repeated_line_changes_what_it_names_and_null_clears() -> None:
    known = item(title="New roof", status="open", person="3", participants=["4"])

    changed = read_line('{"kind":"deal","id":"61","status":"won","person":null,"participants":null}').apply(
        known, NOW
    )

    assert (changed.title, changed.status, changed.person, changed.participants) == ("New roof", "won", None, ())


def test_an_item_keeps_the_time_of_its_first_import() -> None:
    later = datetime(2026, 4, 1, tzinfo=UTC)

    assert read_line('{"kind":"deal","id":"61","title":"x"}').apply(item(), later).imported_at == NOW


def test_times_are_taken_to_utc() -> None:
    assert item(added_at="2026-01-05T10:00:00+01:00").added_at == datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05t09:00:00z", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2026-01-05 09:00:00.25Z", datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31t15:59:60.5-08:00", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_rfc_3339_has_them(text: str, expected: datetime) -> None:
    """5.6: T and Z may be small letters, a second may be 60. The leap second counts as the one after it."""
    assert expected == read_time(text)


@pytest.mark.parametrize("name", ["kind", "id", "v"])
def test_what_names_an_item_is_no_field_to_set(name: str) -> None:
    with pytest.raises(LineError, match=f"^{name}: is no field that can be set"):
        read_fields(ItemKind.DEAL, {"title": "x", name: "deal"})


def test_addresses_are_normalised_and_not_repeated() -> None:
    line = '{"kind":"person","id":"3","addresses":["CARLA@Client.Example"," carla@client.example"]}'

    assert read_line(line).apply(None, NOW).addresses == ("carla@client.example",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"id":"1"}', "kind: expected one of deal"),
        ('{"kind":"boat","id":"1"}', "kind: expected one of deal"),
        ('{"kind":"deal"}', "id: expected a text"),
        ('{"kind":"deal","id":61}', "id: expected a text"),
        ('{"kind":"deal","id":"a b"}', "id: expected a text"),
        ('{"kind":"deal","id":"1","status":"closed"}', "status: expected one of open, won, lost"),
        ('{"kind":"project","id":"1","status":"won"}', "status: expected one of open, completed, canceled"),
        ('{"kind":"deal","id":"1","colour":"red"}', "colour: a deal has no such field"),
        ('{"kind":"deal","id":"1","addresses":["a@b"]}', "addresses: a deal has no such field"),
        ('{"kind":"deal","id":"1","added_at":"2026-01-05T09:00:00"}', "has no time zone"),
        ('{"kind":"deal","id":"1","added_at":"yesterday"}', "added_at: .* is no time: expected one as in"),
        ('{"kind":"deal","id":"1","added_at":"2026-01-05T09:00:61Z"}', "added_at: .* is no time"),
        ('{"kind":"deal","id":"1","added_at":"9999-12-31T23:59:60Z"}', "out of range"),
        ('{"kind":"deal","id":"1","added_at":7}', "added_at: expected a time"),
        ('{"kind":"deal","id":"1","added_at":"0001-01-01T00:00:00+23:00"}', "out of range"),
        ('{"kind":"deal","id":"1","deleted":"yes"}', "deleted: expected true or false"),
        ('{"kind":"deal","id":"1","person":3}', "person: expected the id of an item"),
        ('{"kind":"deal","id":"1","participants":"3"}', "participants: expected a list"),
        ('{"kind":"person","id":"1","addresses":["carla"]}', "is no mail address"),
        ('{"kind":"person","id":"1","addresses":"carla@client.example"}', "addresses: expected a list"),
    ],
)
def test_a_wrong_line_is_told_with_what_was_expected(line: str, said: str) -> None:
    with pytest.raises(LineError, match=said):
        read_line(line)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_breaks_the_reader(value: Any) -> None:
    with pytest.raises(LineError):
        read_line(json.dumps(value))


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_shown_with_a_z(when: datetime) -> None:
    assert rfc3339(when).endswith("Z")


def test_an_item_shows_what_it_is_not_what_it_might_be() -> None:
    known = Item(ItemRef(ItemKind.ORGANIZATION, "7"), title="Client Ltd", deleted=True)

    assert as_line(known) == {"kind": "organization", "id": "7", "title": "Client Ltd", "deleted": True}

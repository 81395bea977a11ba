"""`items list|show|set`"""

import pytest

from cli.shell import Shell

SHOWN = {
    "v": 1,
    "kind": "deal",
    "id": "61",
    "title": "New roof",
    "status": "open",
    "person": "3",
    "added_at": "2026-01-05T09:00:00Z",
}


def test_items_are_listed_as_the_contract_has_them(office: Shell) -> None:
    assert SHOWN in office.good("items", "list", "--json").lines


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--kind", "person"), ["3"]),
        (("--kind", "DEAL"), ["61"]),
        (("--search", "carla@"), ["3"]),
        (("--search", "ROOF"), ["61"]),
        (("--search", "100%"), []),
    ],
)
def test_items_are_found(office: Shell, arguments: tuple[str, ...], expected: list[str]) -> None:
    assert expected == [line["id"] for line in office.good("items", "list", "--json", *arguments).lines]


@pytest.mark.parametrize("kind", ["boat", ""])
def test_an_unknown_kind_is_a_wrong_usage(office: Shell, kind: str) -> None:
    ran = office.run("items", "list", "--kind", kind)

    assert ran.code == 2
    assert "--kind: expected one of deal, lead, project" in ran.complaint
    assert "--complete" not in ran.complaint


def test_an_item_is_shown_with_its_threads(office: Shell) -> None:
    (line,) = office.good("items", "show", "deal:61", "--json").lines

    assert {name: line[name] for name in SHOWN} == SHOWN
    assert [(thread["id"], thread["slot"]) for thread in line["threads"]] == [(1, "deal:61")]


def test_an_item_is_shown_for_people(office: Shell) -> None:
    output = office.good("items", "show", "person:3").output

    assert "addresses     carla@client.example" in output
    assert "linked_single_open_item" in output


def test_fields_are_set(office: Shell) -> None:
    assignments = ("status=won", "person=null", "archived=true", "participants=3, 4", "title=a=b")

    (line,) = office.good("items", "set", "deal:61", *assignments, "--json").lines

    changed = {"status": "won", "archived": True, "participants": ["3", "4"], "title": "a=b"}
    assert {name: value for name, value in (SHOWN | changed).items() if name != "person"} == line


def test_threads_follow_what_is_set(office: Shell) -> None:
    office.good("items", "set", "person:3", "addresses=carla@new.example,c@new.example")

    assert office.threads()[0]["persons"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("deal:61", "status=wonn"), "status: expected one of open, won, lost"),
        (("deal:61", "archived=maybe"), "archived: expected true or false"),
        (("deal:61", "colour=red"), "a deal has no such field"),
        (("deal:61", "id=7"), "id: is no field that can be set"),
        (("deal:61", "title=x", "kind=person"), "kind: is no field that can be set"),
        (("deal:61", "v=1"), "v: is no field that can be set"),
        (("deal:61", "added_at=2026-01-05T09:00:00"), "has no time zone"),
        (("deal:61", "status"), "expected FIELD=VALUE"),
        (("deal", "status=won"), "is no item"),
    ],
)
def test_a_wrong_value_is_a_wrong_usage_that_says_why(
    office: Shell, arguments: tuple[str, ...], expected: str
) -> None:
    before = office.good("items", "list", "--json").lines
    ran = office.run("items", "set", *arguments)

    assert ran.code == 2
    assert expected in ran.complaint
    assert before == office.good("items", "list", "--json").lines


@pytest.mark.parametrize("arguments", [("show", "deal:62"), ("set", "deal:62", "status=won")])
def test_an_unknown_item_is_refused(office: Shell, arguments: tuple[str, ...]) -> None:
    ran = office.run("items", *arguments)

    assert (ran.code, ran.complaint) == (
        1,
        "maillinkd: there is no deal:62: import it first (maillinkd import items)\n",
    )

"""`link`, `unlink`, `undo`"""

import pytest

from cli.shell import ITEMS, Shell, ids, mail

OTHER = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-01-04T09:00:00Z"}


@pytest.fixture
def two_threads(shell: Shell) -> Shell:
    shell.import_items(*ITEMS, OTHER)
    shell.import_mail(mail("a@c"), mail("b@c", date="Mon, 2 Mar 2026 10:00:00 +0000"))
    return shell


def test_several_threads_are_linked_at_once(two_threads: Shell) -> None:
    ran = two_threads.good("link", "1", "2", "deal:62", "--as", "anna")

    assert ran.output.splitlines() == [
        f"thread {number} is linked to deal:62, person:3, organization:7 (manual_link_kept)" for number in (1, 2)
    ] + ["batch 1: `maillinkd undo 1 --as anna` takes it back"]
    assert [thread["slot"] for thread in two_threads.threads()] == ["deal:62", "deal:62"]


def test_it_works_from_the_item_too(two_threads: Shell) -> None:
    """L19: link a thread to this."""
    two_threads.good("link", "deal:62", "1", "2", "--as", "anna")
    (shown,) = two_threads.good("items", "show", "deal:62", "--json").lines
    assert [thread["id"] for thread in shown["threads"]] == [2, 1]

    two_threads.good("unlink", "deal:62", "2", "--as", "anna")

    assert [thread["slot"] for thread in two_threads.threads()] == [None, "deal:62"]


def test_the_decisions_of_a_hand_are_told_as_json(two_threads: Shell) -> None:
    two_threads.good("link", "1", "deal:62", "--as", "anna")

    (line,) = two_threads.good("unlink", "1", "deal:62", "--as", "boss", "--json").lines

    assert (line["v"], line["event"], line["trigger"], line["actor"]) == (1, "link", "manual", "boss")
    assert (line["slot_before"], line["slot"], line["reason"]) == ("deal:62", None, "manual_unlink_respected")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("link", "1", "2", "deal:62", "--as", "ben"), 77, "ben may not change thread 1: it is anna's"),
        (("link", "1", "deal:62", "--as", "emma"), 77, "there is no user 'emma' in the configuration"),
        (("link", "1", "2", "deal:62", "--as", "ben"), 77, "ben may not change thread 2: it is anna's"),
        (("link", "1", "99", "deal:62", "--as", "anna"), 1, "there is no thread 99"),
        (
            ("link", "98", "99", "deal:62", "--as", "anna"),
            1,
            "there is no thread 98\nmaillinkd: there is no thread 99",
        ),
        (("link", "1", "deal:99", "--as", "anna"), 1, "there is no deal:99"),
        (("unlink", "1", "2", "deal:62", "--as", "anna"), 1, "thread 1 is not linked to deal:62"),
        (("unlink", "1", "2", "deal:62", "--as", "anna"), 1, "thread 2 is not linked to deal:62"),
        (("link", "1", "deal:62", "2", "--as", "anna"), 2, "'deal:62' is no thread"),
        (("undo", "9", "--as", "anna"), 1, "there is no batch 9"),
        (("undo", "9223372036854775807", "--as", "anna"), 1, "there is no batch 9223372036854775807"),
        (("undo", "99999999999999999999", "--as", "anna"), 2, "'99999999999999999999' is no batch"),
        (("undo", "nine", "--as", "anna"), 2, "'nine' is no batch: expected its number"),
        (("link", "1", "deal:62"), 2, "Missing option '--as'"),
        (("link", "deal:62", "--as", "anna"), 2, "Missing argument 'THREAD'"),
        (("link", "1", "2", "--as", "anna"), 2, "'2' is no item"),
        (("link", "one", "deal:62", "--as", "anna"), 2, "'one' is no thread"),
    ],
)
def test_what_is_refused_changes_nothing(
    two_threads: Shell, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    before = two_threads.threads()

    ran = two_threads.run(*arguments)

    assert ran.code == code
    assert expected in ran.complaint
    assert before == two_threads.threads()


def test_a_person_is_linked_by_hand(two_threads: Shell) -> None:
    two_threads.import_items({"kind": "person", "id": "4", "title": "Dan"})

    ran = two_threads.good("link", "1", "person:4", "--as", "anna")

    assert "person:3, person:4" in ran.output
    assert ids(two_threads.threads("--item", "person:4")) == [["<a@c>"]]


def test_undo_says_what_it_took_back_and_what_it_left(two_threads: Shell) -> None:
    before = two_threads.threads()
    two_threads.good("link", "1", "2", "deal:62", "--as", "anna")
    two_threads.import_mail(mail("c@c", date="Tue, 3 Mar 2026 10:00:00 +0000", more="References: <a@c>\n"))

    ran = two_threads.run("undo", "1", "--as", "anna")

    assert ran.code == 1
    assert ran.output.splitlines() == [
        "thread 2 is linked to person:3, organization:7 (ambiguous_several_open_items)",
        "batch 2: `maillinkd undo 2 --as anna` takes it back",
    ]
    because = "mail has been decided since (decision 5): link or unlink it by hand"
    assert ran.complaint.splitlines()[-1] == f"maillinkd: thread 1 is left as it is: {because}"
    again = two_threads.run("undo", "1", "--as", "anna", "--json")
    assert (again.code, again.lines[0]) == (
        1, {"v": 1, "event": "left", "thread": 1, "because": because, "decision": 5},
    )  # fmt: skip
    assert [each for each in two_threads.threads() if each["id"] == 2] == [each for each in before if each["id"] == 2]


def test_who_may_not_change_a_thread_may_not_take_back_what_was_done_to_it(two_threads: Shell) -> None:
    two_threads.good("link", "1", "deal:62", "--as", "anna")
    before = two_threads.threads()

    ran = two_threads.run("undo", "1", "--as", "ben")

    assert (ran.code, ran.complaint) == (77, "maillinkd: ben may not change thread 1: it is anna's\n")
    assert two_threads.threads() == before
    assert two_threads.good("undo", "1", "--as", "boss", "--json").lines[0]["undoes"] == 3

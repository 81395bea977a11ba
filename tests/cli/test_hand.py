"""`link`, `unlink`"""

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
    ]
    assert [thread["slot"] for thread in two_threads.threads()] == ["deal:62", "deal:62"]


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
        (("link", "1", "99", "deal:62", "--as", "anna"), 1, "there is no thread 99"),
        (("link", "1", "deal:99", "--as", "anna"), 1, "there is no deal:99"),
        (("unlink", "1", "deal:62", "--as", "anna"), 1, "thread 1 is not linked to deal:62"),
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

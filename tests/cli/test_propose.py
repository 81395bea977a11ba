"""`propose`"""

import pytest

from cli.shell import ITEMS, Shell, mail

LATE = {"kind": "deal", "id": "61", "title": "New roof", "person": "3", "added_at": "2026-03-09T09:00:00Z"}
LATE_TOO = LATE | {"id": "62", "added_at": "2026-03-10T09:00:00Z"}


@pytest.fixture
def waiting(shell: Shell) -> Shell:
    """Two threads that are older than Carla's deal."""
    shell.import_items(*ITEMS[:2], LATE)
    shell.import_mail(mail("a@c"), mail("b@c", date="Mon, 2 Mar 2026 10:00:00 +0000"))
    return shell


def test_the_threads_are_listed(waiting: Shell) -> None:
    lines = waiting.good("propose", "--item", "deal:61", "--json").lines

    assert [(line["v"], line["item"], line["id"], line["reason"]) for line in lines] == [
        (1, "deal:61", 1, "item_newer_than_thread"), (1, "deal:61", 2, "item_newer_than_thread"),
    ]  # fmt: skip
    assert {name: lines[0][name] for name in waiting.threads()[1]} == waiting.threads()[1]
    text = waiting.good("propose", "--all").output
    assert [row.split()[:3] for row in text.splitlines()[1:]] == [
        ["deal:61", "1", "2026-03-01"], ["deal:61", "2", "2026-03-02"],
    ]  # fmt: skip


def test_the_threads_are_linked_and_the_batch_is_told(waiting: Shell) -> None:
    output = waiting.good("propose", "--item", "deal:61", "--link", "--as", "anna").output

    assert output.splitlines() == [
        "thread 1 is linked to deal:61, person:3, organization:7 (manual_link_kept)",
        "thread 2 is linked to deal:61, person:3, organization:7 (manual_link_kept)",
        "batch 1: `maillinkd undo 1 --as anna` takes it back",
    ]
    assert waiting.good("propose", "--all").output == "nothing to propose\n"


def test_a_thread_with_two_items_is_left_for_a_hand(waiting: Shell) -> None:
    waiting.import_items(LATE_TOO)
    waiting.good("link", "1", "deal:61", "--as", "anna")

    ran = waiting.run("propose", "--all", "--link", "--as", "anna", "--json")

    because = "it is proposed for several items: deal:61, deal:62"
    assert (ran.code, ran.lines) == (
        1, [{"v": 1, "event": "left", "thread": 2, "because": because, "decision": None}],
    )  # fmt: skip
    ran = waiting.run("propose", "--all", "--link", "--as", "anna")
    assert ran.complaint == f"maillinkd: thread 2 is left as it is: {because}; link it by hand\n"
    assert waiting.threads("--status", "todo")[0]["id"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "either --item KIND:ID or --all"),
        (("--item", "deal:61", "--all"), 2, "either --item KIND:ID or --all"),
        (("--all", "--link"), 2, "--link and --as USER go together"),
        (("--all", "--as", "anna"), 2, "--link and --as USER go together"),
        (("--item", "deal:99"), 1, "there is no deal:99"),
        (("--all", "--link", "--as", "ben"), 77, "ben may not change thread 1: it is anna's"),
        (("--all", "--link", "--as", "ben"), 77, "ben may not change thread 2: it is anna's"),
    ],
)
def test_what_is_refused(waiting: Shell, arguments: tuple[str, ...], code: int, expected: str) -> None:
    ran = waiting.run("propose", *arguments)

    assert (ran.code, expected in ran.complaint) == (code, True)
    assert [thread["slot"] for thread in waiting.threads()] == [None, None]

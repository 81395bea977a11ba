"""`import mail`, `import items`."""

import gzip
import json

import pytest

from cli.shell import ITEMS, Shell, ids, mail

MORE = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-01-04T09:00:00Z"}


def lines(*items: dict[str, object]) -> str:
    return "".join(f"{json.dumps(item)}\n" for item in items)


# -- mail


def test_mail_that_is_known_is_not_filed_twice(shell: Shell) -> None:
    path = shell.write("a.mbox", b"From x Sun Mar  1 10:00:00 2026\n" + mail())

    first = shell.good("import", "mail", path, "--mailbox", "anna", "--json").lines
    again = shell.good("import", "mail", path, "--mailbox", "anna", "--json").lines

    summary = {"v": 1, "event": "import_mail", "read": 1, "quarantined": 0, "filtered": {}, "problems": 0}
    assert first == [summary | {"new": 1, "known": 0, "decisions": 1}]
    assert again == [summary | {"new": 0, "known": 1, "decisions": 0}]


def test_mail_comes_from_files_of_all_kinds_at_once(shell: Shell) -> None:
    mbox = shell.write("a.mbox.gz", gzip.compress(b"From x Sun Mar  1 10:00:00 2026\n" + mail("a@x")))
    eml = shell.write("b.eml", mail("b@x"))
    shell.write("Maildir/cur/1772359200.M1.host:2,S", mail("c@x"))

    ran = shell.good("import", "mail", mbox, eml, str(shell.directory / "Maildir"), "--mailbox", "anna")

    assert ran.output == "read 3, new 3, already known 0, quarantined 0, decisions 3\n"
    assert sorted(ids(shell.threads())) == [["<a@x>"], ["<b@x>"], ["<c@x>"]]


def test_decisions_are_told_on_standard_error_and_the_output_stays_clean(shell: Shell) -> None:
    shell.import_items()
    path = shell.write("b.eml", mail())

    ran = shell.good("import", "mail", path, "--mailbox", "anna", "--json")

    told = [json.loads(line) for line in ran.complaint.splitlines()]
    assert [(line["event"], line["reason"]) for line in told] == [("link", "linked_single_open_item")]
    assert len(ran.lines) == 1


def test_what_cannot_be_read_is_named_and_the_rest_goes_in(shell: Shell) -> None:
    good, bad = shell.write("b.eml", mail()), shell.write("x.pdf", b"%PDF-1.4")

    ran = shell.run("import", "mail", bad, good, "--mailbox", "anna")

    assert ran.code == 1
    assert f"{bad}: is neither mbox nor mail" in ran.complaint
    assert ids(shell.threads()) == [["<m1@c>"]]


def test_smart_bcc_mail_is_filed_as_if_received(shell: Shell) -> None:
    shell.import_items()
    path = shell.write("b.eml", mail(sender="anna@ourco.example", to="carla@client.example"))
    to = ("--smart-bcc", "ourco+deal61@bcc.ourco.example", "--sender", "anna@ourco.example")

    shell.good("import", "mail", path, *to)

    (thread,) = shell.threads()
    assert (thread["channel"], thread["slot"]) == ("smart_bcc", "deal:61")


def test_mail_that_goes_to_quarantine_is_no_failure(shell: Shell) -> None:
    path = shell.write("b.eml", mail())

    ran = shell.good(
        "import", "mail", path, "--smart-bcc", "ourco@bcc.ourco.example", "--sender", "x@y.example", "--json"
    )

    assert (ran.lines[0]["new"], ran.lines[0]["quarantined"]) == (0, 1)


@pytest.mark.parametrize(
    ("given", "sender"),
    [("<>", None), ("", None), ("X@Y.Example", "X@Y.Example"), ('"x y"@y.example', '"x y"@y.example')],
)
def test_the_sender_is_that_of_an_envelope(shell: Shell, given: str, sender: str | None) -> None:
    to = ("--smart-bcc", "ourco@bcc.ourco.example", "--sender", given)

    shell.good("import", "mail", shell.write("b.eml", mail()), *to)

    assert [line["sender"] for line in shell.good("quarantine", "show", "1", "--json").lines] == [sender]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "expected either --mailbox NAME, or --smart-bcc RCPT"),
        (("--mailbox", "anna", "--smart-bcc", "a@b"), "expected either --mailbox NAME, or --smart-bcc RCPT"),
        (("--mailbox", "anna", "--sender", "a@b"), "--sender goes with --smart-bcc"),
        (("--smart-bcc", "a@b"), "--smart-bcc needs --sender"),
        (("--smart-bcc", "a@b", "--sender", "not an address"), "--sender: 'not an address' is no address"),
        (("--smart-bcc", "a@b", "--sender", "Anna <a@b>"), "--sender: 'Anna <a@b>' is no address"),
        (("--smart-bcc", "a@b", "--sender", "a@b, c@d"), "--sender: 'a@b, c@d' is no address"),
        (("--mailbox", "emma"), "no mailbox 'emma' in the configuration (there: anna)"),
    ],
)
def test_a_wrong_destination_is_a_wrong_usage(shell: Shell, arguments: tuple[str, ...], expected: str) -> None:
    ran = shell.run("import", "mail", shell.write("b.eml", mail()), *arguments)

    assert ran.code == 2
    assert expected in ran.complaint


def test_a_missing_path_is_named_before_anything_is_done(shell: Shell) -> None:
    ran = shell.run("import", "mail", shell.write("b.eml", mail()), "nowhere.mbox", "--mailbox", "anna")

    assert ran.code == 2
    assert "nowhere.mbox" in ran.complaint
    assert shell.threads() == []


def test_an_address_that_is_no_smart_bcc_address_is_refused(shell: Shell) -> None:
    path = shell.write("b.eml", mail())

    ran = shell.run("import", "mail", path, "--smart-bcc", "other@bcc.ourco.example", "--sender", "a@b.example")

    assert ran.code == 1
    assert "other@bcc.ourco.example is no Smart Bcc address of this configuration" in ran.complaint


# -- items


def test_items_come_from_standard_input(shell: Shell) -> None:
    shell.good("import", "items", "-", stdin=lines(*ITEMS).encode())

    assert [line["id"] for line in shell.good("items", "list", "--json").lines] == ["61", "7", "3"]


def test_items_that_were_imported_before_are_updated(shell: Shell) -> None:
    shell.import_items()
    path = shell.write("more.jsonl", lines({"kind": "deal", "id": "61", "status": "won"}, ITEMS[1], MORE))

    ran = shell.good("import", "items", path, "--json")

    counts = {"read": 3, "new": 1, "changed": 1, "unchanged": 1, "deleted": 0, "wrong": 0}
    assert ran.lines == [{"v": 1, "event": "import_items", **counts, "dry_run": False}]
    (deal,) = shell.good("items", "list", "--json", "--search", "New roof").lines
    assert (deal["status"], deal["person"]) == ("won", "3")


def test_a_wrong_line_is_named_and_the_others_go_in(shell: Shell) -> None:
    path = shell.write("some.jsonl", lines(ITEMS[0]) + "{}\n" + lines(ITEMS[1]))

    ran = shell.run("import", "items", path)

    assert ran.code == 1
    assert f"{path}:2: kind: expected one of deal" in ran.complaint
    assert ran.output == "read 2, new 2, changed 0, unchanged 0, deleted 0, wrong 1\n"


def test_with_complete_what_is_not_in_the_files_counts_as_deleted(shell: Shell) -> None:
    shell.import_items(*ITEMS, MORE)

    shell.good("import", "items", shell.write("deals.jsonl", lines(MORE)), "--complete", "deal")

    deals = shell.good("items", "list", "--json", "--kind", "deal").lines
    assert {deal["id"]: deal.get("deleted", False) for deal in deals} == {"61": True, "62": False}
    assert len(shell.good("items", "list", "--json").lines) == 4


def test_with_complete_what_is_there_again_is_no_longer_deleted(shell: Shell) -> None:
    shell.import_items(*ITEMS, MORE)
    shell.good("import", "items", shell.write("deals.jsonl", lines(MORE)), "--complete", "deal")

    shell.good("import", "items", shell.write("deals.jsonl", lines(MORE, ITEMS[2])), "--complete", "deal")

    deals = shell.good("items", "list", "--json", "--kind", "deal").lines
    assert [deal.get("deleted", False) for deal in deals] == [False, False]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lines(MORE) + "{}\n", "--complete deal: 1 not in the files are left as they are, for lines are wrong"),
        (lines(ITEMS[0]), "--complete deal: the files have none at all, so nothing is taken as deleted"),
        ("", "--complete deal: the files have none at all, so nothing is taken as deleted"),
    ],
)
def test_files_that_cannot_be_complete_delete_nothing(shell: Shell, content: str, expected: str) -> None:
    shell.import_items()

    ran = shell.run("import", "items", shell.write("deals.jsonl", content), "--complete", "deal")

    assert ran.code == 1
    assert expected in ran.complaint
    (deal,) = shell.good("items", "list", "--json", "--search", "New roof").lines
    assert "deleted" not in deal


def test_a_dry_run_says_what_would_change_and_changes_nothing(shell: Shell) -> None:
    shell.import_items()
    before = shell.good("items", "list", "--json").output

    ran = shell.good("import", "items", shell.write("d.jsonl", lines(MORE)), "--complete", "deal", "--dry-run")

    assert ran.output == "would be: read 1, new 1, changed 0, unchanged 0, deleted 1, wrong 0\n"
    assert before == shell.good("items", "list", "--json").output


def test_what_the_list_prints_can_be_imported_again(shell: Shell) -> None:
    shell.import_items(*ITEMS[:2], {**MORE, "status": "open"}, {"kind": "project", "id": "9", "status": "completed"})
    listed = shell.good("items", "list", "--json").output

    ran = shell.good("import", "items", "-", stdin=listed.encode())

    assert ran.output == "read 4, new 0, changed 0, unchanged 4, deleted 0, wrong 0\n"


def test_mail_that_is_left_out_is_counted_by_its_reason(shell: Shell) -> None:
    text = shell.config.read_text().replace("[policy]", '[policy]\nbulk = "ignore"\nblock = ["@spam.example"]')
    shell.config.write_text(text)
    mails = [mail("a@x"), mail("b@x", more="List-Id: <news.client.example>\n"), mail("c@x", sender="x@spam.example")]
    path = shell.write("mail.mbox", b"".join(b"From x Tue Mar 31 10:00:00 2026\n" + each + b"\n" for each in mails))

    said = shell.good("import", "mail", path, "--mailbox", "anna").output
    counted = shell.good("import", "mail", path, "--mailbox", "anna", "--json").lines[0]

    assert "new 1, already known 0, quarantined 0, filtered (blocked) 1, filtered (bulk) 1, decisions 1\n" in said
    assert (counted["known"], counted["filtered"]) == (1, {"blocked": 1, "bulk": 1})

"""`explain`: every conformance case asks it too (tests/system/test_conformance_cli.py)."""

import pytest

from cli.shell import ITEMS, Shell, mail

OTHER = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-01-04T09:00:00Z"}


def test_a_decision_is_explained_in_full(office: Shell) -> None:
    (line,) = office.good("explain", "1", "--json").lines

    assert (line["v"], line["thread"], line["decision"]) == (1, 1, 1)
    assert (line["outcome"], line["reason"], line["slot"]) == ("linked", "linked_single_open_item", "deal:61")
    assert [row["row"] for row in line["rows"]] == list(range(1, 15))
    assert line["rows"][-1] == {
        "row": 14,
        "reason": "linked_single_open_item",
        "question": "Was their one open item there when the thread started?",
        "asked": True,
        "answer": True,
        "because": "deal:61 was added at 2026-01-05T09:00:00Z; the thread started at 2026-03-01T10:00:00Z",
    }
    assert line["would_fill"] is None
    assert line["facts"]["known"] == {"carla@client.example": ["person:3"]}
    assert line["contacts"] == [
        {
            "item": "person:3",
            "title": "Carla Client",
            "linked": True,
            "why": "address",
            "decision": 1,
            "addresses": [
                {"address": "carla@client.example", "role": "from", "message_id": "<m1@c>", "evidence": "header"}
            ],
            "of": [],
        },
        {
            "item": "organization:7",
            "title": "Client Ltd",
            "linked": True,
            "why": "organization",
            "decision": 1,
            "addresses": [],
            "of": ["person:3"],
        },
    ]
    assert [(each["message_id"], each["bond"]) for each in line["messages"]] == [("<m1@c>", "first")]
    assert line["ranked"] == [
        {
            "item": "deal:61",
            "title": "New roof",
            "last_mail": "2026-03-01T10:00:00Z",
            "added_at": "2026-01-05T09:00:00Z",
        }
    ]
    assert line["today"] == {"slot": "deal:61", "reason": "linked_single_open_item"}


def test_rows_that_were_not_asked_say_why(office: Shell) -> None:
    office.good("link", "1", "deal:61", "--as", "anna")

    (line,) = office.good("explain", "1", "--json").lines

    assert [row["answer"] for row in line["rows"]] == [True] + [None] * 13
    assert line["rows"][1]["because"] == "row 1 has answered"
    assert " 2-14    not asked: row 1 has answered\n" in office.good("explain", "1").output


def test_an_empty_slot_says_what_would_fill_it(shell: Shell) -> None:
    shell.import_items(*ITEMS, OTHER)
    shell.import_mail(mail())

    output = shell.good("explain", "1").output

    assert "linked  person:3 (Carla Client): carla@client.example in from of <m1@c>\n" in output
    assert "12  yes  Have they two open items or more?\n         open: deal:61, deal:62\n" in output
    assert output.partition("The slot is filled when\n")[2].splitlines()[:3] == [
        "  - deal:61 is closed, after `maillinkd decide`: deal:62",
        "  - deal:62 is closed, after `maillinkd decide`: deal:61",
        "  - a link by hand",
    ]
    assert [line.split()[0] for line in output.splitlines() if line.startswith("deal:")][-2:] == [
        "deal:61",
        "deal:62",
    ]
    (line,) = shell.good("explain", "1", "--json").lines
    assert line["would_fill"][0] == {"change": "deal:61 is closed", "slot": "deal:62", "then": "decide"}


def test_people_are_told_apart(shell: Shell) -> None:
    shell.import_items()
    raw = mail(sender="anna@ourco.example", to="ourco@bcc.ourco.example").replace(
        b"Hello", b"From: Carla <carla@client.example>\nTo: anna@ourco.example\nSubject: New roof\n\nHello"
    )
    shell.good(
        *("import", "mail", shell.write("f.eml", raw), "--smart-bcc", "ourco@bcc.ourco.example"),
        *("--sender", "anna@ourco.example"),
    )

    lines = [" ".join(line.split()) for line in shell.good("explain", "1").output.splitlines()]

    assert "anna@ourco.example internal" in lines
    assert "ourco@bcc.ourco.example internal" in lines
    assert "carla@client.example person:3 (found in the forward: inline)" in lines


def test_what_the_directory_changed_is_no_decision_about_the_slot(office: Shell) -> None:
    """L6: the last slot decision is explained."""
    office.good("items", "set", "person:3", "deleted=true")

    (line,) = office.good("explain", "1", "--json").lines

    assert (line["decision"], line["trigger"]) == (1, "message")


def test_a_followed_lead_is_explained(shell: Shell) -> None:
    lead = {"kind": "lead", "id": "l-1", "title": "Asks", "person": "3", "added_at": "2026-01-05T09:00:00Z"}
    shell.import_items(*ITEMS[:2], lead)
    shell.import_mail(mail())
    shell.import_items({**OTHER, "converted_from": "l-1"})

    ran = shell.good("explain", "1")

    assert "No row was asked: the directory changed, which asks no row." in ran.output
    assert "linked: deal:62, converted_lead_followed" in ran.output


def test_messages_say_what_holds_them_to_the_thread(office: Shell) -> None:
    office.import_mail(mail("m2@c", date="Sun, 1 Mar 2026 11:00:00 +0000", more="References: <m1@c>\n"))

    output = office.good("explain", "1").output

    assert output.splitlines()[-2].endswith("it is the first")
    assert output.splitlines()[-1].endswith("it refers to <m1@c>, message 1")


def test_what_mail_says_steers_no_terminal(office: Shell) -> None:
    office.import_mail(mail("m2@c", subject="=?utf-8?q?=1B[2Jroof?=", date="Sun, 1 Mar 2026 11:00:00 +0000"))

    assert "\x1b" not in office.good("explain", "2").output + office.good("explain", "2", "--json").output


def test_mail_that_is_not_here_is_explained_and_not_kept(office: Shell) -> None:
    path = office.write("new.eml", mail("m2@c", date="Sun, 1 Mar 2026 11:00:00 +0000"))

    (line,) = office.good("explain", "--mail", path, "--mailbox", "anna", "--json").lines
    output = office.good("explain", "--mail", path, "--mailbox", "anna").output

    assert line["mail"] == {"new": True, "quarantined": False, "filtered": False, "opens_thread": True}
    assert (line["thread"], line["decision"], line["slot"]) == (None, None, "deal:61")
    assert output.startswith("it would open a thread; nothing of this is kept\n")
    assert len(office.threads()) == len(office.good("decisions", "--json").lines) == 1


def test_an_answer_would_join_its_thread(office: Shell) -> None:
    path = office.write("new.eml", mail("m2@c", more="References: <m1@c>\n"))

    assert office.good("explain", "--mail", path, "--mailbox", "anna").output.startswith("it would join thread 1;")


def test_mail_that_is_here_is_explained_where_it_lies(office: Shell) -> None:
    path = office.write("old.eml", mail())

    (line,) = office.good("explain", "--mail", path, "--mailbox", "anna", "--json").lines

    assert line["mail"] == {"new": False, "quarantined": False, "filtered": False, "opens_thread": False}
    assert (line["thread"], line["decision"]) == (1, 1)


def test_mail_that_nobody_would_trust(office: Shell) -> None:
    path = office.write("new.eml", mail())
    arguments = ("explain", "--mail", path, "--smart-bcc", "ourco@bcc.ourco.example", "--sender", "x@y.example")

    (line,) = office.good(*arguments, "--json").lines

    assert (line["mail"]["quarantined"], line["reason"]) == (True, "smart_bcc_unknown_sender")
    assert line["quarantine"] is None
    assert office.good(*arguments).output.startswith("it would go to quarantine: smart_bcc_unknown_sender")


def test_mail_that_lies_in_quarantine(office: Shell) -> None:
    path = office.write("new.eml", mail())
    arguments = ("--smart-bcc", "ourco@bcc.ourco.example", "--sender", "x@y.example")
    office.good("import", "mail", path, *arguments)

    output = office.good("explain", "--mail", path, *arguments).output
    (line,) = office.good("explain", "--mail", path, *arguments, "--json").lines

    assert output.startswith("it lies in quarantine already, as 1: smart_bcc_unknown_sender")
    assert line["mail"] == {"new": False, "quarantined": True, "filtered": False}
    assert (line["reason"], line["quarantine"]) == ("smart_bcc_unknown_sender", 1)


@pytest.mark.parametrize(
    ("policy", "reason", "because", "said"),
    [
        ('block = ["@client.example"]', "blocked", "@client.example", "its author is blocked, by @client.example"),
        ('bulk = "ignore"', "bulk", "List-Id: <news.x>", "it is bulk mail, by List-Id: <news.x>"),
    ],
)
def test_mail_that_would_be_left_out_says_why(
    shell: Shell, policy: str, reason: str, because: str, said: str
) -> None:
    """In the word of the ledger."""
    shell.config.write_text(shell.config.read_text().replace("[policy]\n", f"[policy]\n{policy}\n"))
    arguments = ("explain", "--mail", shell.write("n.eml", mail(more="List-Id: <news.x>\n")), "--mailbox", "anna")

    (line,) = shell.good(*arguments, "--json").lines
    output = shell.good(*arguments).output

    assert line["mail"] == {"new": True, "quarantined": False, "filtered": True}
    assert (line["thread"], line["reason"], line["because"]) == (None, reason, [because])
    assert " ".join(output.split()) == f"it would not be stored: filtered ({reason}); {said}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "expected either THREAD, or --mail FILE.eml"),
        (["1", "--mail", "{two}", "--mailbox", "anna"], "expected either THREAD, or --mail FILE.eml"),
        (["1", "--mailbox", "anna"], "go with --mail"),
        (["--mail", "{two}"], "expected either --mailbox NAME, or --smart-bcc RCPT"),
        (["--mail", "{two}", "--mailbox", "anna"], "expected one mail"),
        (["--mail", "{none}", "--mailbox", "anna"], "expected one mail"),
    ],
)
def test_what_it_cannot_explain(office: Shell, arguments: list[str], complaint: str) -> None:
    two = b"".join(b"From x Tue Mar 31 10:00:00 2026\n" + mail(f"{n}@x") + b"\n" for n in range(2))
    files = {"two": office.write("two.mbox", two), "none": office.write("none.txt", b"\x00")}

    ran = office.run("explain", *(each.format(**files) for each in arguments))

    assert ran.code == 2
    assert complaint in ran.complaint


def test_an_unknown_thread_is_said_in_a_sentence(office: Shell) -> None:
    ran = office.run("explain", "9")

    assert (ran.code, ran.complaint) == (1, "maillinkd: there is no thread 9\n")

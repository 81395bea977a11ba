"""`threads list`, `threads show`"""

import pytest

from cli.shell import ITEMS, Shell, ids, mail

OTHER = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-01-04T09:00:00Z"}


def test_a_thread_is_listed_as_the_contract_has_it(office: Shell) -> None:
    (line,) = office.threads()

    assert line == {
        "v": 1,
        "id": 1,
        "owner": "anna",
        "channel": "imap",
        "subject": "New roof",
        "started_at": "2026-03-01T10:00:00Z",
        "last_message_at": "2026-03-01T10:00:00Z",
        "message_count": 1,
        "message_ids": ["<m1@c>"],
        "participants": ["anna@ourco.example", "carla@client.example"],
        "slot": "deal:61",
        "persons": ["person:3"],
        "organizations": ["organization:7"],
        "reason": "linked_single_open_item",
        "flags": [],
        "candidates": ["deal:61"],
        "decision": 1,
        "linked_by": {"decision": 1, "reason": "linked_single_open_item"},
    }
    assert list(line)[:2] == ["v", "id"]


def test_the_decision_that_filled_the_slot_is_kept_apart_from_the_last_one(office: Shell) -> None:
    office.import_mail(mail("m2@c", date="Mon, 2 Mar 2026 10:00:00 +0000", more="References: <m1@c>\n"))

    (line,) = office.threads()

    assert (line["decision"], line["reason"]) == (2, "kept_existing_link")
    assert line["linked_by"] == {"decision": 1, "reason": "linked_single_open_item"}


def test_a_deleted_item_is_still_shown_in_its_slot(office: Shell) -> None:
    office.good("items", "set", "deal:61", "deleted=true")

    (line,) = office.threads()

    assert (line["slot"], line["slot_deleted"]) == ("deal:61", True)
    assert "deal:61 (deleted)" in office.good("threads", "list").output


@pytest.fixture
def several(shell: Shell) -> Shell:
    """Four threads: linked to deal:62, two deals to choose from, nobody known, and one of Ben's that is linked."""
    shell.configure('[mailboxes.ben]\nhost = "127.0.0.1"\nusername = "ben"\npassword_env = "X"\n')
    shell.import_items(*ITEMS, OTHER)
    shell.import_mail(
        mail("linked@c", subject="Angebot für Grüne Dächer", date="Sun, 1 Mar 2026 10:00:00 +0000"),
        mail("todo@c", date="Mon, 2 Mar 2026 10:00:00 +0000"),
        mail("nobody@x", sender="Somebody <x@nobody.example>", date="Tue, 3 Mar 2026 10:00:00 +0000"),
    )
    shell.good("import", "mail", shell.write("b.eml", mail("ben@c")), "--mailbox", "ben")
    shell.good("link", "1", "deal:62", "--as", "anna")
    return shell


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["<nobody@x>", "<todo@c>", "<ben@c>", "<linked@c>"]),
        (("--status", "linked"), ["<linked@c>"]),
        (("--status", "open"), ["<nobody@x>", "<todo@c>", "<ben@c>"]),
        (("--status", "todo"), ["<todo@c>", "<ben@c>"]),
        (("--status", "todo", "--owner", "ben"), ["<ben@c>"]),
        (("--owner", "nobody"), []),
        (("--item", "deal:62"), ["<linked@c>"]),
        (("--item", "DEAL:61"), []),
        (("--item", "organization:7", "--owner", "ben"), ["<ben@c>"]),
        (("--search", "GRÜNE DÄCHER"), ["<linked@c>"]),
        (("--search", "@nobody.EXAMPLE"), ["<nobody@x>"]),
        (("--search", "<todo@c>"), ["<todo@c>"]),
        (("--search", "100%"), []),
    ],
)
def test_threads_are_found(several: Shell, arguments: tuple[str, ...], expected: list[str]) -> None:
    """The newest first."""
    assert expected == [one for (one,) in ids(several.threads(*arguments))]


def test_what_lies_in_quarantine_is_a_status_too(several: Shell) -> None:
    bcc = ("--smart-bcc", "ourco@bcc.ourco.example", "--sender", "x@y.example")
    several.good("import", "mail", several.write("q.eml", mail("q@x")), *bcc)

    listed = several.good("threads", "list", "--status", "quarantined", "--json").output

    assert listed == several.good("quarantine", "list", "--json").output
    assert several.run("threads", "list", "--status", "quarantined", "--owner", "anna").code == 2


def test_a_list_for_people_shows_slots_and_candidates(several: Shell) -> None:
    lines = several.good("threads", "list", "--owner", "anna").output.splitlines()

    assert lines[0].split() == ["id", "last", "message", "owner", "mails", "slot", "reason", "persons", "subject"]
    assert "deal:61? deal:62?  ambiguous_several_open_items" in lines[2]
    assert "deal:62            manual_link_kept" in lines[3]


def test_no_threads_is_said(shell: Shell) -> None:
    assert shell.good("threads", "list").output == "no threads\n"


def test_a_thread_is_shown_with_its_messages(office: Shell) -> None:
    second = mail(
        "m2@c",
        subject="Something else",
        date="Mon, 2 Mar 2026 10:00:00 +0000",
        more="References: <m1@c>\nCc: dan@client.example\n",
    )
    office.import_mail(second)

    (line,) = office.good("threads", "show", "1", "--json").lines

    assert line["participants"] == ["anna@ourco.example", "carla@client.example", "dan@client.example"]
    first, message = line.pop("messages")
    assert [line] == office.threads()
    assert first["flags"] == []
    assert message == {
        "id": 2,
        "message_id": "<m2@c>",
        "sent_at": "2026-03-02T10:00:00Z",
        "received_at": "2026-03-31T10:00:00Z",
        "subject": "Something else",
        "size": len(second),
        "from": ["carla@client.example"],
        "reply_to": [],
        "to": ["anna@ourco.example"],
        "cc": ["dan@client.example"],
        "bcc": [],
        "forwarded": [],
        "flags": ["topic"],
        "names": None,
        "answers": first["id"],
        "places": [{"mailbox": "anna", "folder": None, "uidvalidity": None, "uid": None}],
    }


def test_a_mail_to_an_items_address_shows_which_and_where_people_were_found(shell: Shell) -> None:
    shell.import_items()
    raw = mail(
        sender="anna@ourco.example", to="ourco+deal61@bcc.ourco.example", more="Content-Type: text/plain\n"
    ).replace(b"Hello", b"From: Carla <carla@client.example>\nTo: anna@ourco.example\nSubject: New roof\n\nHello")
    to = ("--smart-bcc", "ourco+deal61@bcc.ourco.example", "--sender", "anna@ourco.example")
    shell.good("import", "mail", shell.write("f.eml", raw), *to)

    (line,) = shell.good("threads", "show", "1", "--json").lines

    (message,) = line["messages"]
    assert (message["names"], message["places"]) == ("deal:61", [])
    assert message["forwarded"] == ["carla@client.example"]
    assert message["evidence"] == {"carla@client.example": "inline"}
    shown = shell.good("threads", "show", "1").output
    assert "sent to     the address of deal:61" in shown
    assert "forwarded   carla@client.example (inline)" in shown


def test_a_thread_is_found_by_the_number_that_it_had_before_a_merge(shell: Shell) -> None:
    shell.import_mail(mail("a@c"), mail("b@c", date="Mon, 2 Mar 2026 10:00:00 +0000"))
    shell.import_mail(mail("c@c", date="Tue, 3 Mar 2026 10:00:00 +0000", more="References: <a@c> <b@c>\n"))

    shown = [shell.good("threads", "show", number, "--json").lines[0]["id"] for number in ("1", "2")]

    assert shown == [1, 1]
    assert shell.good("explain", "2", "--json").lines[0]["thread"] == 1


def test_a_mail_without_an_id_is_shown_with_one_of_our_own(shell: Shell) -> None:
    shell.import_mail(mail().replace(b"Message-ID: <m1@c>\n", b""))

    (line,) = shell.good("threads", "show", "1", "--json").lines

    assert line["messages"][0]["made_id"] is True
    assert line["message_ids"] == [line["messages"][0]["message_id"]]


@pytest.mark.parametrize("command", [("threads", "show"), ("explain",)])
def test_an_unknown_thread_is_refused(shell: Shell, command: tuple[str, ...]) -> None:
    ran = shell.run(*command, "99")

    assert (ran.code, ran.complaint) == (1, "maillinkd: there is no thread 99\n")


@pytest.mark.parametrize("arguments", [("list", "--status", "lost"), ("list", "--item", "61"), ("show", "x")])
def test_a_wrong_value_is_a_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell.run("threads", *arguments).code == 2

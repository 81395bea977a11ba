"""`explain`: every conformance case asks it too (tests/system/test_conformance_cli.py)."""

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
        "answer": True,
        "because": "deal:61 was added at 2026-01-05T09:00:00Z; the thread started at 2026-03-01T10:00:00Z",
    }
    assert line["would_fill"] is None
    assert line["facts"]["known"] == {"carla@client.example": ["person:3"]}


def test_an_empty_slot_says_what_would_fill_it(shell: Shell) -> None:
    shell.import_items(*ITEMS, OTHER)
    shell.import_mail(mail())

    output = shell.good("explain", "1").output

    assert "12  yes  Have they two open items or more?\n         open: deal:61, deal:62\n" in output
    assert "to fill it     a link by hand; or only one of deal:61, deal:62 being open" in output


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

    assert "The directory changed; no row was asked." in ran.output
    assert "linked: deal:62, converted_lead_followed" in ran.output

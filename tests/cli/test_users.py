"""`users list`, `users alias add|remove`"""

import pytest

from cli.shell import Shell, mail

HOME = "anna@home.example"


def add(shell: Shell, *more: str) -> dict[str, str]:
    (line,) = shell.good("users", "alias", "add", HOME, "--confirm", "--user", "anna", "--json", *more).lines
    return line


def test_users_and_their_addresses_are_listed(shell: Shell) -> None:
    shell.configure('\n[users.dora]\naddress = "dora@ourco.example"\naliases = ["d@ourco.example"]\n')
    add(shell)
    rows = [
        (line["user"], line["address"], line["kind"], line["state"])
        for line in shell.good("users", "list", "--json").lines
    ]

    assert rows == [
        ("anna", "anna@ourco.example", "address", "configured"),
        ("anna", HOME, "alias", "waiting"),
        ("ben", "ben@ourco.example", "address", "configured"),
        ("boss", "boss@ourco.example", "address", "configured"),
        ("dora", "dora@ourco.example", "address", "configured"),
        ("dora", "d@ourco.example", "alias", "configured"),
    ]
    assert "waiting" in shell.good("users", "list").output


def test_a_one_time_address_is_printed(shell: Shell) -> None:
    line, again = add(shell), add(shell)

    assert (line["event"], line["user"], line["address"]) == ("alias_waits", "anna", HOME)
    assert line["send_to"].startswith("ourco+alias")
    assert line["send_to"].endswith("@bcc.ourco.example")
    assert again["send_to"] != line["send_to"]
    assert (
        "Send any mail from anna@home.example"
        in shell.good("users", "alias", "add", HOME, "--confirm", "--user", "anna").output
    )


def test_imported_mail_confirms_an_alias_as_mail_by_smtp_does(shell: Shell) -> None:
    letter = shell.write("a.eml", mail("a@home", sender=HOME))
    bcc = ("--smart-bcc", add(shell)["send_to"], "--sender", HOME)

    assert shell.good("import", "mail", letter, *bcc, "--json").lines[0]["quarantined"] == 0

    states = {line["address"]: line["state"] for line in shell.good("users", "list", "--json").lines}
    assert (states[HOME], shell.threads()) == ("confirmed", [])
    again = shell.write("b.eml", mail("b@home", sender=HOME))
    shell.good("import", "mail", again, "--smart-bcc", "ourco@bcc.ourco.example", "--sender", HOME)
    assert [thread["owner"] for thread in shell.threads()] == ["anna"]


def test_an_alias_is_removed(shell: Shell) -> None:
    add(shell)
    shell.good("users", "alias", "remove", "Anna@HOME.example")

    assert HOME not in shell.good("users", "list").output
    assert (shell.run("users", "alias", "remove", HOME)).complaint == f"maillinkd: {HOME} is no alias\n"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("add", HOME, "--user", "anna"), 2, "expected --confirm"),
        (("add", HOME, "--confirm"), 2, "expected --user: one of anna, ben, boss"),
        (("add", HOME, "--confirm", "--user", "emma"), 2, "there is no user 'emma'"),
        (("add", "anna", "--confirm", "--user", "anna"), 2, "'anna' is no address"),
        (("add", "ben@ourco.example", "--confirm", "--user", "anna"), 1, "belongs to user ben already"),
        (("remove", "anna@ourco.example"), 1, "stands in the configuration"),
    ],
)
def test_what_cannot_be_done_is_refused(shell: Shell, arguments: tuple[str, ...], code: int, expected: str) -> None:
    ran = shell.run("users", "alias", *arguments)

    assert ran.code == code
    assert expected in " ".join(ran.complaint.replace("│", " ").split())


def test_without_smart_bcc_no_mail_could_come(shell: Shell) -> None:
    shell.config.write_text(shell.config.read_text().partition("[smart_bcc]")[0])

    assert shell.run("users", "alias", "add", HOME, "--confirm", "--user", "anna").code == 78

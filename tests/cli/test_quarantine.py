"""`quarantine list|show|release|retry|drop`"""

from datetime import datetime

import pytest

from cli.shell import Shell, mail
from maillinkd.mail import message

HOSTILE = mail("q@x", sender="x@nobody.example", subject="\x1b[2J\x07gone").replace(
    b"Hello", b"a\x9bb\r\n\xe2\x80\xaec"
)


@pytest.fixture
def held(shell: Shell) -> Shell:
    """A stranger's mail lies in quarantine as number 1."""
    shell.import_items()
    bcc = ("--smart-bcc", "ourco+deal61@bcc.ourco.example", "--sender", "x@nobody.example")
    shell.good("import", "mail", shell.write("q.eml", HOSTILE), *bcc)
    return shell


def test_what_is_held_is_listed_as_the_contract_has_it(held: Shell) -> None:
    (line,) = held.good("quarantine", "list", "--json").lines

    expected = {
        "v": 1,
        "id": 1,
        "message_id": "<q@x>",
        "channel": "smart_bcc",
        "reason": "smart_bcc_unknown_sender",
        "received_at": "2026-03-01T10:00:00Z",
        "size": len(HOSTILE),
    }
    assert expected == {name: line[name] for name in expected}
    assert datetime.fromisoformat(line["held_at"]) > datetime.fromisoformat(line["received_at"])
    assert held.good("quarantine", "show", "1", "--json").lines[0]["held_at"] == line["held_at"]
    assert (line["author"], line["error"]) == ("x@nobody.example", "x@nobody.example is no user's address")


def test_what_is_held_is_listed_for_people(held: Shell) -> None:
    assert "smart_bcc_unknown_sender" in held.good("quarantine", "list").output


def test_a_mail_is_safe_to_be_shown_on_a_terminal(held: Shell) -> None:
    output = held.good("quarantine", "show", "1").output

    assert [line for line in output.split("\n") if not line.isprintable()] == []
    assert "| Subject: \\x1b[2J\\x07gone" in output
    assert "recipients   ourco+deal61@bcc.ourco.example" in output


def test_a_long_mail_is_cut_for_people_alone(shell: Shell) -> None:
    raw = mail("q@x", sender="x@nobody.example") + b"line\n" * 1_000
    bcc = ("--smart-bcc", "ourco@bcc.ourco.example", "--sender", "x@nobody.example")
    shell.good("import", "mail", shell.write("q.eml", raw), *bcc)

    assert shell.good("quarantine", "show", "1").output.endswith("(607 more lines; --json has them all)\n")
    assert shell.good("quarantine", "show", "1", "--json").lines[0]["text"] == raw.decode()


def test_a_mail_is_released_for_an_owner(held: Shell) -> None:
    (line,) = held.good("quarantine", "release", "1", "--owner", "anna", "--json").lines

    assert (line["trigger"], line["owner"], line["slot"]) == ("release", "anna", "deal:61")
    assert held.good("quarantine", "list").output == "nothing in quarantine\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("release", "1"), "say whose it is with --owner USER"),
        (("release", "1", "--owner", "emma"), "there is no user 'emma'"),
        (("release", "9"), "there is no mail 9 in quarantine"),
        (("show", "9"), "there is no mail 9 in quarantine"),
        (("drop", "9"), "there is no mail 9 in quarantine"),
    ],
)
def test_what_cannot_be_done_is_refused(held: Shell, arguments: tuple[str, ...], expected: str) -> None:
    ran = held.run("quarantine", *arguments)

    assert ran.code == 1
    assert expected in ran.complaint
    assert len(held.good("quarantine", "list", "--json").lines) == 1


def test_a_mail_is_dropped_for_good(held: Shell) -> None:
    ran = held.good("quarantine", "drop", "1")

    assert ran.output == "mail 1 is dropped\n"
    assert held.run("quarantine", "show", "1").code == 1


@pytest.mark.parametrize("command", ["show", "release", "drop"])
@pytest.mark.parametrize("number", ["first", "0", "99999999999999999999"])
def test_a_number_is_asked_for(shell: Shell, command: str, number: str) -> None:
    ran = shell.run("quarantine", command, number)

    assert ran.code == 2
    assert f"'{number}' is no mail in quarantine: expected its number" in ran.complaint


def test_what_could_not_be_read_is_read_again(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.import_items()
    with monkeypatch.context() as broken:
        broken.setattr(message, "parse", lambda *_, **__: 1 // 0)
        shell.import_mail(mail("m@x"))
        assert shell.good("quarantine", "retry").output == (
            "0 filed, 0 held for another reason now, 1 still cannot be read\n"
        )

    decision, retried = shell.good("quarantine", "retry", "--json").lines

    assert (decision["message_id"], decision["slot"]) == ("<m@x>", "deal:61")
    assert retried == {"v": 1, "event": "retried", "filed": 1, "distrusted": 0, "unreadable": 0}

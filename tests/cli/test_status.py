"""`status`"""

from typing import Any

from cli.shell import CONFIGURATION, Shell, mail


def by_event(shell: Shell) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in shell.good("status", "--json").lines:
        found.setdefault(line["event"], []).append(line)
    return found


def test_everything_is_counted(office: Shell) -> None:
    office.import_mail(mail("m2@x", sender="x@nobody.example"))

    (counts,) = by_event(office)["counts"]

    expected = {"messages": 2, "threads": 2, "linked": 1, "todo": 0, "quarantined": 0, "inbound": 0, "items": 3}
    assert expected == {name: counts[name] for name in expected}
    assert counts["reasons"] == {"linked_single_open_item": 1, "no_known_person": 1}


def test_a_mailbox_that_was_never_followed_says_so(office: Shell) -> None:
    (mailbox,) = by_event(office)["mailbox"]

    assert (mailbox["mailbox"], mailbox["owner"], mailbox["state"]) == ("anna", "anna", "never run")
    assert (mailbox["imported"], mailbox["folders"], mailbox["removed"]) == (1, [], False)


def test_what_is_no_longer_configured_is_shown_as_removed(office: Shell) -> None:
    text = CONFIGURATION.format(directory=office.directory)
    office.config.write_text(
        text.replace("users.anna]", "users.emma]").replace("[mailboxes.anna]", "[mailboxes.emma]")
    )

    found = by_event(office)

    assert {each["mailbox"]: each["state"] for each in found["mailbox"]} == {"anna": "removed", "emma": "never run"}
    assert [(each["owner"], each["removed"]) for each in found["owner"]] == [("anna", True)]
    assert office.good("status").output.count("removed") == 2


def test_a_mailbox_that_could_not_be_reached_says_why(shell: Shell) -> None:
    shell.configure('[mailboxes.ben]\nhost = "127.0.0.1"\nport = 1\ntls = "none"\nusername = "ben"\n'
                    'password_command = ["echo", "secret"]\n')  # fmt: skip
    assert shell.run("sync", "--mailbox", "ben").code == 69

    ben = next(each for each in by_event(shell)["mailbox"] if each["mailbox"] == "ben")

    assert ben["state"] == "failed"
    assert "127.0.0.1 cannot be reached" in ben["last_error"]


def test_status_is_shown_for_people(office: Shell) -> None:
    output = office.good("status").output

    assert "anna     never run" in output
    assert "linked_single_open_item        1" in output


def test_an_empty_house_says_so(shell: Shell) -> None:
    assert "no threads yet" in shell.good("status").output

"""`status`"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from cli.shell import CONFIGURATION, Shell, mail
from maillinkd.app import open_house
from maillinkd.cli.status import _doing, _mailbox
from maillinkd.settings import load
from maillinkd.store import cursors


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


def test_what_a_mailbox_does_and_waits_for_is_shown(office: Shell) -> None:
    """While a process follows it; what one that was stopped waited for counts no more."""
    facts = {"state": "watching", "since": "2026-11-22T12:00:00Z", "waits_for": "NOTIFY: 3 folders",
             "next_look": "2026-11-22T12:15:00Z", "first_sync": 0}  # fmt: skip
    busy = {"state": "catching_up", "since": "2026-11-22T12:00:00Z", "first_sync": 1200}

    def show(facts: dict[str, Any]) -> dict[str, Any]:
        return _mailbox("anna", load(office.config), facts, (), {}, "host:1:2")

    assert (show(facts)["waits_for"], show(facts)["next_look"]) == ("NOTIFY: 3 folders", "2026-11-22T12:15:00Z")
    assert _doing(show(facts)) == "watching (NOTIFY: 3 folders)"
    assert _doing(show(busy)) == "catching_up, 1200 of a first sync to fetch"
    stopped = _mailbox("anna", load(office.config), facts, (), {}, None)
    assert _doing(stopped) == "stopped"


def test_status_is_shown_for_people(office: Shell) -> None:
    output = office.good("status").output

    assert "anna     never run" in output
    assert "linked_single_open_item        1" in output


def test_an_empty_house_says_so(shell: Shell) -> None:
    assert "no threads yet" in shell.good("status").output


def test_what_the_smtp_door_has_seen_is_shown(shell: Shell) -> None:
    """As the daemon writes it, beside the mailboxes and not among them."""
    facts = {"open": 1, "connections": 7, "tls": 2, "messages": 5, "octets": 999, "refusals": {"max_errors": 3}}

    async def write() -> None:
        async with open_house(load(shell.config)) as house, house.database.transaction() as connection:
            at = datetime(2026, 3, 1, tzinfo=UTC)
            await cursors.report(connection, "smart_bcc", {"since": "2026-03-01T00:00:00Z", **facts}, at)

    asyncio.run(write())

    assert by_event(shell)["smtp"] == [{"v": 1, "event": "smtp", "since": "2026-03-01T00:00:00Z", **facts}]
    assert [each["mailbox"] for each in by_event(shell)["mailbox"]] == ["anna"]
    assert "max_errors" in shell.good("status").output

"""`run`, `sync`, `check`, `demo`"""

import asyncio
import json
import signal
from collections.abc import Iterator

import pytest

from cli.shell import Shell, ids, mail
from system.dovecot import Dovecot, certificate, running_dovecot

SECRET = 'password_command = ["echo", "secret-pass"]\n'


def mailbox(port: int, more: str = SECRET, tls: str = "none") -> str:
    return (
        f'[mailboxes.ben]\nhost = "127.0.0.1"\nport = {port}\ntls = "{tls}"\nusername = "ben"\nsince = "all"\n{more}'
    )


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        server.deliver("ben", [mail(f"m{number}@c", to="ben@ourco.example") for number in range(3)])
        yield server


@pytest.fixture
def bens(shell: Shell, dovecot: Dovecot) -> Shell:
    """Ben's mailbox is on the server, and it is the only one."""
    text = shell.config.read_text()
    start, end = text.index("[mailboxes.anna]"), text.index("[smart_bcc]")
    shell.config.write_text(text[:start] + text[end:] + mailbox(dovecot.port))
    return shell


# -- check


def test_a_good_configuration_is_said_to_be_good(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS_PASSWORD", "secret")

    found = shell.good("check", "--json").lines

    assert [(line["what"], line["state"]) for line in found] == [
        ("configuration", "good"),
        ("database", "up to date"),
    ]


def test_a_missing_secret_is_a_configuration_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANNAS_PASSWORD", raising=False)

    ran = shell.run("check")

    assert ran.code == 78
    assert "mailboxes.anna.password_env: environment variable ANNAS_PASSWORD is not set" in ran.complaint


def test_a_wrong_certificate_is_a_configuration_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS_PASSWORD", "secret")
    _, key = certificate(shell.directory)
    shell.configure(f'tls_certificate = "{shell.write("bad.pem", "no certificate")}"\ntls_key = "{key}"\n')

    ran = shell.run("check")

    assert ran.code == 78
    assert "certificate: cannot be used" in ran.output


@pytest.mark.dovecot
def test_a_login_is_tried(bens: Shell) -> None:
    assert "mailbox ben: good" in bens.good("check", "--connect").output


@pytest.mark.dovecot
def test_a_refused_login_is_exit_code_77(shell: Shell, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS_PASSWORD", "secret")
    shell.configure(mailbox(dovecot.port, 'password_command = ["echo", "wrong"]\n'))

    ran = shell.run("sync", "--mailbox", "ben")

    assert ran.code == 77
    assert "maillinkd: mailbox ben: " in ran.complaint
    assert "wrong" not in ran.complaint


def test_a_server_that_cannot_be_reached_is_exit_code_69(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS_PASSWORD", "secret")

    ran = shell.run("check", "--connect")

    assert ran.code == 69
    assert "mailbox anna: 127.0.0.1 cannot be reached" in ran.output


# -- sync


@pytest.mark.dovecot
def test_a_dry_run_shows_what_would_be_fetched_and_fetches_nothing(bens: Shell) -> None:
    found = bens.good("sync", "--dry-run", "--json").lines

    inbox = next(line for line in found if line.get("folder") == "INBOX")
    assert (inbox["event"], inbox["mailbox"], inbox["new"] + inbox["first_sync"]) == ("plan", "ben", 3)
    assert inbox["bytes"] > 300
    assert bens.threads() == []
    assert "INBOX" in bens.good("sync", "--dry-run").output


@pytest.mark.dovecot
def test_a_dry_run_invents_no_numbers(bens: Shell) -> None:
    """One mail joins thread 1, for its answer is here; the others would open threads."""
    path = bens.write("answer.eml", mail("answer@c", to="ben@ourco.example", more="In-Reply-To: <m0@c>\n"))
    bens.good("import", "mail", path, "--mailbox", "ben")

    found = bens.good("sync", "--dry-run", "--json").lines

    decided = [line for line in found if line["event"] == "link"]
    assert sorted(line["message_id"] for line in decided if line["thread"] is None) == ["<m1@c>", "<m2@c>"]
    assert [line["thread"] for line in decided if line["thread"] is not None] == [1]
    assert {(line["decision"], line["dry_run"], "batch" in line) for line in decided} == {(None, True, False)}
    assert bens.good("sync", "--dry-run").output.count("thread new") == 2


@pytest.mark.dovecot
def test_one_pass_fetches_everything(bens: Shell) -> None:
    (line,) = bens.good("sync", "--json").lines

    assert (line["event"], line["mailbox"], line["filed"]) == ("synced", "ben", 3)
    assert sorted(ids(bens.threads())) == [["<m0@c>"], ["<m1@c>"], ["<m2@c>"]]
    (place,) = bens.good("threads", "show", "1", "--json").lines[0]["messages"][0]["places"]
    assert (place["mailbox"], place["folder"]) == ("ben", "INBOX")
    assert place["uid"] in (1, 2, 3)


def test_an_unknown_mailbox_is_a_wrong_usage(shell: Shell) -> None:
    ran = shell.run("sync", "--mailbox", "emma")

    assert ran.code == 2
    assert "no mailbox 'emma' in the configuration (there: anna)" in ran.complaint


# -- run


def test_an_unknown_name_to_run_is_a_wrong_usage(shell: Shell) -> None:
    ran = shell.run("run", "--only", "anna", "--only", "emma")

    assert ran.code == 2
    assert "no mailbox 'emma' in the configuration (there: anna, smart_bcc)" in ran.complaint


def test_a_door_that_is_switched_off_cannot_be_run(shell: Shell) -> None:
    ran = shell.run("run", "--only", "smart_bcc")

    assert ran.code == 78
    assert "--only: smart_bcc: expected one of what is configured: anna" in ran.complaint


@pytest.mark.dovecot
def test_the_daemon_follows_mailboxes_until_it_is_told_to_stop(bens: Shell) -> None:
    with bens.process("run", "--json", "--only", "ben") as process:
        assert process.stderr is not None
        seen = []
        while not {"ready", "link"} <= set(seen):
            seen.append(json.loads(process.stderr.readline())["event"])

        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("option", "installed", "module"),
    [("", True, "uvloop"), ("--no-uvloop", True, "asyncio.unix_events"), ("", False, "asyncio.unix_events")],
)
def test_the_event_loop(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, option: str, installed: bool, module: str
) -> None:
    """uvloop where it is installed, unless it is not wanted."""
    loops: list[str] = []

    async def look(*_: object) -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)

    monkeypatch.setattr("maillinkd.app.run", look)
    if not installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert shell.run("run", *filter(None, [option])).code == 0

    assert loops == [module]


def test_a_demo_without_its_extra_says_what_is_missing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    ran = shell.run("demo")

    assert ran.code == 1
    assert "pip install 'maillinkd[demo]'" in ran.complaint

"""`init`: from an address to a mailbox that `check --connect` logs in to."""

import contextlib
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import pytest

from cli.shell import SOURCE, Ran, run
from imap.discover.internet import autoconfig, running_name_server, server
from maillinkd.cli import init as command
from maillinkd.imap.discover import https
from maillinkd.imap.discover.offer import Offer
from maillinkd.imap.discover.records import Resolver
from maillinkd.imap.discover.search import Sources
from maillinkd.imap.errors import Unreachable
from maillinkd.imap.folders import Folder
from system.dovecot import Dovecot, running_dovecot

# A server that knows local parts alone as user names, and that says at once that a password is wrong.
STRICT = """
auth_username_chars = abcdefghijklmnopqrstuvwxyz
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
"""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot(STRICT) as running:
        yield running


@pytest.fixture(scope="module")
def names(dovecot: Dovecot) -> Iterator[tuple[str, int]]:
    """localhost announces its own server; ourco.example one that is not its own; gone.example one that is away."""
    zone = {
        "_imaps._tcp.localhost. SRV": [f"0 0 {dovecot.tls_port} localhost."],
        "_imaps._tcp.ourco.example. SRV": [f"0 0 {dovecot.tls_port} localhost."],
        "_imap._tcp.starttls.example. SRV": [f"0 0 {dovecot.port} localhost."],
        "_imaps._tcp.gone.example. SRV": ["0 0 1 localhost."],
    }
    with running_name_server(zone) as address:
        yield address


@pytest.fixture
def place(tmp_path: Path, dovecot: Dovecot, names: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> "Desktop":
    """A directory without a configuration, and a world that is the test's own."""

    async def fetch(url: str) -> bytes:
        if url.startswith("https://autoconfig.documented.example/"):
            return autoconfig(server("localhost", str(dovecot.tls_port), username="%EMAILLOCALPART%"))
        raise https.NoDocument("answered 404")

    monkeypatch.setattr(command, "_sources", lambda: Sources(Resolver((names,), deadline=2), fetch))
    monkeypatch.setattr(command, "_PROBE_SECONDS", 3.0)
    return Desktop(tmp_path, dovecot)


class Desktop:
    def __init__(self, directory: Path, dovecot: Dovecot) -> None:
        self.directory = directory
        self.config = directory / "maillinkd.toml"
        self.dovecot = dovecot
        self.secret = directory / "given.password"
        self.secret.write_text(f"{dovecot.password}\n")

    def init(self, address: str, *options: str, secret: bool = True) -> Ran:
        given = ("--password-file", str(self.secret)) if secret else ()
        trusted = ("--ca-file", self.dovecot.ca_file)
        return run(["--config", str(self.config), "init", address, "--yes", *given, *trusted, *options])

    def check(self) -> Ran:
        return run(["--config", str(self.config), "check", "--connect"])


pytestmark = pytest.mark.dovecot


def test_the_first_mailbox_makes_the_configuration(place: Desktop) -> None:
    ran = place.init("anna@localhost", "--json")

    assert ran.code == 0, ran
    assert ran.lines == [
        {
            "v": 1, "event": "configured", "mailbox": "anna", "owner": "anna", "file": str(place.config),
            "host": "localhost", "port": place.dovecot.tls_port, "tls": "implicit", "username": "anna",
            "auth": "password", "source": "SRV _imaps._tcp.localhost", "folders": ["INBOX", "\\Sent"],
            "next": "maillinkd check --connect",
        }
    ]  # fmt: skip
    assert "mailbox anna: good" in place.check().output


def test_the_next_one_goes_beside_it(place: Desktop) -> None:
    place.init("anna@localhost")

    ran = place.init("ben@localhost", "--since", "all", "--store", "full", "--folder", "*")

    assert ran.code == 0, ran
    text = (place.directory / "conf.d" / "ben.toml").read_text()
    assert ('folders = ["*"]' in text, 'since = "all"' in text, 'store = "full"' in text) == (True, True, True)
    checked = place.check()
    assert (checked.code, "mailbox ben: good" in checked.output) == (0, True)


def test_a_second_address_of_a_user_s_is_his(place: Desktop) -> None:
    place.init("anna@localhost")
    place.config.write_text(place.config.read_text().replace("admin = true", 'aliases = ["info@localhost"]'))

    ran = place.init("info@localhost", "--json")

    assert [(line["mailbox"], line["owner"]) for line in ran.lines] == [("info", "anna")]


def test_a_name_that_is_taken_is_not_used_again(place: Desktop) -> None:
    place.init("anna@localhost")
    other = '[users.ben]\naddress = "ben@other.example"\n'
    place.config.write_text(place.config.read_text() + other)

    ran = place.init("ben@localhost", "--json")

    assert [(line["mailbox"], line["owner"]) for line in ran.lines] == [("ben-localhost", "ben-localhost")]
    assert place.init("zoe@localhost", "--name", "ben").code == 2


def test_starttls_by_srv_is_agreed_to_by_naming_it(place: Desktop) -> None:
    """The host is not the domain's own, and plain DNS alone says that it is right (RFC 6186, 6)."""
    refused = place.init("anna@starttls.example")
    named = place.init("anna@starttls.example", "--host", "localhost", "--port", str(place.dovecot.port),
                       "--tls", "starttls", "--username", "anna")  # fmt: skip

    assert refused.code == 77
    assert "was not agreed to; if it is right: --host localhost" in refused.complaint
    assert named.code == 0, named
    assert "mailbox anna: good" in place.check().output


def test_a_document_over_https_vouches_for_a_host_elsewhere(place: Desktop) -> None:
    ran = place.init("anna@documented.example")

    assert ran.code == 0, ran
    assert "by https://autoconfig.documented.example/mail/config-v1.1.xml" in ran.complaint


def test_a_refused_login_is_77_and_writes_nothing(place: Desktop) -> None:
    place.secret.write_text("wrong\n")

    ran = place.init("anna@localhost")

    assert (ran.code, place.config.exists()) == (77, False)
    assert "login: NO" in ran.complaint


def test_no_server_is_69_and_every_source_says_why(place: Desktop) -> None:
    ran = place.init("anna@gone.example")

    assert (ran.code, place.config.exists()) == (69, False)
    assert "SRV _imaps._tcp.gone.example: localhost:1" in ran.complaint
    assert "localhost:1: localhost cannot be reached" in ran.complaint
    assert "imap.gone.example:143 (STARTTLS): " in ran.complaint
    assert "name it with --host" in ran.complaint


def test_a_certificate_that_nobody_vouches_for_is_69(place: Desktop) -> None:
    ran = run(
        ["--config", str(place.config), "init", "anna@localhost", "--yes", "--password-file", str(place.secret)]
    )

    assert ran.code == 69
    assert "the certificate of localhost is not valid" in ran.complaint


def test_a_provider_without_imap_is_69_with_what_else_there_is(place: Desktop) -> None:
    ran = place.init("anna@tuta.com")

    assert (ran.code, "Tuta has no IMAP" in ran.complaint) == (69, True)


def test_what_is_there_is_not_overwritten(place: Desktop) -> None:
    place.init("anna@localhost")
    (place.directory / "conf.d").mkdir()
    (place.directory / "conf.d" / "ben.toml").write_text("# mine\n")

    refused = place.init("ben@localhost")
    forced = place.init("ben@localhost", "--overwrite")

    assert (refused.code, "is there already: nothing was written" in refused.complaint) == (1, True)
    assert forced.code == 0, forced
    assert place.init("ben@localhost", "--overwrite").code == 0


def test_a_configuration_with_an_error_is_78(place: Desktop) -> None:
    place.config.write_text("nonsense = 1\n")

    assert place.init("anna@localhost").code == 78


def test_a_value_that_is_none_is_78_and_writes_nothing(place: Desktop) -> None:
    ran = place.init("anna@localhost", "--since", "soon")

    assert (ran.code, place.config.exists()) == (78, False)
    assert f"{place.config}: mailboxes.anna.since: expected" in ran.complaint


def test_an_account_that_is_followed_is_not_followed_twice(place: Desktop) -> None:
    for address, file in (("anna@localhost", place.config), ("ben@localhost", place.directory / "conf.d/ben.toml")):
        place.init(address)
        before = sorted(place.directory.rglob("*.toml"))

        again = place.init(address.upper())

        assert again.code == 2
        assert (
            f"({file}) follows {address} already: change it there, or name a second one by --name" in again.complaint
        )
        assert "server:" not in again.complaint
        assert before == sorted(place.directory.rglob("*.toml"))


def test_an_account_is_followed_twice_by_another_name(place: Desktop) -> None:
    place.init("anna@localhost")

    ran = place.init("anna@localhost", "--name", "archive", "--json")

    assert [(line["mailbox"], line["owner"]) for line in ran.lines] == [("archive", "anna")]
    assert place.init("anna@localhost", "--username", "ben", "--json").lines[0]["mailbox"] == "anna-localhost"


@pytest.mark.parametrize(
    ("options", "followed"),
    [
        ((), True),
        (("--host", "IMAP.ourco.example"), True),
        (("--host", "imap.new.example"), False),
        (("--username", "anna@ourco.example"), True),
        (("--username", "shared"), False),
        (("--name", "second"), False),
    ],
)
def test_what_counts_as_the_same_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], followed: bool
) -> None:
    config = tmp_path / "maillinkd.toml"
    config.write_text(
        f'[database]\nurl = "sqlite:///{tmp_path}/mail.db"\n[users.anna]\naddress = "anna@ourco.example"\n'
        '[mailboxes.anna]\nhost = "imap.ourco.example"\nusername = "anna@ourco.example"\npassword_env = "X"\n'
    )

    async def search(*_: object) -> None:
        raise Unreachable("a search")

    monkeypatch.setattr(command, "_given_server", search)
    monkeypatch.setattr(command, "_found_server", search)
    ran = run(["--config", str(config), "init", "anna@ourco.example", "--yes", *options])

    assert (ran.code, "follows anna@ourco.example already" in ran.complaint) == (
        (2, True) if followed else (69, False)
    )


WRONG = {
    "no address": (["anna"], "is no address"),
    "a port without a host": (["anna@localhost", "--port", "1993"], "go with --host"),
    "two secrets": (["anna@localhost", "--password-env", "X"], "not both"),
    "a file of certificates that is not there": (["anna@localhost", "--ca-file", "/nowhere.pem"], "No such file"),
    "a file of certificates that holds none": (["anna@localhost", "--ca-file", __file__], "holds no certificate"),
    "a name that is none": (["anna@localhost", "--name", "a b"], "'a b' is no name of a mailbox: expected 1 to 64"),
    "no name": (["anna@localhost", "--name", ""], "'' is no name of a mailbox"),
    "a name of something else": (["anna@localhost", "--name", "smart_bcc"], "names another part of maillinkd"),
    "an owner that is not there": (["anna@localhost", "--owner", "ben"], "no user or team 'ben'"),
    "an OAuth client that is not there": (
        ["anna@localhost", "--auth", "oauth2", "--oauth-client", "x"], "no OAuth client 'x'"),
    "OAuth2 of nobody knows whom": (["anna@localhost", "--auth", "oauth2"], "--oauth-client"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "why"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_usage_is_2(place: Desktop, arguments: list[str], why: str) -> None:
    ran = place.init(*arguments)

    assert (ran.code, why in ran.complaint) == (2, True), ran


def test_a_name_that_is_none_is_told_before_a_server_is_asked(place: Desktop) -> None:
    assert "server:" not in place.init("anna@localhost", "--name", "a b").complaint


def test_without_a_terminal_the_password_must_be_given(place: Desktop) -> None:
    ran = place.init("anna@localhost", secret=False)

    assert (ran.code, "nobody can be asked for the password" in ran.complaint) == (2, True)


def test_a_password_by_the_environment(place: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNAS", place.dovecot.password)

    assert place.init("anna@localhost", "--password-env", "ANNAS", secret=False).code == 0
    assert "mailbox anna: good" in place.check().output


def test_oauth2_needs_no_password_and_says_what_comes_next(place: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(offer: object, ca_file: object) -> frozenset[str]:
        return frozenset({"AUTH=XOAUTH2"})

    monkeypatch.setattr(command, "_probe", answers)
    ran = place.init("anna@outlook.com", "--client-id", "5d7b", "--json", secret=False)

    assert ran.code == 0, ran
    assert [(line["auth"], line["next"]) for line in ran.lines] == [("oauth2", "maillinkd auth login anna")]
    text = place.config.read_text()
    assert "[oauth_clients.microsoft]" in text
    assert 'oauth_client = "microsoft"' in text
    again = place.init("ben@outlook.com", "--json", secret=False)
    assert 'oauth_client = "microsoft"' in (place.directory / "conf.d" / "ben.toml").read_text(), again


def test_verbose_says_what_each_source_answered(place: Desktop) -> None:
    ran = place.init("anna@localhost", "-v")

    assert "MX localhost: no such record" in ran.complaint
    assert f"localhost:{place.dovecot.tls_port}: answers" in ran.complaint


# -- Gmail


def folders(*listed: tuple[str, str]) -> tuple[Folder, ...]:
    return tuple(Folder(name, name.encode(), "/", frozenset({use} - {""})) for name, use in listed)


ALL_MAIL = ("[Gmail]/All Mail", "\\all"), ("[Gmail]/Sent Mail", "\\sent")


def test_gmail_is_followed_by_all_mail() -> None:
    gmail = Offer("imap.gmail.com", 993, "implicit", ("anna@ourco.example",), "a test", "dns")

    assert command._folders(gmail, frozenset({"IMAP4REV1", "X-GM-EXT-1"})) == ("\\All",)
    assert command._folders(gmail, frozenset({"IMAP4REV1"})) == ("INBOX", "\\Sent")


def test_what_a_provider_permits_a_day_is_kept_to() -> None:
    own = Offer("imap.ourco.example", 993, "implicit", ("anna@ourco.example",), "a test", "dns")
    gmail = replace(own, bytes_a_day=2_000_000_000)

    assert command._bytes_a_day(own, frozenset()) == 0
    assert command._bytes_a_day(gmail, frozenset()) == 2_000_000_000
    assert command._bytes_a_day(own, frozenset({"X-GM-EXT-1"})) == 2_000_000_000


@pytest.mark.parametrize(
    ("there", "followed"),
    [
        (folders(("INBOX", ""), *ALL_MAIL), ("\\All",)),
        (folders(("INBOX", ""), *ALL_MAIL[1:]), ("INBOX", "\\Sent")),
        (folders(("INBOX", "")), ("INBOX",)),
    ],
    ids=["All Mail is shown", "All Mail is hidden from IMAP", "there is nothing but INBOX"],
)
def test_what_is_followed_is_there(there: tuple[Folder, ...], followed: tuple[str, ...]) -> None:
    assert followed == command._chosen_folders(("\\All",), False, there, command._Asker(can=False))


# -- on a terminal

ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from maillinkd.cli import init, main
from maillinkd.imap.discover import https
from maillinkd.imap.discover.records import Resolver
from maillinkd.imap.discover.search import Sources

async def fetch(url):
    raise https.NoDocument("answered 404")

port = int(sys.argv.pop(1))
init._sources = lambda: Sources(Resolver((("127.0.0.1", port),), deadline=2), fetch)
raise SystemExit(main())
"""


class Terminal:
    """A person at a terminal: reads until a question comes, and answers."""

    def __init__(self, arguments: list[str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *arguments],
            stdin=slave, stdout=subprocess.PIPE, stderr=slave, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200"},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)

    def answer(self, question: str, answer: str) -> None:
        self._until(question)
        os.write(self.master, f"{answer}\n".encode())

    def _until(self, question: str) -> None:
        deadline = time.monotonic() + 20
        while not re.search(question, self.seen):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited for {question!r}, saw {self.seen!r}"
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                self.seen += os.read(self.master, 4_096).decode()
                continue
            raise AssertionError(f"ended before {question!r}: {self.seen!r}")
        self.seen = self.seen[re.search(question, self.seen).end() :]  # type: ignore[union-attr]  # found above

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


def test_questions_and_answers(place: Desktop, names: tuple[str, int]) -> None:
    arguments = ["--config", str(place.config), "init", "anna@ourco.example", "--ca-file", place.dovecot.ca_file]
    with Terminal([str(names[1]), *arguments, "--json"]) as terminal:
        terminal.answer(r"which is outside ourco\.example\. Send the password there\? \[y/N\]: ", "y")
        terminal.answer(r"Password of anna@ourco\.example: ", "wrong")
        terminal.answer(r"login: NO.*\n.*User name \[anna@ourco\.example\]: ", "ben")
        terminal.answer(r"Password of ben: ", place.dovecot.password)
        terminal.answer(r"folders there: INBOX, .*\n.*Folders to follow, .* \[INBOX, \\Sent\]: ", "INBOX, Junk")
        terminal.answer(r"How far back .* \[30d\]: ", "long")
        terminal.answer(r"mailboxes\.anna\.since: expected .*\n.*How far back .* \[30d\]: ", "1y")
        terminal.answer(r"What to keep .* \[headers\]: ", "")
        terminal.answer(r"Is everybody at ourco\.example a colleague\? \[y/N\]: ", "y")
        code, output = terminal.end()

    assert code == 0, output
    said = json.loads(output)
    secret = place.directory / "anna.password"
    assert (said["username"], said["folders"]) == ("ben", ["INBOX", "Junk"])
    assert secret.read_text() == f"{place.dovecot.password}\n"
    assert stat.S_IMODE(secret.stat().st_mode) & 0o007 == 0
    assert place.dovecot.password not in place.config.read_text()
    assert ('since = "1y"' in place.config.read_text(), "ourco.example" in place.config.read_text()) == (True, True)
    assert "mailbox anna: good" in place.check().output


def test_who_says_no_sends_no_password(place: Desktop, names: tuple[str, int]) -> None:
    arguments = ["--config", str(place.config), "init", "anna@ourco.example", "--ca-file", place.dovecot.ca_file]
    with Terminal([str(names[1]), *arguments]) as terminal:
        terminal.answer(r"Send the password there\? \[y/N\]: ", "")
        code, _ = terminal.end()

    assert (code, list(place.directory.glob("*.toml"))) == (77, [])


def test_who_leaves_in_the_middle_leaves_nothing_behind(place: Desktop, names: tuple[str, int]) -> None:
    arguments = ["--config", str(place.config), "init", "anna@localhost", "--ca-file", place.dovecot.ca_file]
    with Terminal([str(names[1]), *arguments]) as terminal:
        terminal.answer(r"Password of anna@localhost: ", place.dovecot.password)
        terminal.answer(r"Folders to follow, ", "\x04")
        code, _ = terminal.end()

    assert code == 1
    assert [path.name for path in place.directory.iterdir()] == [place.secret.name]

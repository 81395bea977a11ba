"""The real daemon for tests: a configuration, a process, what it logs, and a way to wait for a line of it.

Nothing here sleeps: a test reads on until the line is there, or fails with all that was said when `PATIENCE` ends.
"""

import asyncio
import contextlib
import json
import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from system.dovecot import PASSWORD, Dovecot
from system.whole import assert_whole_at

PATIENCE = 60.0
"""Seconds until a line that does not come is missed. These machines are shared."""
ANNA = "anna@ourco.example"
BEN = "ben@ourco.example"
CARLA = "carla@client.example"
UNIVERSAL = "ourco@bcc.ourco.example"

Line = dict[str, Any]


def mail(id_: str, *, sender: str = CARLA, to: str = ANNA, subject: str = "New roof", refers: str = "") -> bytes:
    """An invented mail with CRLF line ends."""
    references = f"References: <{refers}>\r\n" if refers else ""
    return (
        f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 09:00:00 +0000\r\n"
        f"Message-ID: <{id_}>\r\n{references}\r\nGood morning.\r\n"
    ).encode()


@dataclass
class Site:
    """A directory with a configuration, a database and what daemons leave there."""

    directory: Path
    database_url: str = ""
    sections: dict[str, Any] = field(default_factory=dict)
    """The configuration, section by section. `write` puts it on disk."""

    def __post_init__(self) -> None:
        self.database_url = self.database_url or f"sqlite:///{self.directory}/mail.db"
        (self.directory / "password").write_text(f"{PASSWORD}\n")
        (self.directory / "password").chmod(0o600)
        self.sections = {
            "database": {"url": self.database_url},
            "log": {"format": "json", "decisions": f"{self.directory}/decisions.log"},
            "policy": {"internal_domains": ["ourco.example"]},
            "users": {"anna": {"address": ANNA}, "ben": {"address": BEN}},
            "mailboxes": {},
            "smart_bcc": {
                "enabled": True,
                "domain": "bcc.ourco.example",
                "local_part": "ourco",
                "listen": ["127.0.0.1:0"],
                "require_authentication": False,
            },
        } | self.sections

    @property
    def config(self) -> Path:
        return self.directory / "maillinkd.toml"

    def write(self) -> None:
        lines = list(_toml(self.sections, ()))
        self.config.write_text("\n".join(lines) + "\n")

    def add_mailbox(self, name: str, server: Dovecot, **keys: Any) -> None:
        """A mailbox on a Dovecot, where any user name is one."""
        self.sections["mailboxes"][name] = {
            "owner": name,
            "host": "127.0.0.1",
            "port": server.port,
            "tls": "none",
            "username": name,
            "password_file": str(self.directory / "password"),
            "folders": ["INBOX"],
            "since": "all",
        } | keys

    def daemon(self, *only: str, environ: Mapping[str, str] | None = None, code: str | None = None) -> "Daemon":
        """`maillinkd run`, started; `code` is run first in its process (named crash points)."""
        self.write()
        chosen = [part for name in only for part in ("--only", name)]
        arguments = ["--config", str(self.config), "run", *chosen]
        program = ["-m", "maillinkd"] if code is None else ["-c", f"{code}\n{_MAIN}"]
        return Daemon([sys.executable, *program, *arguments], environ or {})

    def command(self, *arguments: str, exit_code: int = 0) -> list[Line]:
        """Runs a command with --json and returns its lines."""
        done = subprocess.run(
            [sys.executable, "-m", "maillinkd", "--config", str(self.config), "--json", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == exit_code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Asks the SQLite file."""
        with contextlib.closing(sqlite3.connect(f"file:{self.directory}/mail.db?mode=ro", uri=True)) as reader:
            return reader.execute(statement, values).fetchall()

    def assert_whole(self) -> None:
        """The database is whole (`verify`), whatever loop the test itself runs in."""
        url = self.database_url.replace("sqlite://", "sqlite+aiosqlite://", 1)
        url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(lambda: asyncio.run(assert_whole_at(url))).result()

    def decision_file(self) -> list[Line]:
        """The lines of the `decisions` file. One that was cut off by a kill is left out."""
        text = (self.directory / "decisions.log").read_text()
        return [json.loads(line) for line in text.splitlines() if _is_whole(line)]


_MAIN = "import sys; from maillinkd.cli import main; sys.exit(main(sys.argv[1:]))"


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _toml(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table as TOML; JSON writes its texts, numbers, flags and lists as TOML does."""
    if path:
        yield f"[{'.'.join(path)}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(value, (*path, key))


class Daemon:
    """A daemon's process. `with site.daemon() as daemon:` waits until it is ready and ends it whatever happens."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str]) -> None:
        self.lines: list[Line] = []
        self.text: list[str] = []
        """Everything it said, as it said it."""
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environ},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Daemon":
        try:
            self.wait_for(event="ready")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as log:
            for line in log:
                with self._news:
                    self.text.append(line)
                    with contextlib.suppress(ValueError):
                        self.lines.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    # -- waiting

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds that a new line of the log can make true."""
        end = monotonic() + PATIENCE
        with self._news:
            while not holds():
                if not self._news.wait(timeout=min(1.0, max(0.0, end - monotonic()))) and self._is_over(end):
                    raise AssertionError(f"{what} did not come; it said:\n{''.join(self.text[-60:])}")

    def _is_over(self, end: float) -> bool:
        return monotonic() >= end or (self._process.poll() is not None and not self._reader.is_alive())

    def wait_for(self, after: int = 0, **fields: Any) -> Line:
        """The first line, of those after the first `after`, that has these fields with these values."""
        found: list[Line] = []

        def look() -> bool:
            found[:] = [line for line in self.lines[after:] if fields.items() <= _hashable(line).items()][:1]
            return bool(found)

        self.wait_until(look, f"a line with {fields}")
        return found[0]

    def wait_for_decisions(self, *ids: str) -> None:
        """Waits until a decision line names each of these mails."""
        wanted = {f"<{id_}>" for id_ in ids}
        self.wait_until(lambda: wanted <= self.decided(), f"decisions on {len(wanted)} mails")

    def decided(self) -> set[str]:
        """The mails that decision lines name."""
        return {line["message_id"] for line in self.decisions()}

    def decisions(self) -> list[Line]:
        return [line for line in self.lines if line.get("event") == "link"]

    # -- its end

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Asks it to end, waits, and returns its exit code and how many seconds it took."""
        began = monotonic()
        self.send(number)
        return self.ended(), monotonic() - began

    def ended(self) -> int:
        """Waits for its end and returns its exit code; all that it said is in `lines` then."""
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self.ended()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def complaints(self) -> list[str]:
        """Lines of warnings and errors, and what is no line of the log at all (a traceback)."""
        wrong = [line for line in self.lines if line.get("level") in ("warning", "error", "critical")]
        return [json.dumps(line) for line in wrong] + [line for line in self.text if not _is_whole(line)]

    # -- its SMTP door

    @property
    def smtp_port(self) -> int:
        (address,) = self.wait_for(event="ready")["smart_bcc"]
        return int(address.rpartition(":")[2])

    def smtp(self) -> smtplib.SMTP:
        """A client that has said EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.smtp_port, "client.example", timeout=PATIENCE)
        client.ehlo()
        return client

    def deliver(self, *mails: bytes, recipients: Iterable[str] = (UNIVERSAL,)) -> None:
        """Sends mails through the door, in one session."""
        with self.smtp() as client:
            for raw in mails:
                client.sendmail(ANNA, list(recipients), raw)


def _hashable(line: Line) -> Line:
    return {key: value for key, value in line.items() if isinstance(value, str | int | float | bool | None)}


@contextlib.contextmanager
def notify_socket(directory: Path) -> Iterator[tuple[str, Callable[[str], str]]]:
    """systemd's end of sd_notify: an address for $NOTIFY_SOCKET, and a wait for a datagram that holds a text."""
    address = str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(PATIENCE)

        def wait_for(text: str) -> str:
            while text not in (datagram := receiver.recv(4096).decode()):
                pass
            return datagram

        yield address, wait_for

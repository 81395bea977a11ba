"""The command line as a test sees it: a configuration and a database of its own, commands in, lines out."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maillinkd.cli import main

SOURCE = Path(__file__).resolve().parent.parent.parent / "daemon"

CONFIGURATION = """
[database]
url = "sqlite:///{directory}/mail.db"

[log]
format = "json"

[policy]
internal_domains = ["ourco.example"]

[users.anna]
address = "anna@ourco.example"

[users.ben]
address = "ben@ourco.example"

[users.boss]
address = "boss@ourco.example"
admin = true

[mailboxes.anna]
host = "127.0.0.1"
port = 1
tls = "none"
username = "anna"
password_env = "ANNAS_PASSWORD"

[smart_bcc]
domain = "bcc.ourco.example"
local_part = "ourco"
"""

ITEMS = (
    {"kind": "organization", "id": "7", "title": "Client Ltd"},
    {
        "kind": "person",
        "id": "3",
        "title": "Carla Client",
        "addresses": ["carla@client.example"],
        "organization": "7",
    },
    {"kind": "deal", "id": "61", "title": "New roof", "person": "3", "added_at": "2026-01-05T09:00:00Z"},
)


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    output: str
    complaint: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it printed as JSON Lines."""
        return [json.loads(line) for line in self.output.splitlines()]


class Shell:
    """Types commands. Each begins with `--config` of a configuration in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "maillinkd.toml"
        self.configure("")

    def configure(self, more: str) -> None:
        self.config.write_text(CONFIGURATION.format(directory=self.directory) + more)

    def run(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Runs a command in this process."""
        return run(["--config", str(self.config), *arguments], stdin=stdin)

    def good(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Runs a command that must succeed."""
        ran = self.run(*arguments, stdin=stdin)
        assert ran.code == 0, ran
        return ran

    def process(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Starts a command as a process of its own; the test ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "maillinkd", "--config", str(self.config), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
            **options,
        )

    def write(self, name: str, content: str | bytes) -> str:
        """Writes a file and returns its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def import_items(self, *items: dict[str, Any]) -> None:
        lines = "".join(f"{json.dumps(item)}\n" for item in items or ITEMS)
        self.good("import", "items", self.write("items.jsonl", lines))

    def import_mail(self, *mails: bytes) -> None:
        """Imports mails into anna's mailbox, as one batch."""
        content = b"".join(b"From x Tue Mar 31 10:00:00 2026\n" + each + b"\n" for each in mails)
        self.good("import", "mail", self.write("mail.mbox", content), "--mailbox", "anna")

    def threads(self, *arguments: str) -> list[dict[str, Any]]:
        return self.good("threads", "list", "--json", *arguments).lines


def run(arguments: list[str], *, stdin: bytes = b"") -> Ran:
    """Runs `maillinkd` in this process."""
    output, complaint = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaint):
            code = main(arguments)
    finally:
        sys.stdin = before
    return Ran(code, output.getvalue(), complaint.getvalue())


def mail(
    message_id: str = "m1@c",
    *,
    sender: str = "carla@client.example",
    to: str = "anna@ourco.example",
    date: str = "Sun, 1 Mar 2026 10:00:00 +0000",
    subject: str = "New roof",
    more: str = "",
) -> bytes:
    """A mail, by default from Carla to Anna."""
    return (
        f"From: {sender}\nTo: {to}\nDate: {date}\nSubject: {subject}\nMessage-ID: <{message_id}>\n{more}\nHello\n"
    ).encode()


def ids(threads: list[dict[str, Any]]) -> list[list[str]]:
    """The message-ids of threads."""
    return [thread["message_ids"] for thread in threads]

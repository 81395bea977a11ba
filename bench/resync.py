"""A pass over a mailbox in which nothing, or next to nothing, has changed, beside what else one could run.

    python bench/resync.py [--messages 100000] [--repeat 9] [--only NAME]...

All passes are against one private Dovecot with one folder of many small messages, each contestant on the store that
its own first pass has filled. What is measured of maillinkd is told apart:

- `pass`     connect, log in, look, read, log out: what the daemon does after a connection broke, and `sync` inside
- `process`  `maillinkd sync` from start to end, most of which is starting Python; the others are processes too

The same with `expunged = "mark"`, and against the same Dovecot without CONDSTORE, QRESYNC, ESEARCH, LIST-STATUS and
NOTIFY, where UIDs are all that there is.
"""

import argparse
import asyncio
import imaplib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dovecot
from sync import CONFIGURATION, MBSYNCRC

PLAIN = "imap_capability = IMAP4rev1 SASL-IR LITERAL+ IDLE UIDPLUS UNSELECT CHILDREN NAMESPACE\n"
"""Dovecot as a server that knows UIDs and nothing else."""
MDBOX = "mail_location = mdbox:{home}/mail\n"
"""Dovecot looks through the whole directory of a Maildir that changed a moment ago; that is not what is measured."""
EXPUNGED = 10

OFFLINEIMAPRC = """\
[general]
accounts = bench
metadata = {directory}/metadata
ui = quiet
[Account bench]
localrepository = local
remoterepository = remote
[Repository local]
type = Maildir
localfolders = {directory}/mail
[Repository remote]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
ssl = no
starttls = no
auth_mechanisms = LOGIN
remoteuser = {user}
remotepass = {password}
readonly = True
"""


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    milliseconds: float
    commands: float | None = None
    """How often we wrote to the server, which is how many round trips it took."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that does a pass: the file that configures it, and its command."""

    name: str
    program: str
    configuration: str
    command: Callable[[Path], list[str]]


PEERS = (
    Peer("mbsync", "mbsync", MBSYNCRC, lambda rc: ["mbsync", "--quiet", "--config", str(rc), "all"]),
    Peer("offlineimap3", "offlineimap", OFFLINEIMAPRC, lambda rc: ["offlineimap", "-o", "-c", str(rc)]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=9, help="the median counts")
    parser.add_argument("--only", action="append", choices=["maillinkd", *(peer.name for peer in PEERS)], default=[])
    parser.add_argument("--as-passes", nargs=2, metavar=("CONFIG", "JOB"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_passes:
        config, job = arguments.as_passes
        asyncio.run(_passes(Path(config), json.loads(job)))
        return
    chosen = arguments.only or ["maillinkd", *(peer.name for peer in PEERS)]
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        home = Path(scratch)
        (home / "mail").mkdir()
        rows = []
        for label, extra in (("", ""), (", UIDs alone", PLAIN)):
            server = dovecot.Dovecot(home, home / "mail", MDBOX.format(home=home) + extra)
            with server.running() as port:
                if not extra:
                    _fill(port, arguments.messages)
                if "maillinkd" in chosen:
                    rows += _ours(home, port, arguments.repeat, label)
                if not extra:
                    rows += [
                        row for peer in PEERS if peer.name in chosen for row in _peer(peer, home, port, arguments)
                    ]
    print(f"\nA pass over {arguments.messages} messages on {os.cpu_count()} cores, median of {arguments.repeat}\n")
    print(f"{'':52}{'ms':>9}{'round trips':>13}")
    for row in rows:
        trips = f"{row.commands:13.0f}" if row.commands is not None else ""
        print(f"{row.what:52}{row.milliseconds:9.1f}{trips}")


def _fill(port: int, messages: int) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as connection:
        connection.login(dovecot.USER, dovecot.PASSWORD)
        for at in range(0, messages, 1_000):  # MULTIAPPEND (RFC 3502)
            some = [_letter(number) for number in range(at, min(at + 1_000, messages))]
            connection.send(b"x APPEND INBOX" + b"".join(b" {%d+}\r\n%s" % (len(raw), raw) for raw in some) + b"\r\n")
            while not (line := connection.readline()).startswith(b"x "):
                pass
            if not line.startswith(b"x OK"):
                raise RuntimeError(line.decode())


def _letter(number: int) -> bytes:
    return (
        f"From: a{number % 500}@customer.example\r\nTo: anna@ourco.example\r\nSubject: number {number}\r\n"
        f"Date: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: <{number}@customer.example>\r\n\r\nText\r\n"
    ).encode()


# maillinkd


def _ours(home: Path, port: int, repeat: int, label: str) -> list[Row]:
    directory = Path(tempfile.mkdtemp(prefix="maillinkd-", dir=home))
    (directory / "password").write_text(dovecot.PASSWORD)
    (directory / "password").chmod(0o600)
    config = directory / "maillinkd.toml"
    text = CONFIGURATION.format(directory=directory, port=port, user=dovecot.USER)
    config.write_text(text)
    sync = [sys.executable, "-m", "maillinkd", "--config", str(config), "sync"]
    subprocess.run(sync, check=True, capture_output=True)
    rows = _jobs(config, repeat, f"maillinkd{label}", [])
    whole = [_timed(sync) for _ in range(repeat)]
    rows.append(Row(f"maillinkd{label}, process, unchanged", statistics.median(whole) * 1000))
    config.write_text(text.replace('store = "headers"', 'store = "headers"\nexpunged = "mark"'))
    return rows + _jobs(config, repeat, f'maillinkd{label}, "mark"', ["expunged"])


def _jobs(config: Path, repeat: int, label: str, more: list[str]) -> list[Row]:
    rows = []
    for what in ("unchanged", "one new", *more):
        job = json.dumps({"what": what, "repeat": repeat})
        command = [sys.executable, __file__, "--as-passes", str(config), job]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(Row(f"{label}, pass, {what}", statistics.median(found["seconds"]) * 1000, found["commands"]))
    return rows


async def _passes(config: Path, job: dict[str, Any]) -> None:
    """In a process of its own: passes on an open store, timed, as JSON on stdout."""
    from maillinkd import app
    from maillinkd.imap import poller
    from maillinkd.imap.protocol import ImapProtocol
    from maillinkd.ingest.synced import Synced
    from maillinkd.settings import load

    written = 0
    write = ImapProtocol.write

    def counted(protocol: Any, data: bytes) -> None:
        nonlocal written
        written += 1
        write(protocol, data)

    setattr(ImapProtocol, "write", counted)  # noqa: B010 - the only way to look inside
    settings = load(config)
    account = app._account(settings, "anna", datetime.now(UTC).date())
    seconds = []
    async with app.open_house(settings, publish=lambda line: None) as house:
        ledger = Synced(house)
        await poller.follow(account, ledger, once=True)  # what came since the last job, and what `mark` wants to know
        counts = []
        for _ in range(job["repeat"]):
            _change(account.port, job["what"])
            written, started = 0, time.perf_counter()
            summary = await poller.follow(account, ledger, once=True)
            seconds.append(time.perf_counter() - started)
            counts.append(written)
            expected = {"unchanged": (0, 0), "one new": (1, 0), "expunged": (0, EXPUNGED)}[job["what"]]
            if (summary.filed, summary.gone) != expected:
                raise RuntimeError(f"{job['what']}: {summary.filed} filed, {summary.gone} gone")
    print(json.dumps({"seconds": seconds, "commands": statistics.median(counts)}))


def _change(port: int, what: str) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as connection:
        connection.login(dovecot.USER, dovecot.PASSWORD)
        if what == "one new":
            connection.append("INBOX", "", "", _letter(time.time_ns()))
        if what == "expunged":
            connection.select("INBOX")
            connection.store(f"1:{EXPUNGED}", "+FLAGS", "(\\Deleted)")
            connection.expunge()


# The others


def _peer(peer: Peer, home: Path, port: int, arguments: argparse.Namespace) -> list[Row]:
    if shutil.which(peer.program) is None:
        print(f"{peer.name} is not installed", file=sys.stderr)
        return []
    directory = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=home))
    (directory / "mail").mkdir()
    rc = directory / "rc"
    values = {"directory": directory, "port": port, "user": dovecot.USER, "password": dovecot.PASSWORD}
    rc.write_text(peer.configuration.format(**values))
    _timed(peer.command(rc))
    turns = [_timed(peer.command(rc)) for _ in range(max(3, arguments.repeat // 3))]
    return [Row(f"{peer.name}, process, unchanged", statistics.median(turns) * 1000)]


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return seconds


if __name__ == "__main__":
    main()

"""First sync of a mailbox, measured beside what else one could run: each on a store of its own, in one run.

    python bench/sync.py [--messages 20000] [--repeat 1] [--server cold] [--directory DIR] [--only NAME]...

What is compared, each a process of its own, from its start to its end:

- `drain`       the nine header fields of all messages read from the socket and thrown away: nobody can be faster
- `imapclient`  a plain script of imapclient and sqlite3 that stores these headers as they come, nothing read in them;
                neither threads nor links
- `columns`     such a script that stores what they say, field by field, as one would search it (ENVELOPE)
- `mbsync`      whole messages into a Maildir
- `notmuch`     the same and `notmuch new`: headers, threads and a full-text index
- `maillinkd`   `maillinkd sync`, store = "headers": headers, threads, links and a journal of decisions
- `full`        the same with store = "full": whole messages too

All talk to the same private Dovecot with the same mailbox (bench/sample_mailbox.py).
"""

import argparse
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dovecot

FIELDS = "DATE FROM REPLY-TO TO CC SUBJECT MESSAGE-ID IN-REPLY-TO REFERENCES"
HEADERS = f"BODY.PEEK[HEADER.FIELDS ({FIELDS})]"
BATCH = 500

CONFIGURATION = """\
[database]
url = "sqlite:///{directory}/maillinkd.db"
[log]
format = "json"
[policy]
internal_domains = ["ourco.example"]
[users.anna]
address = "anna@ourco.example"
admin = true
[mailboxes.anna]
host = "127.0.0.1"
port = {port}
tls = "none"
username = "{user}"
password_file = "{directory}/password"
folders = ["INBOX"]
since = "all"
store = "{store}"
[smart_bcc]
enabled = false
"""

MBSYNCRC = """\
IMAPStore remote
Host 127.0.0.1
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN

MaildirStore local
Path {directory}/mail/
Inbox {directory}/mail/INBOX

Channel all
Far :remote:
Near :local:
Create Near
Sync Pull
SyncState *
"""

NOTMUCH = """\
[database]
path={directory}/mail
[user]
name=Anna
primary_email=anna@ourco.example
[new]
tags=new
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to get the mail: its commands, and how many messages it holds afterwards."""

    name: str
    program: str
    commands: Callable[[Path, int], list[list[str]]]
    count: Callable[[Path], int]


@dataclass(frozen=True, slots=True)
class Result:
    seconds: float
    peak_kilobytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=1, help="the median counts")
    parser.add_argument(
        "--server", choices=("warm", "cold"), default="warm",
        help="warm: Dovecot has served all headers before; cold: its indexes are deleted before each turn",
    )  # fmt: skip
    parser.add_argument("--directory", type=Path, help="keep the mailbox there and use it again")
    parser.add_argument("--only", action="append", choices=[c.name for c in CONTESTANTS], default=[])
    parser.add_argument("--as", dest="role", nargs=3, metavar=("ROLE", "DIRECTORY", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        role, directory, port = arguments.role
        ROLES[role](Path(directory), int(port))
        return
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        home = Path(scratch)
        maildir = _mailbox(arguments.directory or home, arguments.messages)
        server = dovecot.Dovecot(home, maildir)
        chosen = [c for c in CONTESTANTS if c.name in arguments.only or not arguments.only]
        _print(_contest(chosen, server, home, arguments), arguments.messages)


def _mailbox(directory: Path, messages: int) -> Path:
    """The Maildir with so many messages, made now or earlier, and beside it `items.jsonl`."""
    directory.mkdir(parents=True, exist_ok=True)
    maildir = (directory / f"maildir-{messages}").resolve()
    if not maildir.exists():
        # In a process of its own: what this process ever used counts into the peaks of those that it starts.
        script = Path(__file__).with_name("sample_mailbox.py")
        subprocess.run([sys.executable, script, maildir, f"--messages={messages}"], check=True)
    return maildir


def _contest(
    contestants: Iterable[Contestant], server: dovecot.Dovecot, home: Path, arguments: argparse.Namespace
) -> dict[str, list[Result]]:
    """Measures each in turn, as often as asked; says on stderr who could not take part."""
    results: dict[str, list[Result]] = {}
    present = []
    for contestant in contestants:
        if shutil.which(contestant.program):
            present.append(contestant)
        else:
            print(f"{contestant.name}: {contestant.program} is not installed", file=sys.stderr)
    if arguments.server == "warm":
        for contestant in present:
            if contestant.name in {"drain", "columns", "maillinkd"}:  # they ask for all that anyone asks for
                _turn(contestant, server, home, arguments.messages)
    for _ in range(arguments.repeat):
        for contestant in present:
            if arguments.server == "cold":
                server.forget_indexes()
            results.setdefault(contestant.name, []).append(_turn(contestant, server, home, arguments.messages))
    return results


def _turn(contestant: Contestant, server: dovecot.Dovecot, home: Path, messages: int) -> Result:
    """One fresh store, all commands of the contestant, and a look whether everything has arrived."""
    directory = Path(tempfile.mkdtemp(prefix=f"{contestant.name}-", dir=home))
    os.sync()  # whoever waits for the disk must not wait for what those before have left to be written
    with server.running() as port:
        done = [_measure(command, directory) for command in contestant.commands(directory, port)]
    stored = contestant.count(directory)
    if stored != messages:
        raise RuntimeError(f"{contestant.name} holds {stored} of {messages} messages")
    shutil.rmtree(directory)
    return Result(sum(result.seconds for result in done), max(result.peak_kilobytes for result in done))


def _measure(command: list[str], directory: Path) -> Result:
    """Runs a command to its end. Raises RuntimeError with the end of its output when it fails."""
    log = directory / "output.log"
    environment = os.environ | {"NOTMUCH_CONFIG": str(directory / "notmuch-config")}
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return Result(seconds, usage.ru_maxrss)


def _print(results: dict[str, list[Result]], messages: int) -> None:
    medians = {name: statistics.median(result.seconds for result in turns) for name, turns in results.items()}
    ours = medians.get("maillinkd")
    print(f"\nFirst sync of {messages} messages from Dovecot on {os.cpu_count()} cores, seconds (median)\n")
    print(f"{'':12}{'seconds':>9}{'x ours':>9}{'messages/s':>12}{'peak MB':>9}")
    for name, seconds in medians.items():
        ratio = f"{seconds / ours:9.2f}" if ours else f"{'':9}"
        peak = max(result.peak_kilobytes for result in results[name]) / 1024
        print(f"{name:12}{seconds:9.2f}{ratio}{messages / seconds:12.0f}{peak:9.0f}")


# The contestants. Each writes its configuration into its directory and says what to run there.


def _myself(role: str) -> Callable[[Path, int], list[list[str]]]:
    return lambda directory, port: [[sys.executable, __file__, "--as", role, str(directory), str(port)]]


def _mbsync(directory: Path, port: int) -> list[list[str]]:
    (directory / "mail").mkdir()
    rc = MBSYNCRC.format(port=port, user=dovecot.USER, password=dovecot.PASSWORD, directory=directory)
    (directory / "mbsyncrc").write_text(rc)
    return [["mbsync", "--quiet", "--config", str(directory / "mbsyncrc"), "all"]]


def _notmuch(directory: Path, port: int) -> list[list[str]]:
    (directory / "notmuch-config").write_text(NOTMUCH.format(directory=directory))
    return [*_mbsync(directory, port), ["notmuch", "new", "--quiet"]]


def _full(directory: Path, port: int) -> list[list[str]]:
    return _maillinkd(directory, port, store="full")


def _maillinkd(directory: Path, port: int, store: str = "headers") -> list[list[str]]:
    import sample_mailbox

    config = directory / "maillinkd.toml"
    config.write_text(CONFIGURATION.format(directory=directory, port=port, user=dovecot.USER, store=store))
    (directory / "password").write_text(dovecot.PASSWORD)
    (directory / "password").chmod(0o600)
    sample_mailbox.write_items(directory / "items.jsonl")
    run = [sys.executable, "-m", "maillinkd", "--config", str(config)]
    subprocess.run([*run, "import", "items", str(directory / "items.jsonl")], check=True, capture_output=True)
    return [[*run, "sync"]]


def _count_threads(directory: Path) -> int:
    """Messages in the threads that the command line shows."""
    run = [sys.executable, "-m", "maillinkd", "--config", str(directory / "maillinkd.toml")]
    listing = subprocess.run([*run, "--json", "threads", "list"], check=True, capture_output=True, text=True).stdout
    return sum(json.loads(line)["message_count"] for line in listing.splitlines())


def _drain(directory: Path, port: int) -> None:
    """Reads what the server sends as fast as it comes; keeps the number of messages."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        commands = (f"a LOGIN {dovecot.USER} {dovecot.PASSWORD}", "b EXAMINE INBOX", f"c UID FETCH 1:* ({HEADERS})")
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        buffer = bytearray(1 << 20)
        tail, fetched, done = b"", 0, False
        while not done:
            length = connection.recv_into(buffer)
            if length == 0:
                raise ConnectionError("the server hung up")
            received = tail + buffer[:length]
            done = b"\r\nc OK" in received
            tail = received[-20:]
            fetched += received.count(b" FETCH (") - tail.count(b" FETCH (")
    (directory / "count").write_text(str(fetched + tail.count(b" FETCH (")))


def _imapclient(directory: Path, port: int) -> None:
    """What one would write on an afternoon."""

    def row(uid: int, answer: dict[bytes, Any]) -> tuple[object, ...]:
        return (*_place(uid, answer), answer[f"BODY[HEADER.FIELDS ({FIELDS})]".encode()])

    _plain_script(directory, port, [HEADERS], "headers", row)


def _columns(directory: Path, port: int) -> None:
    """What one would write on the next one."""

    def listed(addresses: Iterable[object] | None) -> str:
        return ", ".join(map(str, addresses or ()))

    def row(uid: int, answer: dict[bytes, Any]) -> tuple[object, ...]:
        said = answer[b"ENVELOPE"]
        people = map(listed, (said.from_, said.reply_to, said.to, said.cc))
        ids = (said.message_id, said.in_reply_to, answer[b"BODY[HEADER.FIELDS (REFERENCES)]"])
        return (*_place(uid, answer), str(said.date), said.subject, *people, *ids)

    columns = "sent_at, subject, sender, reply_to, recipient, cc, message_id, in_reply_to, refers"
    _plain_script(directory, port, ["ENVELOPE", "BODY.PEEK[HEADER.FIELDS (REFERENCES)]"], columns, row)


def _place(uid: int, answer: dict[bytes, Any]) -> tuple[object, ...]:
    return uid, answer[b"INTERNALDATE"].isoformat(), answer[b"RFC822.SIZE"]


def _plain_script(
    directory: Path,
    port: int,
    items: list[str],
    columns: str,
    row: Callable[[int, dict[bytes, Any]], tuple[object, ...]],
) -> None:
    import imapclient

    client = imapclient.IMAPClient("127.0.0.1", port=port, ssl=False)
    client.login(dovecot.USER, dovecot.PASSWORD)
    client.select_folder("INBOX", readonly=True)
    with closing(sqlite3.connect(directory / "mail.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"CREATE TABLE message (uid INTEGER PRIMARY KEY, received_at, size, {columns})")
        marks = ", ".join("?" * (3 + len(columns.split(","))))
        uids = client.search("ALL")
        for start in range(0, len(uids), BATCH):
            answers = client.fetch(uids[start : start + BATCH], ["INTERNALDATE", "RFC822.SIZE", *items])
            with database:
                rows = [row(uid, answer) for uid, answer in answers.items()]
                database.executemany(f"INSERT INTO message VALUES ({marks})", rows)
    client.logout()


def _count_rows(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "mail.db")) as database:
        (rows,) = database.execute("SELECT count(*) FROM message").fetchone()
        return int(rows)


def _count_files(directory: Path) -> int:
    return sum(1 for folder in ("cur", "new") for _ in (directory / "mail" / "INBOX" / folder).iterdir())


def _count_indexed(directory: Path) -> int:
    environment = os.environ | {"NOTMUCH_CONFIG": str(directory / "notmuch-config")}
    return int(subprocess.run(["notmuch", "count", "*"], env=environment, check=True, capture_output=True).stdout)


ROLES = {"drain": _drain, "imapclient": _imapclient, "columns": _columns}

CONTESTANTS = (
    Contestant("drain", sys.executable, _myself("drain"), lambda directory: int((directory / "count").read_text())),
    Contestant("imapclient", sys.executable, _myself("imapclient"), _count_rows),
    Contestant("columns", sys.executable, _myself("columns"), _count_rows),
    Contestant("mbsync", "mbsync", _mbsync, _count_files),
    Contestant("notmuch", "notmuch", _notmuch, _count_indexed),
    Contestant("maillinkd", sys.executable, _maillinkd, _count_threads),
    Contestant("full", sys.executable, _full, _count_threads),
)


if __name__ == "__main__":
    main()

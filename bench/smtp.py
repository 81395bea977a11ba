"""Durable messages accepted in a second, by our Smart Bcc door and by Postfix: one load, one machine, one run.

    python bench/smtp.py [--messages 2000] [--sessions 1,10,50] [--repeat 3] [--listener-only]

The load is Postfix's smtp-source, 4 kB a message, over new connections (one a message) and over reused ones. Both
servers answer 250 when the message is on disk and fsynced; Postfix's queue manager then discards it, our daemon
then files it (parses, places in a thread, decides). Runs alternate; before each the server has nothing left to do.
What counts is the median.

`--listener-only` measures the door alone: what it takes is committed in groups to SQLite, and nothing is filed.

Needs root, for Postfix gives up its rights; it runs from a directory of its own, on a port of its own.
"""

import argparse
import asyncio
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvloop

from maillinkd.mail.delivery import Received
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.listener import Listener, ListenerConfig

PATIENCE = 60.0
MESSAGE_OCTETS = 4000
RECIPIENT = "ourco@bcc.ourco.example"
PATH = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")

DAEMON_CONFIGURATION = """\
[database]
url = "sqlite:///{directory}/maillinkd.db"
[log]
format = "json"
[users.anna]
address = "anna@ourco.example"
[smart_bcc]
enabled = true
domain = "bcc.ourco.example"
local_part = "ourco"
listen = ["127.0.0.1:{port}"]
require_authentication = false
"""

POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = mx.ourco.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination = bcc.ourco.example
local_recipient_maps =
local_transport = discard:
default_transport = discard:
alias_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
default_process_limit = 200
"""

POSTFIX_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
"""


class Server(Protocol):
    """What is measured."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    def backlog(self) -> int:
        """Messages that it took and has still to work on."""


@dataclass(frozen=True, slots=True)
class Postfix:
    port: int
    queue: Path
    name: str = "postfix"

    def backlog(self) -> int:
        return sum(
            len(files) for part in ("incoming", "active", "deferred") for _, _, files in os.walk(self.queue / part)
        )


@dataclass(frozen=True, slots=True)
class Maillinkd:
    port: int
    database: Path
    name: str = "maillinkd"

    def backlog(self) -> int:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM inbound").fetchone()[0])


@dataclass(frozen=True, slots=True)
class Door:
    port: int
    name: str = "listener"

    def backlog(self) -> int:
        return 0


@contextmanager
def postfix(directory: Path) -> Iterator[Postfix]:
    """A private Postfix, started and stopped."""
    server = Postfix(free_port(), directory / "queue")
    directory.chmod(0o755)
    for name in ("queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    (directory / "main.cf").write_text(POSTFIX_MAIN.format(directory=directory))
    (directory / "master.cf").write_text(POSTFIX_MASTER.format(port=server.port))
    program = str(shutil.which("postfix", path=PATH))
    subprocess.run([program, "-c", str(directory), "start"], check=True, capture_output=True)
    try:
        await_greeting(server.port)
        yield server
    finally:
        subprocess.run([program, "-c", str(directory), "stop"], check=True, capture_output=True)


@contextmanager
def maillinkd(directory: Path) -> Iterator[Maillinkd]:
    """The real daemon with nothing but the Smart Bcc door."""
    server = Maillinkd(free_port(), directory / "maillinkd.db")
    configuration = directory / "maillinkd.toml"
    configuration.write_text(DAEMON_CONFIGURATION.format(directory=directory, port=server.port))
    command = [sys.executable, "-m", "maillinkd", "--config", str(configuration), "run"]
    with running(command, directory / "log", server.port):
        yield server


@contextmanager
def door(directory: Path) -> Iterator[Door]:
    """The listener alone, in a process of its own."""
    server = Door(free_port())
    command = [sys.executable, __file__, "--serve", str(server.port), str(directory / "taken.db")]
    with running(command, directory / "log", server.port):
        yield server


@contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            await_greeting(port)
            yield
        except TimeoutError:
            raise SystemExit(f"{' '.join(command)} does not answer:\n{log.read_text()[-2000:]}") from None
        finally:
            process.terminate()
            process.wait(PATIENCE)


class GroupCommit:
    """Makes durable what came while the last commit ran, in one transaction."""

    def __init__(self, database: str) -> None:
        self._connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE taken (id INTEGER PRIMARY KEY, envelope TEXT, raw BLOB)")
        self._waiting: list[tuple[Received, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def take(self, received: Received) -> None:
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append((received, durable))
        self._wake.set()
        await durable

    async def commit_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._commit, [received for received, _ in batch])
            for _, durable in batch:
                durable.set_result(None)

    def _commit(self, batch: list[Received]) -> None:
        rows = [(f"{received.sender} {received.recipients}", received.raw) for received in batch]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO taken (envelope, raw) VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")


async def serve(port: int, database: str) -> None:
    """The listener with a store that does nothing but keep."""
    store = GroupCommit(database)
    config = ListenerConfig(
        recipients=SmartBccAddress("bcc.ourco.example", "ourco"),
        hostname="mx.ourco.example",
        listen=(("127.0.0.1", port),),
    )
    await Listener(config, store.take).start()
    await store.commit_for_ever()


def load(server: Server, messages: int, sessions: int, *, reuse: bool) -> float:
    """Messages a second, each answered with 250."""
    program = shutil.which("smtp-source", path=PATH)
    if not program:
        raise SystemExit("smtp-source is not installed (Debian: postfix)")
    command = [
        program,
        "-m",
        str(messages),
        "-s",
        str(sessions),
        "-l",
        str(MESSAGE_OCTETS),
        "-f",
        "anna@ourco.example",
    ]
    began = time.perf_counter()
    subprocess.run(
        [*command, "-t", RECIPIENT, *(["-d"] if reuse else []), f"inet:127.0.0.1:{server.port}"], check=True
    )
    return messages / (time.perf_counter() - began)


def settle(server: Server) -> None:
    """Waits until the server has worked off what it took."""
    deadline = time.monotonic() + 10 * PATIENCE
    while server.backlog():
        if time.monotonic() > deadline:
            raise SystemExit(f"{server.name} does not work off what it took")
        time.sleep(0.1)


def await_greeting(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            if connection.recv(100).startswith(b"220"):
                return
        time.sleep(0.1)
    raise TimeoutError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def compare(ours: Server, theirs: Server, options: argparse.Namespace) -> None:
    """Prints a row for each number of sessions and kind of connection."""
    print(f"{'sessions':>8}  {'connections':<11}  {ours.name:>10}/s  {theirs.name:>10}/s  {'ratio':>5}")
    for reuse in (False, True):
        for sessions in options.sessions:
            rates: dict[str, list[float]] = {ours.name: [], theirs.name: []}
            for _ in range(options.repeat):
                for server in (theirs, ours):
                    settle(server)
                    rates[server.name].append(load(server, options.messages, sessions, reuse=reuse))
            our_rate, their_rate = (statistics.median(rates[server.name]) for server in (ours, theirs))
            kind = "reused" if reuse else "new"
            figures = f"{our_rate:>10.0f}    {their_rate:>10.0f}    {our_rate / their_rate:>5.2f}"
            print(f"{sessions:>8}  {kind:<11}  {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2000, help="messages a run")
    parser.add_argument(
        "--sessions", type=lambda text: [int(word) for word in text.split(",")], default=[1, 10, 50], metavar="N,N"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--listener-only", action="store_true", help="the door alone, with nothing behind it")
    parser.add_argument("--directory", type=Path, help="where both keep their data; a disk, not a RAM disk")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "DATABASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(int(options.serve[0]), options.serve[1]))
        return
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="bench-smtp-") as directory:
        ours, theirs = Path(directory, "ours"), Path(directory, "postfix")
        ours.mkdir()
        theirs.mkdir()
        Path(directory).chmod(0o755)  # Postfix's processes walk through it
        with (door if options.listener_only else maillinkd)(ours) as our_server, postfix(theirs) as postfix_server:
            compare(our_server, postfix_server, options)


if __name__ == "__main__":
    main()

"""The IMAP receive path alone, measured beside draining the socket raw: the same mail, in the same run.

    python bench/receive.py [--messages 20000] [--repeat 5] [--directory DIR] [--no-uvloop]

Each turn is a process of its own that logs in, opens the folder, has every message sent to it and lets it go:

- `drain`    recv() into one buffer until the tagged answer comes: nobody can be faster
- `receive`  our connection, parser and reader, which yield `Fetched` values; nothing is filed

in both modes: `headers` (the header fields that maillinkd asks for, INTERNALDATE, RFC822.SIZE) and `full` (whole
messages). Seconds are those from the connection to the last message, after imports; CPU seconds are those of the
client. The median of the turns counts. What is drained is one answer to one command; the reader asks in chunks.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import dovecot

_EVERYTHING = -1
"""Who drains does not count: the tagged answer came."""
MODES: tuple[Literal["headers", "full"], ...] = ("headers", "full")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one process measured of itself."""

    messages: int
    octets: int
    seconds: float
    cpu_seconds: float
    peak_kilobytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=5, help="the median counts")
    parser.add_argument("--directory", type=Path, help="keep the mailbox there and use it again")
    parser.add_argument("--no-uvloop", action="store_true", help="asyncio's own event loop instead of uvloop")
    parser.add_argument("--only", choices=MODES)
    parser.add_argument("--as", dest="role", nargs=3, metavar=("ROLE", "MODE", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        role, mode, port = arguments.role
        turn = _drain(mode, int(port)) if role == "drain" else _receive(mode, int(port), arguments.no_uvloop)
        print(json.dumps(turn))
        return
    modes = [mode for mode in MODES if arguments.only in {None, mode}]
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        maildir = _mailbox(arguments.directory or Path(scratch), arguments.messages)
        with dovecot.Dovecot(Path(scratch), maildir).running() as port:
            for mode in modes:
                _print(mode, _contest(mode, port, arguments))


def _mailbox(directory: Path, messages: int) -> Path:
    """The Maildir with so many messages, made now or earlier."""
    directory.mkdir(parents=True, exist_ok=True)
    maildir = (directory / f"maildir-{messages}").resolve()
    if not maildir.exists():
        script = Path(__file__).with_name("sample_mailbox.py")
        subprocess.run([sys.executable, script, maildir, f"--messages={messages}"], check=True)
    return maildir


def _contest(mode: str, port: int, arguments: argparse.Namespace) -> dict[str, list[Turn]]:
    """Both in turn, as often as asked, after one turn each that fills Dovecot's cache and the system's."""
    results: dict[str, list[Turn]] = {"drain": [], "receive": []}
    for at in range(arguments.repeat + 1):
        for role, turns in results.items():
            command = [sys.executable, __file__, "--as", role, mode, str(port)]
            command += ["--no-uvloop"] if arguments.no_uvloop else []
            turn = Turn(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            if turn.messages not in {_EVERYTHING, arguments.messages}:
                raise RuntimeError(f"{role} got {turn.messages} of {arguments.messages} messages")
            if at:
                turns.append(turn)
    return results


def _print(mode: str, results: dict[str, list[Turn]]) -> None:
    sample = results["receive"][0]
    print(f"\n{mode}: {sample.messages} messages, {sample.octets / 1e6:.1f} MB, on {os.cpu_count()} cores (median)\n")
    print(f"{'':9}{'seconds':>9}{'x drain':>9}{'CPU s':>9}{'x drain':>9}{'messages/s':>12}{'peak MB':>9}")
    floor = results["drain"]
    for role, turns in results.items():
        seconds, cpu = (statistics.median(values) for values in _times(turns))
        least, least_cpu = (statistics.median(values) for values in _times(floor))
        peak = max(turn.peak_kilobytes for turn in turns) / 1024
        rate = sample.messages / seconds
        print(f"{role:9}{seconds:9.3f}{seconds / least:9.2f}{cpu:9.3f}{cpu / least_cpu:9.2f}{rate:12.0f}{peak:9.0f}")


def _times(turns: list[Turn]) -> tuple[list[float], list[float]]:
    return [turn.seconds for turn in turns], [turn.cpu_seconds for turn in turns]


def _measured(messages: int, octets: int, started: float, cpu_started: float) -> dict[str, float]:
    return {
        "messages": messages,
        "octets": octets,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _drain(mode: str, port: int) -> dict[str, float]:
    """One FETCH for everything, read as fast as it comes."""
    from maillinkd.mail.message import FIELDS

    body = f"BODY.PEEK[HEADER.FIELDS ({' '.join(FIELDS)})]" if mode == "headers" else "BODY.PEEK[]"
    fetch = f"c UID FETCH 1:* (UID INTERNALDATE RFC822.SIZE {body})"
    commands = (f"a LOGIN {dovecot.USER} {dovecot.PASSWORD}", "b EXAMINE INBOX", fetch)
    started, cpu_started = time.perf_counter(), time.process_time()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        buffer = bytearray(1 << 20)
        tail, octets = b"", 0
        while b"\r\nc OK" not in tail:
            length = connection.recv_into(buffer)
            if length == 0:
                raise ConnectionError("the server hung up")
            octets += length
            tail = tail[-200:] + bytes(buffer[max(0, length - 200) : length])
    return _measured(_EVERYTHING, octets, started, cpu_started)


def _receive(mode: Literal["headers", "full"], port: int, plain: bool) -> dict[str, float]:
    """The reader's batches of a first sync, each counted and let go."""
    from maillinkd.imap import sync
    from maillinkd.imap.account import Account
    from maillinkd.imap.client import connect
    from maillinkd.imap.folders import Folder
    from maillinkd.imap.reader import Reading, Trouble
    from maillinkd.mail.delivery import Ledger
    from maillinkd.mail.message import FIELDS

    class Nobody:
        """A ledger that knows nothing and keeps nothing."""

        async def known_uids(self, mailbox: str, folder: str, validity: int, low: int, high: int) -> Collection[int]:
            return ()

    account = Account(
        "bench", "127.0.0.1", port, "none", dovecot.USER, dovecot.PASSWORD, folders=("INBOX",), store=mode
    )  # fmt: skip
    inbox = Folder("INBOX", b"INBOX", "/", frozenset())

    async def receive() -> dict[str, float]:
        messages = octets = 0
        started, cpu_started = time.perf_counter(), time.process_time()
        connection = await connect(account)
        cursor = sync.starting(None, await connection.examine(inbox), 0, None)
        ledger = cast("Ledger", Nobody())  # all that a first sync asks of one
        reading = Reading(connection, account, ledger, FIELDS, Trouble(), lambda count: None)
        async with aclosing(reading.batches(inbox, cursor, compare=False)) as batches:
            async for brought in batches:
                messages += len(brought.messages)
                octets += sum(len(each.headers if each.raw is None else each.raw) for each in brought.messages)
                reading.filed(brought)
        measured = _measured(messages, octets, started, cpu_started)
        connection.abort()
        return measured

    if plain:
        return asyncio.run(receive())
    import uvloop

    return uvloop.run(receive())


if __name__ == "__main__":
    main()

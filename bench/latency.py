"""How long a new message takes from the server to the decision line.

    python bench/latency.py [--messages 40] [--stored 2000] [--show-dovecot]

A daemon (`maillinkd run`) follows INBOX and Sent on a private Dovecot. Messages are appended one by one by another
client; a wiretap between the daemon and Dovecot notes when the server announces each. Two figures a message, medians
and the slowest of all:

- `from APPEND's OK`      what a user sees; of it 500 ms are Dovecot's, see below
- `from the announcement` what is ours: end IDLE, search, fetch, parse, place, decide, commit, write the line

Dovecot waits for half a second before it tells anybody of a change (NOTIFY_DELAY_MSECS, a constant in
src/lib-storage/mailbox-watch.c that no setting shortens), for IDLE and for NOTIFY alike. So the first figure cannot
be under 0.5 s with Dovecot 2.3, whoever listens; `--show-dovecot` prints how long it took for each message.

The first turn is against Dovecot without NOTIFY in its capabilities, so that IDLE is used. Then Sent is not announced
at all but asked for every minute, and not measured.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dovecot
from sync import CONFIGURATION

WITHOUT_NOTIFY = (
    "imap_capability = IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ UIDPLUS UNSELECT CHILDREN NAMESPACE "
    "LIST-EXTENDED CONDSTORE QRESYNC ESEARCH LIST-STATUS SPECIAL-USE\n"
)
SENT = "namespace inbox {\n  inbox = yes\n  mailbox Sent {\n    auto = create\n    special_use = \\Sent\n  }\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=40, help="for each folder and way")
    parser.add_argument("--stored", type=int, default=2_000, help="so many messages are there before")
    parser.add_argument("--show-dovecot", action="store_true", help="also how long Dovecot took to announce")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        rows = asyncio.run(_measure(Path(scratch), arguments))
    each = f"{arguments.messages} messages each"
    print(f"\nFrom a new message to its decision line on {os.cpu_count()} cores, ms, {each}\n")
    print(f"{'':22}{'announcement to line':>22}{'slowest':>9}{'OK to line':>12}{'OK to announcement':>20}")
    for name, times in rows.items():
        ours = [line - said for _, said, line in times]
        whole = [line - ok for ok, _, line in times]
        theirs = [said - ok for ok, said, _ in times]
        print(
            f"{name:22}{statistics.median(ours) * 1000:22.1f}{max(ours) * 1000:9.1f}"
            f"{statistics.median(whole) * 1000:12.1f}{statistics.median(theirs) * 1000:20.1f}"
        )
        if arguments.show_dovecot:
            print(" " * 4 + " ".join(f"{each * 1000:.0f}" for each in theirs))


async def _measure(scratch: Path, arguments: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """By folder and way: when the server said OK to APPEND, when it announced, when the decision was written."""
    scratch.chmod(0o755)  # the mail is not root's
    rows = {}
    for by, extra, folders in (("IDLE", WITHOUT_NOTIFY, ["INBOX"]), ("NOTIFY", "", ["INBOX", "Sent"])):
        home = scratch / by
        (home / "maildir").mkdir(parents=True)
        _write_stored(home / "maildir", arguments.stored)
        with dovecot.Dovecot(home, home / "maildir", SENT + extra).running() as port:
            async with _daemon(home, port) as daemon, _Appender(port) as appender:
                for folder in folders:
                    rows[f"{by}, {folder}"] = [
                        await daemon.one(appender, folder, f"{by}-{folder}-{number}@customer.example")
                        for number in range(arguments.messages)
                    ]
    return rows


def _write_stored(maildir: Path, messages: int) -> None:
    import sample_mailbox

    maildir.rmdir()
    sample_mailbox.write_maildir(maildir, messages)


class _Appender:
    """Another client, which puts mail into folders."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "_Appender":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._reader.readline()
        await self._ask(f"LOGIN {dovecot.USER} {dovecot.PASSWORD}".encode())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()

    async def append(self, folder: str, message_id: str) -> float:
        """Returns the time of the server's OK."""
        raw = (
            "From: Carla <mail0@customer0.example>\r\nTo: anna@ourco.example\r\nSubject: New roof\r\n"
            f"Date: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: <{message_id}>\r\n\r\nText\r\n"
        ).encode()
        await self._ask(b"APPEND %s {%d+}\r\n%s" % (folder.encode(), len(raw), raw))
        return time.monotonic()

    async def _ask(self, command: bytes) -> None:
        self._writer.write(b"a " + command + b"\r\n")
        while not (line := await self._reader.readline()).startswith(b"a "):
            if not line:
                raise ConnectionError("the server hung up")
        if not line.startswith(b"a OK"):
            raise RuntimeError(line.decode())


class _Daemon:
    """A running daemon: its decision lines, and what the server announced to it."""

    def __init__(self) -> None:
        self.announced: asyncio.Queue[float] = asyncio.Queue()
        self.decided: asyncio.Queue[tuple[float, str]] = asyncio.Queue()
        self.log: deque[str] = deque(maxlen=20)
        self.waits = asyncio.Event()
        """It is in IDLE, and nothing is on its way."""

    async def one(self, appender: _Appender, folder: str, message_id: str) -> tuple[float, float, float]:
        async with asyncio.timeout(30):
            await self._calm()
            while not self.announced.empty():
                self.announced.get_nowait()
            ok = await appender.append(folder, message_id)
            said = await self.announced.get()
            while True:
                line, decided = await self.decided.get()
                if decided == f"<{message_id}>":
                    return ok, said, line

    async def _calm(self) -> None:
        """Until it has been in IDLE for a while: the look that follows an announcement is over."""
        while True:
            await self.waits.wait()
            try:
                async with asyncio.timeout(3.0):
                    while self.waits.is_set():
                        await asyncio.sleep(0.02)
            except TimeoutError:
                return

    async def read_log(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            now = time.monotonic()
            self.log.append(line.decode(errors="replace"))
            if b'"event":"link"' in line.replace(b'": "', b'":"'):
                self.decided.put_nowait((now, json.loads(line)["message_id"]))

    async def carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The wiretap: carries bytes, and looks at the lines of the server."""
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def up() -> None:
            while data := await reader.read(65_536):
                if data == b"DONE\r\n":
                    self.waits.clear()
                back.write(data)
            back.close()

        async def down() -> None:
            while data := await there.read(65_536):
                now = time.monotonic()
                writer.write(data)
                if data.startswith(b"+ "):
                    self.waits.set()
                elif self.waits.is_set() and (b" EXISTS\r\n" in data or data.startswith(b"* STATUS ")):
                    self.announced.put_nowait(now)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)


@asynccontextmanager
async def _daemon(home: Path, port: int) -> AsyncIterator[_Daemon]:
    daemon = _Daemon()
    tap = await asyncio.start_server(lambda r, w: daemon.carry(port, r, w), "127.0.0.1", 0)
    tapped = tap.sockets[0].getsockname()[1]
    text = CONFIGURATION.format(directory=home, port=tapped, user=dovecot.USER)
    (home / "maillinkd.toml").write_text(text.replace('folders = ["INBOX"]', 'folders = ["INBOX", "Sent"]'))
    (home / "password").write_text(dovecot.PASSWORD)
    (home / "password").chmod(0o600)
    command = [sys.executable, "-m", "maillinkd", "--config", str(home / "maillinkd.toml")]
    process = await asyncio.create_subprocess_exec(*command, "run", stderr=subprocess.PIPE, limit=2**24)
    assert process.stderr is not None
    reading = asyncio.create_task(daemon.read_log(process.stderr))
    try:
        yield daemon
    except Exception:
        print("".join(daemon.log), file=sys.stderr)
        raise
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading
        tap.close()


if __name__ == "__main__":
    main()

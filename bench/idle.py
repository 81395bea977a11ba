"""What a mailbox costs that waits in IDLE: memory and time, in one process with many of them.

    python bench/idle.py [--mailboxes 1000] [--only tls] [--only plain]

`maillinkd run` follows so many mailboxes on a server of this script's, in a process of its own, that answers at once
and has no mail. What is printed is the daemon's resident memory when all are in IDLE and two seconds have passed,
beside that of a daemon with one mailbox; the difference is what the others cost, configuration, leases, sockets and
TLS included. `asyncio` is the same with `--no-uvloop`.
"""

import argparse
import asyncio
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

CAPABILITIES = (
    "IMAP4rev1 SASL-IR LITERAL+ IDLE AUTH=PLAIN ENABLE NAMESPACE LIST-EXTENDED LIST-STATUS SPECIAL-USE CONDSTORE "
    "QRESYNC ESEARCH UIDPLUS UNSELECT"
)
ANSWERS = {
    "CAPABILITY": f"* CAPABILITY {CAPABILITIES}\r\n",
    "LIST": '* LIST (\\HasNoChildren) "/" INBOX\r\n',
    "EXAMINE": (
        "* FLAGS (\\Seen)\r\n* 0 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] Ok\r\n* OK [UIDNEXT 1] Ok\r\n"
        "* OK [HIGHESTMODSEQ 1] Ok\r\n"
    ),
    "STATUS": '* STATUS "INBOX" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1 HIGHESTMODSEQ 1)\r\n',
    "UID": "* SEARCH\r\n",
}
"""What the server says before its OK."""

HEAD = """\
[database]
url = "sqlite:///{directory}/maillinkd.db"
[log]
format = "json"
[users.anna]
address = "anna@ourco.example"
admin = true
[smart_bcc]
enabled = false
"""
MAILBOX = """\
[mailboxes.m{number}]
owner = "anna"
host = "127.0.0.1"
port = {port}
tls = "{tls}"
username = "m{number}"
password_file = "{directory}/password"
folders = ["INBOX"]
"""


@dataclass(frozen=True, slots=True)
class Figures:
    megabytes: float
    seconds: float
    """Until all were in IDLE."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, default=1_000)
    parser.add_argument("--only", action="append", choices=("plain", "tls"), default=[])
    parser.add_argument("--as-server", nargs=2, metavar=("DIRECTORY", "TLS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _raise_limit()
    if arguments.as_server:
        import uvloop

        directory, tls = arguments.as_server
        uvloop.run(_serve(Path(directory), tls == "tls"))
        return
    print(f"\n{arguments.mailboxes} mailboxes in IDLE in one process on {os.cpu_count()} cores\n")
    print(f"{'':18}{'one, MB':>9}{'all, MB':>9}{'above, MB':>11}{'kB each':>9}{'seconds':>9}")
    for way in arguments.only or ["plain", "tls"]:
        for loop, options in (("uvloop", []), ("asyncio", ["--no-uvloop"])):
            one, many = (_measure(way, options, count) for count in (1, arguments.mailboxes))
            above = many.megabytes - one.megabytes
            each = above * 1024 / (arguments.mailboxes - 1)
            print(
                f"{way + ', ' + loop:18}{one.megabytes:9.0f}{many.megabytes:9.0f}{above:11.0f}{each:9.0f}"
                f"{many.seconds:9.1f}"
            )


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(way: str, options: list[str], mailboxes: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        directory = Path(scratch)
        if way == "tls":
            _make_certificate(directory)
        with _server(directory, way) as port:
            config = _configure(directory, port, way, mailboxes)
            command = [sys.executable, "-m", "maillinkd", "--config", str(config), "run", *options]
            started = time.perf_counter()
            with (directory / "log").open("wb") as log:
                daemon = subprocess.Popen(command, stderr=log)
            try:
                _wait_for_idle(directory, mailboxes, daemon)
                seconds = time.perf_counter() - started
                time.sleep(2)
                return Figures(_resident(daemon.pid), seconds)
            finally:
                daemon.terminate()
                daemon.wait(60)


def _make_certificate(directory: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(directory / "cert.key"), "-out", str(directory / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip


def _configure(directory: Path, port: int, way: str, mailboxes: int) -> Path:
    (directory / "password").write_text("secret")
    (directory / "password").chmod(0o600)
    tls = "implicit" if way == "tls" else "none"
    text = HEAD.format(directory=directory)
    for number in range(mailboxes):
        text += MAILBOX.format(number=number, port=port, tls=tls, directory=directory)
        if way == "tls":
            text += f'ca_file = "{directory}/cert.pem"\n'
    config = directory / "maillinkd.toml"
    config.write_text(text)
    return config


def _wait_for_idle(directory: Path, mailboxes: int, daemon: "subprocess.Popen[bytes]") -> None:
    """Until so many connections are in IDLE; raises RuntimeError with the end of the log if that takes too long."""
    deadline = time.monotonic() + 180
    while int((directory / "idling").read_text() or 0) < mailboxes:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((directory / "log").read_text(errors="replace")[-3000:])
        time.sleep(0.05)


def _resident(pid: int) -> float:
    """Resident memory of a process, MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# The server


@contextmanager
def _server(directory: Path, way: str) -> Iterator[int]:
    (directory / "idling").write_text("0")
    process = subprocess.Popen([sys.executable, __file__, "--as-server", str(directory), way])
    try:
        port = directory / "port"
        while not port.exists():
            if process.poll() is not None:
                raise RuntimeError("the server did not start")
            time.sleep(0.02)
        yield int(port.read_text())
    finally:
        process.terminate()
        process.wait(30)


async def _serve(directory: Path, tls: bool) -> None:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "cert.pem", directory / "cert.key")
    idling = 0

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)
            self._line = b""
            self._tag = "*"
            self._transport.write(b"* OK ready\r\n")

        def data_received(self, data: bytes) -> None:
            self._line += data
            while b"\r\n" in self._line:
                line, self._line = self._line.split(b"\r\n", 1)
                self._answer(line.decode())

        def _answer(self, line: str) -> None:
            nonlocal idling
            if line == "DONE":
                idling -= 1
                self._transport.write(f"{self._tag} OK\r\n".encode())
                return
            self._tag, command, *_ = line.split(" ")
            if command == "IDLE":
                idling += 1
                self._transport.write(b"+ idling\r\n")
            else:
                self._transport.write(f"{ANSWERS.get(command, '')}{self._tag} OK done\r\n".encode())

    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0, ssl=context, backlog=4096)
    (directory / "port.new").write_text(str(server.sockets[0].getsockname()[1]))
    (directory / "port.new").rename(directory / "port")
    while True:
        (directory / "idling.new").write_text(str(idling))
        (directory / "idling.new").rename(directory / "idling")
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()

"""`maillinkd demo`, which `make run` runs: the real process, watched as a visitor watches it."""

import asyncio
import imaplib
import re
import signal
import smtplib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from maillinkd import demo

REASONS = {
    "internal_only", "no_known_person", "many_recipients_no_open_item", "no_item", "only_closed_items",
    "ambiguous_several_open_items", "item_newer_than_thread", "linked_single_open_item", "kept_existing_link",
}  # fmt: skip
PATIENCE = 30.0


@dataclass
class Running:
    """The process and what it has printed so far."""

    process: asyncio.subprocess.Process
    smtp_port: int
    lines: list[str] = field(default_factory=list)

    async def until(self, wanted: Callable[[str], bool]) -> str:
        """The next line that is wanted. Raises TimeoutError when none comes, with what did come."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while line := (await self.process.stdout.readline()).decode():
                    self.lines.append(line)
                    if wanted(line):
                        return line
        except TimeoutError:
            raise TimeoutError("".join(self.lines)) from None
        raise AssertionError("the demo ended:\n" + "".join(self.lines))

    def imap_port(self) -> int:
        """Where it listens besides Smart Bcc; it may have had to take another port than the usual one."""
        sockets = {str(fd.readlink()) for fd in Path(f"/proc/{self.process.pid}/fd").iterdir()}
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = {
            int(row[1].split(":")[1], 16) for row in table if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
        }
        (port,) = listening - {self.smtp_port}
        return port


@asynccontextmanager
async def running_demo(directory: Path) -> AsyncIterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        smtp_port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "maillinkd", "demo",
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "MAILLINKD__SMART_BCC__LISTEN": f'["127.0.0.1:{smtp_port}"]'},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Running(process, smtp_port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def quickest(running: Running, send: Callable[[str], None], reason: str) -> float:
    """Seconds from a mail's acceptance to its decision with this reason, the best of three."""

    async def once(number: int) -> float:
        name = f"visitor-{number}-{time.monotonic_ns()}@ourco.example"
        await asyncio.to_thread(send, name)
        accepted = time.monotonic()
        line = await running.until(lambda line: name in line)
        assert reason in line
        return time.monotonic() - accepted

    return min([await once(number) for number in range(3)])


async def test_the_demo_decides_what_it_holds_and_what_comes_and_stops_when_asked(tmp_path: Path) -> None:
    """Nine reasons scroll by; new mail at either door is decided within a second; Ctrl-C ends it cleanly."""
    async with running_demo(tmp_path) as running:
        missing = set(REASONS)

        def seen(line: str) -> bool:
            missing.difference_update(re.findall(r"[a-z_]+", line))
            return not missing

        await running.until(seen)
        imap_port = running.imap_port()

        def append(name: str) -> None:
            with imaplib.IMAP4(demo.HOST, imap_port, timeout=PATIENCE) as client:
                client.login(demo.USER, demo.PASSWORD)
                client.append("INBOX", None, None, mail("tom@barnesfarm.example", "anna@ourco.example", name))

        def send(name: str) -> None:
            with smtplib.SMTP(demo.HOST, running.smtp_port, timeout=PATIENCE) as client:
                copy = mail("ben@ourco.example", "carla@client.example", name)
                client.sendmail("ben@ourco.example", ["ourco+deal61@bcc.ourco.example"], copy)

        appended = await quickest(running, append, "linked_single_open_item")
        sent = await quickest(running, send, "smart_bcc_explicit")
        asked = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        rest = await asyncio.wait_for(running.process.communicate(), PATIENCE)
        stopped = time.monotonic() - asked

    assert appended < 1
    assert sent < 1
    assert stopped < 5
    assert running.process.returncode == 0
    assert "Traceback" not in "".join(running.lines) + rest[0].decode()


def mail(sender: str, recipient: str, name: str) -> bytes:
    lines = [f"From: {sender}", f"To: {recipient}", f"Message-ID: <{name}>", "Subject: A visit", "", "Hello!"]
    return "\r\n".join(lines).encode()

"""A raw SMTP client for tests: octets out, replies in, every wait bounded. And what it sends, and whom it trusts."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from maillinkd.mail.delivery import Received
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.config import ListenerConfig
from maillinkd.smtp.listener import Listener

PATIENCE = 10.0
"""Seconds after which a test that waits has failed."""

RECIPIENTS = SmartBccAddress("bcc.ourco.example", "ourco")
UNIVERSAL = "ourco@bcc.ourco.example"
CONFIG = ListenerConfig(
    recipients=RECIPIENTS, hostname="mx.ourco.example", listen=(("127.0.0.1", 0),), refusal_delay=0.0
)

TEXT = b"From: anna@ourco.example\r\nTo: carla@client.example\r\nSubject: New roof\r\n\r\nHello.\r\n"
MAIL = TEXT + b".\r\n"


@dataclass
class Inbound:
    """A `take` that keeps what it is given, or fails as told, or waits until it is told to go on."""

    taken: list[Received] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    """Raised one after the other, before anything is kept."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    async def __call__(self, received: Received) -> None:
        self.begun.set()
        await self.go_on.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(received)


@contextlib.asynccontextmanager
async def listening(
    inbound: Inbound, *, hooks: dict[str, Any] | None = None, **changes: Any
) -> AsyncIterator[Listener]:
    """A listener on a free port, with changes to its configuration."""
    listener = Listener(replace(CONFIG, **changes), inbound, **(hooks or {}))
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(drain=0.2)


class Client:
    """One connection. `replies` are whole: lines of one reply are joined by newlines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, listener: Listener) -> Self:
        """Connects and reads no greeting."""
        host, port = listener.addresses[0]
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer)

    @classmethod
    async def greeted(cls, listener: Listener) -> Self:
        """Connects, reads the greeting and says EHLO."""
        client = await cls.connect(listener)
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask("EHLO client.example")).startswith("250-")
        return client

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply, "" when the connection is closed."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self.reader.readline()).decode("ascii")
                if not line:
                    return "\n".join(lines)
                assert line.endswith("\r\n"), line
                lines.append(line[:-2])
                if line[3:4] != "-":
                    return "\n".join(lines)

    async def ask(self, command: str) -> str:
        self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def asks(self, *commands: str) -> list[str]:
        """Codes of the replies to commands that are sent one after the other."""
        return [(await self.ask(command))[:3] for command in commands]

    async def begin(self, recipients: Sequence[str] = (UNIVERSAL,), sender: str = "anna@ourco.example") -> None:
        """Goes as far as the 354."""
        codes = await self.asks(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients), "DATA")
        assert codes == ["250", *["250"] * len(recipients), "354"]

    async def mail(self, text: bytes, **envelope: Any) -> str:
        """Sends one message, `text` with its final dot, and returns the reply."""
        await self.begin(**envelope)
        self.send(text)
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Shakes hands after STARTTLS was answered."""
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context, server_hostname="mx.ourco.example")

    async def rest(self) -> str:
        """All replies until the connection is closed."""
        async with asyncio.timeout(PATIENCE):
            try:
                return (await self.reader.read()).decode("ascii")
            except ConnectionResetError:
                return ""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def drip(client: Client, octets: bytes, *, every: float, size: int = 1) -> str:
    """Sends a little at a time until the listener has had enough; returns what it said."""
    answer = asyncio.create_task(client.rest())
    for start in range(0, len(octets), size):
        client.send(octets[start : start + size])
        if (await asyncio.wait([answer], timeout=every))[0]:
            break
    return await answer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


class SelfSigned:
    """A self-signed certificate for mx.ourco.example, and a client's context that trusts it."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.renew()

    def renew(self) -> None:
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=mx.ourco.example"
        )
        extension = ["-addext", "subjectAltName=DNS:mx.ourco.example"]
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run([*command.split(), *extension, *files], check=True, capture_output=True)

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def listening(self, inbound: Inbound) -> contextlib.AbstractAsyncContextManager[Listener]:
        return listening(inbound, tls_certificate=self.certificate, tls_key=self.key)

"""The other end of an IMAP connection, as a test wants it: a small server that misbehaves on demand, and a proxy.

`FakeServer` serves folders out of memory and speaks enough IMAP4rev1 for our client. What it says to a command can be
replaced (`on`), its connections can be cut after so many bytes (`cuts`), and it keeps what it was told.
"""

import asyncio
import re
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

CAPABILITIES = ("IMAP4rev1", "IDLE", "LITERAL+", "SASL-IR", "AUTH=PLAIN")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

Reply = Callable[["FakeConnection", str, str], Awaitable[bool]]
"""Answers a command (connection, tag, the rest of the line); False: let the server answer as ever."""


@dataclass
class FakeMessage:
    raw: bytes
    received: datetime = NOON
    visible: bool = True

    @property
    def header(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@dataclass
class FakeFolder:
    uidvalidity: int = 1
    uidnext: int = 1
    attributes: str = "\\HasNoChildren"
    messages: dict[int, FakeMessage] = field(default_factory=dict)

    def append(self, raw: bytes, received: datetime = NOON, visible: bool = True) -> int:
        uid = self.uidnext
        self.uidnext += 1
        self.messages[uid] = FakeMessage(raw, received, visible)
        return uid

    @property
    def uids(self) -> list[int]:
        return [uid for uid, message in sorted(self.messages.items()) if message.visible]


def mail(number: int, size: int = 0) -> bytes:
    """A message whose bytes can be told from all others."""
    return (
        f"From: a{number}@client.example\r\nTo: anna@ourco.example\r\n"
        f"Subject: number {number} (\r\nMessage-ID: <{number}@client.example>\r\n\r\nText {number}\r\n"
    ).encode() + b"x" * size


class FakeServer:
    """An IMAP server on a free port of 127.0.0.1, for one test. `async with FakeServer() as server: ...`"""

    def __init__(self, *, user: str = "anna", password: str = "secret", tls: ssl.SSLContext | None = None) -> None:
        self.user = user
        self.password = password
        self.tls = tls
        self.folders: dict[str, FakeFolder] = {"INBOX": FakeFolder()}
        self.capabilities: list[str] = list(CAPABILITIES)
        self.greeting = "* OK ready"
        self.says_uidnext = True
        self.says_uidvalidity = True
        self.cuts: list[int] = []
        """For each connection to come, after how many bytes it is cut; those beyond the list are not."""
        self.replies: dict[str, Reply] = {}
        self.commands: list[str] = []
        """What was asked, without tags."""
        self.logins: list[tuple[str, str]] = []
        self.connections: list[FakeConnection] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def inbox(self) -> FakeFolder:
        return self.folders["INBOX"]

    def on(self, command: str, reply: Reply | str | None) -> None:
        """From now on a command is answered by a function, or by a text in which `{tag}` is filled in.

        `UID FETCH`, `UID SEARCH` and the like are commands of two words; `None` makes the answer the usual one.
        """
        if reply is None:
            self.replies.pop(command, None)
        elif isinstance(reply, str):
            self.replies[command] = _saying(reply)
        else:
            self.replies[command] = reply

    async def announce(self) -> None:
        """Tells all that are in IDLE how many messages there are."""
        for connection in self.connections:
            if connection.idling and connection.folder is not None:
                await connection.say(f"* {len(connection.folder.uids)} EXISTS")

    async def drop_all(self) -> None:
        for connection in self.connections:
            connection.writer.transport.abort()

    async def __aenter__(self) -> "FakeServer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**22)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        connection = FakeConnection(self, reader, writer)
        self.connections.append(connection)
        try:
            await connection.serve()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client went away, or was cut off
        finally:
            writer.transport.abort()


def _saying(text: str) -> Reply:
    async def reply(connection: "FakeConnection", tag: str, line: str) -> bool:
        await connection.say(*text.format(tag=tag).splitlines())
        return True

    return reply


class FakeConnection:
    """One client of a `FakeServer`."""

    def __init__(self, server: FakeServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.folder: FakeFolder | None = None
        self.idling = False
        self.told = 0
        """How many messages the client knows of."""
        self._room = server.cuts.pop(0) if server.cuts else None
        self._ended = False

    async def say(self, *lines: str) -> None:
        await self.send("".join(f"{line}\r\n" for line in lines).encode())

    async def send(self, data: bytes) -> None:
        """Sends, or as much as may be sent before the cut."""
        if self._room is not None:
            data, cut = data[: self._room], len(data) > self._room
            self._room -= len(data)
            self.writer.write(data)
            await self.writer.drain()
            if cut:
                self.cut()
            return
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """What was sent arrives, then the connection ends."""
        self._ended = True
        self.writer.close()
        raise ConnectionResetError

    async def serve(self) -> None:
        if "{hang}" in self.server.greeting:
            await self.reader.read()
            return
        await self.say(self.server.greeting)
        while not self._ended:
            tag, line = await self._command()
            words = line.split(" ")
            name = " ".join(words[:2]).upper() if words[0].upper() == "UID" else words[0].upper()
            self.server.commands.append(line)
            reply = self.server.replies.get(name)
            if reply is not None and await reply(self, tag, line):
                continue
            await self._answer(name, tag, line)

    async def _command(self) -> tuple[str, str]:
        """One command with its literals put in place as quoted strings would be."""
        line = b""
        while True:
            piece = await self.reader.readline()
            if not piece:
                raise ConnectionResetError
            line += piece
            literal = re.search(rb"\{(\d+)(\+?)\}\r\n\Z", line)
            if literal is None:
                break
            if not literal[2]:
                await self.say("+ go on")
            octets = await self.reader.readexactly(int(literal[1]))
            quoted = b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
            line = line[: literal.start()] + quoted
        tag, _, rest = line.decode("utf-8", "surrogateescape").rstrip("\r\n").partition(" ")
        return tag, rest

    async def _answer(self, name: str, tag: str, line: str) -> None:
        method = getattr(self, "_" + name.lower().replace(" ", "_"), None)
        if method is None:
            await self.say(f"{tag} BAD what is {name}?")
        else:
            await method(tag, line)

    async def _capability(self, tag: str, line: str) -> None:
        await self.say("* CAPABILITY " + " ".join(self.server.capabilities), f"{tag} OK done")

    async def _noop(self, tag: str, line: str) -> None:
        await self._news()
        await self.say(f"{tag} OK done")

    async def _login(self, tag: str, line: str) -> None:
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
        user, password = (re.sub(r"\\(.)", r"\1", text) for text in strings)
        await self._check(tag, user, password)

    async def _authenticate(self, tag: str, line: str) -> None:
        words = line.split(" ")
        if len(words) == 2:
            await self.say("+ ")
            words.append((await self.reader.readline()).decode().strip())
        _, user, password = b64decode(words[2]).decode("utf-8", "surrogateescape").split("\0")
        await self._check(tag, user, password)

    async def _check(self, tag: str, user: str, password: str) -> None:
        self.server.logins.append((user, password))
        if (user, password) == (self.server.user, self.server.password):
            await self.say(f"{tag} OK logged in")
        else:
            await self.say(f"{tag} NO [AUTHENTICATIONFAILED] wrong: {password}")

    async def _starttls(self, tag: str, line: str) -> None:
        if self.server.tls is None:
            await self.say(f"{tag} NO not here")
            return
        await self.say(f"{tag} OK go ahead")
        await self.writer.start_tls(self.server.tls)

    async def _list(self, tag: str, line: str) -> None:
        for name, folder in self.server.folders.items():
            await self.say(f'* LIST ({folder.attributes}) "/" "{name}"')
        await self.say(f"{tag} OK done")

    async def _status(self, tag: str, line: str) -> None:
        folder = await self._named(tag, line)
        if folder is not None:
            uidnext = f"UIDNEXT {folder.uidnext} " if self.server.says_uidnext else ""
            await self.say(
                f'* STATUS "{_name(line)}" (MESSAGES {len(folder.uids)} {uidnext}UIDVALIDITY {folder.uidvalidity})',
                f"{tag} OK done",
            )

    async def _examine(self, tag: str, line: str) -> None:
        self.folder = None
        folder = await self._named(tag, line)
        if folder is None:
            return
        self.folder = folder
        self.told = len(folder.uids)
        await self.say("* FLAGS (\\Seen)", f"* {self.told} EXISTS", "* 0 RECENT")
        if self.server.says_uidvalidity:
            await self.say(f"* OK [UIDVALIDITY {folder.uidvalidity}] valid")
        if self.server.says_uidnext:
            await self.say(f"* OK [UIDNEXT {folder.uidnext}] next")
        await self.say(f"{tag} OK [READ-ONLY] done")

    async def _named(self, tag: str, line: str) -> FakeFolder | None:
        folder = self.server.folders.get(_name(line))
        if folder is None:
            await self.say(f"{tag} NO [NONEXISTENT] no such folder")
        return folder

    async def _uid_search(self, tag: str, line: str) -> None:
        folder = self._open()
        found = folder.uids
        words = line.split(" ")[2:]
        if words[0] == "UID":
            found = _in_set(words[1], found)
        if "SINCE" in words:
            since = datetime.strptime(words[words.index("SINCE") + 1], "%d-%b-%Y").replace(tzinfo=UTC)
            found = [uid for uid in found if folder.messages[uid].received >= since]
        await self.say(" ".join(["* SEARCH", *map(str, found)]), f"{tag} OK done")

    async def _uid_fetch(self, tag: str, line: str) -> None:
        folder = self._open()
        _, _, uids, items = line.split(" ", 3)
        for uid in _in_set(uids, folder.uids, star=False):
            await self.send(fetched(folder, uid, items))
        await self._news()
        await self.say(f"{tag} OK done")

    async def _idle(self, tag: str, line: str) -> None:
        self.idling = True
        await self.say("+ idling")
        await self._news()
        done = await self.reader.readline()
        self.idling = False
        if not done:
            raise ConnectionResetError
        self.server.commands.append(done.decode().strip())
        await self.say(f"{tag} OK idle is over")

    async def _logout(self, tag: str, line: str) -> None:
        await self.say("* BYE see you", f"{tag} OK gone")
        self.cut()

    async def _news(self) -> None:
        if self.folder is not None and len(self.folder.uids) != self.told:
            self.told = len(self.folder.uids)
            await self.say(f"* {self.told} EXISTS")

    def _open(self) -> FakeFolder:
        assert self.folder is not None, "no folder is open"
        return self.folder


def fetched(folder: FakeFolder, uid: int, items: str) -> bytes:
    """A FETCH response for the items that our client asks for."""
    message = folder.messages[uid]
    sequence = folder.uids.index(uid) + 1
    parts = [f"UID {uid}".encode()]
    if "INTERNALDATE" in items:
        parts.append(message.received.strftime('INTERNALDATE "%d-%b-%Y %H:%M:%S +0000"').encode())
    if "RFC822.SIZE" in items:
        parts.append(f"RFC822.SIZE {len(message.raw)}".encode())
    if fields := re.search(r"BODY\.PEEK\[HEADER\.FIELDS \((.*)\)\](?:<0\.(\d+)>)?", items):
        octets = message.header[: int(fields[2])] if fields[2] else message.header
        origin = "<0>" if fields[2] else ""
        parts.append(f"BODY[HEADER.FIELDS ({fields[1]})]{origin} {{{len(octets)}}}\r\n".encode() + octets)
    elif piece := re.search(r"BODY\.PEEK\[\]<(\d+)\.(\d+)>", items):
        at, length = int(piece[1]), int(piece[2])
        octets = message.raw[at : at + length]
        parts.append(f"BODY[]<{at}> {{{len(octets)}}}\r\n".encode() + octets)
    elif "BODY.PEEK[]" in items:
        parts.append(f"BODY[] {{{len(message.raw)}}}\r\n".encode() + message.raw)
    return f"* {sequence} FETCH (".encode() + b" ".join(parts) + b")\r\n"


def _name(line: str) -> str:
    quoted = re.search(r'"((?:[^"\\]|\\.)*)"', line)
    assert quoted is not None
    return re.sub(r"\\(.)", r"\1", quoted[1])


def _in_set(text: str, uids: list[int], *, star: bool = True) -> list[int]:
    highest = max(uids, default=0)
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition(":")
        bounds = sorted(highest if each == "*" else int(each) for each in (low, high or low))
        found.update(uid for uid in uids if bounds[0] <= uid <= bounds[1])
    return sorted(found)


class Proxy:
    """Carries bytes between clients and a server; can cut a connection or swallow all that comes.

    `async with Proxy(host, port) as proxy: ...` Its own port is `proxy.port`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.cuts: list[int] = []
        """For each connection to come, after how many bytes of the server's it is cut; those beyond are not."""
        self.silent = asyncio.Event()
        """Set: nothing is carried any more, in neither direction, and nobody is told (as when a NAT box forgets)."""
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.drop_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, back]
        cut = self.cuts.pop(0) if self.cuts else None
        for source, sink, room in ((reader, back, None), (there, writer, cut)):
            task = asyncio.create_task(self._carry(source, sink, room))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, room: int | None) -> None:
        try:
            while data := await source.read(65_536):
                if self.silent.is_set():
                    continue
                if room is not None:
                    data, room = data[:room], room - len(data)
                sink.write(data)
                await sink.drain()
                if room is not None and room <= 0:
                    break
        except ConnectionError:
            pass  # one end went away: so does the other
        finally:
            sink.close()

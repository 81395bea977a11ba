"""An IMAP server without a socket: what it says is known beforehand, so a test may cut it at every byte, quickly.

`Wire` is the transport of one connection. It answers each command of a small mailbox at once, in the order in which
they come, as a server does to which several were sent together, and ends after so many bytes.
"""

import asyncio

from maillinkd.imap.client import Connection
from maillinkd.imap.protocol import ImapProtocol
from system.imap_peer import FakeFolder, _in_set, fetched

CAPABILITIES = "IMAP4rev1 IDLE ID"


class Wire(asyncio.Transport):
    """The server's end and the way to it. `room`: bytes that it says before the connection ends; None: no end."""

    def __init__(self, folder: FakeFolder, protocol: ImapProtocol, room: int | None = None) -> None:
        super().__init__()
        self.said = 0
        """Bytes that came through."""
        self.commands: list[str] = []
        self.coming: list[bytes] = []
        """Mail that arrives while the client is in IDLE, one each time."""
        self._folder = folder
        self._protocol = protocol
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._idle = ""
        self._ended = False
        self._loop.call_soon(protocol.connection_made, self)
        self._say(b"* OK ready\r\n")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        *lines, self._received = (self._received + bytes(data)).split(b"\r\n")
        for line in lines:
            self._answer(line.decode())

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None:
        pass

    def _say(self, data: bytes) -> None:
        if self._ended:
            return
        if self._room is not None:
            data, cut = data[: self._room], len(data) > self._room
            self._room -= len(data)
        else:
            cut = False
        self.said += len(data)
        self._loop.call_soon(self._arrive, data)
        if cut:
            self.abort()

    def _arrive(self, data: bytes) -> None:
        if data and self._protocol.lost is None:
            self._protocol.data_received(data)

    def _answer(self, line: str) -> None:
        self.commands.append(line)
        if line == "DONE":
            self._say(f"{self._idle} OK idle is over\r\n".encode())
            return
        tag, _, command = line.partition(" ")
        if command == "IDLE":
            self._idle = tag
            self._say(b"+ idling\r\n")
            if self.coming:
                self._folder.append(self.coming.pop(0))
                self._say(f"* OK Still here\r\n* {len(self._folder.uids)} EXISTS\r\n".encode())
            return
        self._say(self._data(command) + f"{tag} OK done\r\n".encode())

    def _data(self, command: str) -> bytes:
        folder = self._folder
        words = command.split(" ", 3)
        match words[0]:
            case "CAPABILITY":
                return f"* CAPABILITY {CAPABILITIES}\r\n".encode()
            case "ID":
                return b'* ID ("name" "Wire" "version" NIL)\r\n'
            case "LIST":
                return b'* LIST (\\HasNoChildren) "/" {5}\r\nINBOX\r\n'
            case "EXAMINE":
                codes = f"* OK [UIDVALIDITY {folder.uidvalidity}] x\r\n* OK [UIDNEXT {folder.uidnext}] y\r\n"
                return f"* {len(folder.uids)} EXISTS\r\n{codes}".encode()
            case "UID" if words[1] == "SEARCH":
                found = _in_set(words[3], folder.uids)
                return " ".join(["* SEARCH", *map(str, found)]).encode() + b"\r\n"
            case "UID":
                uids = _in_set(words[2], folder.uids, star=False)
                return b"".join(fetched(folder, uid, words[3]) for uid in uids)
            case _:
                return b""


async def over(folder: FakeFolder, deadlines: object, room: int | None = None) -> tuple[Connection, Wire]:
    """A connection over a wire, before its greeting is looked at."""
    protocol = ImapProtocol(asyncio.get_running_loop())
    wire = Wire(folder, protocol, room)
    connection = Connection(protocol, deadlines)  # type: ignore[arg-type]
    await protocol.greeting
    return connection, wire

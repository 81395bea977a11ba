"""A connection's octets: input, replies, deadlines, TLS, the end. The only file that imports aiosmtpd.

The library gives the protocol object, its session and envelope, and the names of commands. What it does in the loop,
in DATA, in STARTTLS, with errors and with limits is replaced, here and in the classes that are built on this one,
because none of it was made for strangers: it keeps whatever a client sends, cancels the handler when a client leaves,
answers our faults with permanent errors and counts nothing. So are its addresses (`command`) and its end of DATA
(`data`).
"""

import asyncio
import contextlib
import math
import socket
import ssl
from typing import Any, cast

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from maillinkd.smtp.door import Door
from maillinkd.smtp.guard import TOTAL

log = structlog.get_logger()

COMMAND_OCTETS = 2048
"""Longest command line. RFC 5321, 4.5.3.1.4 asks for 512, SMTPUTF8 for more."""
INPUT_OCTETS = 64 * 1024
"""Octets of input, not yet looked at, above which a connection is not read on."""
LINGER = 3.0
"""Seconds for which we listen on after a last reply, so that a client in mid-sentence gets to read it."""
HANDSHAKE_TIMEOUT = 30.0
USER_TIMEOUT = 120.0
"""Seconds after which the kernel gives up a client that acknowledges nothing (TCP_USER_TIMEOUT)."""

TOO_MANY = "Too many connections, try again later"


class HangUp(Exception):
    """The connection ends, after a last reply."""

    def __init__(self, reply: str, cause: str) -> None:
        super().__init__(reply)
        self.reply = reply
        self.cause = cause
        """The word under which it is counted."""


class _NoHandler:
    """The library looks for hooks and AUTH mechanisms among all names of its handler, for each connection."""

    def __dir__(self) -> list[str]:
        return []


_NO_HANDLER = _NoHandler()


class Connection(SMTP):
    """One client. One coroutine reads and answers; all waiting has a deadline that one timer watches.

    That coroutine, `_handle_client`, is what a class on top of this one adds.
    """

    # From connection_made on; nobody asks before.
    session: Session
    envelope: Envelope

    def __init__(self, door: Door) -> None:
        super().__init__(_NO_HANDLER, hostname=door.config.hostname, loop=asyncio.get_running_loop())
        self._door = door
        self._config = door.config
        self._wire: asyncio.Transport
        self.peer = ""
        """The client's address, as a trusted relay says."""
        self._admitted = False
        self._tls = False
        self._input = bytearray()
        self._at_eof = False
        self._reading_paused = False
        self._more_input: asyncio.Future[None] | None = None
        self._replies: list[bytes] = []
        self._errors = 0
        self._junk = 0
        """Commands that brought no mail forward; both are counted between two messages taken."""
        self._dismissed = False
        self._expired = False
        self._step_at = self.loop.time()
        self._session_ends = self._step_at + door.config.session_timeout
        self._deadline = self._session_ends
        self._limit = "session_timeout"
        self._timer_at = math.inf

    def __dir__(self) -> list[str]:
        """Here it looks for commands and AUTH mechanisms: to find none halves the cost of a connection."""
        return []

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if isinstance(peername, tuple) else ""
        if self._door.opened(self):
            self._wire.write(f"421 4.7.0 {self.hostname} {TOO_MANY}\r\n".encode())
            self._wire.close()
            return
        self._admitted = True
        _set_user_timeout(self._wire)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._input += data
        if len(self._input) > INPUT_OCTETS and not self._reading_paused and not self._wire.is_closing():
            self._wire.pause_reading()
            self._reading_paused = True
        self._wake()

    def eof_received(self) -> bool:
        """A client may close its side and still read our replies; asyncio knows no such half under TLS."""
        self._at_eof = True
        self._wake()
        return self._admitted and not self._tls

    def connection_lost(self, error: Exception | None) -> None:
        if not self._admitted:
            return
        self._door.closed(self)
        super().connection_lost(error)

    # The door's calls

    def dismiss(self) -> None:
        """421 now if the client is to speak, else when the message under way is answered."""
        self._dismissed = True
        self._wake()

    def abort(self) -> None:
        """Cuts the connection off, whatever is still to be sent."""
        self._wire.abort()

    def stalled_since(self) -> float:
        """When it last took a step towards a message."""
        return self._step_at

    def _advance(self) -> None:
        """It takes one now."""
        self._step_at = self.loop.time()

    def make_room(self) -> None:
        """Ends at once, in favour of another client."""
        log.info("smtp_hung_up", client=self.peer, cause=TOTAL)
        self._wire.write(f"421 4.3.2 {self.hostname} Too busy to wait, try again later\r\n".encode())
        self._wire.close()
        if self._wire.get_write_buffer_size():
            self._wire.abort()

    # Reading

    def _wake(self) -> None:
        if self._more_input and not self._more_input.done():
            self._more_input.set_result(None)

    async def _wait_for_input(self) -> None:
        """Returns when something has changed. Raises HangUp when the deadline has passed."""
        if self._reading_paused and len(self._input) <= INPUT_OCTETS:
            self._reading_paused = False
            self._wire.resume_reading()
        self._more_input = self.loop.create_future()
        await self._more_input
        self._more_input = None
        if self._expired:
            raise HangUp(f"421 4.4.2 {self.hostname} Timeout", self._limit)

    async def _command_line(self) -> bytes | None:
        """The next line with its end; None when the client has closed its side."""
        while not self._dismissed:
            end = self._input.find(b"\n", 0, COMMAND_OCTETS)
            if end >= 0:
                line = bytes(self._input[: end + 1])
                del self._input[: end + 1]
                return line
            if len(self._input) >= COMMAND_OCTETS:
                raise HangUp("500 5.5.2 Line too long", "line_too_long")
            if self._at_eof:
                return None
            await self._wait_for_input()
        raise HangUp(f"421 4.3.2 {self.hostname} Stopping, try again later", "stopping")

    async def _chunk(self, most: int | None = None) -> bytes:
        """The input that is there, at least one octet. Raises ConnectionResetError when there will be none."""
        while not self._input:
            if self._at_eof:
                raise ConnectionResetError("the client left in mid-message")
            await self._wait_for_input()
        chunk = bytes(self._input[:most])
        del self._input[:most]
        return chunk

    # Replying

    async def _reply(self, reply: str) -> None:
        """Replies to pipelined commands leave together (RFC 2920, 3.2)."""
        if reply.startswith("5"):
            self._errors += 1
            self._door.refused(reply[:3])
        self._replies.append(reply.encode("ascii") + b"\r\n")
        if b"\n" not in self._input:
            await self._flush()

    async def _reply_now(self, reply: str) -> None:
        """Where the client must hear before it goes on, whatever it has sent already."""
        self._replies.append(reply.encode("ascii") + b"\r\n")
        await self._flush()

    async def _flush(self) -> None:
        replies = b"".join(self._replies)
        self._replies.clear()
        self._wire.write(replies)
        await self._writer.drain()

    # Deadlines

    def _allow(self, seconds: float, limit: str) -> None:
        """Sets the deadline for whatever is waited for next, and the setting that it is by."""
        self._deadline, self._limit = self.loop.time() + seconds, limit
        if self._deadline > self._session_ends:
            self._deadline, self._limit = self._session_ends, "session_timeout"
        if self._timer_at > self._deadline:
            self._arm()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """The library's name for it, which it calls on a new connection."""
        self._allow(duration or self._config.idle_timeout, "idle_timeout")

    def _arm(self) -> None:
        if self._timeout_handle:
            self._timeout_handle.cancel()
        self._timer_at = self._deadline
        self._timeout_handle = self.loop.call_at(self._timer_at, self._timeout_cb)

    def _timeout_cb(self) -> None:
        """The timer: mostly the deadline was moved since it was set."""
        self._timer_at = math.inf
        if self.loop.time() < self._deadline:
            self._arm()
        elif self._more_input and not self._expired:
            self._expired = True
            self._wake()
        else:
            # It does not read our replies, or has been told already; or the store took too long for any client.
            if not self._expired:
                self._door.refused(self._limit)
            self._wire.abort()

    # TLS, and the end

    async def _begin_tls(self, context: ssl.SSLContext) -> None:
        """The handshake. Raises ConnectionResetError when there is none."""
        # What came in the clear is not believed later (RFC 3207, 6); from here to start_tls nothing can come between.
        self._input.clear()
        self._allow(HANDSHAKE_TIMEOUT, "handshake_timeout")
        try:
            wire = await self.loop.start_tls(self._wire, self, context, server_side=True)
        except OSError as error:
            raise ConnectionResetError("no TLS handshake") from error
        if wire is None:
            raise ConnectionResetError("the client left in the handshake")
        self._wire = wire
        self._tls = True
        self._door.counters.tls += 1

    async def _part(self, end: HangUp) -> None:
        """Says a last word, and listens on for a moment so that it arrives (a reset would overtake it)."""
        self._door.refused(end.cause)
        log.info("smtp_hung_up", client=self.peer, cause=end.cause)
        self._expired = False
        self._session_ends = self.loop.time() + LINGER
        self._input.clear()
        self._allow(LINGER, end.cause)
        with contextlib.suppress(HangUp, ConnectionError):
            await self._reply(end.reply)
            if self._wire.can_write_eof():
                self._wire.write_eof()
                while not self._at_eof:
                    self._input.clear()
                    await self._wait_for_input()

    def _close(self) -> None:
        if self.transport is None:  # so says the library when the connection is lost
            return
        self._wire.close()
        if self._wire.get_write_buffer_size():
            self.loop.call_later(LINGER, self._wire.abort)


def _set_user_timeout(transport: asyncio.Transport) -> None:
    """The kernel's limit for a client that vanished without a word while we have something to send."""
    connected: Any = transport.get_extra_info("socket")
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000))

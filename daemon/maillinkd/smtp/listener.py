"""The door for Smart Bcc: an SMTP server that takes mail for our own addresses, and nothing else (RFC 5321).

aiosmtpd gives the protocol object, its sessions, envelopes and table of commands. What it does in the loop, in DATA,
in STARTTLS, with errors and with limits is replaced here, because none of it was made for strangers: it keeps
whatever a client sends, cancels the handler when a client leaves, answers our faults with permanent errors and
counts nothing. So are its addresses (`command`) and its end of DATA (`data`).
"""
# ruff: noqa: N802  # smtp_XYZ are the library's names

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, cast

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from maillinkd.mail.delivery import NoSpace, Received, TemporaryFailure
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.command import SyntaxRefusal, parse_bdat, parse_mail, parse_rcpt
from maillinkd.smtp.counters import Counters
from maillinkd.smtp.data import BareLineEnding, ChunkDecoder, DataDecoder
from maillinkd.smtp.guard import TOTAL, ConnectionGuard, lies_in
from maillinkd.smtp.proxy import (
    MAX_HEADER,
    XCLIENT,
    XFORWARD,
    Announced,
    NotProxy,
    read_attributes,
    read_proxy,
)
from maillinkd.smtp.spool import Spool

log = structlog.get_logger()

Take = Callable[[Received], Awaitable[None]]
"""Returns when the message is durable. Raises TemporaryFailure, or NoSpace."""
CheckAuthor = Callable[[Received], Awaitable[Received | None]]
"""A message -> the message with the verdict on its author; None if he is refused. Raises TemporaryFailure."""
HasRoom = Callable[[int], bool]
"""Whether the disk has room for a message of so many octets (0: the client did not say)."""

COMMAND_OCTETS = 2048
"""Longest command line. RFC 5321, 4.5.3.1.4 asks for 512, SMTPUTF8 for more."""
LINE_OCTETS = 64 * 1024
"""Longest line of a message. RFC 5321, 4.5.3.1.6 asks for 998; programs that send mail know no limit."""
INPUT_OCTETS = 64 * 1024
"""Octets of input, not yet looked at, above which a connection is not read on."""
HEADER_OCTETS = 256 * 1024
"""Octets of a message in which its header is sought."""
LARGE_OCTETS = 1024 * 1024
LARGE_AT_A_TIME = 4
"""How many messages above LARGE_OCTETS are in memory as a whole at one time, on their way to the store."""
LINGER = 3.0
"""Seconds for which we listen on after a last reply, so that a client in mid-sentence gets to read it."""
HANDSHAKE_TIMEOUT = 30.0
PROXY_TIMEOUT = 30.0
"""Seconds that a proxy may take to announce its client, which it does at once."""
USER_TIMEOUT = 120.0
"""Seconds after which the kernel gives up a client that acknowledges nothing (TCP_USER_TIMEOUT)."""
BACKLOG = 512
STEADY_RATE = 20_000.0
"""Octets a second below which a sender of a message counts as stalled, more and more, where places are short."""
STALLED = 1.0
"""Seconds without a step forward after which a client loses its place to another, where places are short."""

MAIL_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "BDAT"})
"""All others are junk to the limit `max_junk_commands`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """What the door needs to know. Times in seconds, sizes in octets; the limits' reasons stand in reliability.md."""

    recipients: SmartBccAddress
    hostname: str
    """Our name in the greeting."""
    listen: tuple[tuple[str, int], ...] = ()
    """Host and port; none if sockets are handed over ready."""
    max_message_size: int = 20_000_000
    tls_certificate: Path | None = None
    """PEM, with its chain. STARTTLS is offered when it is set."""
    tls_key: Path | None = None
    spool_directory: Path | None = None
    """Where a message larger than 256 KiB lies while it is being received; by default in $TMPDIR."""

    max_connections: int = 200
    """Where there are no more, the client that has stalled longest makes room for the next one."""
    max_connections_per_client: int = 20
    """A client is an IPv4 address or an IPv6 /64."""
    max_new_connections_per_minute: int = 60
    """Of one client."""
    exempt_clients: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks for which the two limits above and `greeting_delay` do not hold: ours, and relays, which bring the
    mail of many."""
    trusted_relays: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of relays that may say for whom they speak."""
    proxy_protocol: bool = False
    """Whether the connections of those relays begin with a PROXY header."""
    greeting_delay: float = 0.2
    """Who speaks before he was greeted is turned away: he is no mail server (RFC 5321, 4.3.1)."""
    refusal_delay: float = 0.5
    """From the arrival of a RCPT to the answer that refuses it, whatever the reason: time tells guessers nothing."""
    max_recipients: int = 100
    max_errors: int = 20
    """Refused commands between two messages taken."""
    max_junk_commands: int = 100
    """Commands that bring no mail forward, between two messages taken."""
    max_hops: int = 50
    """Received fields of a message."""

    session_timeout: float = 3600.0
    idle_timeout: float = 300.0
    """RFC 5321, 4.5.3.2.7."""
    data_timeout: float = 180.0
    """Between two pieces of a message (RFC 5321, 4.5.3.2.5)."""
    min_data_rate: float = 500.0
    """Octets a second below which a sender of a message is too slow, after `data_grace`."""
    data_grace: float = 60.0
    data_total_timeout: float = 1800.0
    store_timeout: float = 600.0
    """How long a message may take to become durable: what clients wait for (RFC 5321, 4.5.3.2.6)."""


class Listener:
    """The SMTP server. What it takes, it hands to `take`; a message is answered with 250 after that returned.

    Made, started and stopped in one event loop.
    """

    def __init__(
        self,
        config: ListenerConfig,
        take: Take,
        *,
        check_author: CheckAuthor | None = None,
        has_room: HasRoom | None = None,
    ) -> None:
        """`check_author` is asked before the reply to DATA, `has_room` at MAIL.

        Raises OSError when certificate or key can't be read or don't fit, ValueError for a wrong network.
        """
        self.config = config
        self.guard = ConnectionGuard(
            total=config.max_connections,
            per_client=config.max_connections_per_client,
            new_per_minute=config.max_new_connections_per_minute,
            exempt=config.exempt_clients,
        )
        self.has_room = has_room
        self.counters = Counters()
        self.refusals = self.counters.refusals
        self._tls = _tls_context(config)
        self._tls_files = _stamps(config)
        self.large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self._take = take
        self._check_author = check_author
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()
        self._storing: set[asyncio.Task[str]] = set()
        self._empty = asyncio.Event()

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Listens on the configured addresses and on sockets that are bound already (systemd's, for one).

        Raises OSError when an address can't be had; then it listens nowhere.
        """
        # The library logs addresses at INFO and whole lines of mail at DEBUG.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        loop = asyncio.get_running_loop()
        try:
            for ready in sockets:
                self._servers.append(await loop.create_server(self._connection, sock=ready, backlog=BACKLOG))
            for host, port in self.config.listen:
                self._servers.append(await loop.create_server(self._connection, host, port, backlog=BACKLOG))
        except BaseException:
            self._close_servers()
            raise

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, as (host, port)."""
        names = (open_.getsockname() for server in self._servers for open_ in server.sockets)
        return tuple((name[0], name[1]) for name in names if isinstance(name, tuple))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self.guard.connections

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What STARTTLS begins with; None where it is not offered. Certificate and key are read again when one of the
        files is another one: a pair that cannot be read, or does not fit (yet), leaves the old one in use."""
        stamps = _stamps(self.config)
        if stamps != self._tls_files:
            self._tls_files = stamps
            try:
                self._tls = _tls_context(self.config)
            except OSError as error:
                log.warning("smtp_certificate_not_read", error=str(error), file=str(self.config.tls_certificate))
            else:
                log.info("smtp_certificate_renewed", file=str(self.config.tls_certificate))
        return self._tls

    def reconfigure(self, config: ListenerConfig) -> None:
        """Takes another configuration over for later connections, all but the addresses; reads the certificate again.

        Raises OSError and ValueError as the making of a Listener does, and then keeps the old one.
        """
        tls, stamps = _tls_context(config), _stamps(config)
        self.guard.limit(
            total=config.max_connections,
            per_client=config.max_connections_per_client,
            new_per_minute=config.max_new_connections_per_minute,
            exempt=config.exempt_clients,
        )
        self.config = config
        self._tls, self._tls_files = tls, stamps

    async def stop(self, drain: float = 30.0) -> None:
        """Takes no new connection, says 421 where no message is under way, and lets the others finish.

        Returns when all clients are gone and nothing is being stored, after `drain` seconds at the latest (and a
        moment for the rest to be cut off).
        """
        self._close_servers()
        for connection in tuple(self._connections):
            connection.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._all_gone()
                if self._storing:
                    await asyncio.wait(self._storing)
        for connection in tuple(self._connections):
            connection.abort()
        await self._all_gone()
        for storing in self._storing:
            storing.cancel()
        await asyncio.gather(*self._storing, return_exceptions=True)

    def opened(self, connection: "_Connection", peer: str) -> str | None:
        """Counts a connection in, or returns the limit that forbids it."""
        now = asyncio.get_running_loop().time()
        limit = self.guard.admit(peer, now)
        if limit:
            self.refusals[limit] += 1
        if limit == TOTAL and self._make_room(now):
            limit = self.guard.admit(peer, now)
        if limit is None:
            self.counters.connections += 1
            self._connections.add(connection)
            self._empty.clear()
        return limit

    def _make_room(self, now: float) -> bool:
        """Ends the connection that has stalled longest, of a client that has most of them; False if none stalls.

        So whoever holds places without sending mail keeps nobody out (slowloris).
        """
        stalled = [each for each in self._connections if now - each.stalled_since() > STALLED]
        if not stalled:
            return False
        chosen = max(stalled, key=lambda each: (self.guard.connections_of(each.peer), -each.stalled_since()))
        self.closed(chosen, chosen.peer)
        chosen.make_room()
        return True

    def speaks_for(self, connection: "_Connection", client: str) -> str | None:
        """Counts a relay's connection as its client's, or returns the limit that forbids it."""
        return self.guard.move(connection.peer, client, asyncio.get_running_loop().time())

    def closed(self, connection: "_Connection", peer: str) -> None:
        """Counts a connection out, once."""
        if connection not in self._connections:
            return
        self.guard.leave(peer)
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def store(self, received: Received) -> str:
        """Has a message stored and returns the reply.

        The work goes on when the waiting is cancelled: a client that leaves does not undo a commit in mid-air.
        """
        storing = asyncio.get_running_loop().create_task(self._store(received))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return await asyncio.shield(storing)

    async def _store(self, received: Received) -> str:
        try:
            if self._check_author:
                vouched = await self._check_author(received)
                if vouched is None:
                    self.refusals["author"] += 1
                    return "550 5.7.1 The author of this message may not use this address"
                received = vouched
            await self._take(received)
        except NoSpace as error:
            log.warning("smtp_no_space", error=str(error))
            return "452 4.3.1 Insufficient system storage"
        except TemporaryFailure as error:
            log.warning("smtp_temporary_failure", error=str(error))
            return "451 4.3.0 Temporary failure, try again later"
        except Exception:
            log.exception("smtp_store_failed")
            return "451 4.3.0 Temporary failure, try again later"
        self.counters.messages += 1
        self.counters.octets += len(received.raw)
        return "250 2.0.0 Message stored"

    def _connection(self) -> "_Connection":
        return _Connection(self)

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()  # not wait_closed(): since Python 3.12.1 it waits for the clients, too
        self._servers.clear()

    async def _all_gone(self) -> None:
        if self._connections:
            await self._empty.wait()


class _HangUp(Exception):
    """The connection ends, after a last reply."""

    def __init__(self, reply: str, cause: str) -> None:
        super().__init__(reply)
        self.reply = reply
        self.cause = cause
        """The word under which it is counted."""


@dataclass(slots=True)
class _Transfer:
    """A message while it comes."""

    spool: Spool
    decoder: DataDecoder | ChunkDecoder
    began: float
    disk_failed: bool = False

    def keep(self, text: bytes) -> None:
        """Adds what was decoded; where the message is refused anyway, nothing is kept."""
        if self.disk_failed or self.decoder.longest_line > LINE_OCTETS:
            self.spool.drop()
            return
        try:
            self.spool.add(text)
        except OSError as error:
            log.warning("smtp_spool_failed", error=str(error))
            self.disk_failed = True


class _NoHandler:
    """The library looks for hooks among all names of its handler, for each connection: there are none."""

    def __dir__(self) -> list[str]:
        return []


_NO_HANDLER = _NoHandler()


class _Connection(SMTP):
    """One client. One coroutine reads and answers; all waiting has a deadline that one timer watches."""

    # From connection_made on; nobody asks before.
    session: Session
    envelope: Envelope

    def __init__(self, listener: Listener) -> None:
        super().__init__(_NO_HANDLER, hostname=listener.config.hostname, loop=asyncio.get_running_loop())
        self._listener = listener
        self._config = listener.config
        self._wire: asyncio.Transport
        self.peer = ""
        """The client's address, as a trusted relay says."""
        self._relay = ""
        """The trusted relay that the mail comes through, "" if none."""
        self._announced_helo: str | None = None
        self._forwarded: Announced | None = None
        """What XFORWARD says of the next message."""
        self._admitted = False
        self._tls = False
        self._input = bytearray()
        self._at_eof = False
        self._reading_paused = False
        self._more_input: asyncio.Future[None] | None = None
        self._replies: list[bytes] = []
        self._errors = 0
        self._junk = 0
        self._dismissed = False
        self._expired = False
        self._transfer: _Transfer | None = None
        self._storing = False
        self._step_at = self.loop.time()
        self._session_ends = self._step_at + listener.config.session_timeout
        self._deadline = self._session_ends
        self._limit = "session_timeout"
        self._timer_at = math.inf

    def __dir__(self) -> list[str]:
        """The library searches all attributes of each connection for its commands: these are enough.

        It halves the cost of a connection, and leaves no AUTH mechanism to be found.
        """
        return _COMMANDS

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if isinstance(peername, tuple) else ""
        self._relay = self.peer if lies_in(self.peer, self._config.trusted_relays) else ""
        limit = self._listener.opened(self, self.peer)
        if limit:
            self._wire.write(f"421 4.7.0 {self.hostname} Too many connections, try again later\r\n".encode())
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
        self._listener.closed(self, self.peer)
        super().connection_lost(error)

    # Called by the listener

    def dismiss(self) -> None:
        """421 now if the client is to speak, else when the message under way is answered."""
        self._dismissed = True
        self._wake()

    def abort(self) -> None:
        """Cuts the connection off, whatever is still to be sent."""
        self._wire.abort()

    def stalled_since(self) -> float:
        """When it last took a step towards a message; a sender's steps are its octets, at a steady rate."""
        if self._storing:
            return math.inf
        transfer = self._transfer
        return self._step_at if transfer is None else transfer.began + transfer.decoder.octets / STEADY_RATE

    def make_room(self) -> None:
        """Ends at once, in favour of another client."""
        log.info("smtp_hung_up", client=self.peer, cause=TOTAL)
        self._wire.write(f"421 4.3.2 {self.hostname} Too busy to wait, try again later\r\n".encode())
        self._wire.close()
        if self._wire.get_write_buffer_size():
            self._wire.abort()

    def _set_rset_state(self) -> None:
        """The library's name for a new transaction."""
        self._drop_transfer()
        self.envelope = self._create_envelope()

    def _drop_transfer(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.spool.drop()

    # Reading, writing, waiting

    def _wake(self) -> None:
        if self._more_input and not self._more_input.done():
            self._more_input.set_result(None)

    async def _wait_for_input(self) -> None:
        """Returns when something has changed. Raises _HangUp when the deadline has passed."""
        if self._reading_paused and len(self._input) <= INPUT_OCTETS:
            self._reading_paused = False
            self._wire.resume_reading()
        self._more_input = self.loop.create_future()
        await self._more_input
        self._more_input = None
        if self._expired:
            raise _HangUp(f"421 4.4.2 {self.hostname} Timeout", self._limit)

    async def _command_line(self) -> bytes | None:
        """The next line with its end; None when the client has closed its side."""
        while not self._dismissed:
            end = self._input.find(b"\n", 0, COMMAND_OCTETS)
            if end >= 0:
                line = bytes(self._input[: end + 1])
                del self._input[: end + 1]
                return line
            if len(self._input) >= COMMAND_OCTETS:
                raise _HangUp("500 5.5.2 Line too long", "line_too_long")
            if self._at_eof:
                return None
            await self._wait_for_input()
        raise _HangUp(f"421 4.3.2 {self.hostname} Stopping, try again later", "stopping")

    async def _chunk(self, most: int | None = None) -> bytes:
        """The input that is there, at least one octet. Raises ConnectionResetError when there will be none."""
        while not self._input:
            if self._at_eof:
                raise ConnectionResetError("the client left in mid-message")
            await self._wait_for_input()
        chunk = bytes(self._input[:most])
        del self._input[:most]
        return chunk

    async def push(self, status: str | bytes) -> None:
        """Replies. Replies to pipelined commands leave together (RFC 2920, 3.2)."""
        reply = status.encode("ascii") if isinstance(status, str) else status
        if reply.startswith(b"5"):
            self._errors += 1
            self._listener.refusals[reply[:3].decode()] += 1
        self._replies.append(reply + b"\r\n")
        if b"\n" not in self._input:
            await self._flush()

    async def _push_now(self, status: str) -> None:
        """Replies where the client must hear before it goes on, whatever it has sent already."""
        self._replies.append(status.encode("ascii") + b"\r\n")
        await self._flush()

    async def _flush(self) -> None:
        replies = b"".join(self._replies)
        self._replies.clear()
        self._wire.write(replies)
        await self._writer.drain()

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
                self._listener.refusals[self._limit] += 1
            self._wire.abort()

    # The conversation

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except _HangUp as end:
            await self._part(end)
        except ConnectionError:
            log.debug("smtp_connection_lost", client=self.peer)
        except Exception:
            log.exception("smtp_connection_failed", client=self.peer)
        finally:
            self._drop_transfer()
            self._close()

    async def _converse(self) -> None:
        if self._relay and self._config.proxy_protocol:
            await self._read_proxy_header()
        await self._wait_before_greeting()
        await self.push(f"220 {self.hostname} ESMTP maillinkd")
        while not self._wire.is_closing():
            if self._transfer is None:
                self._allow(self._config.idle_timeout, "idle_timeout")
            else:
                self._allow_for_data(self._transfer)
            line = await self._command_line()
            if line is None:
                return
            await self._obey(line)
            if self._errors >= self._config.max_errors:
                raise _HangUp(f"421 4.7.0 {self.hostname} Too many errors", "max_errors")
            if self._junk >= self._config.max_junk_commands:
                raise _HangUp(f"421 4.7.0 {self.hostname} Too many commands without mail", "max_junk_commands")

    async def _read_proxy_header(self) -> None:
        """A proxy passes on what its client says: the client's is the connection, and there is no relay."""
        self._allow(PROXY_TIMEOUT, "proxy_protocol")
        while True:
            try:
                found = read_proxy(bytes(self._input[:MAX_HEADER]))
            except NotProxy as error:
                log.warning("smtp_proxy_header", client=self.peer, error=str(error))
                raise _HangUp(f"421 4.3.2 {self.hostname} Expected a PROXY header", "proxy_protocol") from None
            if found is not None:
                break
            if self._at_eof:
                raise ConnectionResetError("the client left before it was announced")
            await self._wait_for_input()
        announced, length = found
        del self._input[:length]
        self._announce(announced)
        self._relay = self.peer if lies_in(self.peer, self._config.trusted_relays) and announced.address else ""

    def _announce(self, announced: Announced) -> None:
        """From now on the connection counts as that client's. Raises _HangUp where it has too many."""
        if announced.address is None:
            return
        limit = self._listener.speaks_for(self, announced.address)
        if limit:
            raise _HangUp(f"421 4.7.0 {self.hostname} Too many connections, try again later", limit)
        self.peer = announced.address

    async def _wait_before_greeting(self) -> None:
        """A client waits until it is greeted (RFC 5321, 4.3.1); programs that send spam often do not."""
        if self._config.greeting_delay and not self._listener.guard.is_exempt(self.peer):
            await asyncio.sleep(self._config.greeting_delay)
            if self._input:
                raise _HangUp(f"554 5.5.0 {self.hostname} You spoke before you were greeted", "early_talker")

    async def _obey(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            await self.push("500 5.5.2 Lines end with CR and LF")
            return
        verb, _, argument = line[:-2].decode("utf-8", "surrogateescape").partition(" ")
        command = verb.upper() if verb.isascii() else ""
        self._junk += command not in MAIL_COMMANDS
        method = self._smtp_methods.get(command)
        try:
            if method:
                await method(argument.strip(" "))
            else:
                await self.push("500 5.5.2 Command not recognised")
        except SyntaxRefusal as refusal:
            await self.push(refusal.reply)
        except (_HangUp, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001  # logged; a bug of ours is temporary to the client
            await self.push(await self.handle_exception(error))

    async def handle_exception(self, error: Exception) -> str:
        """Ours is the fault: the client may try again, and learns nothing about it."""
        log.error("smtp_command_failed", client=self.peer, exc_info=error)
        self._set_rset_state()
        return "451 4.3.0 Temporary failure, try again later"

    async def _part(self, end: _HangUp) -> None:
        """Says a last word, and listens on for a moment so that it arrives (a reset would overtake it)."""
        self._listener.refusals[end.cause] += 1
        log.info("smtp_hung_up", client=self.peer, cause=end.cause)
        self._expired = False
        self._session_ends = self.loop.time() + LINGER
        self._input.clear()
        self._drop_transfer()
        self._allow(LINGER, end.cause)
        with contextlib.suppress(_HangUp, ConnectionError):
            await self.push(end.reply)
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

    # Commands, by the library's names

    async def smtp_HELO(self, hostname: str) -> None:
        await self._greet(hostname, extended=False)

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._greet(hostname, extended=True)

    async def _greet(self, hostname: str, *, extended: bool) -> None:
        if not hostname or len(hostname) > 255 or not hostname.isprintable() or " " in hostname:
            await self.push("501 5.5.4 Expected your host name")
            return
        self._set_rset_state()
        if not self.session.host_name:
            self._step_at = self.loop.time()
        self.session.host_name = hostname
        self.session.extended_smtp = extended
        lines = [self.hostname, *self._extensions()] if extended else [self.hostname]
        await self.push("\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]))

    def _extensions(self) -> list[str]:
        starttls = ["STARTTLS"] if self._listener.tls and not self._tls else []
        size = f"SIZE {self._config.max_message_size}"
        announcing = [f"XCLIENT {' '.join(XCLIENT)}", f"XFORWARD {' '.join(XFORWARD)}"] if self._relay else []
        return ["PIPELINING", size, *starttls, *announcing, "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"]

    async def smtp_MAIL(self, arg: str) -> None:
        if not self.session.host_name:
            await self.push("503 5.5.1 Send EHLO first")
            return
        if self.envelope.mail_from is not None:
            await self.push("503 5.5.1 Sender given already")
            return
        mail = parse_mail(arg)
        if mail.size > self._config.max_message_size:
            self._listener.refusals["max_message_size"] += 1
            await self.push("552 5.3.4 Message too large")
            return
        if self._listener.has_room and not self._listener.has_room(mail.size):
            self._listener.refusals["no_space"] += 1
            await self.push("452 4.3.1 Insufficient system storage")
            return
        self.envelope.mail_from = mail.sender
        self.envelope.smtp_utf8 = mail.smtputf8
        self._step_at = self.loop.time()
        await self.push("250 2.1.0 Sender ok")

    async def smtp_RCPT(self, arg: str) -> None:
        if self.envelope.mail_from is None or self._transfer:
            await self.push("503 5.5.1 Send MAIL first")
            return
        if len(self.envelope.rcpt_tos) >= self._config.max_recipients:
            self._junk += 1
            self._listener.refusals["max_recipients"] += 1
            await self.push("452 4.5.3 Too many recipients")
            return
        due = self.loop.time() + self._config.refusal_delay
        recipient, refused = self._recipient(arg)
        if refused:
            await self._flush()
            await asyncio.sleep(due - self.loop.time())
            await self.push(refused)
            return
        self.envelope.rcpt_tos.append(recipient)
        self._step_at = self.loop.time()
        await self.push("250 2.1.5 Recipient ok")

    def _recipient(self, argument: str) -> tuple[str, str]:
        """The recipient that is meant, and the reply that refuses it, "" for one of ours."""
        try:
            recipient = parse_rcpt(argument, smtputf8=self.envelope.smtp_utf8)
        except SyntaxRefusal as refusal:
            return "", refusal.reply
        ours = self._config.recipients
        if not ours.owns(recipient):
            return "", "550 5.7.1 Relaying denied"
        if ours.parse(recipient) is None:
            return "", "550 5.1.1 Unknown recipient"
        return recipient, ""

    async def smtp_DATA(self, arg: str) -> None:
        if arg:
            await self.push("501 5.5.4 DATA takes no argument")
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Send RCPT first")
            return
        if self._transfer:
            await self.push("503 5.5.1 The message has begun with BDAT")
            return
        await self._push_now("354 End data with <CR><LF>.<CR><LF>")
        decoder = DataDecoder()
        self._transfer = transfer = self._begin(decoder)
        while not decoder.finished:
            await self._receive(transfer, await self._chunk())
        self._input[:0] = decoder.rest
        await self._finish(transfer)

    async def smtp_BDAT(self, arg: str) -> None:
        """A chunk of so many octets (RFC 3030). They are read whatever the answer is, or else end the connection."""
        try:
            command = parse_bdat(arg)
        except SyntaxRefusal as refusal:
            raise _HangUp(refusal.reply, "malformed_chunk") from None
        wanted = bool(self.envelope.rcpt_tos)
        transfer = self._transfer or self._begin(ChunkDecoder())
        if transfer.decoder.octets + command.size > 2 * self._config.max_message_size:
            raise _HangUp("552 5.3.4 Message too large", "max_message_size")
        if wanted:
            self._transfer = transfer
        if not command.size and not command.last:
            self._junk += 1
        left = command.size
        await self._flush()
        while left:
            chunk = await self._chunk(left)
            left -= len(chunk)
            if wanted:
                await self._receive(transfer, chunk)
            else:
                self._allow_for_data(transfer)
        if not wanted:
            await self.push("503 5.5.1 Send RCPT first")
        elif command.last:
            await self._finish(transfer)
        elif refused := self._refusal_of(transfer):
            self._set_rset_state()
            await self.push(refused)
        else:
            await self.push(f"250 2.0.0 {command.size} octets received")

    def _begin(self, decoder: DataDecoder | ChunkDecoder) -> _Transfer:
        spool = Spool(self._config.max_message_size, self._config.spool_directory)
        transfer = _Transfer(spool, decoder, self.loop.time())
        self._allow_for_data(transfer)
        return transfer

    async def _receive(self, transfer: _Transfer, chunk: bytes) -> None:
        """Takes octets of a message. Raises _HangUp where its end can't be awaited."""
        try:
            text = transfer.decoder.feed(chunk)
        except BareLineEnding:
            raise _HangUp("554 5.6.0 Bare CR or LF in the message", "bare_line_ending") from None
        if transfer.decoder.octets > 2 * self._config.max_message_size:
            raise _HangUp("552 5.3.4 Message too large", "max_message_size")
        transfer.keep(text)
        self._allow_for_data(transfer)

    def _refusal_of(self, transfer: _Transfer) -> str | None:
        """The reply that refuses what has come so far, or None."""
        if transfer.decoder.octets > self._config.max_message_size:
            self._listener.refusals["max_message_size"] += 1
            return "552 5.3.4 Message too large"
        if transfer.decoder.longest_line > LINE_OCTETS:
            return "554 5.6.0 Line too long"
        if transfer.disk_failed:
            self._listener.refusals["no_space"] += 1
            return "452 4.3.1 Insufficient system storage"
        return None

    async def _finish(self, transfer: _Transfer) -> None:
        """The message is there: has it stored, and answers."""
        if isinstance(transfer.decoder, ChunkDecoder):
            try:
                transfer.decoder.finish()
            except BareLineEnding:
                raise _HangUp("554 5.6.0 Bare CR or LF in the message", "bare_line_ending") from None
        reply = self._refusal_of(transfer)
        if reply is None:
            self._allow(self._config.store_timeout, "store_timeout")
            self._storing = True
            try:
                if transfer.spool.size <= LARGE_OCTETS:
                    reply = await self._store(transfer.spool)
                else:
                    async with self._listener.large:
                        reply = await self._store(transfer.spool)
            finally:
                self._storing = False
        self._set_rset_state()
        self._step_at = self.loop.time()
        if reply.startswith("250"):
            self._errors = self._junk = 0
        await self.push(reply)

    def _allow_for_data(self, transfer: _Transfer) -> None:
        """Each piece in time, the whole in time, and time earned by octets sent (as Postfix counts a request)."""
        config, gone = self._config, self.loop.time() - transfer.began
        earned = config.data_grace + transfer.decoder.octets / config.min_data_rate
        self._allow(*min(
            (config.data_timeout, "data_timeout"),
            (config.data_total_timeout - gone, "data_total_timeout"),
            (earned - gone, "min_data_rate"),
        ))  # fmt: skip

    async def _store(self, spool: Spool) -> str:
        raw = spool.read()
        spool.drop()
        if (b"\n" + _header_block(raw).lower()).count(b"\nreceived:") > self._config.max_hops:
            self._listener.refusals["hops"] += 1
            return "554 5.4.6 Too many hops"
        forwarded, self._forwarded = self._forwarded, None
        return await self._listener.store(
            Received(
                sender=self.envelope.mail_from or "",
                recipients=tuple(self.envelope.rcpt_tos),
                raw=raw,
                received_at=datetime.now(UTC),
                client_address=(forwarded and forwarded.address) or self.peer,
                helo=(forwarded and forwarded.helo) or self._announced_helo or self.session.host_name or "",
                tls=self._tls,
                relay=self._relay,
            )
        )

    async def smtp_STARTTLS(self, arg: str) -> None:
        context = self._listener.tls
        if arg:
            await self.push("501 5.5.4 STARTTLS takes no argument")
            return
        if not context or self._tls:
            await self.push("502 5.5.1 STARTTLS not offered")
            return
        await self._push_now("220 2.0.0 Ready to start TLS")
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
        self._listener.counters.tls += 1
        self._step_at = self.loop.time()
        self._set_rset_state()
        self.session.host_name = None

    async def smtp_XCLIENT(self, arg: str) -> None:
        """A trusted relay speaks for a client from here on (Postfix, XCLIENT_README): as if that had connected."""
        if not await self._may_announce():
            return
        announced = read_attributes(arg, XCLIENT)
        self._announce(announced)
        self._announced_helo = announced.helo or self._announced_helo
        self._set_rset_state()
        self.session.host_name = None
        await self._push_now(f"220 {self.hostname} ESMTP maillinkd")

    async def smtp_XFORWARD(self, arg: str) -> None:
        """A trusted relay says where the next message came from (Postfix, XFORWARD_README); may come in parts."""
        if not await self._may_announce():
            return
        announced, former = read_attributes(arg, XFORWARD), self._forwarded or Announced(None)
        self._forwarded = Announced(announced.address or former.address, announced.helo or former.helo)
        await self.push("250 2.0.0 Ok")

    async def _may_announce(self) -> bool:
        if not self._relay:
            await self.push("550 5.7.0 You are no trusted relay")
        elif self.envelope.mail_from is not None:
            await self.push("503 5.5.1 Not while a message is under way")
        else:
            return True
        return False

    async def smtp_RSET(self, arg: str) -> None:
        self._set_rset_state()
        await self.push("250 2.0.0 Ok")

    async def smtp_NOOP(self, arg: str) -> None:
        await self.push("250 2.0.0 Ok")

    async def smtp_VRFY(self, arg: str) -> None:
        await self.push("252 2.0.0 Not verified, send mail to find out")

    async def smtp_EXPN(self, arg: str) -> None:
        await self._not_implemented()

    async def smtp_HELP(self, arg: str) -> None:
        await self._not_implemented()

    async def smtp_AUTH(self, arg: str) -> None:
        await self._not_implemented()

    async def _not_implemented(self) -> None:
        await self.push("502 5.5.1 Command not implemented")

    async def smtp_QUIT(self, arg: str) -> None:
        await self._push_now("221 2.0.0 Bye")
        self._wire.close()


_COMMANDS = [name for name in dir(_Connection) if name.startswith("smtp_")]


def _header_block(raw: bytes) -> bytes:
    """The header fields with their last line end; of an endless header its first 256 KiB."""
    end = raw.find(b"\r\n\r\n", 0, HEADER_OCTETS)
    return raw[: end + 2] if end >= 0 else raw[:HEADER_OCTETS]


def _tls_context(config: ListenerConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context


def _stamps(config: ListenerConfig) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when certificate or key are replaced."""
    return tuple(_stamp(path) for path in (config.tls_certificate, config.tls_key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _set_user_timeout(transport: asyncio.Transport) -> None:
    """The kernel's limit for a client that vanished without a word while we have something to send."""
    connected: Any = transport.get_extra_info("socket")
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT * 1000))

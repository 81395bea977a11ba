"""One connection to an IMAP server: typed questions, typed answers, deadlines.

The only file that imports aioimaplib. Tags, the table of commands and their states, and the object that a caller
waits for are the library's; what receives, sends, authenticates and idles is ours (traps.md, I1 to I20 say why).

Nothing here can change a mailbox: folders are opened with EXAMINE, bodies asked for with BODY.PEEK, and there is no
code for any command that writes.
"""

import asyncio
import functools
import re
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address

from aioimaplib import aioimaplib

from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.command import Argument, Astring, Secret, Unsendable, wire
from maillinkd.imap.errors import (
    ConnectionLost,
    ImapError,
    LoginRefused,
    NoPassword,
    Refused,
    Unreachable,
    Untrusted,
    printable,
)
from maillinkd.imap.folders import Folder, readable
from maillinkd.imap.response import (
    Capabilities,
    Continuation,
    Exists,
    Expunged,
    Fetch,
    Limits,
    Listed,
    MailboxStatus,
    Parser,
    ProtocolError,
    Response,
    Search,
    Status,
    TooLarge,
    internal_date,
    number,
)
from maillinkd.imap.sync import Opened, sequence_set
from maillinkd.mail.delivery import Fetched

LARGEST = 50 * 1024 * 1024
"""Bytes of a message above which only its header fields are fetched."""
PIECE = 1024 * 1024
"""A message above this size is fetched alone, in pieces of this size."""
_ANSWER_LIMIT = 128 * 1024 * 1024
_RESPONSES_LIMIT = 200_000
_KEEP_ALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HEADER_END = re.compile(rb"\n\r?\n")


class _Exchange(aioimaplib.Command):  # type: ignore[misc] # the library is untyped
    """A command on its way: what it brought so far, and its end."""

    def __init__(self, name: str, tag: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, tag, loop=loop)
        self.responses: list[Response] = []
        self.answer: Status | None = None
        self.error: Exception | None = None
        self.size = 0
        self.go_ahead = asyncio.Event()
        self.done = False

    def add(self, response: Response) -> None:
        self.responses.append(response)
        if len(self.responses) > _RESPONSES_LIMIT:
            raise TooLarge(f"the answer to {self.name} has no end")

    def takes(self, size: int) -> bool:
        """Counts what a read brought; False when it is too much for one answer."""
        self.size += size
        return self.size <= _ANSWER_LIMIT

    def finish(self, answer: Status) -> None:
        self.answer = answer
        self.close(b"", answer.condition)
        self._wake()

    def fail(self, error: Exception) -> None:
        self.error = error
        self._exception = error
        self.close(b"", "BYE")
        self._wake()

    def _wake(self) -> None:
        self.done = True
        self.go_ahead.set()


class _Protocol(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc] # the library is untyped
    """The library's protocol with another receive path: our parser, and an end for whatever waits."""

    transport: asyncio.Transport | None
    capabilities: set[str]

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        super().__init__(loop)
        self._limits = limits
        self._parser = Parser(limits)
        self._exchange: _Exchange | None = None
        self.greeting: asyncio.Future[Status] = loop.create_future()
        self.lost: ImapError | ProtocolError | None = None
        self.bye = ""
        self.alerts: deque[str] = deque(maxlen=10)
        self.exists = 0
        self.changed = False
        """Mail came or went in the open folder since this was last set to False."""
        self.expunged = False
        self.stirred = asyncio.Event()
        self.heard_at = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _keep_alive(transport)

    def data_received(self, d: bytes) -> None:
        self.heard_at = self.loop.time()
        if self._exchange is not None and not self._exchange.takes(len(d)):
            self.fail(TooLarge(f"the answer to {self._exchange.name} has no end"))
            return
        try:
            responses = self._parser.feed(d)
        except ProtocolError as error:
            for response in error.before:
                self._dispatch_or_fail(response)
            self.fail(error)
            return
        if self._exchange is not None and self._exchange.name == "STARTTLS" and not self._nothing_after(responses):
            self.fail(Untrusted("the server sent more after its answer to STARTTLS, before TLS"))
            return
        for response in responses:
            self._dispatch_or_fail(response)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self.bye or (printable(str(exc)) if exc else "")
        self.fail(ConnectionLost(f"the server closed the connection{': ' + reason if reason else ''}", self.bye))
        super().connection_lost(exc)

    def fail(self, error: ImapError | ProtocolError) -> None:
        """The end of the connection: all that waits learns of it, and nothing more is read."""
        if self.lost is None:
            self.lost = error
        self.state = aioimaplib.LOGOUT
        if not self.greeting.done():
            self.greeting.set_exception(self.lost)
            self.greeting.exception()  # seen, even if nobody waits for a greeting any more
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.fail(self.lost)
        self.stirred.set()
        if self.transport is not None:
            self.transport.abort()

    def write(self, data: bytes) -> None:
        """Sends. The library's `send` would log it (traps.md I15)."""
        if self.transport is not None and self.lost is None:
            self.transport.write(data)

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS is on: all that was said before counts for nothing (RFC 9051, 6.2.1)."""
        self.transport = transport
        self._parser = Parser(self._limits)
        self.capabilities = set()

    def begin(self, name: str) -> _Exchange:
        """Takes the line for one command. Raises what ended the connection, or Refused in the wrong state."""
        if self.lost is not None:
            raise type(self.lost)(str(self.lost))
        if self._exchange is not None:
            raise RuntimeError(f"{name} while {self._exchange.name} is on its way")
        if self.state not in aioimaplib.Commands[name].valid_states:
            raise Refused(name, "BAD", "", f"not possible in state {self.state}")
        self._exchange = _Exchange(name, self.new_tag(), self.loop)
        return self._exchange

    def _nothing_after(self, responses: Sequence[Response]) -> bool:
        """No byte follows the tagged answer. Then TLS begins, and no byte may come in clear any more."""
        answered = [at for at, response in enumerate(responses) if isinstance(response, Status) and response.tag]
        if not answered:
            return True
        if self.transport is not None:
            self.transport.pause_reading()
        return answered[0] == len(responses) - 1 and self._parser.idle

    def _dispatch_or_fail(self, response: Response) -> None:
        if self.lost is not None:
            return
        try:
            self._dispatch(response)
        except ProtocolError as error:
            self.fail(error)

    def _dispatch(self, response: Response) -> None:
        match response:
            case Fetch() | Search() | Listed() | MailboxStatus():
                if self._exchange is not None:
                    self._exchange.add(response)
            case Status():
                self._status(response)
            case Exists():
                self.changed = self.changed or response.count != self.exists
                self.exists = response.count
                self.stirred.set()
            case Expunged():
                self.changed = self.expunged = True
                self.exists = max(0, self.exists - 1)
                self.stirred.set()
            case Capabilities():
                self.capabilities = set(response.names)
            case Continuation():
                if self._exchange is not None:
                    self._exchange.go_ahead.set()
            case _:
                pass

    def _status(self, response: Status) -> None:
        if response.code == "ALERT":
            self.alerts.append(printable(response.text))
        if response.tag:
            if self._exchange is None or self._exchange.tag != response.tag:
                raise ProtocolError("an answer to a command that was not sent")
            exchange, self._exchange = self._exchange, None
            exchange.finish(response)
        elif not self.greeting.done():
            self._greet(response)
        elif response.condition == "BYE":
            self._say_bye(response)
        elif self._exchange is not None and response.code:
            self._exchange.add(response)

    def _greet(self, response: Status) -> None:
        if response.condition == "BYE":
            self.bye = _reason(response)
            self.fail(Unreachable(f"the server does not want us now: {self.bye}", response.text))
            return
        if response.condition not in {"OK", "PREAUTH"}:
            raise ProtocolError("a greeting that is none")
        self.state = aioimaplib.AUTH if response.condition == "PREAUTH" else aioimaplib.NONAUTH
        self.greeting.set_result(response)

    def _say_bye(self, response: Status) -> None:
        self.bye = _reason(response)
        if self._exchange is None or self._exchange.name != "LOGOUT":
            self.fail(ConnectionLost(f"the server said good-bye: {self.bye}", response.text))


class Connection:
    """A connection on which one command at a time is asked. After any error but Refused it is of no further use."""

    def __init__(self, protocol: _Protocol, deadlines: Deadlines) -> None:
        self._protocol = protocol
        self._deadlines = deadlines
        self._turn = asyncio.Lock()
        self.open: Folder | None = None
        """The folder that was opened last and is still open."""

    @property
    def capabilities(self) -> frozenset[str]:
        """In capitals, as the server last gave them."""
        return frozenset(self._protocol.capabilities)

    @property
    def lost(self) -> bool:
        return self._protocol.lost is not None

    @property
    def authenticated(self) -> bool:
        return self._protocol.state in {aioimaplib.AUTH, aioimaplib.SELECTED}

    @property
    def changed(self) -> bool:
        """Mail came or went in the open folder since `notice`."""
        return bool(self._protocol.changed)

    def notice(self) -> None:
        """What changed until now is going to be looked at."""
        self._protocol.changed = False

    def take_expunged(self) -> bool:
        """Whether mail went from the open folder since this was last asked."""
        expunged, self._protocol.expunged = bool(self._protocol.expunged), False
        return expunged

    def alerts(self) -> list[str]:
        """What the server wants a person to read (ALERT), each given once."""
        texts = list(self._protocol.alerts)
        self._protocol.alerts.clear()
        return texts

    async def folders(self) -> tuple[Folder, ...]:
        """All folders that can be opened."""
        extended = {"LIST-EXTENDED", "SPECIAL-USE"} <= self.capabilities or "IMAP4REV2" in self.capabilities
        marks = ("RETURN (SPECIAL-USE)",) if extended else ()
        exchange = await self._ask("LIST", '""', '"*"', *marks)
        return readable(response for response in exchange.responses if isinstance(response, Listed))

    async def examine(self, folder: Folder) -> Opened:
        """Opens a folder for reading alone. Raises Refused if it cannot be opened; then none is open."""
        protocol = self._protocol
        protocol.exists = 0
        self.open = None
        try:
            exchange = await self._ask("EXAMINE", Astring(folder.wire))
        except Refused:
            if not self.lost:
                protocol.state = aioimaplib.AUTH
            raise
        protocol.state = aioimaplib.SELECTED
        self.open = folder
        self.notice()
        self.take_expunged()
        codes = {response.code: response.number for response in exchange.responses if isinstance(response, Status)}
        return Opened(codes.get("UIDVALIDITY") or 0, codes.get("UIDNEXT") or None, protocol.exists)

    async def status(self, folder: Folder) -> Opened:
        """How a folder stands, without opening it."""
        exchange = await self._ask("STATUS", Astring(folder.wire), "(MESSAGES UIDNEXT UIDVALIDITY)")
        items: dict[str, int] = {}
        for response in exchange.responses:
            if isinstance(response, MailboxStatus):
                items.update(response.items)
        return Opened(items.get("UIDVALIDITY", 0), items.get("UIDNEXT") or None, items.get("MESSAGES", 0))

    async def uid_search(self, criteria: str) -> list[int]:
        """UIDs in the open folder. Without CHARSET, which some servers refuse (traps.md I18)."""
        exchange = await self._ask("SEARCH", criteria, prefix="UID", deadline=self._deadlines.search)
        found: list[int] = []
        for response in exchange.responses:
            if isinstance(response, Search):
                found.extend(response.numbers)
        return found

    async def fetch_sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """RFC822.SIZE in bytes by UID, of those that are there."""
        answer = await self._fetch(uids, "(UID RFC822.SIZE)", 200 * len(uids))
        return {uid: _size(items) for uid, items in answer.items()}

    async def fetch_headers(self, uids: Sequence[int], fields: Sequence[str], most: int = 0) -> list[Fetched]:
        """The header fields named, ascending by UID; `most`: only so many bytes of them, 0: all. Some may be gone."""
        section = f"BODY.PEEK[HEADER.FIELDS ({' '.join(fields)})]" + (f"<0.{most}>" if most else "")
        answer = await self._fetch(uids, f"(UID INTERNALDATE RFC822.SIZE {section})", 2_000 * len(uids))
        messages = []
        for uid, items in answer.items():
            headers = _first(items, "BODY[HEADER.FIELDS]", "BODY[HEADER.FIELDS]<0>")
            if headers is not None:
                messages.append(Fetched(uid, headers, None, _received_at(items), _size(items)))
        return messages

    async def fetch_whole(self, uids: Sequence[int], expected: int) -> list[Fetched]:
        """Whole messages, ascending by UID; `expected`: bytes in all, by their sizes. Some may be gone."""
        answer = await self._fetch(uids, "(UID INTERNALDATE RFC822.SIZE BODY.PEEK[])", expected + 500 * len(uids))
        messages = []
        for uid, items in answer.items():
            raw = items.bytes_of("BODY[]")
            if raw is not None:
                messages.append(_whole(uid, items, raw))
        return messages

    async def fetch_pieces(self, uid: int) -> Fetched | None:
        """One large message, piece by piece; None if it is gone. Raises TooLarge above `LARGEST`."""
        raw = bytearray()
        first: Fetch | None = None
        while True:
            at = len(raw)
            items = "UID" if first else "UID INTERNALDATE RFC822.SIZE"
            answer = await self._fetch([uid], f"({items} BODY.PEEK[]<{at}.{PIECE}>)", PIECE)
            found = answer.get(uid)
            # A server that knows no pieces sends the message whole, under the name that says so.
            whole = found.bytes_of("BODY[]") if found else None
            piece = whole if whole is not None else found.bytes_of(f"BODY[]<{at}>") if found else None
            if found is None or piece is None:
                return None
            first = first or found
            if whole is not None:
                return _whole(uid, first, whole)
            raw += piece
            if len(raw) > LARGEST:
                raise TooLarge(f"message {uid} is larger than it says")
            if len(piece) < PIECE:
                return _whole(uid, first, bytes(raw))

    async def idle(self, longest: float) -> None:
        """Waits in IDLE (RFC 2177) until something happens in the open folder, at most `longest` seconds.

        Silence of `Deadlines.idle_renew` ends it too, so that a dead connection is noticed. Raises Refused if the
        server does not idle now.
        """
        protocol = self._protocol
        if protocol.changed:
            return
        async with self._exchange("IDLE") as exchange:
            protocol.stirred.clear()
            async with self._within(self._deadlines.command, "IDLE"):
                await self._send(exchange, ["IDLE"])
                await exchange.go_ahead.wait()
            if not exchange.done:
                end = protocol.loop.time() + min(longest, self._deadlines.idle_longest)
                await self._until_stirred(end)
                protocol.write(b"DONE\r\n")
            async with self._within(self._deadlines.idle_done, "DONE"):
                await exchange.wait()
            _accepted(exchange)

    async def _until_stirred(self, end: float) -> None:
        protocol = self._protocol
        while not protocol.changed and protocol.lost is None:
            silent_at = protocol.heard_at + self._deadlines.idle_renew
            remaining = min(end, silent_at) - protocol.loop.time()
            if remaining <= 0:
                return
            protocol.stirred.clear()
            try:
                async with asyncio.timeout(remaining):
                    await protocol.stirred.wait()
            except TimeoutError:
                continue

    async def noop(self) -> None:
        """Lets the server say what happened."""
        await self._ask("NOOP")

    async def logout(self) -> None:
        """Says good-bye and closes. Never raises ImapError: what is wrong with a connection is over with it."""
        try:
            if not self.lost:
                await self._ask("LOGOUT", deadline=self._deadlines.logout)
        except (ImapError, ProtocolError):
            pass  # the connection ends in any case
        finally:
            self.abort()

    def abort(self) -> None:
        """Closes at once (traps.md I19: the library never does)."""
        self._protocol.fail(ConnectionLost("the connection was closed"))

    async def capability(self) -> frozenset[str]:
        """Asks what the server can do (RFC 9051, 6.1.1)."""
        await self._ask("CAPABILITY")
        return self.capabilities

    async def login(self, username: str, password: str) -> None:
        """AUTHENTICATE PLAIN (RFC 4616) where it is offered, else LOGIN; then asks for the capabilities again.

        Raises LoginRefused, NoPassword, Unreachable if the server has no time for us now.
        """
        user, secret = _text(username), _text(password)
        try:
            if "AUTH=PLAIN" in self.capabilities:
                await self._authenticate_plain(user, secret)
            elif "LOGINDISABLED" in self.capabilities:
                raise LoginRefused("LOGIN", "NO", "PRIVACYREQUIRED", "the server permits no login on this connection")
            else:
                await self._ask("LOGIN", user, secret)
        except Refused as refused:
            raise _login_error(refused, password) from None
        self._protocol.state = aioimaplib.AUTH
        await self.capability()

    async def _authenticate_plain(self, user: Astring, secret: Astring) -> None:
        message = Secret(b64encode(b"\0" + user.octets + b"\0" + secret.octets))
        if "SASL-IR" in self.capabilities:
            await self._ask("AUTHENTICATE", "PLAIN", message)
            return
        async with self._exchange("AUTHENTICATE") as exchange:
            async with self._within(self._deadlines.command, "AUTHENTICATE"):
                await self._send(exchange, ["AUTHENTICATE", "PLAIN"])
                await exchange.go_ahead.wait()
                if not exchange.done:
                    self._protocol.write(message.octets + b"\r\n")
                await exchange.wait()
            _accepted(exchange)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """STARTTLS (RFC 9051, 6.2.1). Raises Untrusted if it is not offered, Unreachable if TLS fails."""
        protocol = self._protocol
        if "STARTTLS" not in await self.capability():
            raise Untrusted("the server does not offer STARTTLS")
        try:
            await self._ask("STARTTLS")
        except Refused as refused:
            raise Untrusted(str(refused)) from None
        secured = await protocol.loop.start_tls(
            protocol.transport, protocol, context, server_hostname=host, ssl_handshake_timeout=self._deadlines.connect
        )
        if secured is None:  # closed meanwhile
            raise Unreachable("the connection broke while TLS was set up")
        protocol.secured(secured)

    async def _fetch(self, uids: Sequence[int], items: str, expected: int) -> dict[int, Fetch]:
        """What one UID FETCH brought, ascending; parts of an answer that came apart are put together."""
        exchange = await self._ask(
            "FETCH", sequence_set(uids), items, prefix="UID", deadline=self._deadlines.fetch(expected)
        )
        wanted = set(uids)
        answer: dict[int, Fetch] = {}
        for response in exchange.responses:
            if not isinstance(response, Fetch) or (uid := response.uid) is None or uid not in wanted:
                continue
            before = answer.get(uid)
            answer[uid] = Fetch(response.sequence, {**before.items, **response.items}) if before else response
        return dict(sorted(answer.items()))

    async def _ask(
        self, name: str, *arguments: Argument, prefix: str = "", deadline: float | None = None
    ) -> _Exchange:
        """Sends a command and waits for its end. Raises Refused, or what ended the connection."""
        async with self._exchange(name) as exchange:
            async with self._within(deadline or self._deadlines.command, name):
                await self._send(exchange, [*([prefix] if prefix else []), name, *arguments])
                await exchange.wait()
            return _accepted(exchange)

    @asynccontextmanager
    async def _exchange(self, name: str) -> AsyncIterator[_Exchange]:
        """One command at a time (traps.md I10); one that is left unfinished takes the connection with it (I8)."""
        async with self._turn:
            exchange = self._protocol.begin(name)
            try:
                yield exchange
            finally:
                if not exchange.done:
                    self._protocol.fail(ConnectionLost(f"{name} was given up"))

    @asynccontextmanager
    async def _within(self, seconds: float, name: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            lost = ConnectionLost(f"no answer to {name} within {seconds:g} s")
            self._protocol.fail(lost)
            raise lost from None

    async def _send(self, exchange: _Exchange, words: list[Argument]) -> None:
        *waiting, last = wire(exchange.tag, words, literal_plus="LITERAL+" in self.capabilities)
        for piece in waiting:
            exchange.go_ahead.clear()
            self._protocol.write(piece)
            await exchange.go_ahead.wait()
            if exchange.done:  # refused instead of asked on
                return
        exchange.go_ahead.clear()
        self._protocol.write(last)


async def connect(account: Account, deadlines: Deadlines | None = None) -> Connection:
    """A connection on which the account is logged in.

    Raises LoginRefused, NoPassword, Unreachable (Untrusted and ConnectionLost among them), Refused.
    """
    deadlines = deadlines or Deadlines()
    try:
        connection = await _dial(account, deadlines)
        try:
            await _log_in(connection, account)
        except BaseException:
            connection.abort()
            raise
    except ProtocolError as error:
        raise Unreachable(f"{account.host} does not speak IMAP as it should: {error}") from error
    return connection


async def _log_in(connection: Connection, account: Account) -> None:
    if account.tls == "starttls":
        with _network_errors(account.host):
            await connection.start_tls(_tls(account.tls_ca_file), account.host)
    await connection.capability()
    if not connection.authenticated:
        await connection.login(account.username, await _password(account))


async def _dial(account: Account, deadlines: Deadlines) -> Connection:
    """TCP, TLS if it comes first, and the greeting."""
    loop = asyncio.get_running_loop()
    protocol = _Protocol(loop)
    context = _tls(account.tls_ca_file) if account.tls == "implicit" else None
    try:
        with _network_errors(account.host):
            async with asyncio.timeout(2 * deadlines.connect):
                await loop.create_connection(
                    lambda: protocol,
                    account.host,
                    account.port,
                    ssl=context,
                    server_hostname=account.host if context else None,
                    ssl_handshake_timeout=deadlines.connect if context else None,
                )
                if account.tls == "none" and protocol.transport is not None:
                    _only_loopback(protocol.transport)
                greeting = await protocol.greeting
        _not_logged_in(greeting, account)
    except BaseException:
        protocol.fail(ConnectionLost("the connection was closed"))
        raise
    return Connection(protocol, deadlines)


def _not_logged_in(greeting: Status, account: Account) -> None:
    """PREAUTH before STARTTLS: whoever sits in between may have sent it, to have us go on without TLS."""
    if account.tls == "starttls" and greeting.condition == "PREAUTH":  # CVE-2020-12398
        raise Untrusted("the server greets as if logged in already; with STARTTLS this is refused")


@contextmanager
def _network_errors(host: str) -> Iterator[None]:
    """Names what goes wrong below IMAP: in the network, in TLS."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"the certificate of {host} is not valid: {printable(error.verify_message)}") from None
    except ssl.SSLError as error:
        raise Unreachable(f"TLS with {host} failed: {printable(error.reason or str(error))}") from None
    except TimeoutError:
        raise Unreachable(f"{host} does not answer") from None
    except OSError as error:
        raise Unreachable(f"{host} cannot be reached: {printable(error.strerror or str(error))}") from None


@functools.lru_cache(maxsize=16)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and name verified. Shared, for each costs some hundred kilobytes."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _only_loopback(transport: asyncio.BaseTransport) -> None:
    address = str(transport.get_extra_info("peername")[0]).partition("%")[0]
    if not ip_address(address).is_loopback:
        raise Untrusted("without TLS only a server on this machine is spoken to")


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    """Lets the system notice a peer that is gone without a word, also while nothing is sent."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _password(account: Account) -> str:
    if isinstance(account.password, str):
        return account.password
    try:
        return await asyncio.to_thread(account.password)
    except Exception as error:
        raise NoPassword(f"no password for {account.name}: {printable(str(error))}") from error


def _text(text: str) -> Astring:
    """In UTF-8; octets that were read as surrogates (PEP 383) go out as they were."""
    try:
        return Astring(text.encode("utf-8", "surrogateescape"))
    except (Unsendable, UnicodeEncodeError):
        raise NoPassword("the user name or password has characters that cannot be sent") from None


def _accepted(exchange: _Exchange) -> _Exchange:
    answer = exchange.answer
    if answer is None:
        raise RuntimeError(f"{exchange.name} is not finished")
    if answer.condition != "OK":
        raise Refused(exchange.name, answer.condition, answer.code, answer.text)
    return exchange


def _login_error(refused: Refused, password: str) -> ImapError:
    text = refused.text.replace(password, "***") if password else refused.text
    if isinstance(refused, LoginRefused):
        return refused
    if refused.transient:
        return Unreachable(f"login: {refused.condition} [{refused.code}] {text}", refused.text)
    return LoginRefused("login", refused.condition, refused.code, text)


def _reason(bye: Status) -> str:
    return f"[{bye.code}] {printable(bye.text)}" if bye.code else printable(bye.text)


def _first(items: Fetch, *names: str) -> bytes | None:
    return next((value for name in names if (value := items.bytes_of(name)) is not None), None)


def _size(items: Fetch) -> int:
    value = items.items.get("RFC822.SIZE")
    return number(value) if value is not None else 0


def _received_at(items: Fetch) -> datetime:
    """INTERNALDATE; 1970 where the server has none that can be read, which is the same at each look."""
    return internal_date(items.bytes_of("INTERNALDATE")) or _EPOCH


def _whole(uid: int, items: Fetch, raw: bytes) -> Fetched:
    return Fetched(uid, header_block(raw), raw, _received_at(items), _size(items) or len(raw))


def header_block(raw: bytes) -> bytes:
    """A message up to and with the empty line that ends its header (RFC 5322, 2.1)."""
    if raw.startswith((b"\r\n", b"\n")):
        return b""
    end = _HEADER_END.search(raw)
    return raw[: end.end()] if end else raw

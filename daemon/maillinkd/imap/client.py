"""One connection to an IMAP server: typed questions, typed answers, deadlines.

The only file that imports aioimaplib. Tags, the table of commands and their states, and the object that a caller
waits for are the library's; what receives, sends, authenticates and idles is ours (traps.md, I1 to I20 say why).

Nothing here can change a mailbox: folders are opened with EXAMINE, bodies asked for with BODY.PEEK, and there is no
code for any command that writes.
"""

import asyncio
import functools
import math
import re
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from ipaddress import ip_address

from aioimaplib import aioimaplib

from maillinkd.imap import sasl, utf7
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.command import Argument, Astring, Secret, Unsendable, wire
from maillinkd.imap.errors import (
    ConnectionLost,
    ImapError,
    LoginRefused,
    NoPassword,
    NoToken,
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
    ExtendedSearch,
    Fetch,
    Limits,
    Listed,
    MailboxStatus,
    Parser,
    ProtocolError,
    Response,
    Search,
    ServerId,
    Status,
    TooLarge,
    Vanished,
    internal_date,
    number,
    ranges_of,
)
from maillinkd.imap.sync import Opened, sequence_set
from maillinkd.mail.delivery import Fetched, GmailMarks
from maillinkd.oauth.token import AccessToken, LoginNeeded, TokenError, TryLater

LARGEST = 50 * 1024 * 1024
"""Bytes of a message above which only its header fields are fetched."""
PIECE = 1024 * 1024
"""A message above this size is fetched alone, in pieces of this size."""
_ANSWER_LIMIT = 64 * 1024 * 1024
_FETCH_ROOM = 16 * 1024 * 1024
"""Bytes that the answer to a FETCH may have beyond twice what is expected."""
_RESPONSES_LIMIT = 200_000
_UIDS_LIMIT = 10_000_000
_FOLDERS_TOGETHER = 100
_WILD = frozenset(b"*%")
"""Octets that LIST takes for wildcards."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 30, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
_NOT_THE_TOKEN = frozenset({"CANNOT", "PRIVACYREQUIRED"})
"""Codes of refusals that another token does not help."""
_SHORTEST = 60.0
"""Seconds for which a connection is used at least, however short its token lives."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Exchange(aioimaplib.Command):  # type: ignore[misc] # the library is untyped
    """A command on its way: what it brought so far, and its end."""

    def __init__(self, name: str, tag: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, tag, loop=loop)
        self.responses: list[Response] = []
        self.answer: Status | None = None
        self.error: Exception | None = None
        self.size = 0
        self.limit = _ANSWER_LIMIT
        self.go_ahead = asyncio.Event()
        self.challenge = b""
        self.done = False

    def add(self, response: Response) -> None:
        self.responses.append(response)
        if len(self.responses) > _RESPONSES_LIMIT:
            raise TooLarge(f"the answer to {self.name} has no end")

    def takes(self, size: int) -> bool:
        """Counts what a read brought; False when it is too much for one answer."""
        self.size += size
        return self.size <= self.limit

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


class _Fetching(_Exchange):
    """A UID FETCH on its way, one of several perhaps: what it brought so far, by UID."""

    def __init__(self, tag: str, loop: asyncio.AbstractEventLoop, uids: Sequence[int], limit: int) -> None:
        super().__init__("FETCH", tag, loop)
        self.uids = uids
        self.limit = limit
        self.until = 0.0
        """When it must have ended, by the loop's clock."""
        self.brought: dict[int, Fetch] = {}

    def take(self, uid: int, response: Fetch) -> None:
        """Parts of an answer that came apart are put together."""
        before = self.brought.get(uid)
        self.brought[uid] = (
            Fetch(response.sequence, {**before.items, **response.items}) if before is not None else response
        )


class _Protocol(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc] # the library is untyped
    """The library's protocol with another receive path: our parser, and an end for whatever waits."""

    transport: asyncio.Transport | None
    capabilities: set[str]

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        super().__init__(loop)
        self._limits = limits
        self._parser = Parser(limits)
        self._exchange: _Exchange | None = None
        self.fetches: dict[str, _Fetching] = {}
        """The FETCHes on their way, by tag, in the order in which they were sent; nothing else is meanwhile."""
        self._awaited: dict[int, _Fetching] = {}
        """Which of them asked for a UID: each UID is asked for by one (RFC 9051, 5.5: no ambiguity)."""
        self.greeting: asyncio.Future[Status] = loop.create_future()
        self.lost: ImapError | ProtocolError | None = None
        self.bye = ""
        self.alerts: deque[str] = deque(maxlen=10)
        self.exists = 0
        self.changed = False
        """Mail came or went in the open folder since this was last set to False."""
        self.expunged = False
        self.vanished: list[tuple[int, int]] = []
        """UIDs that went from the open folder, as far as the server names them, and nobody has taken yet."""
        self.announced: set[bytes] = set()
        """Folders whose numbers the server sent unasked (NOTIFY), as it spells them."""
        self.folders_changed = False
        """A folder was made, renamed or deleted (NOTIFY)."""
        self.overflowed = False
        """The server has stopped to notify (RFC 5465, 5.8)."""
        self.server_id: dict[str, str] = {}
        self.stirred = asyncio.Event()
        self.heard_at = loop.time()
        self.received = 0
        """Bytes that came and nobody has counted yet."""

    @property
    def news(self) -> bool:
        """Something happened that somebody waits for in IDLE."""
        return bool(self.changed or self.announced or self.folders_changed or self.overflowed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _keep_alive(transport)

    def data_received(self, d: bytes) -> None:
        self.heard_at = self.loop.time()
        self.received += len(d)
        # Of several FETCHes the first one counts the bytes: servers answer them in turn.
        answered = self._exchange or next(iter(self.fetches.values()), None)
        if answered is not None and not answered.takes(len(d)):
            self.fail(TooLarge(f"the answer to {answered.name} has no end"))
            return
        try:
            responses = self._parser.feed(d)
        except ProtocolError as error:
            self._dispatch_all(error.before)
            self.fail(error)
            return
        if self._exchange is not None and self._exchange.name == "STARTTLS" and not self._nothing_after(responses):
            self.fail(Untrusted("the server sent more after its answer to STARTTLS, before TLS"))
            return
        self._dispatch_all(responses)

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
        for fetching in self.fetches.values():
            fetching.fail(copy(self.lost))  # each is raised elsewhere, and keeps a traceback of its own
        self.fetches.clear()
        self._awaited.clear()
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
        self._permit(name)
        if self.fetches:
            raise RuntimeError(f"{name} while FETCH is on its way")
        self._exchange = _Exchange(name, self.new_tag(), self.loop)
        return self._exchange

    def begin_fetch(self, uids: Sequence[int], limit: int) -> _Fetching:
        """Takes the line for a FETCH of UIDs that no other one has asked for. Raises as `begin`."""
        self._permit("FETCH")
        fetching = _Fetching(self.new_tag(), self.loop, uids, limit)
        self.fetches[fetching.tag] = fetching
        self._awaited.update(dict.fromkeys(uids, fetching))
        return fetching

    def awaits(self, uids: Iterable[int]) -> bool:
        """One of these UIDs is on its way."""
        return not self._awaited.keys().isdisjoint(uids)

    def _permit(self, name: str) -> None:
        if self.lost is not None:
            raise type(self.lost)(str(self.lost))
        if self._exchange is not None:
            raise RuntimeError(f"{name} while {self._exchange.name} is on its way")
        if self.state not in _states_for(name):
            raise Refused(name, "BAD", "", f"not possible in state {self.state}")

    def _nothing_after(self, responses: Sequence[Response]) -> bool:
        """No byte follows the tagged answer. Then TLS begins, and no byte may come in clear any more."""
        answered = [at for at, response in enumerate(responses) if isinstance(response, Status) and response.tag]
        if not answered:
            return True
        if self.transport is not None:
            self.transport.pause_reading()
        return answered[0] == len(responses) - 1 and self._parser.idle

    def _dispatch_all(self, responses: Sequence[Response]) -> None:
        try:
            for response in responses:
                if self.lost is not None:
                    return
                if isinstance(response, Status) and response.condition == "BYE":
                    self._dispatch(_with_reason(response, responses))
                else:
                    self._dispatch(response)
        except ProtocolError as error:
            self.fail(error)

    def _dispatch(self, response: Response) -> None:
        if self._awaited and isinstance(response, Fetch):  # first, for these are nearly all
            uid = response.uid
            if uid is not None and (fetching := self._awaited.get(uid)) is not None:
                fetching.take(uid, response)
            return
        match response:
            case Fetch() | Search() | ExtendedSearch():
                if self._exchange is not None and self._exchange.name != "EXAMINE":  # QRESYNC tells flags there
                    self._exchange.add(response)
            case Listed() | MailboxStatus():
                self._folder(response)
            case Vanished():
                self._vanished(response)
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
            case ServerId():
                self.server_id = dict(response.fields)
            case Continuation():
                if self._exchange is not None:
                    self._exchange.challenge = response.text
                    self._exchange.go_ahead.set()
            case _:
                pass

    def _folder(self, response: Listed | MailboxStatus) -> None:
        """Asked for, or unasked and so a notification (RFC 5465, 5)."""
        if self._exchange is not None and self._exchange.name in {"LIST", "STATUS"}:
            self._exchange.add(response)
            return
        if isinstance(response, Listed):
            self.folders_changed = True
        else:
            self.announced.add(response.name)
        self.stirred.set()

    def _vanished(self, response: Vanished) -> None:
        self.vanished += response.ranges
        if len(self.vanished) > _RESPONSES_LIMIT:
            raise TooLarge("the list of what vanished has no end")
        if not response.earlier:
            self.changed = True
            self.exists = max(0, self.exists - sum(high - low + 1 for low, high in response.ranges))
            self.stirred.set()

    def _status(self, response: Status) -> None:
        if response.code == "NOTIFICATIONOVERFLOW":
            self.overflowed = True
            self.stirred.set()
        if response.code == "ALERT":
            self.alerts.append(printable(response.text))
        if response.tag:
            if fetching := self.fetches.pop(response.tag, None):
                for uid in fetching.uids:
                    self._awaited.pop(uid, None)
                fetching.finish(response)
                return
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
            self.fail(Unreachable(f"the server does not want us now: {self.bye}", self.bye))
            return
        if response.condition not in {"OK", "PREAUTH"}:
            raise ProtocolError("a greeting that is none")
        self.state = aioimaplib.AUTH if response.condition == "PREAUTH" else aioimaplib.NONAUTH
        self.greeting.set_result(response)

    def _say_bye(self, response: Status) -> None:
        self.bye = _reason(response)
        if self._exchange is None or self._exchange.name != "LOGOUT":
            self.fail(ConnectionLost(f"the server said good-bye: {self.bye}", self.bye))


class Connection:
    """A connection on which one command at a time is asked, but FETCHes of different UIDs, which may be many.

    After any error but Refused it is of no further use.
    """

    def __init__(self, protocol: _Protocol, deadlines: Deadlines) -> None:
        self._protocol = protocol
        self._deadlines = deadlines
        self._turn = asyncio.Lock()
        self._renew_at = math.inf
        self.open: Folder | None = None
        """The folder that was opened last and is still open."""

    @property
    def capabilities(self) -> frozenset[str]:
        """In capitals, as the server last gave them."""
        return frozenset(self._protocol.capabilities)

    @property
    def lost(self) -> bool:
        return self._protocol.lost is not None

    def fresh_for(self) -> float:
        """Seconds until this connection is to be replaced, for the token behind it ends; none or less: now."""
        return self._renew_at - float(self._protocol.loop.time())

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

    def take_received(self) -> int:
        """Bytes that came since this was last asked, without those of TLS."""
        received, self._protocol.received = int(self._protocol.received), 0
        return received

    async def folders(self) -> tuple[Folder, ...]:
        """All folders that can be opened."""
        extended = {"LIST-EXTENDED", "SPECIAL-USE"} <= self.capabilities or "IMAP4REV2" in self.capabilities
        marks = ("RETURN (SPECIAL-USE)",) if extended else ()
        exchange = await self._ask("LIST", '""', '"*"', *marks)
        return readable(response for response in exchange.responses if isinstance(response, Listed))

    def take_vanished(self) -> list[tuple[int, int]]:
        """The UIDs that went from the open folder since this was last asked, as ranges; with QRESYNC alone."""
        vanished, self._protocol.vanished = self._protocol.vanished, []
        return vanished

    @property
    def news(self) -> bool:
        """Something happened, in the open folder or in one that NOTIFY was asked for."""
        return self._protocol.news

    def take_announced(self) -> set[bytes]:
        """Folders of which the server said unasked that they changed, as it spells them; each once."""
        announced, self._protocol.announced = self._protocol.announced, set()
        return announced

    def take_folders_changed(self) -> bool:
        """Whether the server said unasked that there are other folders now."""
        changed, self._protocol.folders_changed = self._protocol.folders_changed, False
        return changed

    def take_overflowed(self) -> bool:
        """Whether the server has stopped to notify, because there was too much to say."""
        overflowed, self._protocol.overflowed = self._protocol.overflowed, False
        return overflowed

    async def enable_qresync(self) -> bool:
        """From now on the server names the UIDs that go (RFC 7162, 3.2.3). False where it does not offer that."""
        if not {"ENABLE", "QRESYNC"} <= self.capabilities:
            return False
        try:
            await self._ask("ENABLE", "QRESYNC")
        except Refused:
            return False
        return True

    async def notify(self, folders: Sequence[Folder], *, new_folders: bool) -> None:
        """From now on the server says unasked when mail comes or goes in these folders (RFC 5465).

        `new_folders`: also when there are other folders. Raises Refused.
        """
        events = "(MessageNew MessageExpunge)"
        names = [Astring(folder.wire) for folder in folders]
        words: list[Argument] = ["SET", f"(selected {events})", "(mailboxes", *_in_parentheses(names)]
        words.append(f"{events})")
        if new_folders:
            words.append("(personal (MailboxName))")
        await self._ask("NOTIFY", *words)

    async def examine(self, folder: Folder, since: tuple[int, int] | None = None) -> Opened:
        """Opens a folder for reading alone. Raises Refused if it cannot be opened; then none is open.

        `since`: a UIDVALIDITY and a HIGHESTMODSEQ, after `enable_qresync`. The server names in `take_vanished` what
        went since then, if it still has that UIDVALIDITY.
        """
        protocol = self._protocol
        protocol.exists = 0
        self.open = None
        self.take_vanished()
        words = [f"(QRESYNC ({since[0]} {since[1]}))"] if since else []
        if not since and "CONDSTORE" in self.capabilities:  # else Dovecot may keep no HIGHESTMODSEQ yet
            words = ["(CONDSTORE)"]
        try:
            exchange = await self._ask("EXAMINE", Astring(folder.wire), *words)
        except Refused:
            if not self.lost:
                protocol.state = aioimaplib.AUTH
            raise
        protocol.state = aioimaplib.SELECTED
        self.open = folder
        self.notice()
        self.take_expunged()
        codes = {response.code: response.number for response in exchange.responses if isinstance(response, Status)}
        return Opened(
            codes.get("UIDVALIDITY") or 0,
            codes.get("UIDNEXT") or None,
            protocol.exists,
            codes.get("HIGHESTMODSEQ") or None,
        )

    async def status(self, folder: Folder) -> Opened:
        """How a folder stands, without opening it."""
        exchange = await self._ask("STATUS", Astring(folder.wire), self._status_items)
        answers = [response for response in exchange.responses if isinstance(response, MailboxStatus)]
        named = [answer for answer in answers if _same_folder(answer.name, folder)]
        if named:  # else the server spells it in another way
            self._protocol.announced.update(answer.name for answer in answers if answer not in named)
        return _stands(named or answers)

    async def statuses(self, folders: Sequence[Folder]) -> dict[str, Opened]:
        """How folders stand, by name, in one question (RFC 5819). Empty where the server cannot be asked so.

        A folder that is not in the answer is to be asked for by itself.
        """
        if not {"LIST-STATUS", "LIST-EXTENDED"} <= self.capabilities and "IMAP4REV2" not in self.capabilities:
            return {}
        plain = [folder for folder in folders if not _WILD.intersection(folder.wire)]
        found: dict[str, Opened] = {}
        for at in range(0, len(plain), _FOLDERS_TOGETHER):
            some = plain[at : at + _FOLDERS_TOGETHER]
            names = _in_parentheses([Astring(folder.wire) for folder in some])
            exchange = await self._ask("LIST", '""', *names, f"RETURN (STATUS {self._status_items})")
            answers = [response for response in exchange.responses if isinstance(response, MailboxStatus)]
            for folder in some:
                if named := [answer for answer in answers if _same_folder(answer.name, folder)]:
                    found[folder.name] = _stands(named)
        return found

    @property
    def _status_items(self) -> str:
        modseq = " HIGHESTMODSEQ" if {"CONDSTORE", "QRESYNC"} & self.capabilities else ""
        return f"(MESSAGES UIDNEXT UIDVALIDITY{modseq})"

    async def uid_search(self, criteria: str) -> list[int]:
        """UIDs in the open folder. Without CHARSET, which some servers refuse (traps.md I18)."""
        exchange = await self._ask("SEARCH", criteria, prefix="UID", deadline=self._deadlines.search)
        found: list[int] = []
        for response in exchange.responses:
            if isinstance(response, Search):
                found.extend(response.numbers)
        return found

    async def all_uids(self) -> list[int]:
        """Every UID in the open folder, ascending; asked for as ranges where that is possible (RFC 4731)."""
        if "ESEARCH" in self.capabilities:
            exchange = await self._ask("SEARCH", "RETURN (ALL)", "ALL", prefix="UID", deadline=self._deadlines.search)
            found = _uids_of(exchange)
            if found is not None and len(found) <= self._protocol.exists:
                return found
        return sorted(set(await self.uid_search("ALL")))

    async def fetch_sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """RFC822.SIZE in bytes by UID, of those that are there."""
        answer = await self._fetch(uids, "(UID RFC822.SIZE)", 200 * len(uids))
        return {uid: found.size for uid, found in answer.items()}

    async def fetch_headers(self, uids: Sequence[int], fields: Sequence[str], most: int = 0) -> list[Fetched]:
        """The header fields named, ascending by UID; `most`: only so many bytes of them, 0: all. Some may be gone."""
        section = f"BODY.PEEK[HEADER.FIELDS ({' '.join(fields)})]" + (f"<0.{most}>" if most else "")
        items = f"(UID INTERNALDATE RFC822.SIZE{self._gmail_items} {section})"
        answer = await self._fetch(uids, items, 2_000 * len(uids))
        messages = []
        for uid, found in answer.items():
            headers = found.bytes_of("BODY[HEADER.FIELDS]")
            if headers is None:
                headers = found.bytes_of("BODY[HEADER.FIELDS]<0>")
            if headers is not None:
                messages.append(Fetched(uid, headers, None, _received_at(found), found.size, _gmail(found)))
        return messages

    @property
    def _gmail_items(self) -> str:
        """What Gmail has beyond the standard (its IMAP extensions, X-GM-EXT-1); "" elsewhere."""
        return " X-GM-MSGID X-GM-THRID X-GM-LABELS" if "X-GM-EXT-1" in self._protocol.capabilities else ""

    async def fetch_whole(self, uids: Sequence[int], expected: int) -> list[Fetched]:
        """Whole messages, ascending by UID; `expected`: bytes in all, by their sizes. Some may be gone."""
        items = f"(UID INTERNALDATE RFC822.SIZE{self._gmail_items} BODY.PEEK[])"
        answer = await self._fetch(uids, items, expected + 500 * len(uids))
        messages = []
        for uid, found in answer.items():
            raw = found.bytes_of("BODY[]")
            if raw is not None:
                messages.append(_whole(uid, found, raw))
        return messages

    async def fetch_pieces(self, uid: int) -> Fetched | None:
        """One large message, piece by piece; None if it is gone. Raises TooLarge above `LARGEST`."""
        raw = BytesIO()  # gives its bytes away without another copy
        first: Fetch | None = None
        while True:
            at = raw.tell()
            items = "UID" if first else f"UID INTERNALDATE RFC822.SIZE{self._gmail_items}"
            answer = await self._fetch([uid], f"({items} BODY.PEEK[]<{at}.{PIECE}>)", PIECE, LARGEST)
            found = answer.get(uid)
            # A server that knows no pieces sends the message whole, under the name that says so.
            whole = found.bytes_of("BODY[]") if found else None
            piece = whole if whole is not None else found.bytes_of(f"BODY[]<{at}>") if found else None
            if found is None or piece is None:
                return None
            if whole is not None:
                return _whole(uid, first or found, whole)
            if first is None and PIECE < found.size <= LARGEST:
                raw.seek(found.size - 1)  # taken at once: memory that grows and moves is taken twice
                raw.write(b"\0")
                raw.seek(0)
            first = first or found
            raw.write(piece)
            if raw.tell() > LARGEST:
                raise TooLarge(f"message {uid} is larger than it says")
            if len(piece) < PIECE:
                raw.truncate()
                return _whole(uid, first, raw.getvalue())

    async def idle(self, longest: float) -> None:
        """Waits in IDLE (RFC 2177) until there are `news`, at most `longest` seconds.

        Silence of `Deadlines.idle_renew` ends it too, so that a dead connection is noticed. Raises Refused if the
        server does not idle now.
        """
        protocol = self._protocol
        if protocol.news:
            return
        async with self._exchange("IDLE") as exchange:
            protocol.stirred.clear()
            async with self._within(self._deadlines.command, "IDLE"):
                await self._send(exchange, ["IDLE"])
                await exchange.go_ahead.wait()
            if not exchange.done:
                end = protocol.loop.time() + max(0.0, min(longest, self._deadlines.idle_longest, self.fresh_for()))
                try:
                    await self._until_stirred(end)
                except asyncio.CancelledError:  # so that whoever is to stop can still say good-bye
                    protocol.write(b"DONE\r\n")
                    with suppress(ImapError, ProtocolError):
                        async with self._within(self._deadlines.logout, "DONE"):
                            await exchange.wait()
                    raise
                protocol.write(b"DONE\r\n")
            async with self._within(self._deadlines.idle_done, "DONE"):
                await exchange.wait()
            _accepted(exchange)

    async def _until_stirred(self, end: float) -> None:
        protocol = self._protocol
        while not protocol.news and protocol.lost is None:
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

    @property
    def server(self) -> str:
        """Name and version of the server, as it gave them to `identify`; "" where it did not."""
        told = [self._protocol.server_id.get(field, "") for field in ("name", "version")]
        return printable(" ".join(word for word in told if word))

    async def identify(self) -> None:
        """Says who asks and learns who answers, where that is offered (RFC 2971)."""
        if "ID" not in self.capabilities:
            return
        with suppress(Refused):  # it is a courtesy, and nothing depends on it
            await self._ask("ID", f'("name" "maillinkd" "version" "{_version()}")')

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
                await self._authenticate("PLAIN", sasl.plain(user.octets, secret.octets), sasl.CANCEL)
            elif "LOGINDISABLED" in self.capabilities:
                raise LoginRefused("LOGIN", "NO", "PRIVACYREQUIRED", "the server permits no login on this connection")
            else:
                await self._ask("LOGIN", user, secret)
        except Refused as refused:
            raise _login_error(refused, password) from None
        self._protocol.state = aioimaplib.AUTH
        await self.capability()

    async def login_with_token(self, account: Account, token: AccessToken) -> None:
        """AUTHENTICATE OAUTHBEARER (RFC 7628) where it is offered, else XOAUTH2.

        Raises as `login`; LoginRefused with the code CANNOT where the server offers neither.
        """
        mechanism = next((each for each in sasl.BEARER if f"AUTH={each}" in self.capabilities), None)
        if mechanism is None:
            raise LoginRefused("AUTHENTICATE", "NO", "CANNOT", "the server offers neither OAUTHBEARER nor XOAUTH2")
        user = _text(account.username)
        try:
            message = sasl.bearer(mechanism, user.octets, token.secret, account.host, account.port)
            await self._authenticate(mechanism, message, sasl.DISMISSAL[mechanism])
        except Refused as refused:
            raise _login_error(refused, token.secret) from None
        self._protocol.state = aioimaplib.AUTH
        self._renew_at = _renewal(token)
        await self.capability()

    async def _authenticate(self, mechanism: str, message: bytes, dismissal: bytes) -> None:
        """RFC 9051, 6.2.2. `dismissal` answers a further challenge: why the server refuses (traps.md I13)."""
        encoded = b64encode(message)
        immediate = "SASL-IR" in self.capabilities  # RFC 4959
        async with self._exchange("AUTHENTICATE") as exchange:
            async with self._within(self._deadlines.command, "AUTHENTICATE"):
                await self._send(exchange, ["AUTHENTICATE", mechanism, *([Secret(encoded)] if immediate else [])])
                await exchange.go_ahead.wait()
                if not exchange.done and not immediate:
                    exchange.go_ahead.clear()
                    self._protocol.write(encoded + b"\r\n")
                    await exchange.go_ahead.wait()
                if not exchange.done:
                    self._protocol.write(dismissal + b"\r\n")
                await exchange.wait()
            try:
                _accepted(exchange)
            except Refused as refused:
                said = " ".join(filter(None, (refused.text, sasl.reason(exchange.challenge))))
                text = _without(said, encoded.decode())
                raise Refused(refused.command, refused.condition, refused.code, text) from None

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

    async def _fetch(
        self, uids: Sequence[int], items: str, expected: int, room: int | None = None
    ) -> dict[int, Fetch]:
        """What one UID FETCH brought, ascending. Others may be on their way when it is sent (RFC 9051, 5.5).

        It has its time beginning with the end of the time of those before it. `expected`: bytes; what comes is at
        most twice that and `room`.
        """
        protocol = self._protocol
        async with self._turn:
            if protocol.awaits(uids):
                await self._fetched()
            earlier = [protocol.loop.time(), *(fetching.until for fetching in protocol.fetches.values())]
            fetching = protocol.begin_fetch(uids, 2 * expected + (_FETCH_ROOM if room is None else room))
            fetching.until = max(earlier) + self._deadlines.fetch(expected)
            (line,) = wire(fetching.tag, ["UID", "FETCH", sequence_set(uids), items], literal_plus=False)
            protocol.write(line)
        try:
            async with self._within(fetching.until - protocol.loop.time(), "FETCH"):
                await fetching.wait()
        finally:
            if not fetching.done:
                protocol.fail(ConnectionLost("FETCH was given up"))
        _accepted(fetching)
        return dict(sorted(fetching.brought.items()))

    async def _fetched(self) -> None:
        """Waits until no FETCH is on its way."""
        while fetching := next(iter(self._protocol.fetches.values()), None):
            await fetching.go_ahead.wait()

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
            await self._fetched()
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
    if account.tokens is None:
        return await _connect(account, deadlines, None)
    token = await _token(account, account.tokens.current())
    try:
        return await _connect(account, deadlines, token)
    except LoginRefused as refused:
        if refused.code in _NOT_THE_TOKEN:
            raise
        another = await _token(account, account.tokens.renewed(token))
        if another.secret == token.secret:
            raise
        return await _connect(account, deadlines, another)


async def _token(account: Account, asked: Awaitable[AccessToken]) -> AccessToken:
    try:
        return await asked
    except LoginNeeded as error:
        raise NoToken(printable(str(error))) from error
    except TokenError as error:
        raise NoPassword(f"no token for {account.name}: {printable(str(error))}") from error
    except TryLater as error:
        later = Unreachable(f"no token for {account.name}: {printable(str(error))}")
        later.retry_after = error.retry_after
        raise later from error


async def _connect(account: Account, deadlines: Deadlines, token: AccessToken | None) -> Connection:
    try:
        connection = await _dial(account, deadlines)
        try:
            await _log_in(connection, account, token)
            await connection.identify()
        except BaseException:
            connection.abort()
            raise
    except ProtocolError as error:
        raise Unreachable(f"{account.host} does not speak IMAP as it should: {error}") from error
    return connection


async def capabilities_of(account: Account, deadlines: Deadlines) -> frozenset[str]:
    """What a server can do, asked under TLS and before anybody logs in: neither user name nor password is sent.

    Raises Unreachable (Untrusted and ConnectionLost among them), Refused.
    """
    try:
        connection = await _dial(account, deadlines)
        try:
            await _secure(connection, account)
            found = connection.capabilities
            await connection.logout()
        finally:
            connection.abort()
    except ProtocolError as error:
        raise Unreachable(f"{account.host} does not speak IMAP as it should: {error}") from error
    return found


async def _secure(connection: Connection, account: Account) -> None:
    if account.tls == "starttls":
        with _network_errors(account.host):
            await connection.start_tls(_tls(account.tls_ca_file), account.host)
    await connection.capability()


async def _log_in(connection: Connection, account: Account, token: AccessToken | None) -> None:
    await _secure(connection, account)
    if connection.authenticated:
        return
    if token is None:
        await connection.login(account.username, await _password(account))
    else:
        await connection.login_with_token(account, token)


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


@functools.cache
def _version() -> str:
    return version("maillinkd")


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


def _states_for(name: str) -> Sequence[str]:
    """The states in which a command may be given: the library's table, and NOTIFY (RFC 5465, 3), which it lacks."""
    if name == "NOTIFY":
        return (aioimaplib.AUTH, aioimaplib.SELECTED)
    states: Sequence[str] = aioimaplib.Commands[name].valid_states
    return states


def _in_parentheses(names: Sequence[Astring]) -> list[Argument]:
    """Folder names as a list, quoted: only names that need no literal (modified UTF-7 is ASCII) come here."""
    return [f"({' '.join(name.quoted.decode('ascii') for name in names)})"]


def _same_folder(name: bytes, folder: Folder) -> bool:
    return name == folder.wire or (folder.is_inbox and name.upper() == b"INBOX")


def _stands(answers: Sequence[MailboxStatus]) -> Opened:
    items: dict[str, int] = {}
    for answer in answers:
        items.update(answer.items)
    return Opened(
        items.get("UIDVALIDITY", 0),
        items.get("UIDNEXT") or None,
        items.get("MESSAGES", 0),
        items.get("HIGHESTMODSEQ") or None,
    )


def _uids_of(exchange: _Exchange) -> list[int] | None:
    """What ESEARCH brought; None where the server answered in another way, or names more than can be there."""
    found: list[tuple[int, int]] = []
    answers = [response for response in exchange.responses if isinstance(response, ExtendedSearch)]
    for answer in answers:
        uids = answer.items.get("ALL")
        if isinstance(uids, str):
            found += ranges_of(uids)
    if not answers or sum(high - low + 1 for low, high in found) > _UIDS_LIMIT:
        return None
    return sorted({uid for low, high in found for uid in range(low, high + 1)})


def _accepted(exchange: _Exchange) -> _Exchange:
    answer = exchange.answer
    if answer is None:
        raise RuntimeError(f"{exchange.name} is not finished")
    if answer.condition != "OK":
        raise Refused(exchange.name, answer.condition, answer.code, answer.text)
    return exchange


def _login_error(refused: Refused, password: str) -> ImapError:
    text = _without(refused.text, password)
    if isinstance(refused, LoginRefused):
        return refused
    if refused.transient:
        return Unreachable(f"login: {refused.condition} [{refused.code}] {text}", f"[{refused.code}] {refused.text}")
    return LoginRefused("login", refused.condition, refused.code, text)


def _without(text: str, secret: str) -> str:
    """A server's words without the secret, of which it may have given back no more than the beginning."""
    text = text.replace(secret, "***") if secret else text
    return re.sub(re.escape(secret[:16]) + r"\S*", "***", text) if len(secret) > 16 else text


def _renewal(token: AccessToken) -> float:
    """When, by the loop's clock, a connection is to be renewed; not at once, whatever the token says of its life."""
    if token.renew_at is None:
        return math.inf
    remaining = (token.renew_at - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().time() + max(remaining, _SHORTEST)


def _with_reason(bye: Status, together: Sequence[Response]) -> Status:
    """A good-bye; with the reason that came together with it in a tagged answer, where Yahoo puts it."""
    for response in together:
        if isinstance(response, Status) and response.tag and response.condition in {"NO", "BAD"}:
            return replace(bye, code=response.code, text=response.text)
    return bye


def _reason(bye: Status) -> str:
    return f"[{bye.code}] {printable(bye.text)}" if bye.code else printable(bye.text)


def _received_at(items: Fetch) -> datetime:
    """INTERNALDATE; 1970 where the server has none that can be read, which is the same at each look."""
    return internal_date(items.bytes_of("INTERNALDATE")) or _EPOCH


def _whole(uid: int, items: Fetch, raw: bytes) -> Fetched:
    return Fetched(uid, header_block(raw), raw, _received_at(items), items.size or len(raw), _gmail(items))


def _gmail(items: Fetch) -> GmailMarks | None:
    if "X-GM-MSGID" not in items.items:
        return None
    labels = items.items.get("X-GM-LABELS")
    texts = [
        label.encode("latin-1") if isinstance(label, str) else label
        for label in (labels if isinstance(labels, tuple) else ())
    ]
    return GmailMarks(
        number(items.items["X-GM-MSGID"]),
        number(items.items.get("X-GM-THRID", "0")),
        tuple(utf7.decode(text) for text in texts if isinstance(text, bytes)),
    )


def header_block(raw: bytes) -> bytes:
    """A message up to and with the empty line that ends its header (RFC 5322, 2.1)."""
    if raw.startswith((b"\r\n", b"\n")):
        return b""
    end = raw.find(b"\n\r\n")
    bare = raw.find(b"\n\n", 0, end if end >= 0 else len(raw))  # line feeds alone, against RFC 5322
    if bare >= 0:
        return raw[: bare + 2]
    return raw[: end + 3] if end >= 0 else raw

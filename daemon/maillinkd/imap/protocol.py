"""The receive path: bytes to responses, and each response to whoever waits for it.

The only file that imports aioimaplib. Tags, the table of commands and their states, and the object that a caller
waits for are the library's; how bytes are received and how a connection ends is ours (traps.md, I1 to I20 say why).
"""

import asyncio
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace

from aioimaplib import aioimaplib

from maillinkd.imap.errors import ConnectionLost, ImapError, Refused, Unreachable, Untrusted, printable
from maillinkd.imap.news import News
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
)

_ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of the answer to a command that is not a FETCH."""
_RESPONSES_LIMIT = 200_000


class Exchange(aioimaplib.Command):  # type: ignore[misc] # the library is untyped
    """A command on its way: what it brought so far, and its end."""

    def __init__(self, name: str, tag: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, tag, loop=loop)
        self.responses: list[Response] = []
        self.answer: Status | None = None
        self.limit = _ANSWER_LIMIT
        self.go_ahead = asyncio.Event()
        """The server asks for more, or this is the end."""
        self.challenge = b""
        """What it said when it last asked for more."""
        self.done = False
        self._size = 0

    def add(self, response: Response) -> None:
        """Raises TooLarge when it is one too many."""
        self.responses.append(response)
        if len(self.responses) > _RESPONSES_LIMIT:
            raise TooLarge(f"the answer to {self.name} has no end")

    def takes(self, size: int) -> bool:
        """Counts what a read brought; False when it is too much for one answer."""
        self._size += size
        return self._size <= self.limit

    def finish(self, answer: Status) -> None:
        self.answer = answer
        self._end(answer.condition)

    def fail(self, error: Exception) -> None:
        self._exception = error
        self._end("BYE")

    def _end(self, result: str) -> None:
        self.close(b"", result)
        self.done = True
        self.go_ahead.set()

    def accepted(self) -> None:
        """Raises Refused unless the answer is OK. It must have come."""
        answer = self.answer
        if answer is None:
            raise RuntimeError(f"{self.name} is not finished")
        if answer.condition != "OK":
            raise Refused(self.name, answer.condition, answer.code, answer.text)


class Fetching(Exchange):
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


class ImapProtocol(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc] # the library is untyped
    """The library's protocol with another receive path: our parser, and an end for whatever waits."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    capabilities: set[str]

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        super().__init__(loop)
        self._limits = limits
        self._parser = Parser(limits)
        self._exchange: Exchange | None = None
        self.fetches: dict[str, Fetching] = {}
        """The FETCHes on their way, by tag, in the order in which they were sent; nothing else is meanwhile."""
        self._awaited: dict[int, Fetching] = {}
        """Which of them asked for a UID: each UID is asked for by one (RFC 9051, 5.5: no ambiguity)."""
        self.greeting: asyncio.Future[Status] = loop.create_future()
        self.lost: ImapError | ProtocolError | None = None
        """What ended the connection."""
        self.news = News()
        self.server_id: dict[str, str] = {}
        self.heard_at = loop.time()
        self.received = 0
        """Bytes that came and nobody has counted yet."""
        self._bye = ""

    # What the connection goes through

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._bye or (printable(str(exc)) if exc else "")
        self.fail(ConnectionLost(f"the server closed the connection{': ' + reason if reason else ''}", self._bye))
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
        self.news.stirred.set()
        if self.transport is not None:
            self.transport.abort()

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS is on: all that was said before counts for nothing (RFC 9051, 6.2.1)."""
        self.transport = transport
        self._parser = Parser(self._limits)
        self.capabilities = set()

    @property
    def authenticated(self) -> bool:
        return self.state in {aioimaplib.AUTH, aioimaplib.SELECTED}

    def logged_in(self) -> None:
        """Nobody is asked for a name any more; no folder is open."""
        self.state = aioimaplib.AUTH

    def selected(self) -> None:
        """A folder is open (the library thinks so after SELECT alone: traps.md I7)."""
        self.state = aioimaplib.SELECTED

    # Sending

    def begin(self, name: str) -> Exchange:
        """Takes the line for one command. Raises what ended the connection, or Refused in the wrong state."""
        self._permit(name)
        if self.fetches:
            raise RuntimeError(f"{name} while FETCH is on its way")
        self._exchange = Exchange(name, self.new_tag(), self.loop)
        return self._exchange

    def begin_fetch(self, uids: Sequence[int], limit: int) -> Fetching:
        """Takes the line for a FETCH of UIDs that no other one has asked for. Raises as `begin`."""
        self._permit("FETCH")
        fetching = Fetching(self.new_tag(), self.loop, uids, limit)
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

    def write(self, data: bytes) -> None:
        """Sends. The library's `send` would log it (traps.md I15)."""
        if self.transport is not None and self.lost is None:
            self.transport.write(data)

    # Receiving

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
        exchange = self._exchange
        match response:
            case Fetch() | Search() | ExtendedSearch():
                if exchange is not None and exchange.name != "EXAMINE":  # QRESYNC tells flags there
                    exchange.add(response)
            case Listed() | MailboxStatus():
                if exchange is not None and exchange.name in {"LIST", "STATUS"}:
                    exchange.add(response)
                else:
                    self.news.of_folder(response)
            case Exists() | Expunged() | Vanished():
                self.news.in_open_folder(response)
            case Status():
                self._status(response)
            case Capabilities():
                self.capabilities = set(response.names)
            case ServerId():
                self.server_id = dict(response.fields)
            case Continuation():
                if exchange is not None:
                    exchange.challenge = response.text
                    exchange.go_ahead.set()
            case _:
                pass

    def _status(self, response: Status) -> None:
        self.news.in_words(response)
        if response.tag:
            self._answered(response)
        elif not self.greeting.done():
            self._greeted(response)
        elif response.condition == "BYE":
            self._bye = _reason(response)
            if self._exchange is None or self._exchange.name != "LOGOUT":
                self.fail(ConnectionLost(f"the server said good-bye: {self._bye}", self._bye))
        elif self._exchange is not None and response.code:
            self._exchange.add(response)

    def _answered(self, response: Status) -> None:
        if fetching := self.fetches.pop(response.tag, None):
            for uid in fetching.uids:
                self._awaited.pop(uid, None)
            fetching.finish(response)
            return
        if self._exchange is None or self._exchange.tag != response.tag:
            raise ProtocolError("an answer to a command that was not sent")
        exchange, self._exchange = self._exchange, None
        exchange.finish(response)

    def _greeted(self, response: Status) -> None:
        if response.condition == "BYE":
            reason = _reason(response)
            self.fail(Unreachable(f"the server does not want us now: {reason}", reason))
            return
        if response.condition not in {"OK", "PREAUTH"}:
            raise ProtocolError("a greeting that is none")
        self.state = aioimaplib.AUTH if response.condition == "PREAUTH" else aioimaplib.NONAUTH
        self.greeting.set_result(response)


def _states_for(name: str) -> Sequence[str]:
    """The states in which a command may be given: the library's table, and NOTIFY (RFC 5465, 3), which it lacks."""
    if name == "NOTIFY":
        return (aioimaplib.AUTH, aioimaplib.SELECTED)
    states: Sequence[str] = aioimaplib.Commands[name].valid_states
    return states


def _with_reason(bye: Status, together: Sequence[Response]) -> Status:
    """A good-bye; with the reason that came together with it in a tagged answer, where Yahoo puts it."""
    for response in together:
        if isinstance(response, Status) and response.tag and response.condition in {"NO", "BAD"}:
            return replace(bye, code=response.code, text=response.text)
    return bye


def _reason(bye: Status) -> str:
    return f"[{bye.code}] {printable(bye.text)}" if bye.code else printable(bye.text)

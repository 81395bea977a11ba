"""The way in which a server is asked: one command at a time, but FETCHes, and each has its deadline."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from maillinkd.imap.account import Deadlines
from maillinkd.imap.command import Argument, wire
from maillinkd.imap.errors import ConnectionLost
from maillinkd.imap.news import News
from maillinkd.imap.protocol import Exchange, ImapProtocol
from maillinkd.imap.response import Fetch
from maillinkd.imap.sync import sequence_set

_FETCH_ROOM = 16 * 1024 * 1024
"""Bytes that the answer to a FETCH may have beyond twice what is expected."""


class Line:
    """A connection and whose turn it is. After any error but Refused it is of no further use."""

    def __init__(self, protocol: ImapProtocol, deadlines: Deadlines) -> None:
        self.protocol = protocol
        self.deadlines = deadlines
        self.renew_at = math.inf
        """When, by the loop's clock, the connection is to be replaced, for the token behind it ends."""
        self._turn = asyncio.Lock()

    @property
    def capabilities(self) -> frozenset[str]:
        """In capitals, as the server last gave them."""
        return frozenset(self.protocol.capabilities)

    @property
    def news(self) -> News:
        return self.protocol.news

    @property
    def lost(self) -> bool:
        return self.protocol.lost is not None

    def fresh_for(self) -> float:
        """Seconds until this connection is to be replaced; none or less: now."""
        return self.renew_at - self.protocol.loop.time()

    def take_received(self) -> int:
        """Bytes that came since this was last asked, without those of TLS."""
        received, self.protocol.received = self.protocol.received, 0
        return received

    def abort(self) -> None:
        """Closes at once (traps.md I19: the library never does)."""
        self.protocol.fail(ConnectionLost("the connection was closed"))

    async def capability(self) -> frozenset[str]:
        """Asks what the server can do (RFC 9051, 6.1.1)."""
        await self.ask("CAPABILITY")
        return self.capabilities

    async def ask(self, name: str, *arguments: Argument, prefix: str = "", deadline: float | None = None) -> Exchange:
        """Sends a command and waits for its end. Raises Refused, or what ended the connection."""
        async with self.exchange(name) as exchange:
            async with self.within(deadline or self.deadlines.command, name):
                await self.send(exchange, [*([prefix] if prefix else []), name, *arguments])
                await exchange.wait()
            exchange.accepted()
            return exchange

    async def ask_fetch(
        self, uids: Sequence[int], items: str, expected: int, room: int | None = None
    ) -> dict[int, Fetch]:
        """What one UID FETCH brought, ascending. Others may be on their way when it is sent (RFC 9051, 5.5).

        It has its time beginning with the end of the time of those before it. `expected`: bytes; what comes is at
        most twice that and `room`.
        """
        protocol = self.protocol
        async with self._turn:
            if protocol.awaits(uids):
                await self._fetched()
            earlier = [protocol.loop.time(), *(fetching.until for fetching in protocol.fetches.values())]
            fetching = protocol.begin_fetch(uids, 2 * expected + (_FETCH_ROOM if room is None else room))
            fetching.until = max(earlier) + self.deadlines.fetch(expected)
            (command,) = wire(fetching.tag, ["UID", "FETCH", sequence_set(uids), items], literal_plus=False)
            protocol.write(command)
        try:
            async with self.within(fetching.until - protocol.loop.time(), "FETCH"):
                await fetching.wait()
        finally:
            if not fetching.done:
                protocol.fail(ConnectionLost("FETCH was given up"))
        fetching.accepted()
        return dict(sorted(fetching.brought.items()))

    async def _fetched(self) -> None:
        """Waits until no FETCH is on its way."""
        while fetching := next(iter(self.protocol.fetches.values()), None):
            await fetching.go_ahead.wait()

    @asynccontextmanager
    async def exchange(self, name: str) -> AsyncIterator[Exchange]:
        """One command at a time (traps.md I10); one that is left unfinished takes the connection with it (I8)."""
        async with self._turn:
            await self._fetched()
            exchange = self.protocol.begin(name)
            try:
                yield exchange
            finally:
                if not exchange.done:
                    self.protocol.fail(ConnectionLost(f"{name} was given up"))

    @asynccontextmanager
    async def within(self, seconds: float, name: str) -> AsyncIterator[None]:
        """A deadline, with which the connection ends. Raises ConnectionLost."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            lost = ConnectionLost(f"no answer to {name} within {seconds:g} s")
            self.protocol.fail(lost)
            raise lost from None

    async def send(self, exchange: Exchange, words: list[Argument]) -> None:
        """Sends a command's words, each literal when the server asks for it."""
        *waiting, last = wire(exchange.tag, words, literal_plus="LITERAL+" in self.capabilities)
        for piece in waiting:
            exchange.go_ahead.clear()
            self.protocol.write(piece)
            await exchange.go_ahead.wait()
            if exchange.done:  # refused instead of asked on
                return
        exchange.go_ahead.clear()
        self.protocol.write(last)

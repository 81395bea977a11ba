"""What all connections share: places and limits, numbers, the certificate, and the way to the store."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from maillinkd.mail.delivery import NoSpace, Received, TemporaryFailure
from maillinkd.smtp.certificate import Certificate
from maillinkd.smtp.config import ListenerConfig
from maillinkd.smtp.counters import Counters
from maillinkd.smtp.guard import TOTAL, ConnectionGuard, Limits

log = structlog.get_logger()

Take = Callable[[Received], Awaitable[None]]
"""Returns when the message is durable. Raises TemporaryFailure, or NoSpace."""
CheckAuthor = Callable[[Received], Awaitable[Received | None]]
"""A message -> the message with the verdict on its author; None if he is refused. Raises TemporaryFailure."""
HasRoom = Callable[[int], bool]
"""Whether the disk has room for a message of so many octets (0: the client did not say)."""

LARGE_AT_A_TIME = 4
"""How many large messages are in memory as a whole at one time, on their way to the store."""
STALLED = 1.0
"""Seconds without a step forward after which a client loses its place to another, where places are short."""

TEMPORARY_FAILURE = "451 4.3.0 Temporary failure, try again later"
NO_SPACE = "452 4.3.1 Insufficient system storage"


class Guest(Protocol):
    """A connection, as the door sees it."""

    @property
    def peer(self) -> str:
        """The client's address, under which it is counted."""

    def stalled_since(self) -> float:
        """When it last took a step towards a message, in the loop's time."""

    def make_room(self) -> None:
        """Ends at once, in favour of another client."""

    def dismiss(self) -> None:
        """Says 421 as soon as no message is under way."""

    def abort(self) -> None:
        """Cuts the connection off."""


class Door:
    """Lets clients in, hands their messages on, and shows everybody out. Lives in one event loop."""

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
        self.has_room = has_room
        self.counters = Counters()
        self.large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self._guard = ConnectionGuard(_limits(config))
        self._certificate = _certificate(config)
        self._take = take
        self._check_author = check_author
        self._guests: set[Guest] = set()
        self._empty = asyncio.Event()
        self._storing: set[asyncio.Task[str]] = set()

    def reconfigure(self, config: ListenerConfig) -> None:
        """Takes another configuration over for later connections; reads the certificate again.

        Raises OSError and ValueError as the making of a Door does, and then keeps the old one.
        """
        certificate = _certificate(config)
        self._guard.limit(_limits(config))
        self.config = config
        self._certificate = certificate

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What STARTTLS begins with; None where it is not offered."""
        return self._certificate.context() if self._certificate else None

    def refused(self, cause: str) -> None:
        """Counts a refusal, by the word for its cause (`Counters.refusals`)."""
        self.counters.refusals[cause] += 1

    # Places

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._guard.connections

    def is_exempt(self, peer: str) -> bool:
        """Whether a client's own limits do not hold for this one."""
        return self._guard.is_exempt(peer)

    def opened(self, guest: Guest) -> str | None:
        """Counts a connection in, or returns the limit that forbids it."""
        now = asyncio.get_running_loop().time()
        limit = self._guard.admit(guest.peer, now)
        if limit:
            self.refused(limit)
        if limit == TOTAL and self._make_room(now):
            limit = self._guard.admit(guest.peer, now)
        if limit is None:
            self.counters.connections += 1
            self._guests.add(guest)
            self._empty.clear()
        return limit

    def _make_room(self, now: float) -> bool:
        """Ends the connection that has stalled longest, of a client that has most of them; False if none stalls.

        So whoever holds places without sending mail keeps nobody out (slowloris).
        """
        stalled = [each for each in self._guests if now - each.stalled_since() > STALLED]
        if not stalled:
            return False
        chosen = max(stalled, key=lambda each: (self._guard.connections_of(each.peer), -each.stalled_since()))
        self.closed(chosen)
        chosen.make_room()
        return True

    def speaks_for(self, guest: Guest, client: str) -> str | None:
        """Counts a relay's connection as its client's, or returns the limit that forbids it."""
        return self._guard.move(guest.peer, client, asyncio.get_running_loop().time())

    def closed(self, guest: Guest) -> None:
        """Counts a connection out, once."""
        if guest not in self._guests:
            return
        self._guard.leave(guest.peer)
        self._guests.discard(guest)
        if not self._guests:
            self._empty.set()

    async def clear(self, drain: float) -> None:
        """Says 421 where no message is under way, and lets the others finish.

        Returns when all clients are gone and nothing is being stored, after `drain` seconds at the latest (and a
        moment for the rest to be cut off).
        """
        for guest in tuple(self._guests):
            guest.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._all_gone()
                if self._storing:
                    await asyncio.wait(self._storing)
        for guest in tuple(self._guests):
            guest.abort()
        await self._all_gone()
        for storing in self._storing:
            storing.cancel()
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _all_gone(self) -> None:
        if self._guests:
            await self._empty.wait()

    # The way to the store

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
                    self.refused("author")
                    return "550 5.7.1 The author of this message may not use this address"
                received = vouched
            await self._take(received)
        except NoSpace as error:
            log.warning("smtp_no_space", error=str(error))
            return NO_SPACE
        except TemporaryFailure as error:
            log.warning("smtp_temporary_failure", error=str(error))
            return TEMPORARY_FAILURE
        except Exception:
            log.exception("smtp_store_failed")
            return TEMPORARY_FAILURE
        self.counters.messages += 1
        self.counters.octets += len(received.raw)
        return "250 2.0.0 Message stored"


def _limits(config: ListenerConfig) -> Limits:
    return Limits(
        total=config.max_connections,
        per_client=config.max_connections_per_client,
        new_per_minute=config.max_new_connections_per_minute,
        exempt=config.exempt_clients,
    )


def _certificate(config: ListenerConfig) -> Certificate | None:
    return Certificate(config.tls_certificate, config.tls_key) if config.tls_certificate else None

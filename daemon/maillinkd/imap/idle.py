"""IDLE (RFC 2177): waiting until the server says something, and noticing when it no longer can."""

import asyncio
from contextlib import suppress

from maillinkd.imap.errors import ImapError
from maillinkd.imap.line import Line
from maillinkd.imap.response import ProtocolError


async def idle(line: Line, longest: float) -> None:
    """Waits in IDLE until there are `news`, at most `longest` seconds.

    Silence of `Deadlines.idle_renew` ends it too, so that a dead connection is noticed. Raises Refused if the server
    does not idle now.
    """
    protocol, deadlines = line.protocol, line.deadlines
    if line.news:
        return
    async with line.exchange("IDLE") as exchange:
        line.news.stirred.clear()
        async with line.within(deadlines.command, "IDLE"):
            await line.send(exchange, ["IDLE"])
            await exchange.go_ahead.wait()
        if not exchange.done:
            end = protocol.loop.time() + max(0.0, min(longest, deadlines.idle_longest, line.fresh_for()))
            try:
                await _until_stirred(line, end)
            except asyncio.CancelledError:  # so that whoever is to stop can still say good-bye
                protocol.write(b"DONE\r\n")
                with suppress(ImapError, ProtocolError):
                    async with line.within(deadlines.logout, "DONE"):
                        await exchange.wait()
                raise
            protocol.write(b"DONE\r\n")
        async with line.within(deadlines.idle_done, "DONE"):
            await exchange.wait()
        exchange.accepted()


async def _until_stirred(line: Line, end: float) -> None:
    """Until there are news, the connection is lost, it is `end`, or the server has been silent for too long."""
    protocol = line.protocol
    while not line.news and not line.lost:
        silent_at = protocol.heard_at + line.deadlines.idle_renew
        remaining = min(end, silent_at) - protocol.loop.time()
        if remaining <= 0:
            return
        line.news.stirred.clear()
        try:
            async with asyncio.timeout(remaining):
                await line.news.stirred.wait()
        except TimeoutError:
            continue

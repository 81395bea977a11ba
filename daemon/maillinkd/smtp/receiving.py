"""The receiving of messages, by DATA (RFC 5321, 4.1.1.4) and in chunks by BDAT (RFC 3030)."""
# ruff: noqa: N802  # smtp_XYZ are the library's names

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from maillinkd.mail.delivery import Received
from maillinkd.smtp.command import SyntaxRefusal, parse_bdat
from maillinkd.smtp.connection import Connection, HangUp
from maillinkd.smtp.data import ChunkDecoder, DataDecoder
from maillinkd.smtp.door import NO_SPACE, Door
from maillinkd.smtp.proxy import Announced
from maillinkd.smtp.spool import Spool

log = structlog.get_logger()

LINE_OCTETS = 64 * 1024
"""Longest line of a message. RFC 5321, 4.5.3.1.6 asks for 998; programs that send mail know no limit."""
HEADER_OCTETS = 256 * 1024
"""Octets of a message in which its header is sought."""
LARGE_OCTETS = 1024 * 1024
"""Octets above which a message waits for its turn (`Door.large`) before it is in memory as a whole."""
STEADY_RATE = 20_000.0
"""Octets a second below which a sender of a message counts as stalled, more and more, where places are short."""

TOO_LARGE = "552 5.3.4 Message too large"
NO_RECIPIENT = "503 5.5.1 Send RCPT first"


@dataclass(slots=True)
class _Transfer:
    """A message while it comes."""

    spool: Spool
    decoder: DataDecoder | ChunkDecoder
    most: int
    """Octets that a message may have."""
    began: float
    disk_failed: bool = False

    @property
    def octets(self) -> int:
        """Of the message so far."""
        return self.decoder.octets

    def feed(self, chunk: bytes) -> None:
        """Takes octets from the wire; where the message is refused anyway, nothing is kept.

        Raises BareLineEnding, and HangUp where the end can't be awaited.
        """
        text = self.decoder.feed(chunk)
        self.expect(0)
        if self.disk_failed or self.octets > self.most or self.decoder.longest_line > LINE_OCTETS:
            self.spool.drop()
            return
        try:
            self.spool.add(text)
        except OSError as error:
            log.warning("smtp_spool_failed", error=str(error))
            self.disk_failed = True

    def expect(self, octets: int) -> None:
        """So many are to come. Raises HangUp where that is twice too large: it is not read to its end."""
        if self.octets + octets > 2 * self.most:
            raise HangUp(TOO_LARGE, "max_message_size")


class Receiving(Connection):
    """A connection that takes messages; their envelopes, and who the client is, are up to the class on top of it."""

    def __init__(self, door: Door) -> None:
        super().__init__(door)
        self._relay = ""
        """The trusted relay that the mail comes through, "" if none."""
        self._announced_helo: str | None = None
        """What XCLIENT says of all messages."""
        self._forwarded: Announced | None = None
        """What XFORWARD says of the next message."""
        self._transfer: _Transfer | None = None
        self._storing = False

    def stalled_since(self) -> float:
        """A sender's steps are its octets, at a steady rate."""
        if self._storing:
            return math.inf
        transfer = self._transfer
        return super().stalled_since() if transfer is None else transfer.began + transfer.octets / STEADY_RATE

    def _set_rset_state(self) -> None:
        """The library's name for a new transaction."""
        self._drop_transfer()
        self.envelope = self._create_envelope()

    def _drop_transfer(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.spool.drop()

    async def smtp_DATA(self, arg: str) -> None:
        if arg:
            await self._reply("501 5.5.4 DATA takes no argument")
            return
        if not self.envelope.rcpt_tos:
            await self._reply(NO_RECIPIENT)
            return
        if self._transfer:
            await self._reply("503 5.5.1 The message has begun with BDAT")
            return
        await self._reply_now("354 End data with <CR><LF>.<CR><LF>")
        decoder = DataDecoder()
        self._transfer = transfer = self._begin(decoder)
        while not decoder.finished:
            transfer.feed(await self._chunk())
            self._allow_for_data(transfer)
        self._input[:0] = decoder.rest
        await self._finish(transfer)

    async def smtp_BDAT(self, arg: str) -> None:
        """A chunk of so many octets. They are read whatever the answer is, or else end the connection."""
        try:
            command = parse_bdat(arg)
        except SyntaxRefusal as refusal:
            raise HangUp(refusal.reply, "malformed_chunk") from None
        transfer = self._transfer or self._begin(ChunkDecoder())
        transfer.expect(command.size)
        wanted = bool(self.envelope.rcpt_tos)
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
                transfer.feed(chunk)
            self._allow_for_data(transfer)
        if not wanted:
            await self._reply(NO_RECIPIENT)
        elif command.last:
            await self._finish(transfer)
        elif refused := self._refusal_of(transfer):
            self._set_rset_state()
            await self._reply(refused)
        else:
            await self._reply(f"250 2.0.0 {command.size} octets received")

    def _begin(self, decoder: DataDecoder | ChunkDecoder) -> _Transfer:
        spool = Spool(self._config.spool_directory)
        transfer = _Transfer(spool, decoder, self._config.max_message_size, self.loop.time())
        self._allow_for_data(transfer)
        return transfer

    def _allow_for_data(self, transfer: _Transfer) -> None:
        """Each piece in time, the whole in time, and time earned by octets sent (as Postfix counts a request)."""
        config, gone = self._config, self.loop.time() - transfer.began
        earned = config.data_grace + transfer.octets / config.min_data_rate
        self._allow(*min(
            (config.data_timeout, "data_timeout"),
            (config.data_total_timeout - gone, "data_total_timeout"),
            (earned - gone, "min_data_rate"),
        ))  # fmt: skip

    def _refusal_of(self, transfer: _Transfer) -> str | None:
        """The reply that refuses what has come so far, or None."""
        if transfer.octets > transfer.most:
            self._door.refused("max_message_size")
            return TOO_LARGE
        if transfer.decoder.longest_line > LINE_OCTETS:
            return "554 5.6.0 Line too long"
        if transfer.disk_failed:
            self._door.refused("no_space")
            return NO_SPACE
        return None

    async def _finish(self, transfer: _Transfer) -> None:
        """The message is there: has it stored, and answers."""
        transfer.decoder.finish()
        reply = self._refusal_of(transfer)
        if reply is None:
            self._allow(self._config.store_timeout, "store_timeout")
            self._storing = True
            try:
                if transfer.octets <= LARGE_OCTETS:
                    reply = await self._store(transfer.spool)
                else:
                    async with self._door.large:
                        reply = await self._store(transfer.spool)
            finally:
                self._storing = False
        self._set_rset_state()
        self._advance()
        if reply.startswith("250"):
            self._errors = self._junk = 0
        await self._reply(reply)

    async def _store(self, spool: Spool) -> str:
        raw = spool.read()
        spool.drop()
        if (b"\n" + _header_block(raw).lower()).count(b"\nreceived:") > self._config.max_hops:
            self._door.refused("hops")
            return "554 5.4.6 Too many hops"
        forwarded, self._forwarded = self._forwarded, None
        return await self._door.store(
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


def _header_block(raw: bytes) -> bytes:
    """The header fields with their last line end; of an endless header its first 256 KiB."""
    end = raw.find(b"\r\n\r\n", 0, HEADER_OCTETS)
    return raw[: end + 2] if end >= 0 else raw[:HEADER_OCTETS]

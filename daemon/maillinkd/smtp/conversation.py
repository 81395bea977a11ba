"""The conversation (RFC 5321): greeting, commands and replies, limits of errors, relays that speak for others."""
# ruff: noqa: N802  # smtp_XYZ are the library's names

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from maillinkd.smtp.command import SyntaxRefusal, is_host_name, parse_mail, parse_rcpt
from maillinkd.smtp.connection import TOO_MANY, HangUp
from maillinkd.smtp.data import BareLineEnding
from maillinkd.smtp.door import NO_SPACE, TEMPORARY_FAILURE
from maillinkd.smtp.guard import lies_in
from maillinkd.smtp.proxy import (
    MAX_HEADER,
    XCLIENT,
    XFORWARD,
    Announced,
    NotProxy,
    read_attributes,
    read_proxy,
)
from maillinkd.smtp.receiving import TOO_LARGE, Receiving

log = structlog.get_logger()

PROXY_TIMEOUT = 30.0
"""Seconds that a proxy may take to announce its client, which it does at once."""

MAIL_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "BDAT"})
"""All others are junk to the limit `max_junk_commands`."""


class Conversation(Receiving):
    """A client's whole session, from the greeting to the end."""

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except HangUp as end:
            self._drop_transfer()
            await self._part(end)
        except ConnectionError:
            log.debug("smtp_connection_lost", client=self.peer)
        except Exception:
            log.exception("smtp_connection_failed", client=self.peer)
        finally:
            self._drop_transfer()
            self._close()

    async def _converse(self) -> None:
        self._relay = self.peer if self._is_relay() else ""
        if self._relay and self._config.proxy_protocol:
            await self._read_proxy_header()
        await self._wait_before_greeting()
        await self._reply(f"220 {self.hostname} ESMTP maillinkd")
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
                raise HangUp(f"421 4.7.0 {self.hostname} Too many errors", "max_errors")
            if self._junk >= self._config.max_junk_commands:
                raise HangUp(f"421 4.7.0 {self.hostname} Too many commands without mail", "max_junk_commands")

    async def _wait_before_greeting(self) -> None:
        """A client waits until it is greeted (RFC 5321, 4.3.1); programs that send spam often do not."""
        if self._config.greeting_delay and not self._door.is_exempt(self.peer):
            await asyncio.sleep(self._config.greeting_delay)
            if self._input:
                raise HangUp(f"554 5.5.0 {self.hostname} You spoke before you were greeted", "early_talker")

    async def _obey(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            await self._reply("500 5.5.2 Lines end with CR and LF")
            return
        verb, _, argument = line[:-2].decode("utf-8", "surrogateescape").partition(" ")
        command = verb.upper() if verb.isascii() else ""
        self._junk += command not in MAIL_COMMANDS
        method = _COMMANDS.get(command)
        try:
            if method:
                await method(self, argument.strip(" "))
            else:
                await self._reply("500 5.5.2 Command not recognised")
        except SyntaxRefusal as refusal:
            await self._reply(refusal.reply)
        except BareLineEnding:
            raise HangUp("554 5.6.0 Bare CR or LF in the message", "bare_line_ending") from None
        except (HangUp, ConnectionError):
            raise
        except Exception:
            # Ours is the fault: the client may try again, and learns nothing about it.
            log.exception("smtp_command_failed", client=self.peer)
            self._set_rset_state()
            await self._reply(TEMPORARY_FAILURE)

    # The client and its mail

    async def smtp_HELO(self, hostname: str) -> None:
        await self._greet(hostname, [])

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._greet(hostname, self._extensions())

    async def _greet(self, hostname: str, extensions: list[str]) -> None:
        if not is_host_name(hostname):
            await self._reply("501 5.5.4 Expected your host name")
            return
        self._set_rset_state()
        if not self.session.host_name:
            self._advance()
        self.session.host_name = hostname
        lines = [self.hostname, *extensions]
        await self._reply("\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]))

    def _extensions(self) -> list[str]:
        starttls = ["STARTTLS"] if self._door.tls and not self._tls else []
        size = f"SIZE {self._config.max_message_size}"
        announcing = [f"XCLIENT {' '.join(XCLIENT)}", f"XFORWARD {' '.join(XFORWARD)}"] if self._relay else []
        return ["PIPELINING", size, *starttls, *announcing, "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"]

    async def smtp_MAIL(self, arg: str) -> None:
        if not self.session.host_name:
            await self._reply("503 5.5.1 Send EHLO first")
            return
        if self.envelope.mail_from is not None:
            await self._reply("503 5.5.1 Sender given already")
            return
        mail = parse_mail(arg)
        if mail.size > self._config.max_message_size:
            self._door.refused("max_message_size")
            await self._reply(TOO_LARGE)
            return
        if self._door.has_room and not self._door.has_room(mail.size):
            self._door.refused("no_space")
            await self._reply(NO_SPACE)
            return
        self.envelope.mail_from = mail.sender
        self.envelope.smtp_utf8 = mail.smtputf8
        self._advance()
        await self._reply("250 2.1.0 Sender ok")

    async def smtp_RCPT(self, arg: str) -> None:
        if self.envelope.mail_from is None or self._transfer:
            await self._reply("503 5.5.1 Send MAIL first")
            return
        if len(self.envelope.rcpt_tos) >= self._config.max_recipients:
            self._junk += 1
            self._door.refused("max_recipients")
            await self._reply("452 4.5.3 Too many recipients")
            return
        due = self.loop.time() + self._config.refusal_delay
        recipient, refused = self._recipient(arg)
        if refused:
            await self._flush()
            await asyncio.sleep(due - self.loop.time())
            await self._reply(refused)
            return
        self.envelope.rcpt_tos.append(recipient)
        self._advance()
        await self._reply("250 2.1.5 Recipient ok")

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

    async def smtp_STARTTLS(self, arg: str) -> None:
        context = self._door.tls
        if arg:
            await self._reply("501 5.5.4 STARTTLS takes no argument")
            return
        if not context or self._tls:
            await self._reply("502 5.5.1 STARTTLS not offered")
            return
        await self._reply_now("220 2.0.0 Ready to start TLS")
        await self._begin_tls(context)
        self._advance()
        self._forget()

    def _forget(self) -> None:
        """The client begins anew, with EHLO."""
        self._set_rset_state()
        self.session.host_name = None

    # Relays

    def _is_relay(self) -> bool:
        return lies_in(self.peer, self._config.trusted_relays)

    async def _read_proxy_header(self) -> None:
        """A proxy passes on what its client says: the client's is the connection, and there is no relay."""
        self._allow(PROXY_TIMEOUT, "proxy_protocol")
        while True:
            try:
                found = read_proxy(bytes(self._input[:MAX_HEADER]))
            except NotProxy as error:
                log.warning("smtp_proxy_header", client=self.peer, error=str(error))
                raise HangUp(f"421 4.3.2 {self.hostname} Expected a PROXY header", "proxy_protocol") from None
            if found is not None:
                break
            if self._at_eof:
                raise ConnectionResetError("the client left before it was announced")
            await self._wait_for_input()
        announced, length = found
        del self._input[:length]
        self._announce(announced)
        self._relay = self.peer if self._is_relay() and announced.address else ""

    def _announce(self, announced: Announced) -> None:
        """From now on the connection counts as that client's. Raises HangUp where it has too many."""
        if announced.address is None:
            return
        limit = self._door.speaks_for(self, announced.address)
        if limit:
            raise HangUp(f"421 4.7.0 {self.hostname} {TOO_MANY}", limit)
        self.peer = announced.address

    async def smtp_XCLIENT(self, arg: str) -> None:
        """A trusted relay speaks for a client from here on (Postfix, XCLIENT_README): as if that had connected."""
        if not await self._may_announce():
            return
        announced = read_attributes(arg, XCLIENT)
        self._announce(announced)
        self._announced_helo = announced.helo or self._announced_helo
        self._forget()
        await self._reply_now(f"220 {self.hostname} ESMTP maillinkd")

    async def smtp_XFORWARD(self, arg: str) -> None:
        """A trusted relay says where the next message came from (Postfix, XFORWARD_README); may come in parts."""
        if not await self._may_announce():
            return
        announced, former = read_attributes(arg, XFORWARD), self._forwarded or Announced(None)
        self._forwarded = Announced(announced.address or former.address, announced.helo or former.helo)
        await self._reply("250 2.0.0 Ok")

    async def _may_announce(self) -> bool:
        if not self._relay:
            await self._reply("550 5.7.0 You are no trusted relay")
        elif self.envelope.mail_from is not None:
            await self._reply("503 5.5.1 Not while a message is under way")
        else:
            return True
        return False

    # The others

    async def smtp_RSET(self, arg: str) -> None:
        self._set_rset_state()
        await self._reply("250 2.0.0 Ok")

    async def smtp_NOOP(self, arg: str) -> None:
        await self._reply("250 2.0.0 Ok")

    async def smtp_VRFY(self, arg: str) -> None:
        await self._reply("252 2.0.0 Not verified, send mail to find out")

    async def smtp_EXPN(self, arg: str) -> None:
        await self._not_implemented()

    async def smtp_HELP(self, arg: str) -> None:
        await self._not_implemented()

    async def smtp_AUTH(self, arg: str) -> None:
        await self._not_implemented()

    async def _not_implemented(self) -> None:
        await self._reply("502 5.5.1 Command not implemented")

    async def smtp_QUIT(self, arg: str) -> None:
        await self._reply_now("221 2.0.0 Bye")
        self._wire.close()


_COMMANDS: dict[str, Callable[[Conversation, str], Awaitable[None]]] = {
    name.removeprefix("smtp_"): getattr(Conversation, name) for name in dir(Conversation) if name.startswith("smtp_")
}
"""By their names, as the library has them; found once, and not by each connection."""

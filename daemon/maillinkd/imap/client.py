"""One connection to an IMAP server: typed questions, typed answers.

Nothing here can change a mailbox: folders are opened with EXAMINE, bodies asked for with BODY.PEEK (`fetch`), and
there is no code for any command that writes.
"""

import functools
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.command import Argument, Astring
from maillinkd.imap.dial import dial, secure
from maillinkd.imap.errors import ImapError, LoginRefused, Refused, garbled, printable
from maillinkd.imap.folders import Folder, readable
from maillinkd.imap.line import Line
from maillinkd.imap.login import another_token_helps, log_in, token_of
from maillinkd.imap.protocol import Exchange, ImapProtocol
from maillinkd.imap.response import (
    ExtendedSearch,
    Listed,
    MailboxStatus,
    ProtocolError,
    Search,
    Status,
    ranges_of,
)
from maillinkd.imap.sync import Opened
from maillinkd.oauth.token import AccessToken

_UIDS_LIMIT = 10_000_000
_FOLDERS_TOGETHER = 100
_WILD = frozenset(b"*%")
"""Octets that LIST takes for wildcards."""


async def connect(account: Account, deadlines: Deadlines | None = None) -> "Connection":
    """A connection on which the account is logged in.

    Raises LoginRefused, NoPassword, Unreachable (Untrusted and ConnectionLost among them), Refused.
    """
    deadlines = deadlines or Deadlines()
    if account.tokens is None:
        return await _connect(account, deadlines, None)
    token = await token_of(account, account.tokens.current())
    try:
        return await _connect(account, deadlines, token)
    except LoginRefused as refused:
        if not another_token_helps(refused):
            raise
        another = await token_of(account, account.tokens.renewed(token))
        if another.secret == token.secret:
            raise
        return await _connect(account, deadlines, another)


async def _connect(account: Account, deadlines: Deadlines, token: AccessToken | None) -> "Connection":
    try:
        connection = Connection(await dial(account, deadlines), deadlines)
        try:
            await secure(connection, account)
            await log_in(connection, account, token)
            await connection.identify()
        except BaseException:
            connection.abort()
            raise
    except ProtocolError as error:
        raise garbled(account.host, error) from error
    return connection


async def capabilities_of(account: Account, deadlines: Deadlines) -> frozenset[str]:
    """What a server can do, asked under TLS and before anybody logs in: neither user name nor password is sent.

    Raises Unreachable (Untrusted and ConnectionLost among them), Refused.
    """
    try:
        connection = Connection(await dial(account, deadlines), deadlines)
        try:
            await secure(connection, account)
            found = connection.capabilities
            await connection.logout()
        finally:
            connection.abort()
    except ProtocolError as error:
        raise garbled(account.host, error) from error
    return found


class Connection(Line):
    """What can be asked of a server. For FETCH see `fetch`, for IDLE `idle`."""

    def __init__(self, protocol: ImapProtocol, deadlines: Deadlines) -> None:
        super().__init__(protocol, deadlines)
        self.open: Folder | None = None
        """The folder that was opened last and is still open."""

    # Who is who

    @property
    def server(self) -> str:
        """Name and version of the server, as it gave them to `identify`; "" where it did not."""
        told = [self.protocol.server_id.get(field, "") for field in ("name", "version")]
        return printable(" ".join(word for word in told if word))

    async def identify(self) -> None:
        """Says who asks and learns who answers, where that is offered (RFC 2971)."""
        if "ID" not in self.capabilities:
            return
        with suppress(Refused):  # it is a courtesy, and nothing depends on it
            await self.ask("ID", f'("name" "maillinkd" "version" "{_version()}")')

    async def logout(self) -> None:
        """Says good-bye and closes. Never raises ImapError: what is wrong with a connection is over with it."""
        try:
            if not self.lost:
                await self.ask("LOGOUT", deadline=self.deadlines.logout)
        except (ImapError, ProtocolError):
            pass  # the connection ends in any case
        finally:
            self.abort()

    # Folders

    async def folders(self) -> tuple[Folder, ...]:
        """All folders that can be opened."""
        extended = {"LIST-EXTENDED", "SPECIAL-USE"} <= self.capabilities or "IMAP4REV2" in self.capabilities
        marks = ("RETURN (SPECIAL-USE)",) if extended else ()
        exchange = await self.ask("LIST", '""', '"*"', *marks)
        return readable(response for response in exchange.responses if isinstance(response, Listed))

    async def examine(self, folder: Folder, since: tuple[int, int] | None = None) -> Opened:
        """Opens a folder for reading alone. Raises Refused if it cannot be opened; then none is open.

        `since`: a UIDVALIDITY and a HIGHESTMODSEQ, after `enable_qresync`. The server names in `News.take_vanished`
        what went since then, if it still has that UIDVALIDITY.
        """
        self.open = None
        self.news.opening()
        words = [f"(QRESYNC ({since[0]} {since[1]}))"] if since else []
        if not since and "CONDSTORE" in self.capabilities:  # else Dovecot may keep no HIGHESTMODSEQ yet
            words = ["(CONDSTORE)"]
        try:
            exchange = await self.ask("EXAMINE", Astring(folder.wire), *words)
        except Refused:
            if not self.lost:
                self.protocol.logged_in()
            raise
        self.protocol.selected()
        self.open = folder
        self.news.opened()
        codes = {response.code: response.number for response in exchange.responses if isinstance(response, Status)}
        return Opened(
            codes.get("UIDVALIDITY") or 0,
            codes.get("UIDNEXT") or None,
            self.news.exists,
            codes.get("HIGHESTMODSEQ") or None,
        )

    async def status(self, folder: Folder) -> Opened:
        """How a folder stands, without opening it."""
        answers = _statuses(await self.ask("STATUS", Astring(folder.wire), self._status_items))
        named = [answer for answer in answers if _same_folder(answer.name, folder)]
        if named:  # else the server spells it in another way
            for answer in answers:
                if answer not in named:
                    self.news.of_folder(answer)
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
            asked = f"RETURN (STATUS {self._status_items})"
            answers = _statuses(await self.ask("LIST", '""', _names(some), asked))
            for folder in some:
                if named := [answer for answer in answers if _same_folder(answer.name, folder)]:
                    found[folder.name] = _stands(named)
        return found

    @property
    def _status_items(self) -> str:
        modseq = " HIGHESTMODSEQ" if {"CONDSTORE", "QRESYNC"} & self.capabilities else ""
        return f"(MESSAGES UIDNEXT UIDVALIDITY{modseq})"

    # News

    async def enable_qresync(self) -> bool:
        """From now on the server names the UIDs that go (RFC 7162, 3.2.3). False where it does not offer that."""
        if not {"ENABLE", "QRESYNC"} <= self.capabilities:
            return False
        try:
            await self.ask("ENABLE", "QRESYNC")
        except Refused:
            return False
        return True

    async def notify(self, folders: Sequence[Folder], *, new_folders: bool) -> None:
        """From now on the server says unasked when mail comes or goes in these folders (RFC 5465).

        `new_folders`: also when there are other folders. Raises Refused.
        """
        events = "(MessageNew MessageExpunge)"
        words: list[Argument] = ["SET", f"(selected {events})", "(mailboxes", _names(folders), f"{events})"]
        if new_folders:
            words.append("(personal (MailboxName))")
        await self.ask("NOTIFY", *words)

    async def noop(self) -> None:
        """Lets the server say what happened."""
        await self.ask("NOOP")

    # The open folder

    async def uid_search(self, criteria: str) -> list[int]:
        """UIDs in the open folder. Without CHARSET, which some servers refuse (traps.md I18)."""
        exchange = await self._search(criteria)
        found: list[int] = []
        for response in exchange.responses:
            if isinstance(response, Search):
                found.extend(response.numbers)
        return found

    async def all_uids(self) -> list[int]:
        """Every UID in the open folder, ascending; asked for as ranges where that is possible (RFC 4731)."""
        if "ESEARCH" in self.capabilities:
            found = _uids_of(await self._search("RETURN (ALL)", "ALL"))
            if found is not None and len(found) <= self.news.exists:
                return found
        return sorted(set(await self.uid_search("ALL")))

    async def _search(self, *words: Argument) -> Exchange:
        return await self.ask("SEARCH", *words, prefix="UID", deadline=self.deadlines.search)


@functools.cache
def _version() -> str:
    return version("maillinkd")


def _names(folders: Sequence[Folder]) -> tuple[Astring, ...]:
    return tuple(Astring(folder.wire) for folder in folders)


def _same_folder(name: bytes, folder: Folder) -> bool:
    return name == folder.wire or (folder.is_inbox and name.upper() == b"INBOX")


def _statuses(exchange: Exchange) -> list[MailboxStatus]:
    return [response for response in exchange.responses if isinstance(response, MailboxStatus)]


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


def _uids_of(exchange: Exchange) -> list[int] | None:
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

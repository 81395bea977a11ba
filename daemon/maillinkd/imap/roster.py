"""The folders that a mailbox's task follows, and what it knows of each from one look to the next."""

from structlog.typing import FilteringBoundLogger

from maillinkd.imap.client import Connection
from maillinkd.imap.errors import ImapError, Refused
from maillinkd.imap.folders import Folder, resolve
from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import FolderCursor

_VALIDITY_ALARM = 5
"""How often a folder may be numbered anew before it is more than a warning."""


class Roster:
    """What the configuration names, held against what the server has."""

    def __init__(self, wanted: tuple[str, ...], log: FilteringBoundLogger) -> None:
        self._wanted = wanted
        self._log = log
        self.folders: tuple[Folder, ...] = ()
        self.absent: tuple[str, ...] = ()
        """Configured and not on the server."""
        self.unopened: dict[str, str] = {}
        """Folders that the server does not open, and why."""
        self.visited: dict[str, Opened] = {}
        """How each folder stood when it was last read."""
        self._validity_changes: dict[str, int] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        return (*self.absent, *self.unopened)

    @property
    def openable(self) -> list[Folder]:
        """Those that can be opened, as far as is known. The first one is watched."""
        return [folder for folder in self.folders if folder.name not in self.unopened]

    async def find(self, connection: Connection) -> None:
        """Finds the configured folders among the server's. What was not opened is tried again."""
        resolved = resolve(self._wanted, await connection.folders())
        if resolved.missing != self.absent and resolved.missing:
            self._log.warning("imap folders missing", folders=resolved.missing)
        self.folders, self.absent = resolved.folders, resolved.missing
        self.unopened.clear()

    def watched(self) -> tuple[Folder, list[Folder]]:
        """The first folder that can be opened, and the others. Raises ImapError if there is none."""
        folders = self.openable
        if not folders:
            raise ImapError("none of the configured folders can be opened")
        return folders[0], folders[1:]

    def cannot_open(self, folder: Folder, error: Refused) -> None:
        """The server refuses it. Raises the error, if it may be otherwise later."""
        if error.transient:
            raise error
        if folder.name not in self.unopened:
            self._log.warning("imap folder cannot be opened", folder=folder.name, reason=str(error))
        self.unopened[folder.name] = str(error)

    def is_renumbered(self, folder: Folder, stored: FolderCursor | None, opened: Opened) -> bool:
        """Whether UIDVALIDITY changed, which is told."""
        if stored is None or stored.uidvalidity == opened.uidvalidity:
            return False
        changes = self._validity_changes[folder.name] = self._validity_changes.get(folder.name, 0) + 1
        say = self._log.error if changes > _VALIDITY_ALARM else self._log.warning
        say(
            "imap uidvalidity changed",
            folder=folder.name,
            old=stored.uidvalidity,
            new=opened.uidvalidity,
            times=changes,
        )
        return True

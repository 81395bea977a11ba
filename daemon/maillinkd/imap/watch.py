"""How news of a mailbox come (NOTIFY, IDLE, by asking), and when somebody has to look without them.

Times are those of the event loop's clock.
"""

import asyncio
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from maillinkd.imap.client import Connection
from maillinkd.imap.errors import Refused
from maillinkd.imap.folders import Folder
from maillinkd.imap.idle import idle

_RELIST = 900.0
"""Seconds after which the server's folders are listed again, for those that a glob now finds."""
_LOOK_AROUND = 5.0
"""When mail came to the watched folder, the others are looked at too, but not more often than so many seconds."""
_SECOND_LOOK = 2.0
"""Seconds after which all folders are looked at once more when NOTIFY announced one: while another is opened than the
one that changed, something may slip through."""
_COMPARE_PAUSE = 60.0
"""Seconds between two comparisons of all UIDs in a folder from which mail goes, where the server does not name it."""
_OVERFLOWS = 3
"""How often the server may stop to notify before it is not asked any more."""
_EVER, _NEVER = float("-inf"), float("inf")


class Watch:
    """What one mailbox's server has been found to do, and when each look is due."""

    def __init__(self, names: Sequence[str], poll_interval: float, log: FilteringBoundLogger) -> None:
        self._globs = any(wild in name for name in names for wild in "*%?")
        self._poll_interval = poll_interval
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._notified = False
        """The server speaks of all folders, not only of the one that is open."""
        self._notify_failed = False
        self._overflows = 0
        self._idle_failed = False
        self._said = ""
        self._listed_at = 0.0
        self._looked_at = 0.0
        self._look_at = 0.0
        """When the others are to be looked at though the server speaks of all folders."""
        self._look_twice = False
        self._compared_at: dict[str, float] = {}
        self._due: dict[str, float] = {}
        """When every UID of a folder is to be compared, because mail went that the server did not name."""

    # Who says what

    async def subscribe(self, connection: Connection, folders: Sequence[Folder]) -> None:
        """Asks for news of these folders on this connection (NOTIFY, which IDLE carries), where that can be had."""
        self._notified = False
        offered = {"NOTIFY", "IDLE"} <= connection.capabilities
        if self._notify_failed or not offered or (len(folders) < 2 and not self._globs):
            return
        try:
            await connection.notify(folders, new_folders=self._globs)
        except Refused as error:
            self._notify_failed = True
            self._log.warning("imap notify refused; watching by IDLE", reason=str(error))
            return
        self._notified = True
        self._look_at = self._loop.time()  # for what came before the server took note
        self._look_twice = True  # Dovecot 2.3 takes a second until it does

    async def overflowed(self, connection: Connection, folders: Sequence[Folder]) -> None:
        """The server has stopped to notify: it is asked again, a few times, and looked for what it did not say."""
        self._notify_failed = self._overflows >= _OVERFLOWS
        self._overflows += 1
        self._log.warning("imap notify overflowed", gives_up=self._notify_failed)
        await self.subscribe(connection, folders)
        self._look_at = self._looked_at = _EVER

    def can_idle(self, connection: Connection) -> bool:
        return "IDLE" in connection.capabilities and not self._idle_failed

    async def idle(self, connection: Connection, end: float) -> bool:
        """Waits for the server to say something. False, at once, where it refuses IDLE; it is not asked again."""
        await connection.noop()  # some servers do not say in IDLE what came before it (pymap)
        if connection.news:
            return True
        try:
            await idle(connection, max(0.0, end - self._loop.time()))
        except Refused as error:
            self._idle_failed = True
            self._log.warning("imap idle refused; polling", reason=str(error), every_s=self._poll_interval)
            return False
        return True

    def by(self, watched: Folder, others: Sequence[Folder]) -> str:
        """How news come now, in words for people; logged when it is another way than before."""
        if self._notified:
            by = f"NOTIFY: {1 + len(others)} folders"
        elif others:
            by = f"IDLE: {watched.name}; {len(others)} more every {self._poll_interval:g} s"
        else:
            by = f"IDLE: {watched.name}"
        if by != self._said:
            self._said = by
            self._log.info("imap watching", by=by)
        return by

    # When to look

    def listed(self) -> None:
        """The server's folders are listed now."""
        self._listed_at = self._loop.time()

    def looked(self) -> None:
        """All folders were looked at."""
        self._looked_at = self._loop.time()
        self._look_at = self._loop.time() + (_SECOND_LOOK if self._look_twice else _RELIST)
        self._look_twice = False

    def announced(self) -> None:
        """Folders that the server named were looked at."""
        self._look_at = self._loop.time() + _SECOND_LOOK

    def folders_changed(self) -> None:
        """The server's folders are to be listed at the next look."""
        self._listed_at = -_RELIST

    def is_time_to_list(self) -> bool:
        return self._loop.time() - self._listed_at > _RELIST

    def is_time_to_look(self) -> bool:
        now = self._loop.time()
        if self._notified:
            return now >= min(self._look_at, self._listed_at + _RELIST)
        return now - self._looked_at >= min(_LOOK_AROUND, self._poll_interval)

    def next_look(self, others: Sequence[Folder]) -> float:
        """When the folders are asked for that the server does not speak of, or may have passed over."""
        if self._notified:
            return min(self._look_at, self._listed_at + _RELIST)
        return self._looked_at + self._poll_interval if others else self._listed_at + _RELIST

    # When to compare

    def went(self, folder: Folder) -> None:
        """Mail went from it, and the server did not say which: every UID is to be compared; now or soon."""
        last = self._compared_at.get(folder.name, -_COMPARE_PAUSE)
        self._due.setdefault(folder.name, last + _COMPARE_PAUSE)

    def compare_at(self, folder: Folder) -> float:
        return self._due.get(folder.name, _NEVER)

    def is_time_to_compare(self, folder: Folder) -> bool:
        return self._loop.time() >= self.compare_at(folder)

    def compared(self, folder: Folder) -> None:
        """Every UID was, or is about to be."""
        self._due.pop(folder.name, None)
        self._compared_at[folder.name] = self._loop.time()

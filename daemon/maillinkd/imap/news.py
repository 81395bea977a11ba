"""What a server says that nobody asked for: how the open folder changes, and which others do (RFC 5465)."""

import asyncio
from collections import deque

from maillinkd.imap.errors import printable
from maillinkd.imap.response import Exists, Expunged, Listed, MailboxStatus, Status, TooLarge, Vanished

_RANGES_LIMIT = 200_000
_ALERTS_KEPT = 10


class News:
    """Kept until somebody takes it. Of one connection."""

    def __init__(self) -> None:
        self.exists = 0
        """How many messages the open folder has."""
        self.changed = False
        """Mail came or went in the open folder since `notice`."""
        self.stirred = asyncio.Event()
        """Is set when something happened, for who waits in IDLE."""
        self._expunged = False
        self._vanished: list[tuple[int, int]] = []
        self._announced: set[bytes] = set()
        self._folders_changed = False
        self._overflowed = False
        self._alerts: deque[str] = deque(maxlen=_ALERTS_KEPT)

    def __bool__(self) -> bool:
        """Something happened, in the open folder or in one that NOTIFY was asked for."""
        return self.changed or bool(self._announced) or self._folders_changed or self._overflowed

    def opening(self) -> None:
        """Another folder is about to be opened: what is known of the open one counts for nothing."""
        self.exists = 0
        self._vanished = []

    def opened(self) -> None:
        """What came with the answer to EXAMINE is how the folder stands, and no news."""
        self.changed = self._expunged = False

    def notice(self) -> None:
        """What changed in the open folder until now is going to be looked at."""
        self.changed = False

    def take_expunged(self) -> bool:
        """Whether mail went from the open folder since this was last asked."""
        expunged, self._expunged = self._expunged, False
        return expunged

    def take_vanished(self) -> list[tuple[int, int]]:
        """The UIDs that went from the open folder since this was last asked, as ranges; with QRESYNC alone."""
        vanished, self._vanished = self._vanished, []
        return vanished

    def take_announced(self) -> set[bytes]:
        """Folders of which the server said unasked that they changed, as it spells them; each once."""
        announced, self._announced = self._announced, set()
        return announced

    def take_folders_changed(self) -> bool:
        """Whether the server said unasked that a folder was made, renamed or deleted."""
        changed, self._folders_changed = self._folders_changed, False
        return changed

    def take_overflowed(self) -> bool:
        """Whether the server has stopped to notify, because there was too much to say (RFC 5465, 5.8)."""
        overflowed, self._overflowed = self._overflowed, False
        return overflowed

    def take_alerts(self) -> list[str]:
        """What the server wants a person to read (ALERT), on one line each; the last few."""
        alerts = list(self._alerts)
        self._alerts.clear()
        return alerts

    def in_open_folder(self, response: Exists | Expunged | Vanished) -> None:
        """Raises TooLarge for a list of what vanished that has no end."""
        match response:
            case Exists():
                self.changed = self.changed or response.count != self.exists
                self.exists = response.count
            case Expunged():
                self.changed = self._expunged = True
                self.exists = max(0, self.exists - 1)
            case Vanished():
                self._vanished += response.ranges
                if len(self._vanished) > _RANGES_LIMIT:
                    raise TooLarge("the list of what vanished has no end")
                if response.earlier:
                    return
                self.changed = True
                self.exists = max(0, self.exists - sum(high - low + 1 for low, high in response.ranges))
        self.stirred.set()

    def of_folder(self, response: Listed | MailboxStatus) -> None:
        """One that nobody asked for, and so a notification (RFC 5465, 5)."""
        if isinstance(response, Listed):
            self._folders_changed = True
        else:
            self._announced.add(response.name)
        self.stirred.set()

    def in_words(self, response: Status) -> None:
        """Its code, whatever it answers besides."""
        if response.code == "NOTIFICATIONOVERFLOW":
            self._overflowed = True
            self.stirred.set()
        if response.code == "ALERT":
            self._alerts.append(printable(response.text))

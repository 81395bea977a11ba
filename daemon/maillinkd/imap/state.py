"""What a mailbox's task is doing, in the words that `status` shows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from maillinkd.imap.budget import Traffic


class State(StrEnum):
    """What a mailbox's task is doing."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    WATCHING = "watching"
    """Everything is read, the server says when more comes (NOTIFY, IDLE)."""
    POLLING = "polling"
    """Everything is read, the server is asked now and then."""
    WAITING = "waiting"
    """Something broke, or must wait (`waits_for`); `next_try` says when it is tried again."""
    REFUSED = "refused"
    """The login was refused."""
    PAUSED = "paused"
    """Mail cannot be filed (database, disk)."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What `status` shows of a mailbox. Times in UTC."""

    mailbox: str
    state: State
    since: datetime
    """When it came into this state."""
    folder: str = ""
    last_success: datetime | None = None
    """When it was last known to be up to date."""
    next_try: datetime | None = None
    waits_for: str = ""
    """While it watches, polls, or waits for the provider's limits: for what, in words for people."""
    next_look: datetime | None = None
    """While it watches or polls: when it looks by itself, at the latest. While it waits for the provider's limits it
    goes on watching."""
    last_error: str = ""
    """One line without secrets; stays until the next success."""
    missing_folders: tuple[str, ...] = ()
    """Configured and not on the server, or not to be opened."""
    filed: int = 0
    """Messages filed since the task began."""
    pending: int = 0
    """Messages known to be there and not yet filed, in the folder at hand."""
    first_sync: int = 0
    """Messages that first syncs have still to fetch, as far as they were counted."""
    traffic: Traffic = field(default_factory=Traffic, repr=False)
    """What came from the server, to be given to whoever follows the mailbox next."""


Report = Callable[[MailboxState], None]

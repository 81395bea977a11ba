"""Which server, as whom, and what of it: all that the door needs to know of a mailbox's settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from maillinkd.oauth.token import Tokens


@dataclass(frozen=True, slots=True)
class Account:
    """One mailbox to follow. `app` makes it from the settings."""

    name: str
    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    """`none` is accepted on loopback alone."""
    username: str
    password: str | Callable[[], str] = field(repr=False)
    """Or how to get it; called in a thread at each login, so that it may run a command."""
    folders: tuple[str, ...] = ("INBOX", "\\Sent")
    """Names, globs, special uses; "*": all but Drafts, Junk and Trash. The first one is watched by IDLE."""
    since: date | None = None
    """The first sync goes back to this date (INTERNALDATE), None: everything."""
    store: Literal["headers", "full"] = "headers"
    expunged: Literal["keep", "mark"] = "keep"
    poll_interval: float = 60.0
    """Seconds between looks at the folders that are not watched by IDLE."""
    audit_interval: float = 86_400.0
    """Seconds between audits of all folders; the first one comes within the first hour."""
    bytes_a_day: int = 0
    """So many bytes may come from the server in 24 hours, 0: no limit."""
    tokens: Tokens | None = field(default=None, repr=False, compare=False)
    """Where OAuth access tokens come from; then there is no password."""
    tls_ca_file: str | None = None
    """PEM certificates to believe instead of the system's."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the server may take, in seconds. When one is over the connection is given up."""

    connect: float = 30.0
    """TCP, TLS, greeting: each."""
    command: float = 60.0
    """From sending a command to its answer, however busy the server looks meanwhile (traps.md I9)."""
    search: float = 300.0
    """A SEARCH by date on a large folder reads its index from a cold disk."""
    bytes_per_second: float = 4_000.0
    """A FETCH has `command`, and this rate for what it is to bring."""
    idle_renew: float = 300.0
    """Silence in IDLE after which it is renewed: NAT boxes forget connections without telling."""
    idle_longest: float = 1_500.0
    """IDLE is renewed after this time even if the server says "still here" (RFC 2177: 29 minutes at most)."""
    idle_done: float = 60.0
    logout: float = 5.0

    def fetch(self, size: int) -> float:
        """For a FETCH that is to bring `size` bytes."""
        return self.command + size / self.bytes_per_second

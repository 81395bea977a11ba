"""Access tokens, what may go wrong with them, and what the IMAP door asks for."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

RENEW_AT = 0.8
"""The part of its life after which a token is renewed."""
_CLOCK_SKEW = timedelta(minutes=5)

_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")  # RFC 6750, 2.1 is narrower; what matters is that nothing can be put in


class TokenError(Exception):
    """There is no access token, and none will come before somebody does what the text says. Safe to log."""


class LoginNeeded(TokenError):
    """A person has to log in (again): nothing is stored, or the provider has revoked it."""


class TryLater(Exception):
    """The provider gives no token now: network, overload. Safe to log."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the provider asked us to stay away, None if it did not."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token (RFC 6750). Times in UTC. Raises ValueError for one that cannot be sent."""

    secret: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime | None
    """None: nobody said."""

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.secret):
            raise ValueError("expected an access token of printable ASCII without spaces")

    @property
    def renew_at(self) -> datetime | None:
        """When it has lived for four fifths of its life."""
        if self.expires_at is None:
            return None
        return self.issued_at + RENEW_AT * (self.expires_at - self.issued_at)

    def is_fresh(self, now: datetime) -> bool:
        """By the wall clock, each time anew; one that was issued in the future tells that the clock jumped."""
        return self.issued_at - _CLOCK_SKEW <= now and (self.renew_at is None or now < self.renew_at)


class Tokens(Protocol):
    """Where a mailbox's tokens come from. Both raise TokenError, TryLater, TemporaryFailure (the database)."""

    async def current(self) -> AccessToken:
        """A token that is good for a while."""
        ...

    async def renewed(self, refused: AccessToken) -> AccessToken:
        """Another one, as the server refuses this; the same where no other is to be had."""
        ...

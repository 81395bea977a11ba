"""How long to stay away from what has just failed."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to stay away after the n-th failure in a row, in seconds."""

    first: float = 1.0
    longest: float = 300.0

    def delay(self, failures: int, wish: float | None = None) -> float:
        """Doubling, with jitter downwards so that many mailboxes do not come back together; not before `wish`."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return max(by_chance(full * 0.5, full), wish or 0.0)


@dataclass(frozen=True, slots=True)
class Backoffs:
    """For each kind of failure."""

    connection: Backoff = Backoff(1.0, 300.0)
    login: Backoff = Backoff(600.0, 3_600.0)
    """With jitter never under five minutes: servers lock accounts out."""
    ledger: Backoff = Backoff(1.0, 20.0)


def by_chance(least: float, most: float) -> float:
    """Something in between, so that many mailboxes do not do the same together."""
    return random.uniform(least, most)  # noqa: S311 - no secret depends on it

"""PURE: how many bytes of a mailbox may be fetched a day, and when there is room again.

Providers count what they send of a mailbox in a day and lock out whoever takes more: Gmail after 2,500 MB by IMAP,
for up to 24 hours ("Gmail bandwidth limits" in the help of Google Workspace). No hour is named at which a day begins,
so it is any 24 hours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_HOUR = 3_600
_DAY = 24
"""Hours."""
_TENTH = 10
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that came from a server, by hours of UTC. Those of an hour count until 24 hours after its end."""

    hours: tuple[tuple[int, int], ...] = ()
    """Hours since 1970, and the bytes of each; ascending."""

    @classmethod
    def of_facts(cls, facts: Sequence[Sequence[int]]) -> "Traffic":
        """As `hours` became in JSON."""
        return cls(tuple((hour, octets) for hour, octets in facts))

    def plus(self, octets: int, at: datetime) -> "Traffic":
        """With what came now; what no longer counts is forgotten."""
        counts = {_hour(at): octets}
        for hour, earlier in self._counted(at):
            counts[hour] = counts.get(hour, 0) + earlier
        return Traffic(tuple(sorted(counts.items())))

    def total(self, at: datetime) -> int:
        """Bytes of the last day."""
        return sum(octets for _, octets in self._counted(at))

    def falls_to(self, most: int, at: datetime) -> datetime:
        """When at most `most` bytes (0 or more) count, if nothing comes meanwhile; `at`, if that is so already."""
        total = self.total(at)
        free = at
        for hour, octets in sorted(self._counted(at)):
            if total <= most:
                break
            total -= octets
            free = datetime.fromtimestamp((hour + _DAY + 1) * _HOUR, UTC)
        return free

    def _counted(self, at: datetime) -> Iterator[tuple[int, int]]:
        """What a clock that was set back has put into the future counts as of now."""
        now = _hour(at)
        return ((min(hour, now), octets) for hour, octets in self.hours if hour + _DAY >= now)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be fetched a day. Old mail leaves a tenth of it to new mail."""

    bytes_a_day: int
    """0: no limit."""

    def allows(self, traffic: Traffic, octets: int, at: datetime, *, old: bool) -> bool:
        """Whether so many bytes may be fetched now, of old mail or of new mail.

        What is larger than half of what there is may be fetched once that half is free: else it never could.
        """
        most = self._most(old=old)
        return not self.bytes_a_day or traffic.total(at) + min(octets, most // 2) <= most

    def room_at(self, traffic: Traffic, octets: int, at: datetime, *, old: bool) -> datetime:
        """When so many bytes are allowed, and a tenth of the day's at least, so that it is worth to begin again."""
        most = self._most(old=old)
        return traffic.falls_to(most - max(min(octets, most // 2), self.bytes_a_day // _TENTH), at)

    def _most(self, *, old: bool) -> int:
        return self.bytes_a_day - (self.bytes_a_day // _TENTH if old else 0)


class Allowance:
    """What came of a mailbox, held against its budget, and what has to wait for the bytes of another day."""

    def __init__(self, bytes_a_day: int, traffic: Traffic) -> None:
        self.traffic = traffic
        self.held: set[str] = set()
        """Folders that are to be gone on with once there is room."""
        self.room_at = _LONG_AGO
        """Until then no old mail is fetched."""
        self._budget = Budget(bytes_a_day)
        self._used_up = False
        """It was told that the bytes of the day are used up."""

    def count(self, octets: int, at: datetime) -> None:
        """So many came."""
        if octets:
            self.traffic = self.traffic.plus(octets, at)

    def allows(self, octets: int, at: datetime, *, old: bool) -> bool:
        """Whether so many bytes may be fetched now."""
        if old and at < self.room_at:
            return False
        return self._budget.allows(self.traffic, octets, at, old=old)

    def refuse(self, octets: int, at: datetime, *, old: bool) -> bool:
        """Notes when there will be room for so many bytes; whether that is to be told, for it was not yet."""
        if not old or at >= self.room_at:
            self.room_at = self._budget.room_at(self.traffic, octets, at, old=old)
        told, self._used_up = self._used_up, True
        return not told

    def suffices(self, at: datetime) -> bool:
        """There was room for all that was to be fetched; whether that is to be told, for it was not so before."""
        if not self._used_up or at < self.room_at:
            return False
        self._used_up = False
        return True


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // _HOUR

"""PURE: what the server has x what the ledger says -> what is accounted for, and what is missing."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import GONE, LOST, FolderCursor, Run

WINDOW = 20_000
"""About so many messages are compared at a time, however large the folder."""
LAST = 2**63 - 1
"""The end of the last window: higher than any UID, even of servers whose UIDs exceed 32 bits."""

Span = tuple[int, int]
"""UIDs from the first to the second, both included."""


@dataclass(slots=True)
class Tally:
    """What became of the UIDs of one folder; several are added up.

    `dispositions`, `before_since`, `unread` and `missing` share out all that the server has.
    """

    dispositions: Counter[str] = field(default_factory=Counter)
    """Of what the server has: stored, quarantined, filtered:REASON."""
    before_since: int = 0
    unread: int = 0
    """Above `top`, or below `bottom` while the first sync runs: to be read in its turn."""
    missing: list[Span] = field(default_factory=list)
    """Ascending. Nobody accounted for these UIDs, or what the ledger says of them is not so."""
    expunged: int = 0
    """Read once, and no longer on the server."""
    gone: int = 0
    """The same, and the ledger knows of it."""

    @property
    def missing_count(self) -> int:
        return count(self.missing)

    @property
    def on_server(self) -> int:
        return self.dispositions.total() + self.before_since + self.unread + self.missing_count

    def add(self, other: "Tally") -> None:
        """Adds what was found further up in the same folder."""
        self.dispositions.update(other.dispositions)
        self.before_since += other.before_since
        self.unread += other.unread
        self.missing = spans(self.missing + other.missing)
        self.expunged += other.expunged
        self.gone += other.gone


def windows(opened: Opened, cursor: FolderCursor) -> Iterator[Span]:
    """Parts of the UID space with about `WINDOW` messages each, however sparse it is; the last one has no end."""
    parts = max(1, -(-opened.exists // WINDOW))
    highest = cursor.top if opened.uidnext is None else max(cursor.top, opened.uidnext - 1)
    width = max(1, -(-highest // parts))
    lows = range(1, parts * width + 1, width)
    yield from zip(lows, [low - 1 for low in lows[1:]] + [LAST], strict=True)


def matched(on_server: Sequence[int], runs: Sequence[Run]) -> tuple[Tally, list[int]]:
    """Counts what the ledger accounts for; and gives back the UIDs for which it does not, ascending.

    `on_server` ascending without repeats, `runs` ascending, both of the same window. What is `LOST` is missing. What
    is `GONE` and still listed is not accounted for: a server that listed a message and did not give it.
    """
    tally, rest, lost = Tally(), list[int](), list[int]()
    at = 0
    for run in runs:
        start = bisect_left(on_server, run.low, at)
        end = bisect_right(on_server, run.high, start)
        rest += on_server[at:start]
        absent = run.high - run.low + 1 - (end - start)
        if run.disposition == GONE:
            rest += on_server[start:end]
            tally.gone += absent
        elif run.disposition == LOST:
            lost += on_server[start:end]
        else:
            tally.dispositions[run.disposition] += end - start
            tally.expunged += absent
        at = end
    rest += on_server[at:]
    tally.dispositions = +tally.dispositions
    tally.missing = spans((uid, uid) for uid in lost)
    return tally, rest


def judged(tally: Tally, rest: Iterable[int], recent: Collection[int], cursor: FolderCursor) -> Tally:
    """Says of the UIDs that `matched` gave back what they are. `recent`: those that do not lie before `since`."""
    missing = []
    for uid in rest:
        if uid <= cursor.before_since and uid not in recent:
            tally.before_since += 1
        elif uid > cursor.top or uid < cursor.bottom:
            tally.unread += 1
        else:
            missing.append((uid, uid))
    tally.missing = spans([*tally.missing, *missing])
    return tally


def confirmed(first: Tally, second: Tally) -> Tally:
    """The second of two looks at a window: missing is what was so twice, what appeared in between is to be read."""
    twice = common(first.missing, second.missing)
    second.unread += count(second.missing) - count(twice)
    second.missing = twice
    return second


def spans(pieces: Iterable[Span]) -> list[Span]:
    """Ascending, with what touches or overlaps put together."""
    found: list[Span] = []
    for low, high in sorted(pieces):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def common(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """What is in both; each as `spans` gives it."""
    found, at, against = list[Span](), 0, 0
    while at < len(one) and against < len(other):
        low, high = max(one[at][0], other[against][0]), min(one[at][1], other[against][1])
        if low <= high:
            found.append((low, high))
        if one[at][1] < other[against][1]:
            at += 1
        else:
            against += 1
    return found


def count(pieces: Iterable[Span]) -> int:
    return sum(high - low + 1 for low, high in pieces)


def uids_of(pieces: Iterable[Span]) -> Iterator[int]:
    for low, high in pieces:
        yield from range(low, high + 1)


def ranges(pieces: Iterable[Span]) -> str:
    """As a sequence set (RFC 9051, 9).

    >>> ranges([(1, 3), (7, 7)])
    '1:3,7'
    """
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in pieces)

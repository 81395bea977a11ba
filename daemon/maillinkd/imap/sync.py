"""PURE: what is stored and what the server says, to what is to be fetched.

A folder is read from both ends. Upwards from `top`: mail that came since. Downwards from `bottom`: the first sync,
newest first, back to `since`. Both ends are in the `FolderCursor`, which moves only with what is filed, so whatever
breaks off is taken up again where it broke off. UIDs grow (RFC 9051, 2.3.1.1), but they may become visible out of
order, so the last ones below `top` are looked at again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum

from maillinkd.mail.delivery import FolderCursor

TAIL = 200
"""So many UIDs below `top` are compared with what is stored at each look."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Opened:
    """What EXAMINE or STATUS said of a folder."""

    uidvalidity: int
    """0 where the server gives none."""
    uidnext: int | None
    """None where the server gives none (RFC 3501 servers need not)."""
    exists: int
    highestmodseq: int | None = None
    """None where the server keeps none for this folder (RFC 7162)."""


class Direction(Enum):
    """Why a chunk is fetched, and so which end of the cursor it moves."""

    NEW = "new"
    """Above `top`, upwards."""
    LATE = "late"
    """Below `top`, seen late: moves nothing."""
    FIRST = "first"
    """The first sync, downwards."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """UIDs to be fetched together, ascending."""

    direction: Direction
    uids: tuple[int, ...]
    last: bool = False
    """The last one of its direction: with it a first sync is done."""


def starting(stored: FolderCursor | None, opened: Opened, highest: int, since: date | None) -> FolderCursor:
    """The cursor to go on from.

    `highest` is the highest UID in the folder, asked for only where UIDNEXT is missing. A folder whose UIDVALIDITY
    changed is read anew, back to where it was first read to. A `since` earlier than the stored one opens the first
    sync again for the difference; a later one changes nothing (it was fixed when the first sync began).
    """
    if stored is None:
        return _fresh(opened, highest, since)
    if stored.uidvalidity != opened.uidvalidity:
        return _fresh(opened, highest, _earlier(stored.since, since))
    if _earlier(stored.since, since) == stored.since:
        return stored
    return replace(
        stored,
        since=since,
        bottom=max(stored.bottom, stored.before_since + 1),
        before_since=0 if since is None else stored.before_since,
    )


def _fresh(opened: Opened, highest: int, since: date | None) -> FolderCursor:
    top = highest if opened.uidnext is None else opened.uidnext - 1
    return FolderCursor(
        uidvalidity=opened.uidvalidity,
        top=top,
        bottom=top + 1,
        since=since,
        before_since=0 if since is None else top,
    )


def _earlier(one: date | None, other: date | None) -> date | None:
    return None if one is None or other is None else min(one, other)


def first_criteria(cursor: FolderCursor) -> str | None:
    """What to UID SEARCH for in the first sync; None if there can be nothing."""
    if cursor.bottom <= 1:
        return None
    below = f"UID 1:{cursor.bottom - 1}"
    return below if cursor.since is None else f"{below} SINCE {imap_date(cursor.since)}"


def new_criteria(cursor: FolderCursor) -> str:
    """What to UID SEARCH for above `top`, and in the tail below it that is fit to be compared."""
    return f"UID {tail(cursor)[0]}:*"


def old_tail_criteria(cursor: FolderCursor) -> str | None:
    """The part of the tail where only mail from `since` on counts; None if the tail has no such part."""
    low = max(1, cursor.top - TAIL + 1, cursor.bottom)
    if cursor.since is None or low > cursor.before_since:
        return None
    return f"UID {low}:{cursor.before_since} SINCE {imap_date(cursor.since)}"


def wanted_old_criteria(cursor: FolderCursor) -> str | None:
    """All UIDs up to `before_since` that count although they lie there; None if there can be none."""
    if cursor.since is None or cursor.before_since < 1:
        return None
    return f"UID 1:{cursor.before_since} SINCE {imap_date(cursor.since)}"


def tail(cursor: FolderCursor) -> tuple[int, int]:
    """The lowest and highest UID of the tail below `top` in which every UID should have a disposition.

    Not below `bottom`, which the first sync has still to reach, nor where UIDs without one lie before `since`.
    The tail is empty where the lowest is above the highest.
    """
    return max(1, cursor.top - TAIL + 1, cursor.bottom, cursor.before_since + 1), cursor.top


def above(found: Iterable[int], cursor: FolderCursor) -> list[int]:
    """The new ones, ascending. `n:*` always brings the last message, however low its UID (RFC 9051, 6.4.8)."""
    return sorted({uid for uid in found if uid > cursor.top})


def seen_again(found: Iterable[int], old: Iterable[int], cursor: FolderCursor) -> list[int]:
    """UIDs up to `top` that should have a disposition, ascending.

    `found` by `new_criteria`, `old` by `old_tail_criteria`. Of `found` only those in the tail: the last message,
    which is always among them, may lie before `since`.
    """
    low, high = tail(cursor)
    return sorted({uid for uid in found if low <= uid <= high}.union(old))


def upwards(uids: Sequence[int], size: int, direction: Direction = Direction.NEW) -> Iterator[Chunk]:
    """Ascending chunks: whatever comes after an interruption is above what was filed."""
    for at in range(0, len(uids), size):
        yield Chunk(direction, tuple(uids[at : at + size]), last=at + size >= len(uids))


def downwards(
    found: Iterable[int], known: Collection[int], cursor: FolderCursor, size: int, begin: int
) -> Iterator[Chunk]:
    """Chunks of the first sync, newest first. At least one: an empty one that says that it is done.

    The first one has `begin` messages, so that something is soon to be seen; then each twice as many, up to `size`.
    """
    wanted = sorted({uid for uid in found if 0 < uid < cursor.bottom}.difference(known))
    if not wanted:
        yield Chunk(Direction.FIRST, (), last=True)
    end, count = len(wanted), min(begin, size)
    while end > 0:
        yield Chunk(Direction.FIRST, tuple(wanted[max(0, end - count) : end]), last=end <= count)
        end, count = end - count, min(2 * count, size)


def moved(cursor: FolderCursor, chunk: Chunk) -> FolderCursor:
    """Where the cursor stands once the chunk is filed."""
    if chunk.direction is Direction.NEW:
        return replace(cursor, top=max(cursor.top, chunk.uids[-1]))
    if chunk.direction is Direction.FIRST:
        return replace(cursor, bottom=0 if chunk.last else chunk.uids[0])
    return cursor


def parts(chunk: Chunk, groups: Sequence[Sequence[int]]) -> Iterator[Chunk]:
    """A chunk in smaller ones, in the order to file them: `groups` are its UIDs in ascending runs."""
    downward = chunk.direction is Direction.FIRST
    ordered = list(reversed(groups)) if downward else list(groups)
    for at, group in enumerate(ordered, 1):
        yield Chunk(chunk.direction, tuple(group), last=chunk.last and at == len(ordered))


def sequence_set(uids: Sequence[int]) -> str:
    """Ascending UIDs as a sequence set (RFC 9051, 9), runs written as ranges.

    >>> sequence_set([1, 2, 3, 7, 9, 10])
    '1:3,7,9:10'
    """
    runs: list[list[int]] = []
    for uid in uids:
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in runs)


def imap_date(day: date) -> str:
    """A date of SEARCH (RFC 9051, 9): English months whatever the locale."""
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year:04}"

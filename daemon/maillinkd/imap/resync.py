"""PURE: how a folder stands on the server x how it stood when it was last read to the end -> how far to look again.

What is new is always found by UIDs. The numbers that are held against each other here (UIDVALIDITY, UIDNEXT,
MESSAGES, and HIGHESTMODSEQ of RFC 7162) only say when nobody needs to look, and when looking at the usual place is
not enough, which is above `top` and in the tail below it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import FolderCursor, Stand

WHOLE_EVERY = timedelta(days=7)
"""So often every UID is compared, though nothing seems to call for it."""
WINDOW = 20_000
"""UIDs that are compared together."""
_QUESTIONS = 20
"""Ranges that are asked for one by one; more of them are asked for as one."""


def same(opened: Opened, before: Opened | None) -> bool:
    """Whether two looks within a connection saw the same. Without UIDNEXT that cannot be known."""
    return opened.uidnext is not None and opened == before


def unchanged(stored: FolderCursor, going_on: FolderCursor, opened: Opened, *, mark: bool, now: datetime) -> bool:
    """Whether a folder that was read to the end is as it was then, so that it need not even be opened.

    HIGHESTMODSEQ must be among what is equal: without it, one message that went and another that became visible late
    below UIDNEXT look like nothing. `going_on`: where `sync.starting` would go on. `mark`: expunged mail is marked.
    """
    stand = stored.stand
    return (
        stand is not None
        and stand.modseq is not None
        and stored == going_on
        and stored.first_sync_done
        and opened == Opened(stand.uidvalidity, stand.uidnext, stand.messages, stand.modseq)
        and not compares(stand, mark=mark, now=now)
    )


def since(stored: FolderCursor | None) -> tuple[int, int] | None:
    """From which UIDVALIDITY and HIGHESTMODSEQ on the server is to name what vanished; None: it cannot be asked.

    What went before is marked then, or it was not yet known that it should be.
    """
    stand = stored.stand if stored is not None else None
    if stand is None or stand.modseq is None or not stand.gone_marked:
        return None
    return stand.uidvalidity, stand.modseq


def compares(stand: Stand | None, *, mark: bool, now: datetime) -> bool:
    """Whether every UID is to be compared, for what is remembered is not enough or old."""
    return stand is None or (mark and not stand.gone_marked) or now - stand.compared_at >= WHOLE_EVERY


def unexplained(stand: Stand, opened: Opened, *, found: int, gone: int, counts_gone: bool) -> bool:
    """Whether the number of messages is another than what was found would make it; then every UID is to be compared.

    More: mail became visible late, far below UIDNEXT. Fewer: mail was expunged, which matters where that is to be
    marked and the server did not name it (`counts_gone`). `found`, `gone`: how many UIDs were found and marked.
    """
    expected = stand.messages + found - gone
    return opened.exists != expected if counts_gone else opened.exists > expected


def stand(opened: Opened, *, gone_marked: bool, compared_at: datetime) -> Stand:
    """What to remember of a folder that was read to the end, and stood so when it was opened."""
    return Stand(opened.uidvalidity, opened.uidnext, opened.exists, opened.highestmodseq, gone_marked, compared_at)


def windows(on_server: Sequence[int], top: int) -> Iterator[tuple[int, int, Sequence[int]]]:
    """The UIDs 1 to `top` in windows: lowest, highest, and those of `on_server` (ascending) in it."""
    low = 1
    for at in range(0, len(on_server), WINDOW):
        some = on_server[at : at + WINDOW]
        high = top if at + WINDOW >= len(on_server) else min(some[-1], top)
        if low > high:
            return
        yield low, high, [uid for uid in some if uid <= high]
        low = high + 1
    if low <= top:
        yield low, top, []


def questions(ranges: Iterable[tuple[int, int]], top: int) -> list[tuple[int, int]]:
    """The ranges up to `top`, ascending, in a few pieces: which of these UIDs do we have?"""
    pieces = sorted((max(1, low), min(high, top)) for low, high in ranges if low <= top)
    return [(pieces[0][0], max(high for _, high in pieces))] if len(pieces) > _QUESTIONS else pieces


def within(uids: Iterable[int], ranges: Sequence[tuple[int, int]]) -> set[int]:
    """Those of `uids` that lie in one of the ranges."""
    ordered = sorted(ranges)
    found: set[int] = set()
    at = 0
    for uid in sorted(uids):
        while at < len(ordered) and ordered[at][1] < uid:
            at += 1
        if at < len(ordered) and ordered[at][0] <= uid:
            found.add(uid)
    return found

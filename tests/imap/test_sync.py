"""What is stored and what the server says, to what is fetched."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap import sync
from maillinkd.imap.sync import Chunk, Direction, Opened
from maillinkd.mail.delivery import FolderCursor

JUNE = date(2026, 6, 1)
MAY = date(2026, 5, 1)


def cursor(
    top: int = 100, bottom: int = 0, since: date | None = JUNE, before: int = 0, validity: int = 7
) -> FolderCursor:
    return FolderCursor(uidvalidity=validity, top=top, bottom=bottom, since=since, before_since=before)


STARTS: dict[str, tuple[FolderCursor | None, Opened, int, date | None, FolderCursor]] = {
    "a folder never read begins at UIDNEXT": (
        None, Opened(7, 101, 60), 0, JUNE, cursor(100, 101, JUNE, 100)),
    "without a date nothing is left out": (
        None, Opened(7, 101, 60), 0, None, cursor(100, 101, None, 0)),
    "without UIDNEXT the highest UID counts": (
        None, Opened(7, None, 60), 88, JUNE, cursor(88, 89, JUNE, 88)),
    "an empty folder": (
        None, Opened(7, 1, 0), 0, JUNE, cursor(0, 1, JUNE, 0)),
    "no UIDVALIDITY is a UIDVALIDITY too": (
        None, Opened(0, 5, 4), 0, None, cursor(4, 5, None, 0, validity=0)),
    "UIDVALIDITY of 40 bits": (
        None, Opened(2**40, 5, 4), 0, None, cursor(4, 5, None, 0, validity=2**40)),
    "nothing changed": (
        cursor(), Opened(7, 101, 60), 0, JUNE, cursor()),
    "a later date changes nothing": (
        cursor(before=40), Opened(7, 101, 60), 0, date(2026, 7, 1), cursor(before=40)),
    "an earlier date opens the first sync again below what it left out": (
        cursor(before=40), Opened(7, 101, 60), 0, MAY, cursor(100, 41, MAY, 40)),
    "no date at all opens it for everything": (
        cursor(before=40), Opened(7, 101, 60), 0, None, cursor(100, 41, None, 0)),
    "an earlier date while the first sync runs": (
        cursor(100, 30, JUNE, 40), Opened(7, 101, 60), 0, MAY, cursor(100, 41, MAY, 40)),
    "everything was read: no date is earlier": (
        cursor(since=None), Opened(7, 101, 60), 0, MAY, cursor(since=None)),
    "another UIDVALIDITY: anew, back to the first date": (
        cursor(since=MAY, before=40), Opened(8, 31, 30), 0, JUNE, cursor(30, 31, MAY, 30, validity=8)),
    "another UIDVALIDITY where everything was read": (
        cursor(since=None), Opened(8, 31, 30), 0, JUNE, cursor(30, 31, None, 0, validity=8)),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "opened", "highest", "since", "expected"), STARTS.values(), ids=STARTS.keys())
def test_starting(
    stored: FolderCursor | None, opened: Opened, highest: int, since: date | None, expected: FolderCursor
) -> None:
    assert expected == sync.starting(stored, opened, highest, since)


QUESTIONS: dict[str, tuple[FolderCursor, str | None, str, str | None]] = {
    "everything is read": (cursor(1000, 0, None, 0), None, "UID 801:*", None),
    "the first sync runs": (cursor(1000, 901, JUNE, 1000), "UID 1:900 SINCE 1-Jun-2026", "UID 1001:*",
                            "UID 901:1000 SINCE 1-Jun-2026"),
    "the first sync of everything runs": (cursor(1000, 901, None, 0), "UID 1:900", "UID 901:*", None),
    "part of the tail lies before the date": (cursor(1000, 0, JUNE, 900), None, "UID 901:*",
                                              "UID 801:900 SINCE 1-Jun-2026"),
    "what was left out is far below": (cursor(1000, 0, JUNE, 100), None, "UID 801:*", None),
    "nothing was ever there": (cursor(0, 1, None, 0), None, "UID 1:*", None),
}  # fmt: skip


@pytest.mark.parametrize(("at", "first", "new", "old_tail"), QUESTIONS.values(), ids=QUESTIONS.keys())
def test_what_is_searched_for(at: FolderCursor, first: str | None, new: str, old_tail: str | None) -> None:
    assert (first, new, old_tail) == (
        sync.first_criteria(at) if at.bottom else None,
        sync.new_criteria(at),
        sync.old_tail_criteria(at),
    )


def test_the_last_message_always_found_is_not_new() -> None:
    """`101:*` brings UID 100, if that is the last (RFC 9051, 6.4.8)."""
    assert sync.above([100], cursor(100)) == []
    assert sync.above([103, 101, 101, 100], cursor(100)) == [101, 103]


def test_what_is_seen_again_is_compared_in_the_tail_alone() -> None:
    """Not where UIDs lie before `since`, not below `bottom`, not above `top`."""
    assert sync.seen_again([90, 93, 100, 101], [], cursor(100)) == [90, 93, 100]
    assert sync.seen_again([90, 93, 100, 101], [91], cursor(100, before=92)) == [91, 93, 100]
    assert sync.seen_again([90, 96, 101], [], cursor(100, bottom=95)) == [96]
    assert sync.seen_again([90], [], cursor(100, before=100)) == []


def test_upwards_goes_up() -> None:
    chunks = list(sync.upwards([1, 2, 3, 4, 5], 2))

    assert [chunk.uids for chunk in chunks] == [(1, 2), (3, 4), (5,)]
    assert [sync.moved(cursor(0), chunk).top for chunk in chunks] == [2, 4, 5]


def test_downwards_goes_down_and_ends_at_zero() -> None:
    chunks = list(sync.downwards([1, 2, 3, 4, 5, 6], {3}, cursor(6, 7), 2, 9))

    assert [chunk.uids for chunk in chunks] == [(5, 6), (2, 4), (1,)]
    assert [sync.moved(cursor(6, 7), chunk).bottom for chunk in chunks] == [5, 2, 0]


def test_a_first_sync_begins_small() -> None:
    """So that the first decisions are there at once."""
    chunks = list(sync.downwards(range(1, 101), (), cursor(100, 101), 40, 10))

    assert [len(chunk.uids) for chunk in chunks] == [10, 20, 40, 30]
    assert [chunk.uids[0] for chunk in chunks] == [91, 71, 31, 1]
    assert [chunk.last for chunk in chunks] == [False, False, False, True]


def test_a_first_sync_of_nothing_is_filed_too() -> None:
    (chunk,) = sync.downwards([], (), cursor(6, 7), 500, 1)

    assert (chunk.uids, sync.moved(cursor(6, 7), chunk).bottom) == ((), 0)


def test_parts_of_a_downward_chunk_go_down() -> None:
    chunk = Chunk(Direction.FIRST, (1, 2, 3, 4), last=True)
    parts = list(sync.parts(chunk, [(1,), (2, 3), (4,)]))

    assert [(part.uids, part.last) for part in parts] == [((4,), False), ((2, 3), False), ((1,), True)]
    assert [sync.moved(cursor(9, 9), part).bottom for part in parts] == [4, 2, 0]


@given(st.sets(st.integers(1, 300)))
def test_a_sequence_set_names_its_uids(uids: set[int]) -> None:
    text = sync.sequence_set(sorted(uids))
    named: list[int] = []
    for part in filter(None, text.split(",")):
        low, _, high = part.partition(":")
        named += range(int(low), int(high or low) + 1)

    assert sorted(uids) == named


def test_dates_are_english() -> None:
    assert sync.imap_date(date(987, 12, 5)) == "5-Dec-0987"


# A server, a ledger and a reader made of sets: every UID is accounted for, whatever happens in between.


@dataclass
class Folder:
    validity: int = 1
    next: int = 1
    days: dict[int, int] = field(default_factory=dict)
    """The day of each message that is there."""
    hidden: dict[int, int] = field(default_factory=dict)
    """Messages that have their UID and are not shown yet."""

    def append(self, day: int) -> None:
        self.days[self.next] = day
        self.next += 1

    def append_hidden(self, day: int) -> None:
        self.hidden[self.next] = day
        self.next += 1

    def show(self) -> None:
        self.days.update(self.hidden)
        self.hidden.clear()

    def expunge(self, at: int) -> None:
        if self.days:
            del self.days[sorted(self.days)[at % len(self.days)]]

    def renumber(self) -> None:
        """Another UIDVALIDITY, other UIDs."""
        self.show()
        self.days = dict(enumerate((self.days[uid] for uid in sorted(self.days)), 1))
        self.validity += 1
        self.next = len(self.days) + 1

    def search(self, criteria: str) -> list[int]:
        found = sorted(self.days)
        words = criteria.split()
        low, _, high = words[1].partition(":")
        if high == "*":
            found = [uid for uid in found if uid >= int(low)] or found[-1:]
        else:
            found = [uid for uid in found if int(low) <= uid <= int(high or low)]
        if "SINCE" in words:
            since = next(day for day in range(1, 29) if sync.imap_date(date(2026, 1, day)) == words[-1])
            found = [uid for uid in found if self.days[uid] >= since]
        return found


@dataclass
class Reader:
    """Reads a folder as the poller does, and can be interrupted before any batch."""

    uidnext: bool
    size: int
    cursor: FolderCursor | None = None
    known: dict[int, set[int]] = field(default_factory=dict)
    gone: dict[int, set[int]] = field(default_factory=dict)
    fetched: Counter[tuple[int, int]] = field(default_factory=Counter)
    patience: int = 10**9

    def file(self, folder: Folder, chunk: Chunk, at: FolderCursor) -> FolderCursor:
        self.patience -= 1
        if self.patience < 0:
            raise InterruptedError
        there = {uid for uid in chunk.uids if uid in folder.days}
        self.known.setdefault(at.uidvalidity, set()).update(there)
        self.gone.setdefault(at.uidvalidity, set()).update(set(chunk.uids) - there)
        self.fetched.update((at.uidvalidity, uid) for uid in there)
        self.cursor = sync.moved(at, chunk)
        return self.cursor

    def read(self, folder: Folder, since: date | None) -> None:
        opened = Opened(folder.validity, folder.next if self.uidnext else None, len(folder.days))
        at = sync.starting(self.cursor, opened, max(folder.days, default=0), since)
        known = self.known.setdefault(at.uidvalidity, set())
        found = folder.search(sync.new_criteria(at))
        criteria = sync.old_tail_criteria(at)
        old = folder.search(criteria) if criteria else []
        late = sorted(set(sync.seen_again(found, old, at)) - known)
        new = sync.above(found, at)
        for chunk in (*sync.upwards(new, self.size), *sync.upwards(late, self.size, Direction.LATE)):
            at = self.file(folder, chunk, at)
        if not at.first_sync_done:
            criteria = sync.first_criteria(at)
            found = folder.search(criteria) if criteria else []
            for chunk in sync.downwards(found, known, at, self.size, 2):
                at = self.file(folder, chunk, at)


DAYS = st.integers(1, 28)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), DAYS),
        st.tuples(st.just("hide"), DAYS),
        st.tuples(st.just("show"), st.just(0)),
        st.tuples(st.just("expunge"), st.integers(0, 1000)),
        st.tuples(st.just("renumber"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 6)),
        st.tuples(st.just("widen"), DAYS),
    ),
    max_size=40,
)


@given(EVENTS, st.lists(DAYS, max_size=12), DAYS, st.booleans(), st.integers(1, 5))
def test_every_message_is_accounted_for(
    events: list[tuple[str, int]], first: list[int], day: int, uidnext: bool, size: int
) -> None:
    """Appends, expunges, late sight, renumbering, a wider `since` and interruptions before any batch, in any order.

    In the end each message that is there is known, or it was there at the first look and lies before `since`; nothing
    is known twice; and nothing was fetched twice, for a batch that was filed is never asked for again.
    """
    folder, reader, since = Folder(), Reader(uidnext, size), date(2026, 1, day)
    for each in first:
        folder.append(each)
    for event, value in events:
        match event:
            case "append":
                folder.append(value)
            case "hide" if uidnext:
                folder.append_hidden(value)
            case "show":
                folder.show()
            case "expunge":
                folder.expunge(value)
            case "renumber":
                folder.renumber()
            case "widen":
                since = min(since, date(2026, 1, value))
            case "read":
                reader.patience = value
                with suppress(InterruptedError):
                    reader.read(folder, since)
    folder.show()
    reader.patience = 10**9
    reader.read(folder, since)

    assert reader.cursor is not None
    known = reader.known[folder.validity]
    unknown = set(folder.days) - known
    assert reader.cursor.first_sync_done
    assert reader.cursor.top >= max(folder.days, default=0)
    for uid in unknown:
        assert uid <= reader.cursor.before_since
        assert date(2026, 1, folder.days[uid]) < since
    assert set() == {uid for uid, times in reader.fetched.items() if times > 1}


@given(st.lists(DAYS, max_size=30), DAYS, st.integers(1, 7))
def test_a_second_look_fetches_nothing(days: list[int], day: int, size: int) -> None:
    folder, reader = Folder(), Reader(True, size)
    for each in days:
        folder.append(each)
    reader.read(folder, date(2026, 1, day))
    filed = sum(reader.fetched.values())
    reader.read(folder, date(2026, 1, day))

    assert filed == sum(reader.fetched.values()) == sum(each >= day for each in days)

"""What the server has x what the ledger says: every UID is accounted for exactly once, or is missing."""

from collections import Counter
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap.sync import Opened
from maillinkd.imap.tally import (
    LAST,
    WINDOW,
    Tally,
    common,
    confirmed,
    count,
    judged,
    matched,
    ranges,
    spans,
    uids_of,
    windows,
)
from maillinkd.mail.delivery import GONE, LOST, FolderCursor, Run

SINCE = date(2026, 1, 1)
READ = FolderCursor(uidvalidity=1, top=20, bottom=0, since=None, before_since=0)
READING = FolderCursor(uidvalidity=1, top=20, bottom=11, since=None, before_since=0)
SINCE_READ = FolderCursor(uidvalidity=1, top=20, bottom=0, since=SINCE, before_since=10)
SINCE_READING = FolderCursor(uidvalidity=1, top=20, bottom=8, since=SINCE, before_since=10)

# What the server has, what the ledger says, the cursor, what lies after `since` -> what each UID is.
CASES = {
    "all is stored": ([1, 2, 3], [Run(1, 3, "stored")], READ, [], {"stored": 3}),
    "nothing is there": ([], [], READ, [], {}),
    "one was never filed": ([1, 2, 3], [Run(1, 1, "stored"), Run(3, 3, "stored")], READ, [], {"stored": 2, "?": [2]}),
    "the ledger knows nothing": ([4, 5, 9], [], READ, [], {"?": [4, 5, 9]}),
    "a reason is an account": ([1, 2], [Run(1, 1, "filtered:x"), Run(2, 2, "quarantined")], READ, [],
                               {"filtered:x": 1, "quarantined": 1}),
    "above the cursor it is to be read": ([20, 21, 25], [Run(20, 20, "stored")], READ, [],
                                          {"stored": 1, "unread": 2}),
    "above the cursor and filed meanwhile": ([20, 21], [Run(20, 21, "stored")], READ, [], {"stored": 2}),
    "below a first sync it is to be read": ([3, 10, 11], [Run(11, 11, "stored")], READING, [],
                                            {"stored": 1, "unread": 2}),
    "at the edge of a first sync it is missing": ([10, 11], [], READING, [], {"unread": 1, "?": [11]}),
    "older than `since`": ([9, 10, 11], [Run(11, 11, "stored")], SINCE_READ, [], {"stored": 1, "before_since": 2}),
    "not older than `since`, among those that are": ([9, 10], [], SINCE_READ, [10], {"before_since": 1, "?": [10]}),
    "older than `since`, in a first sync": ([5, 7], [], SINCE_READING, [7], {"before_since": 1, "unread": 1}),
    "expunged": ([2], [Run(1, 3, "stored")], READ, [], {"stored": 1, "expunged": 2}),
    "expunged and marked": ([], [Run(1, 3, GONE)], READ, [], {"gone": 3}),
    "marked as gone and still listed": ([2], [Run(1, 3, GONE)], READ, [], {"gone": 2, "?": [2]}),
    "stored, but its message is not there": ([1, 2], [Run(1, 1, "stored"), Run(2, 2, LOST)], READ, [],
                                             {"stored": 1, "?": [2]}),
    "lost and expunged": ([], [Run(2, 2, LOST)], READ, [], {}),
}  # fmt: skip


@pytest.mark.parametrize(("on_server", "runs", "cursor", "recent", "expected"), CASES.values(), ids=CASES.keys())
def test_every_uid_is_what_it_is(
    on_server: list[int], runs: list[Run], cursor: FolderCursor, recent: list[int], expected: dict[str, object]
) -> None:
    tally = judged(*matched(on_server, runs), recent, cursor)
    numbers = {"before_since": tally.before_since, "unread": tally.unread}
    numbers |= {"expunged": tally.expunged, "gone": tally.gone}
    found: dict[str, object] = {word: number for word, number in numbers.items() if number} | dict(tally.dispositions)
    if tally.missing:
        found["?"] = list(uids_of(tally.missing))

    assert expected == found
    assert tally.on_server == len(on_server)


UIDS = st.sets(st.integers(1, 40))


@given(
    UIDS,
    st.dictionaries(st.integers(1, 40), st.sampled_from(["stored", "quarantined", "filtered:x", GONE, LOST])),
    UIDS,
    st.builds(FolderCursor, st.just(1), st.integers(0, 40), st.integers(0, 40), st.just(SINCE), st.integers(0, 40)),
    st.integers(1, 40),
)
def test_it_is_what_one_finds_uid_by_uid_in_one_window_or_two(
    on_server: set[int], ledger: dict[int, str], recent: set[int], cursor: FolderCursor, edge: int
) -> None:
    def one_by_one(uid: int) -> str:
        word = ledger.get(uid, GONE)
        if word == LOST:
            return "missing"
        if word != GONE:
            return word
        if uid <= cursor.before_since and uid not in recent:
            return "before_since"
        return "unread" if uid > cursor.top or uid < cursor.bottom else "missing"

    expected = Counter(map(one_by_one, on_server))
    missing = {uid for uid in on_server if one_by_one(uid) == "missing"}
    whole = Tally()
    for low, high in ((1, edge), (edge + 1, 40)):
        part = [uid for uid in sorted(on_server) if low <= uid <= high]
        runs = [Run(uid, uid, ledger[uid]) for uid in sorted(ledger) if low <= uid <= high]
        whole.add(judged(*matched(part, runs), recent, cursor))

    counted = whole.dispositions + Counter(
        before_since=whole.before_since, unread=whole.unread, missing=whole.missing_count
    )
    assert expected == counted
    assert missing == set(uids_of(whole.missing))
    assert whole.expunged + whole.gone == len({uid for uid in ledger if ledger[uid] != LOST} - on_server)


def test_missing_is_what_is_missing_twice() -> None:
    """What was filed or expunged in between is not; what appeared in between is to be read."""
    first = Tally(Counter(stored=5), missing=[(3, 5), (9, 9)])
    second = Tally(Counter(stored=6), missing=[(4, 5), (12, 13)])
    found = confirmed(first, second)

    assert (found.missing, found.unread, found.dispositions) == ([(4, 5)], 2, Counter(stored=6))


WINDOWS = {
    "an empty folder": (Opened(1, 1, 0), 0, [(1, LAST)]),
    "a small one": (Opened(1, 101, 100), 100, [(1, LAST)]),
    "a large one": (Opened(1, 48_001, 48_000), 48_000, [(1, 16_000), (16_001, 32_000), (32_001, LAST)]),
    "a sparse one has no more windows than it has mail": (
        Opened(1, 4_000_000_001, 40_000), 4_000_000_000, [(1, 2_000_000_000), (2_000_000_001, LAST)]),
    "without UIDNEXT": (Opened(1, None, 40_000), 40_000, [(1, 20_000), (20_001, LAST)]),
}  # fmt: skip


@pytest.mark.parametrize(("opened", "top", "expected"), WINDOWS.values(), ids=WINDOWS.keys())
def test_windows(opened: Opened, top: int, expected: list[tuple[int, int]]) -> None:
    cursor = FolderCursor(1, top, 0, None, 0)

    assert expected == list(windows(opened, cursor))


@given(st.integers(0, 10**6), st.one_of(st.none(), st.integers(1, 10**10)), st.integers(0, 10**10))
def test_windows_leave_no_gap(exists: int, uidnext: int | None, top: int) -> None:
    found = list(windows(Opened(1, uidnext, exists), FolderCursor(1, top, 0, None, 0)))

    assert found[0][0] == 1
    assert found[-1][1] == LAST
    assert all(before[1] + 1 == after[0] for before, after in pairwise(found))
    assert len(found) <= exists // WINDOW + 1


@given(UIDS, UIDS)
def test_spans_are_sets_of_uids(one: set[int], other: set[int]) -> None:
    first, second = spans((uid, uid) for uid in one), spans((uid, uid) for uid in other)

    assert list(uids_of(first)) == sorted(one)
    assert count(first) == len(one)
    assert common(first, second) == spans((uid, uid) for uid in one & other)
    assert spans(first + second) == spans((uid, uid) for uid in one | other)


def test_ranges_are_a_sequence_set() -> None:
    assert ranges([(1, 3), (7, 7), (9, 10)]) == "1:3,7,9:10"
    assert ranges([]) == ""

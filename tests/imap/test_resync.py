"""How a folder stands, and stood when it was last read to the end, to how far it is looked at again."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap import resync, sync
from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import FolderCursor, Stand

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STOOD = Stand(uidvalidity=7, uidnext=101, messages=60, modseq=900, gone_marked=True, compared_at=NOW)
OPENED = Opened(7, 101, 60, 900)
CURSOR = FolderCursor(7, 100, 0, date(2026, 6, 1), 40, STOOD)

LOOKS: dict[str, tuple[FolderCursor, Opened, bool, bool]] = {
    "all four numbers are the same": (CURSOR, OPENED, True, True),
    "mail came": (CURSOR, replace(OPENED, uidnext=102, exists=61, highestmodseq=901), True, False),
    "mail came and as much went": (CURSOR, replace(OPENED, uidnext=102, highestmodseq=901), True, False),
    "mail went": (CURSOR, replace(OPENED, exists=59, highestmodseq=901), True, False),
    "a UID became visible late": (CURSOR, replace(OPENED, exists=61, highestmodseq=901), True, False),
    "one became visible late and another one went": (CURSOR, replace(OPENED, highestmodseq=901), True, False),
    "the server's modification sequences began anew": (CURSOR, replace(OPENED, highestmodseq=1), True, False),
    "another UIDVALIDITY with the same numbers": (CURSOR, replace(OPENED, uidvalidity=8), True, False),
    "the server keeps no HIGHESTMODSEQ": (
        replace(CURSOR, stand=replace(STOOD, modseq=None)), replace(OPENED, highestmodseq=None), True, False),
    "nor did it before": (replace(CURSOR, stand=replace(STOOD, modseq=None)), OPENED, True, False),
    "it was never read to the end": (replace(CURSOR, stand=None), OPENED, True, False),
    "the first sync was opened again": (replace(CURSOR, bottom=41), OPENED, True, False),
    "what went is to be marked from now on": (
        replace(CURSOR, stand=replace(STOOD, gone_marked=False)), OPENED, True, False),
    "what went need not be marked": (
        replace(CURSOR, stand=replace(STOOD, gone_marked=False)), OPENED, False, True),
    "every UID was compared a week ago": (
        replace(CURSOR, stand=replace(STOOD, compared_at=NOW - timedelta(days=7))), OPENED, False, False),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "opened", "mark", "closed"), LOOKS.values(), ids=LOOKS.keys())
def test_a_folder_stays_closed_only_if_nothing_can_have_changed(
    stored: FolderCursor, opened: Opened, mark: bool, closed: bool
) -> None:
    assert closed == resync.unchanged(stored, stored, opened, mark=mark, now=NOW)


def test_a_wider_since_opens_the_folder() -> None:
    going_on = sync.starting(CURSOR, OPENED, 0, date(2026, 5, 1))

    assert not resync.unchanged(CURSOR, going_on, OPENED, mark=True, now=NOW)


def test_two_looks_without_uidnext_are_never_the_same() -> None:
    """One message came and another went: the number of messages does not tell."""
    assert resync.same(OPENED, OPENED)
    assert not resync.same(Opened(7, None, 60), Opened(7, None, 60))
    assert not resync.same(OPENED, None)


POINTS: dict[str, tuple[FolderCursor | None, tuple[int, int] | None]] = {
    "since it was last read": (CURSOR, (7, 900)),
    "never read": (None, None),
    "not read to the end": (replace(CURSOR, stand=None), None),
    "no HIGHESTMODSEQ": (replace(CURSOR, stand=replace(STOOD, modseq=None)), None),
    "what went before was not marked": (replace(CURSOR, stand=replace(STOOD, gone_marked=False)), None),
}


@pytest.mark.parametrize(("stored", "point"), POINTS.values(), ids=POINTS.keys())
def test_since_when_the_server_is_asked_for_what_vanished(
    stored: FolderCursor | None, point: tuple[int, int] | None
) -> None:
    assert point == resync.since(stored)


COUNTS: dict[str, tuple[int, int, int, bool, bool]] = {
    # messages now, found, marked as gone, whether what went must be known; whether the number is odd
    "nothing happened": (60, 0, 0, True, False),
    "two came": (62, 2, 0, True, False),
    "two came, and one far below": (63, 2, 0, False, True),
    "one went, which nobody cares for": (59, 0, 0, False, False),
    "one went, and it is not known which": (59, 0, 0, True, True),
    "one went, and the server named it": (59, 0, 1, False, False),
    "one went that the server named, one came far below": (60, 0, 1, False, True),
    "one came and one went": (60, 1, 0, True, True),
}


@pytest.mark.parametrize(("exists", "found", "gone", "counts_gone", "odd"), COUNTS.values(), ids=COUNTS.keys())
def test_a_number_of_messages_that_cannot_be_explained(
    exists: int, found: int, gone: int, counts_gone: bool, odd: bool
) -> None:
    opened = replace(OPENED, exists=exists)

    assert odd == resync.unexplained(STOOD, opened, found=found, gone=gone, counts_gone=counts_gone)


def test_what_is_remembered_is_what_the_next_look_is_held_against() -> None:
    remembered = resync.stand(OPENED, gone_marked=True, compared_at=NOW)

    assert remembered == STOOD
    assert resync.unchanged(replace(CURSOR, stand=remembered), CURSOR, OPENED, mark=True, now=NOW)


UIDS = st.sets(st.integers(1, 300), max_size=60)
RANGES = st.lists(
    st.tuples(st.integers(1, 300), st.integers(0, 30)).map(lambda each: (each[0], sum(each))), max_size=30
)


@given(UIDS, st.integers(0, 320), st.integers(1, 9))
def test_windows_cover_every_uid_up_to_top_once(uids: set[int], top: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resync, "WINDOW", size)
        windows = list(resync.windows(sorted(uids), top))

    assert list(range(1, top + 1)) == [uid for low, high, _ in windows for uid in range(low, high + 1)]
    assert sorted(uid for uid in uids if uid <= top) == [uid for _, _, there in windows for uid in there]
    assert all(low <= uid <= high for low, high, there in windows for uid in there)
    assert all(len(there) <= size for _, _, there in windows)


@given(UIDS, RANGES, st.integers(0, 320))
def test_what_vanished_is_found_among_what_we_have(uids: set[int], ranges: list[tuple[int, int]], top: int) -> None:
    asked = {uid for low, high in resync.questions(ranges, top) for uid in uids if low <= uid <= high}
    vanished = {uid for uid in uids if any(low <= uid <= high for low, high in ranges)}

    assert vanished == resync.within(uids, ranges)
    assert {uid for uid in vanished if uid <= top} == resync.within({uid for uid in asked if uid <= top}, ranges)
    assert len(resync.questions(ranges, top)) <= 20


def test_a_server_may_name_all_uids_that_there_can_be() -> None:
    assert resync.questions([(1, 4_294_967_295)], 100) == [(1, 100)]
    assert resync.questions([(50, 60), (1, 9), (200, 300)], 100) == [(1, 9), (50, 60)]
    assert resync.within({5, 70}, [(1, 4_294_967_295)]) == {5, 70}

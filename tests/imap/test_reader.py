"""How one folder's messages are grouped, and what is remembered of FETCHes that broke."""

import pytest

from maillinkd.imap import reader
from maillinkd.imap.errors import ConnectionLost, Refused
from maillinkd.imap.reader import CHUNK, CHUNK_BYTES, LARGEST, PIECE, Trouble, by_size
from maillinkd.imap.response import ProtocolError

MB = 1024 * 1024
GROUPS = {
    "nothing": ([], []),
    "small ones together": ([10, 20, 30], [[1, 2, 3]]),
    "up to a size": ([MB] * 9, [[1, 2, 3, 4], [5, 6, 7, 8], [9]]),
    "a large one alone": ([10, PIECE + 1, 10, 10], [[1], [2], [3, 4]]),
    "large ones": ([PIECE + 1, 5 * MB, LARGEST + 1], [[1], [2], [3]]),
    "sizes unknown": ([0, 0, 0], [[1, 2, 3]]),
    "one of unknown size after a large one": ([2 * MB, 0], [[1], [2]]),
}


@pytest.mark.parametrize(("sizes", "groups"), GROUPS.values(), ids=GROUPS.keys())
def test_whole_messages_are_fetched_by_size(sizes: list[int], groups: list[list[int]]) -> None:
    uids = list(range(1, len(sizes) + 1))

    assert by_size(uids, dict(zip(uids, sizes, strict=True))) == groups


def test_what_is_fetched_ahead_is_bounded() -> None:
    """A batch of whole messages is a few megabytes, or one message."""
    assert CHUNK_BYTES <= 4 * MB
    assert PIECE <= CHUNK_BYTES


def broken(trouble: Trouble, uids: list[int], error: Exception) -> None:
    with pytest.raises(type(error)), trouble.watching("INBOX", uids):
        raise error


ERRORS = {
    "the connection breaks": (ConnectionLost("gone"), 9, 3),
    "NO": (Refused("FETCH", "NO", "", "no"), 3, 1),
    "garbage": (ProtocolError("garbage"), 3, 1),
}


@pytest.mark.parametrize(("error", "times", "more"), ERRORS.values(), ids=ERRORS.keys())
def test_after_a_break_fewer_are_fetched_until_the_culprit_is_alone(error: Exception, times: int, more: int) -> None:
    """Then, with more patience for networks than for answers, its headers alone are tried, then nothing."""
    trouble = Trouble()
    sizes = []
    while not trouble.unreadable("INBOX", 1, whole=True):
        size = trouble.chunk("INBOX")
        sizes.append(size)
        broken(trouble, list(range(1, size + 1)), error)
        alone = sizes.count(1)

        assert trouble.headers_only("INBOX", 1) == trouble.unreadable("INBOX", 1, whole=False) == (alone >= times)
    assert sizes == [CHUNK, 62, 7] + [1] * (times + more)
    assert not trouble.headers_only("INBOX", 2)
    assert not trouble.headers_only("Sent", 1)
    assert trouble.careful("INBOX")
    assert trouble.chunk("Sent") == CHUNK


def test_after_it_went_well_more_are_fetched_again() -> None:
    trouble = Trouble()
    broken(trouble, [1], ConnectionLost("gone"))
    sizes = []
    for _ in range(10):
        with trouble.watching("INBOX", [2]):
            sizes.append(trouble.chunk("INBOX"))

    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, CHUNK]


def test_a_server_that_asks_for_time_blames_no_message() -> None:
    trouble = Trouble()
    for _ in range(20):
        broken(trouble, [1], Refused("FETCH", "NO", "THROTTLED", "Suggested Backoff Time: 1000 milliseconds"))

    assert not trouble.headers_only("INBOX", 1)


def test_renumbered_messages_are_blamed_for_nothing() -> None:
    trouble = Trouble()
    for folder in ("INBOX", "Sent"):
        for _ in range(3):
            with pytest.raises(Refused), trouble.watching(folder, [1]):
                raise Refused("FETCH", "NO", "", "no")
    trouble.renumbered("INBOX")

    assert (trouble.headers_only("INBOX", 1), trouble.headers_only("Sent", 1)) == (False, True)


def test_what_one_connection_withholds_another_may_give() -> None:
    trouble = Trouble()
    trouble.withhold("INBOX", [4])
    assert trouble.withheld("INBOX", 4)
    trouble.new_connection()

    assert not trouble.withheld("INBOX", 4)


def test_a_look_again_takes_a_few_seconds_at_most() -> None:
    """While it waits the mailbox stands still."""
    assert sum(reader._LOOK_AGAIN) < 5

"""What holds each message of a thread to the others."""

import pytest

from maillinkd.mail.bonds import Bond, Member, Tie, ties


def member(number: int, *ids: str, refers: str = "", detached: bool = False) -> Member:
    return Member(number, ids, tuple(refers.split()), detached)


FIRST = Tie(Bond.FIRST)

THREADS = {
    "one message": ([member(1, "a")], [FIRST]),
    "an answer": ([member(1, "a"), member(2, "b", refers="a")], [FIRST, Tie(Bond.REFERS, "a", 1)]),
    "an answer to an answer: the nearest one counts": (
        [member(1, "a"), member(2, "b", refers="a"), member(3, "c", refers="a b")],
        [FIRST, Tie(Bond.REFERS, "a", 1), Tie(Bond.REFERS, "b", 2)],
    ),
    "a clock that is slow": (
        [member(1, "b", refers="a"), member(2, "a")],
        [FIRST, Tie(Bond.REFERRED_TO, "a", 1)],
    ),
    "two answers to mail that is not here": (
        [member(1, "b", refers="gone"), member(2, "c", refers="gone")],
        [FIRST, Tie(Bond.SAME_REFERENCE, "gone", 1)],
    ),
    "an alias is referred to": (
        [member(1, "a", "old"), member(2, "b", refers="old")],
        [FIRST, Tie(Bond.REFERS, "old", 1)],
    ),
    "two messages of one id": ([member(1, "a"), member(2, "a")], [FIRST, Tie(Bond.SAME_ID, "a", 1)]),
    "a copy with another id": ([member(1, "a"), member(2, "b")], [FIRST, Tie(Bond.CONTENT)]),
    "detached, and its answer": (
        [member(1, "b", refers="a", detached=True), member(2, "c", refers="a b")],
        [Tie(Bond.DETACHED), Tie(Bond.REFERS, "b", 1)],
    ),
}


@pytest.mark.parametrize("name", THREADS)
def test_what_holds_a_message_to_its_thread(name: str) -> None:
    members, expected = THREADS[name]

    assert list(ties(members).values()) == expected


def test_every_bond_has_its_thread() -> None:
    assert {tie.bond for _, expected in THREADS.values() for tie in expected} == set(Bond)

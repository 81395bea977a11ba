"""threading.md T16: the tree of a thread, for showing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.tree import Branch, parents

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def branch(key: str, minute: int, *, references: str = "", answers: str = "") -> Branch[str]:
    return Branch(key, (key,), tuple(answers.split()), tuple(references.split()), NOON + timedelta(minutes=minute))


@pytest.mark.parametrize(
    ("about", "messages", "expected"),
    [
        ("a message alone is the root", [branch("a", 0)], {"a": None}),
        ("the last reference is the parent",
         [branch("a", 0), branch("b", 1, references="a"), branch("c", 2, references="a b")],
         {"a": None, "b": "a", "c": "b"}),
        ("one clean In-Reply-To counts before References",
         [branch("a", 0), branch("b", 1, references="a"), branch("c", 2, references="a b", answers="a")],
         {"a": None, "b": "a", "c": "a"}),
        ("several ids in In-Reply-To say nothing",
         [branch("a", 0), branch("b", 1), branch("c", 2, references="b", answers="a b")],
         {"a": None, "b": None, "c": "b"}),
        ("an id that nobody bears is passed over",
         [branch("a", 0), branch("c", 2, references="a gone", answers="lost")],
         {"a": None, "c": "a"}),
        ("who answers himself is a root", [branch("a", 0, references="a")], {"a": None}),
        ("of two that answer each other the earlier is the root",
         [branch("b", 1, references="a"), branch("a", 0, references="b")],
         {"a": None, "b": "a"}),
        ("a clock that is wrong makes no other tree",
         [branch("a", 5), branch("b", 1, references="a")],
         {"a": None, "b": "a"}),
    ],
)  # fmt: skip
def test_who_answers_whom(about: str, messages: list[Branch[str]], expected: dict[str, str | None]) -> None:
    assert parents(messages) == expected, about


@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.sampled_from("abcdefgh"), max_size=3)), min_size=1, max_size=8)
)
def test_loops_cannot_occur(given_: list[tuple[int, list[str]]]) -> None:
    messages = [
        branch(key, minute, references=" ".join(refs))
        for key, (minute, refs) in zip("abcdefgh", given_, strict=False)
    ]

    found = parents(messages)

    for key in found:
        seen, at = set[str](), found[key]
        while at is not None:
            assert at not in seen
            seen.add(at)
            at = found[at]
    assert found == parents(messages[::-1])

"""Comments in structured fields (RFC 5322, 3.2.2)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.comment import without_comments

OPENING = re.compile(r"\(|<[^<>]*>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("a (b) c", "a   c"),
        ("a(b(c)d)e", "a e"),
        (r"a (b\)c) d", "a   d"),
        ("<(a)> (b)", "<(a)>  "),
        ("a (b", "a (b"),
        ("a (b (c) d", "a (b   d"),
        ("a ((b) (c) <(d)>", "a (    <(d)>"),
        ("a) b", "a) b"),
    ],
)
def test_closed_comments_go_and_open_ones_stay(text: str, expected: str) -> None:
    assert expected == without_comments(text, OPENING)


@given(st.text("()\\<>ab"))
def test_what_is_left_is_part_of_the_text(text: str) -> None:
    assert len(without_comments(text, OPENING)) <= len(text)


@pytest.mark.parametrize("fragment", [*FRAGMENTS, "(()", "())", "(\\(", "(<(>"])
def test_the_time_grows_with_the_length_alone(fragment: str) -> None:
    with in_time():
        without_comments(repeated(fragment), OPENING)

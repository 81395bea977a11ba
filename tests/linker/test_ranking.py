"""Candidates are sorted, and nothing else happens to them (linking.md L12)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.ranking import Candidate, ranked, words

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def candidate(id_: str, title: str = "", last_mail: int | None = None, added: int = 0) -> Candidate:
    """`last_mail`, `added`: hours after noon."""
    newest = None if last_mail is None else NOON + timedelta(hours=last_mail)
    return Candidate(ItemRef(ItemKind.DEAL, id_), title, newest, NOON + timedelta(hours=added))


def order(subject: str, *candidates: Candidate) -> list[str]:
    return [each.ref.id for each in ranked(subject, candidates)]


@pytest.mark.parametrize(
    ("about", "subject", "candidates", "expected"),
    [
        ("the title that shares more words", "Re: New roof, north side",
         [candidate("1", "Cellar"), candidate("2", "New roof"), candidate("3", "Roof north side")], "321"),
        ("a word counts once, however often it is said", "roof roof roof",
         [candidate("1", "Roof roof"), candidate("2", "Roof", last_mail=1)], "21"),
        ("words come before mail", "Roof", [candidate("1", "Cellar", last_mail=9), candidate("2", "Roof")], "21"),
        ("then the latest mail", "Roof", [candidate("1", last_mail=1), candidate("2", last_mail=2)], "21"),
        ("any mail comes before none", "Roof",
         [candidate("1", added=9), candidate("2", last_mail=-99_999, added=1)], "21"),
        ("mail comes before age", "Roof", [candidate("1", last_mail=1, added=9), candidate("2", last_mail=2)], "21"),
        ("then the youngest", "Roof", [candidate("1", added=1), candidate("2", added=2)], "21"),
        ("then the name", "Roof", [candidate("2"), candidate("1")], "12"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_likeliest_comes_first(about: str, subject: str, candidates: list[Candidate], expected: str) -> None:
    assert order(subject, *candidates) == list(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("New roof!", {"new", "roof"}),
        ("AW: Dach-Sanierung (2. Teil)", {"aw", "dach", "sanierung", "2", "teil"}),
        ("STRASSE straße", {"strasse"}),
        ("Cafe\u0301 café", {"café"}),
        ("ＲＯＯＦ　№5", {"roof", "no5"}),
        ("крыша КРЫША", {"крыша"}),
        ("हिन्दी", {"हिन्दी"}),
        ("...", set()),
        ("", set()),
    ],
)
def test_words_are_compared_whatever_their_case_and_form(text: str, expected: set[str]) -> None:
    assert words(text) == expected


some = st.builds(
    candidate,
    st.sampled_from("123456789"),
    st.sampled_from(["", "New roof", "Roof", "Cellar"]),
    st.none() | st.integers(-2, 2),
    st.integers(-2, 2),
)


@given(st.text(max_size=20) | st.just("New roof"), st.lists(some, unique_by=lambda each: each.ref), st.randoms())
def test_ranking_only_sorts_and_the_order_of_the_input_does_not_count(subject, candidates, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(candidates, len(candidates))

    found = ranked(subject, candidates)

    assert sorted(found, key=lambda each: each.ref) == sorted(candidates, key=lambda each: each.ref)
    assert found == ranked(subject, shuffled)

"""The order in which the candidates of a thread are offered (linking.md L12). Ranking only sorts; it never links."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from maillinkd.directory.item import ItemRef

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deal, lead or project that a thread might be linked to."""

    ref: ItemRef
    title: str
    last_mail: datetime | None
    """When the newest message of its threads was sent; None if it has none."""
    added_at: datetime


def ranked(subject: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """The likeliest first: most words of the title in the subject, then the latest mail, then the youngest.

    What is equal in all of that comes in order of kind and id, so that the order never depends on that of the input.
    """
    said = words(subject)
    in_order = sorted(candidates, key=lambda each: each.ref)
    return sorted(in_order, key=lambda each: _likeness(said, each), reverse=True)


def _likeness(said: frozenset[str], each: Candidate) -> tuple[int, datetime, datetime]:
    return len(said & words(each.title)), each.last_mail or _NEVER, each.added_at


def words(text: str) -> frozenset[str]:
    """The words of a text, whatever the case and the form in which its letters are encoded (Unicode TR15, NFKC).

    A word is a run of letters, digits and their marks, in any script.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return frozenset("".join(each if _in_word(each) else " " for each in folded).split())


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")

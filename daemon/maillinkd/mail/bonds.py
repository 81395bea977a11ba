"""What holds each message of a thread to the others, for showing (threading.md). The partition is not made here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Bond(StrEnum):
    """Why a message lies in its thread."""

    FIRST = "first"
    """It is the earliest."""
    DETACHED = "detached"
    """It opened a thread of its own, for a second item (T17)."""
    REFERS = "refers"
    """It refers to a message of the thread."""
    REFERRED_TO = "referred_to"
    """A message of the thread refers to it."""
    SAME_REFERENCE = "same_reference"
    """It refers to an id to which another message of the thread refers too; no message that is here bears it."""
    SAME_ID = "same_id"
    """It bears the Message-ID of another one (T11)."""
    CONTENT = "content"
    """Another copy of it is here, with people, subject and text alike (T12)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A message of a thread."""

    number: int
    ids: tuple[str, ...]
    """Its Message-ID first, then its aliases (T10)."""
    refers: tuple[str, ...]
    detached: bool = False


@dataclass(frozen=True, slots=True)
class Tie:
    """What holds a message to its thread."""

    bond: Bond
    message_id: str | None = None
    """The id by which."""
    other: int | None = None
    """Number of the message at the other end."""


def ties(members: Sequence[Member]) -> dict[int, Tie]:
    """By number. `members` are the messages of one thread, in order of sent time, then id."""
    bearers: dict[str, list[int]] = {}
    mentions: dict[str, list[int]] = {}
    for each in members:
        for id_ in each.ids:
            bearers.setdefault(id_, []).append(each.number)
        for id_ in () if each.detached else each.refers:
            mentions.setdefault(id_, []).append(each.number)
    found = {}
    for position, each in enumerate(members):
        tie = _tie(each, bearers, mentions)
        if position == 0:
            tie = Tie(Bond.DETACHED if each.detached else Bond.FIRST)
        found[each.number] = tie
    return found


def _tie(each: Member, bearers: Mapping[str, list[int]], mentions: Mapping[str, list[int]]) -> Tie:
    refers = () if each.detached else tuple(reversed(each.refers))  # the nearest one stands last (RFC 5322, 3.6.4)
    for bond, ids, others in (
        (Bond.REFERS, refers, bearers),
        (Bond.REFERRED_TO, each.ids, mentions),
        (Bond.SAME_REFERENCE, refers, mentions),
        (Bond.SAME_ID, each.ids, bearers),
    ):
        for id_ in ids:
            for other in others.get(id_, ()):
                if other != each.number:
                    return Tie(bond, id_, other)
    return Tie(Bond.CONTENT)

"""Who answers whom in a thread, for showing (threading.md T16). It stands beside the partition and splits nothing."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Branch(Generic[K]):
    """One message of a thread: what it bears and what it says that it answers."""

    key: K
    ids: tuple[str, ...]
    """Its Message-ID and aliases (T5, T10)."""
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    sent_at: datetime


def parents(messages: Sequence[Branch[K]]) -> dict[K, K | None]:
    """The message that each one answers, None for a root.

    It is the last id that resolves: In-Reply-To where it is one id, else References from the end. A message never
    answers its own descendant: of a loop the earliest message, by sent time, then id, is the root.
    """
    in_order = sorted(messages, key=lambda each: (each.sent_at, each.ids))
    bearer: dict[str, K] = {}
    for each in in_order:
        for id_ in each.ids:
            bearer.setdefault(id_, each.key)
    found: dict[K, K | None] = {each.key: None for each in in_order}
    for each in reversed(in_order):
        answered = each.in_reply_to if len(each.in_reply_to) == 1 else ()
        for id_ in (*answered, *reversed(each.references)):
            parent = bearer.get(id_)
            if parent is not None and not _descends(parent, each.key, found):
                found[each.key] = parent
                break
    return found


def _descends(key: K, ancestor: K, found: dict[K, K | None]) -> bool:
    """Whether the message is the ancestor itself, or lies under it."""
    at: K | None = key
    while at is not None:
        if at == ancestor:
            return True
        at = found[at]
    return False

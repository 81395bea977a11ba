"""Text made to cost parsers quadratic time, and the clock that holds them to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT = 2.0
"""Seconds. Linear code needs a tenth of this on a slow machine; quadratic code needs minutes."""

FRAGMENTS = (
    *("(", "((()", "(<", '("\\', "(a)<b@c>", '"', '\\"', '"\\', '"@', "\\", "'"),
    *("<", "<<", ">", "<>", "<a@b>", "[", "[a", "[a]", "@", "a@", "a@b,", "a@b ", "a@b@", "é@é,"),
    *("=?", "=?x?q?", "=?x?q?a?=", "=?x?b?", "=?utf-7?q?+2AA-?=", "=?punycode?q?a?=", "=?zlib?b?a?="),
    *(";", "; ", ' ;a="', " ", "\t", ":", "::", ",", "\x00", "\x7f", "&lt;", "&#9", "&", "a", "-", "> "),
    *("[fwd: ", "Re: ", "(fwd)", "Re[1]:", "From: ", ">From: ", "<!--", "<a ", "<a b='", "<style>", "</", "\r", "\n"),
)


def repeated(fragment: str, length: int = 200_000) -> str:
    """A text of about that many characters."""
    return fragment * (length // len(fragment))


@contextmanager
def in_time(limit: float = LIMIT) -> Iterator[None]:
    """Fails if what is done takes longer than that many seconds of this process's time."""
    start = time.process_time()
    yield
    spent = time.process_time() - start

    assert spent < limit, f"took {spent:.1f} s"

"""Finds a mail again whose Message-ID a relay has replaced (threading.md T12)."""

import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice

from maillinkd.mail.html import text_of
from maillinkd.mail.message import Message, Role
from maillinkd.mail.mime import walk

BUCKET = 2 * 3600
"""Seconds. Two buckets that overlap by half: copies of a mail up to an hour apart always share one."""
CHARACTERS = 2_000
SHORTEST = 20
"""Shorter texts ("ok, thanks") say too little."""

_URL = re.compile(r"(?:https?://|www\.)\S+")
_TEXT_BYTES = 64 * 1024
_PARTS = 50


def content_ids(message: Message, raw: bytes) -> tuple[str, ...]:
    """Two ids by which copies of one mail meet, whatever Message-ID and Date a relay gave them.

    Of From, base subject, To and Cc sorted, the beginning of the text without URLs and space, and the Date's bucket.
    None for mail without a readable Date, or with a text under 20 characters. No header can name such an id.
    """
    if message.date is None:
        return ()
    text = "".join("".join(islice(_words(raw), CHARACTERS)))[:CHARACTERS]
    if len(text) < SHORTEST:
        return ()
    people = {role: sorted(p.address for p in message.participants if p.role is role) for role in Role}
    common = repr((people[Role.FROM], message.base_subject, people[Role.TO], people[Role.CC], text))
    seconds = int(message.date.timestamp())
    buckets = (("a", seconds // BUCKET), ("b", (seconds + BUCKET // 2) // BUCKET))
    return tuple(
        "content " + sha256(f"{name}{bucket} {common}".encode("utf-8", "surrogateescape")).hexdigest()
        for name, bucket in buckets
    )


def _words(raw: bytes) -> Iterator[str]:
    """The words of the first text part, without URLs."""
    for part in islice(walk(raw), _PARTS):
        if part.message:
            return
        if part.attachment or not part.content_type.startswith("text/"):
            continue
        text = part.text(_TEXT_BYTES)
        yield from _URL.sub(" ", text_of(text) if part.content_type == "text/html" else text).split()
        return

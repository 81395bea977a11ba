"""FETCH: mail of the open folder, as header fields, whole, or piece by piece; always with PEEK."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

from maillinkd.imap import utf7
from maillinkd.imap.line import Line
from maillinkd.imap.response import Fetch, TooLarge, internal_date, number
from maillinkd.mail.delivery import Fetched, GmailMarks

LARGEST = 50 * 1024 * 1024
"""Bytes of a message above which only its header fields are fetched."""
PIECE = 1024 * 1024
"""A message above this size is fetched alone, in pieces of this size."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def sizes(line: Line, uids: Sequence[int]) -> dict[int, int]:
    """RFC822.SIZE in bytes by UID, of those that are there."""
    answer = await line.ask_fetch(uids, "(UID RFC822.SIZE)", 200 * len(uids))
    return {uid: found.size for uid, found in answer.items()}


async def headers(line: Line, uids: Sequence[int], fields: Sequence[str], most: int = 0) -> list[Fetched]:
    """The header fields named, ascending by UID; `most`: only so many bytes of them, 0: all. Some may be gone."""
    section = f"BODY.PEEK[HEADER.FIELDS ({' '.join(fields)})]" + (f"<0.{most}>" if most else "")
    answer = await line.ask_fetch(uids, f"({_about(line)} {section})", 2_000 * len(uids))
    messages = []
    for uid, found in answer.items():
        block = found.bytes_of("BODY[HEADER.FIELDS]")
        if block is None:
            block = found.bytes_of("BODY[HEADER.FIELDS]<0>")
        if block is not None:
            messages.append(Fetched(uid, block, None, _received_at(found), found.size, _gmail(found)))
    return messages


async def whole(line: Line, uids: Sequence[int], expected: int) -> list[Fetched]:
    """Whole messages, ascending by UID; `expected`: bytes in all, by their sizes. Some may be gone."""
    answer = await line.ask_fetch(uids, f"({_about(line)} BODY.PEEK[])", expected + 500 * len(uids))
    messages = []
    for uid, found in answer.items():
        raw = found.bytes_of("BODY[]")
        if raw is not None:
            messages.append(_whole(uid, found, raw))
    return messages


async def pieces(line: Line, uid: int) -> Fetched | None:
    """One large message, piece by piece; None if it is gone. Raises TooLarge above `LARGEST`."""
    raw = BytesIO()  # gives its bytes away without another copy
    first: Fetch | None = None
    while True:
        at = raw.tell()
        items = "UID" if first else _about(line)
        answer = await line.ask_fetch([uid], f"({items} BODY.PEEK[]<{at}.{PIECE}>)", PIECE, LARGEST)
        found = answer.get(uid)
        if found is None:
            return None
        # A server that knows no pieces sends the message whole, under the name that says so.
        if (all_of_it := found.bytes_of("BODY[]")) is not None:
            return _whole(uid, first or found, all_of_it)
        if (piece := found.bytes_of(f"BODY[]<{at}>")) is None:
            return None
        if first is None and PIECE < found.size <= LARGEST:
            raw.seek(found.size - 1)  # taken at once: memory that grows and moves is taken twice
            raw.write(b"\0")
            raw.seek(0)
        first = first or found
        raw.write(piece)
        if raw.tell() > LARGEST:
            raise TooLarge(f"message {uid} is larger than it says")
        if len(piece) < PIECE:
            raw.truncate()
            return _whole(uid, first, raw.getvalue())


def _about(line: Line) -> str:
    """What is asked for with each message; of Gmail also what it has beyond the standard (X-GM-EXT-1)."""
    gmail = " X-GM-MSGID X-GM-THRID X-GM-LABELS" if "X-GM-EXT-1" in line.capabilities else ""
    return f"UID INTERNALDATE RFC822.SIZE{gmail}"


def _received_at(items: Fetch) -> datetime:
    """INTERNALDATE; 1970 where the server has none that can be read, which is the same at each look."""
    return internal_date(items.bytes_of("INTERNALDATE")) or _EPOCH


def _whole(uid: int, items: Fetch, raw: bytes) -> Fetched:
    return Fetched(uid, header_block(raw), raw, _received_at(items), items.size or len(raw), _gmail(items))


def _gmail(items: Fetch) -> GmailMarks | None:
    if "X-GM-MSGID" not in items.items:
        return None
    labels = items.items.get("X-GM-LABELS")
    texts = [
        label.encode("latin-1") if isinstance(label, str) else label
        for label in (labels if isinstance(labels, tuple) else ())
    ]
    return GmailMarks(
        number(items.items["X-GM-MSGID"]),
        number(items.items.get("X-GM-THRID", "0")),
        tuple(utf7.decode(text) for text in texts if isinstance(text, bytes)),
    )


def header_block(raw: bytes) -> bytes:
    """A message up to and with the empty line that ends its header (RFC 5322, 2.1)."""
    if raw.startswith((b"\r\n", b"\n")):
        return b""
    end = raw.find(b"\n\r\n")
    bare = raw.find(b"\n\n", 0, end if end >= 0 else len(raw))  # line feeds alone, against RFC 5322
    if bare >= 0:
        return raw[: bare + 2]
    return raw[: end + 3] if end >= 0 else raw

"""Message-ids and the references between messages (threading.md T2 to T10; RFC 5322, 3.6.4).

Field values come as text that holds their bytes as UTF-8 with `surrogateescape`, and ids keep that form: bytes that
are not UTF-8 survive (T2). Whoever hashes an id encodes it with `surrogateescape`; whoever shows it, with `replace`.
Nothing here raises on any text, and the time taken grows with its length alone.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from maillinkd.mail.address import normalise as normalise_address
from maillinkd.mail.comment import without_comments
from maillinkd.mail.mime import decode_words

MAX_ID = 996
"""T4: characters of an id; longer ones are cut."""
MAX_REFERENCES = 100
"""T9: of more references the first and the last 99 count."""
MAX_BARE = 20
"""T7 (c): more tokens than this are prose."""

CONSTANTS = frozenset({"no.id", "none", "null", "undefined", "nil", "unknown", "message-id", "y", "n"})
"""T8: what programs write that have no id at hand."""

_ANGLE = re.compile(r"<([^<>]*)>")
_LEADING = re.compile(r"[\s,]*<+([^<>]*)>+")
_HIDING = re.compile(r"<[^<>]*>|\(")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SEPARATOR = re.compile(r"[\s,]+")
# mutt makes `<"from joe"@host>` of a mangled From line.
_FROM = re.compile(r'\s*"?\s*from\s', re.IGNORECASE)
_BARE = re.compile(r"""[^\s<>@,;:"()\[\]\\]+@(?:[^\s<>@,;:"'()\[\]\\/=?]+|\[[^\s<>@\[\]]+\])""")
_QUOTED = re.compile(r'"([^\s()<>\[\]:;@\\,"]+)"')
# Ids as nearly all mail writes them: nothing that T3 to T8 would take apart, and no longer than MAX_ID.
_PLAIN = re.compile(r"(?:[ \t]*+<[!#-%'*-;=?A-Z\[-~]{1,600}+@[!#-%'*-;=?A-Z\[-~]{1,300}+>)++[ \t]*")
_PLAIN_ID = re.compile(r"<([^@]+@)([^>]+)>")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_NO_ANGLES = {ord("<"): None, ord(">"): None}


def message_id(values: Iterable[str]) -> str | None:
    """The message's own id from its Message-ID fields, or None where it has none that can be used (T2, T5)."""
    value = next((value for value in values if value.strip()), "")
    if plain := _plain_ids(value):
        return plain[0]
    text = _readable(value)
    if (found := _ANGLE.search(text)) is None and "=?" in text:
        text = _readable(decode_words(text))
        found = _ANGLE.search(text)
    if found is not None:
        return normalise(found[1]) or None
    whole = text.strip()
    return None if _BLANK.search(whole) else normalise(whole.translate(_NO_ANGLES)) or None


def references(values: Iterable[str], *, own: str | None = None, addresses: Collection[str] = ()) -> tuple[str, ...]:
    """The ids in the References fields, in their order and without repeats (T6, T8, T9).

    `own` is the message's own id and `addresses` the normalised addresses of T8: what equals one of them is no id.
    """
    found = (id_ for value in values for id_ in _all_ids(value))
    kept = _without_false(found, own, addresses)
    return kept if len(kept) <= MAX_REFERENCES else (kept[0], *kept[1 - MAX_REFERENCES :])


def in_reply_to(values: Iterable[str], *, own: str | None = None, addresses: Collection[str] = ()) -> tuple[str, ...]:
    """The ids in the In-Reply-To fields, which often hold prose, without repeats (T7, T8).

    `own` and `addresses` as in `references`.
    """
    found = (id_ for value in values for id_ in _replied_to(value))
    kept = _without_false(found, own, addresses)
    return kept if len(kept) <= MAX_REFERENCES else (kept[0], *kept[1 - MAX_REFERENCES :])


def aliases(values: Iterable[str], *, own: str | None = None) -> tuple[str, ...]:
    """Further ids that the message bears, from the fields of T10, if strong; without its own id and repeats."""
    found = (id_ for value in values for id_ in _all_ids(value) if is_strong(id_))
    return tuple(dict.fromkeys(id_ for id_ in found if id_ != own))[:MAX_REFERENCES]


def is_strong(id_: str) -> bool:
    """Whether the id is unlikely to be a word of prose (T7)."""
    left, at, domain = id_.rpartition("@")
    if at and left and domain:
        return True
    return len(id_) >= 20 or (len(id_) >= 12 and any(map(str.isdigit, id_)))


def normalise(inner: str) -> str:
    """The id between `<` and `>` as it is compared (T3, T4). Doing it again changes nothing."""
    id_ = _unquoted(_BLANK.sub("", inner))
    if len(id_) > MAX_ID:
        id_ = _unquoted(id_[:MAX_ID])  # the cut can make another `@` the last one
    left, at, domain = id_.rpartition("@")
    return f"{left}@{domain.translate(_ASCII_LOWER)}" if at else id_


def _unquoted(id_: str) -> str:
    """T4: `"a.b"@x` is `a.b@x`, where the quotes are not needed (RFC 5322, 3.2.4)."""
    if not id_.startswith('"'):
        return id_
    left, at, domain = id_.rpartition("@")
    needless = _QUOTED.fullmatch(left)
    return f"{needless[1]}{at}{domain}" if needless else id_


def _readable(value: str) -> str:
    """T3: the value with HTML's angle brackets as such, and without comments."""
    text = value.replace("&lt;", "<").replace("&gt;", ">") if "&" in value else value
    return without_comments(text, _HIDING)


def _plain_ids(value: str) -> list[str]:
    """The ids of a value that holds ids alone, each an unmistakable `<left@domain>`; none of any other value."""
    if _PLAIN.fullmatch(value) is None:
        return []
    return [left + domain.lower() for left, domain in _PLAIN_ID.findall(value)]


def _all_ids(value: str) -> Iterable[str]:
    """T6: every `<…>` and the bare ids around them, in order."""
    return _plain_ids(value) or _mixed_ids(value)


def _mixed_ids(value: str) -> Iterator[str]:
    text = _readable(value)
    if "=?" in text and "<" not in text:
        text = _readable(decode_words(text))
    end = 0
    for angle in _ANGLE.finditer(text):
        yield from _bare_ids(text[end : angle.start()])
        end = angle.end()
        if not _FROM.match(angle[1]):
            yield normalise(angle[1])
    yield from _bare_ids(text[end:])


def _bare_ids(text: str) -> Iterator[str]:
    if "@" in text:
        for token in _SEPARATOR.split(text):
            if _BARE.fullmatch(token):
                yield normalise(token)


def _replied_to(value: str) -> Iterable[str]:
    """T7: ids alone, ids and then prose, prose and then an id, or bare ids alone."""
    return _plain_ids(value) or _ids_and_prose(value)


def _ids_and_prose(value: str) -> Iterator[str]:
    text = _readable(value).strip()
    if text.startswith("<"):
        yield from _leading_ids(text)
    elif "<" in text:
        inner = text.rpartition("<")[2].rstrip(">")
        if text.endswith(">") and ">" not in inner and not _FROM.match(inner) and is_strong(id_ := normalise(inner)):
            yield id_
    else:
        tokens = [token for token in _SEPARATOR.split(text, maxsplit=MAX_BARE + 1) if token]
        if len(tokens) <= MAX_BARE and all(map(_BARE.fullmatch, tokens)):
            yield from map(normalise, tokens)


def _leading_ids(text: str) -> list[str]:
    """T7 (a): the run of ids at the start; where prose follows, the strong ones among them."""
    ids, end = [], 0
    while (found := _LEADING.match(text, end)) is not None:
        end = found.end()
        if not _FROM.match(found[1]):
            ids.append(normalise(found[1]))
    return [id_ for id_ in ids if is_strong(id_)] if text[end:].strip("<>, \t\r\n") else ids


def _without_false(ids: Iterable[str], own: str | None, addresses: Collection[str]) -> tuple[str, ...]:
    """T8: without what is no id of another message."""
    return tuple([id_ for id_ in dict.fromkeys(ids) if id_ and id_ != own and not _is_false(id_, addresses)])


def _is_false(id_: str, addresses: Collection[str]) -> bool:
    lowered = id_.lower()
    return lowered in CONSTANTS or (lowered if id_.isascii() else normalise_address(id_)) in addresses

"""Comments in structured header fields (RFC 5322, 3.2.2)."""

import re

_PAREN = re.compile(r"[()\\]")


def without_comments(text: str, special: re.Pattern[str]) -> str:
    """The text with a space for each comment, which may be nested and hold quoted pairs.

    `special` matches an opening parenthesis and whatever hides one (a quoted string, an angle). A parenthesis that is
    never closed stays as text; finding that out takes one scan to the end, and the pairs met on the way are kept, so
    that it happens once and the time taken grows with the length of the text alone.
    """
    if "(" not in text:
        return text
    kept: list[str] = []
    pairs: dict[int, int] | None = None
    start = at = 0
    while (found := special.search(text, at)) is not None:
        at = found.end()
        if found[0] != "(":
            continue
        opening = found.start()
        if pairs is None:
            met = _pairs(text, opening)
            closing = met.get(opening)
            if closing is None:
                pairs = met
        else:
            closing = pairs.get(opening)
        if closing is not None:
            kept.append(text[start:opening])
            start = at = closing + 1
    kept.append(text[start:])
    return " ".join(kept)


def _pairs(text: str, opening: int) -> dict[int, int]:
    """Opening and closing parentheses, from the one at `opening` to its partner or the end of the text."""
    pairs: dict[int, int] = {}
    open_: list[int] = []
    at = opening
    while (found := _PAREN.search(text, at)) is not None:
        at = found.end()
        if found[0] == "\\":
            at += 1
        elif found[0] == "(":
            open_.append(found.start())
        else:
            pairs[open_.pop()] = found.start()
            if not open_:
                break
    return pairs

"""The text of an HTML body, enough to read a quoted header block in it. No parser: one walk from tag to tag.

(The standard library's HTMLParser takes minutes for some inputs of 200 kB.)
"""

import re
from collections.abc import Iterable, Iterator
from html import unescape

MAX_HTML = 262_144
"""Characters that are looked at."""

_TAG_NAME = re.compile(r"/?[a-zA-Z][a-zA-Z0-9]*")
_LINE = frozenset({"br", "p", "div", "tr", "li", "ul", "ol", "table", "blockquote", "hr", "pre", "body"}) | {
    f"h{level}" for level in range(1, 7)
}
_CELL = frozenset({"td", "th"})
_HIDDEN = frozenset({"style", "script", "title", "head"})
# html.unescape converts the digits of a reference before it looks at their number.
_HUGE_REFERENCE = re.compile(r"&#[0-9a-fA-FxX]{9,}")


def text_of(html: str, *, quotes: bool = False) -> str:
    """The text, a line for each block or line break, without runs of empty lines. Linear; never raises.

    With `quotes` as mail has it: `> ` before the lines of a blockquote, and the address after a name that is a link
    to it (`Carla <carla@client.example>`).
    """
    html = html[:MAX_HTML]
    lower = html.lower() if html.isascii() else html.translate(_ASCII_LOWER)
    pieces: list[str] = []
    link, linked = "", 0
    at = 0
    while (tag := html.find("<", at)) >= 0:
        pieces.append(_words(html[at:tag]))
        if html.startswith("<!--", tag):
            at = _after(html, "-->", tag + 4)
            continue
        name = _TAG_NAME.match(lower, tag + 1)
        if name is None and not html.startswith(("!", "?"), tag + 1):
            pieces.append("<")
            at = tag + 1
            continue
        at = _after(html, ">", tag)
        element = name[0] if name else ""
        if quotes and element in _QUOTE:
            pieces.append(_QUOTE[element])
        elif quotes and element == "a":
            address = _MAILTO.search(html, tag, at)
            link, linked = (unescape(address[1]) if address else "", len(pieces))
        elif quotes and element == "/a" and link:
            if not any("@" in piece for piece in pieces[linked:]):
                pieces.append(f" <{link}>")
            link = ""
        if element in _HIDDEN:
            at = _after(lower, f"</{element}", at)
            at = _after(html, ">", at)
        elif element.lstrip("/") in _LINE:
            pieces.append("\n")
        elif element in _CELL:
            pieces.append(" ")
    pieces.append(_words(html[at:]))
    lines = [" ".join(line.split()) for line in "".join(pieces).split("\n")]
    return _EMPTY_LINES.sub("\n\n", "\n".join(_quoted(lines) if quotes else lines))


# What stands for the beginning and the end of a quotation until the lines are known.
_QUOTE = {"blockquote": "\n\x01 ", "/blockquote": "\n\x02 "}
_MAX_QUOTED = 10
_MAILTO = re.compile(r"""href=["']?mailto:([^"'?<>\s]{3,320})""", re.IGNORECASE)


def _quoted(lines: Iterable[str]) -> Iterator[str]:
    depth = 0
    for line in lines:
        if line[:1] in _DEEPER:
            depth = max(0, depth + _DEEPER[line[0]])
            line = line[2:]
        yield f"{'>' * min(depth, _MAX_QUOTED)} {line}" if depth and line else line


_DEEPER = {"\x01": 1, "\x02": -1}


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_EMPTY_LINES = re.compile(r"\n{3,}")
_SPACES = re.compile(r"[ \t\r\n\f]+")


def _words(text: str) -> str:
    """A stretch between two tags: line ends in the source are spaces, references are resolved."""
    text = _SPACES.sub(" ", text)
    return unescape(_HUGE_REFERENCE.sub(" ", text)) if "&" in text else text


def _after(text: str, what: str, at: int) -> int:
    """The place after the next `what`; the end where there is none."""
    found = text.find(what, at)
    return len(text) if found < 0 else found + len(what)

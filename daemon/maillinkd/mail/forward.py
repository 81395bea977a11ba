"""Whose mail was forwarded: addresses in attached messages and in quoted header blocks (linking.md L15)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from maillinkd.mail.address import parse_addresses
from maillinkd.mail.header import scan
from maillinkd.mail.html import text_of
from maillinkd.mail.mime import Part, walk
from maillinkd.mail.quoted import ADDRESS_FIELDS, Block, first_block

MAX_TEXT = 262_144
"""Bytes of a text that are looked at."""
MAX_TEXTS = 10
"""Text parts that are looked at, of each kind."""
MAX_FOUND = 1_000
"""Addresses that are taken."""
MAX_HEADERS = 4_194_304
"""Bytes of header in all attached messages together; those of the messages beyond are passed over."""


@dataclass(frozen=True, slots=True)
class Found:
    """A normalised address and where it stood."""

    address: str
    evidence: Literal["attached", "inline"]
    place: str
    """For people: `attached message 1, To`, or `quoted header at line 12 of the text (German), From`."""


def forwarded_addresses(
    raw: bytes, mode: Literal["attached+inline", "attached", "off"] = "attached+inline"
) -> tuple[Found, ...]:
    """The addresses in From, Reply-To, To and Cc of what a message forwards (L15), without repeats.

    Those of all attached messages; if there are none, those of the first quoted header block in the text, or else in
    the HTML. Internal ones too: the caller knows them. Never raises; bounded in depth, parts, lines and size.
    """
    if mode == "off":
        return ()
    attached, plain, html = list[Part](), list[Part](), list[Part]()
    for part in walk(raw):
        if part.message:
            attached.append(part)
        elif not part.messages and not part.attachment:
            if part.content_type == "text/plain":
                plain.append(part)
            elif part.content_type == "text/html":
                html.append(part)
    found = _distinct(_in_attached(attached))
    if not found and mode != "attached":
        found = _distinct(_in_quoted(plain, html))
    return found


def _distinct(found: Iterable[Found]) -> tuple[Found, ...]:
    """Where an address stands first is what counts."""
    first: dict[str, Found] = {}
    for each in found:
        first.setdefault(each.address, each)
        if len(first) == MAX_FOUND:
            break
    return tuple(first.values())


def _in_attached(messages: Iterable[Part]) -> Iterator[Found]:
    """Message by message in the order of their bytes, and field by field as L15 names them."""
    size = 0
    for number, message in enumerate(messages, 1):
        size += len(message.header)
        if size > MAX_HEADERS:
            break
        fields = scan(message.header, ADDRESS_FIELDS)
        for name in ADDRESS_FIELDS:
            for field in fields:
                if field.name == name:
                    for address in parse_addresses(field.value):
                        yield Found(address, "attached", f"attached message {number}, {name.title()}")


def _in_quoted(plain: list[Part], html: list[Part]) -> Iterator[Found]:
    """Those of the text, unless its block has none; Outlook leaves them out of the text and has them in the HTML."""
    of_text = _first((part.text(MAX_TEXT) for part in plain[:MAX_TEXTS]), "text")
    if of_text:
        yield from of_text
    else:
        yield from _first((text_of(part.text(MAX_TEXT), quotes=True) for part in html[:MAX_TEXTS]), "HTML")


def _first(texts: Iterable[str], where: str) -> list[Found]:
    """What stands in the first block of several texts."""
    for text in texts:
        if (block := first_block(text)) is not None:
            return [
                Found(address, "inline", f"quoted header at {_line(block, where)}, {name.title()}")
                for name, address in block.addresses
            ]
    return []


def _line(block: Block, where: str) -> str:
    return f"line {block.line} of the {where} ({block.language})"

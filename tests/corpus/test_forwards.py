"""Public archives: the header blocks that people quoted with their mail programs are found, and nothing else."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillinkd.mail.mime import walk
from maillinkd.mail.quoted import first_block

pytestmark = pytest.mark.corpora

MIKEL, NOTMUCH, LIST = "mikel-mail", "notmuch-test", "dovecot-list-2002-2004/dovecot-list.mbox.gz"
ANNOUNCED = re.compile(
    r"^-{3,} ?(?:Original|Forwarded|Mensaje)[^\n]*-{3,}\s*\n(?:[ \t]*\r?\n)?((?:[^\n]+\n){2,12})", re.M | re.I
)
SENDER = re.compile(r"^(?:From|De): .*@", re.M)
OTHER = re.compile(r"^(?:To|Date|Sent|Subject|Para|Enviado el|Asunto):", re.M)


def messages(corpora: Path) -> Iterator[bytes]:
    yield from re.split(rb"(?:\A|\n)From [^\n]*\n", gzip.decompress((corpora / LIST).read_bytes()))
    for directory in (MIKEL, NOTMUCH):
        for path in sorted((corpora / directory).rglob("*")):
            if path.is_file() and path.suffix not in (".gz", ".json"):
                yield path.read_bytes()


@pytest.fixture(scope="module")
def texts(corpora: Path) -> list[str]:
    """The first plain text of each message."""
    found = []
    for raw in messages(corpora):
        plain = (part for part in walk(raw) if part.content_type == "text/plain" and not part.attachment)
        found += [part.text(262_144) for part in plain if not part.messages][:1]
    return found


def test_announced_forwards_are_found(texts: list[str]) -> None:
    announced = [
        text
        for text in texts
        if (head := ANNOUNCED.search(text)) and SENDER.search(head[1]) and OTHER.search(head[1])
    ]

    assert len(announced) > 30
    assert sum(first_block(text) is not None for text in announced) >= 0.95 * len(announced)


def test_every_address_stands_in_the_paragraph_of_the_block(texts: list[str]) -> None:
    blocks = [(text, block) for text in texts if (block := first_block(text)) is not None]

    assert len(blocks) > 60
    for text, block in blocks:
        paragraph = re.split(r"\n[> \t\r]*\n", "\n".join(text.splitlines()[block.line - 1 :]))[0].lower()
        assert [address for _, address in block.addresses if address not in paragraph] == []

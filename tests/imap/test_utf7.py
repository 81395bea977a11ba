"""Folder names in modified UTF-7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap import utf7

NAMES = {
    "plain": ("INBOX/Customers", b"INBOX/Customers"),
    "an ampersand": ("R&D", b"R&-D"),
    "German": ("Entwürfe", b"Entw&APw-rfe"),
    "the example of RFC 3501, 5.1.3": ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
    "beyond the basic plane": ("💡", b"&2D3coQ-"),
    "a tab": ("a\tb", b"a&AAk-b"),
    "only an ampersand and a letter": ("&ü", b"&-&APw-"),
}


@pytest.mark.parametrize(("name", "wire"), NAMES.values(), ids=NAMES.keys())
def test_names(name: str, wire: bytes) -> None:
    assert (wire, name) == (utf7.encode(name), utf7.decode(wire))


NOT_UTF7 = {
    "UTF-8": ("Entwürfe".encode(), "Entwürfe"),
    "an ampersand left open": (b"R&D", "R&D"),
    "no base64": (b"&!!!-", "&!!!-"),
    "half a character": (b"&AP-", "&AP-"),
    "half a surrogate pair": (b"&2D0-", "&2D0-"),
    "shifted without need": (b"&AGE-", "&AGE-"),
}


@pytest.mark.parametrize(("wire", "name"), NOT_UTF7.values(), ids=NOT_UTF7.keys())
def test_what_is_not_modified_utf7_stays_as_it_is(wire: bytes, name: str) -> None:
    assert name == utf7.decode(wire)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_every_name_comes_back(name: str) -> None:
    assert name == utf7.decode(utf7.encode(name))
    assert utf7.encode(name).isascii()

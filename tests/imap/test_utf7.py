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
    "Russian": ("Отправленные", b"&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-"),
    "Greek": ("Απεσταλμένα", b"&A5EDwAO1A8MDxAOxA7sDvAOtA70DsQ-"),
    "Hebrew": ("דואר", b"&BdMF1QXQBeg-"),
    "Arabic": ("البريد", b"&BicGRAYoBjEGSgYv-"),
    "Hindi": ("भेजे", b"&CS0JRwkcCUc-"),
    "Thai": ("ส่งแล้ว", b"&DioOSA4HDkEOJQ5JDic-"),
    "Korean": ("보낸편지함", b"&vPSwuNO4ycDVaA-"),
    "Chinese": ("已发送邮件", b"&XfJT0ZABkK5O9g-"),
    "a family in one emoji": ("👩‍👧", b"&2D3caSAN2D3cZw-"),
    "a flag, and plain text around": ("a 🇫🇷 b", b"a &2Dzd69g83fc- b"),
    "two ampersands": ("&&", b"&-&-"),
    "what looks shifted": ("&AGE-", b"&-AGE-"),
    "a comma in base64": ("ÿÿ", b"&AP8A,w-"),
    "a letter and its dots apart": ("Entwu\u0308rfe", b"Entwu&Awg-rfe"),
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
    "shifted twice in a row": (b"&AOQ-&APY-", "&AOQ-&APY-"),
    "the other base64": (b"&AP8A/w-", "&AP8A/w-"),
    "never shifted back": (b"&2D3coQ", "&2D3coQ"),
    "bits left over": (b"&APz-", "&APz-"),
    "NUL, which no database holds": (b"&AAA-", "&AAA-"),
    "Latin-1": (b"Entw\xfcrfe", "Entw\\xfcrfe"),
    "UTF-8 that breaks off": (b"a\xf0\x9f", "a\\xf0\\x9f"),
    "both spellings in one": ("&APw-ü".encode(), "&APw-ü"),
}


@pytest.mark.parametrize(("wire", "name"), NOT_UTF7.values(), ids=NOT_UTF7.keys())
def test_what_is_not_modified_utf7_stays_as_it_is(wire: bytes, name: str) -> None:
    assert name == utf7.decode(wire)


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_every_name_comes_back(name: str) -> None:
    assert name == utf7.decode(utf7.encode(name))
    assert utf7.encode(name).isascii()


@given(st.binary(max_size=30) | st.from_regex(rb"\A(&[A-Za-z0-9+,]{0,8}-?|[ -~]){0,6}\Z"))
def test_whatever_a_server_sends_can_be_stored(wire: bytes) -> None:
    name = utf7.decode(wire)

    assert name.encode().decode() == name
    assert "\0" not in name or b"\0" in wire

"""Base subjects (RFC 5256, 2.1; threading.md T13)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail import subject as room
from maillinkd.mail.subject import base_subject


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("New roof", "new roof"),
        ("Re: New  \t roof ", "new roof"),
        ("RE:New roof", "new roof"),
        ("Re: Fwd: AW: WG: New roof", "new roof"),
        ("Re[2]: New roof", "new roof"),
        ("Re(3): New roof", "new roof"),
        ("Re : New roof", "new roof"),
        ("Réf\u00a0: New roof", "new roof"),
        ("[list] Re: [other] New roof", "new roof"),
        ("[list] [other]", "[other]"),
        ("Re: [list]", "[list]"),
        ("New roof (fwd) (FWD)", "new roof"),
        ("[Fwd: Re: New roof]", "new roof"),
        ("[Fwd: New roof", "[fwd: new roof"),
        ("Antw: SV: VS: TR: R: I: ENC: RES: Odp: New roof", "new roof"),
        ("答复：回复: 转发：New roof", "new roof"),
        ("İLT: YNT: New roof", "new roof"),
        ("ΑΠ: ΠΡΘ: New roof", "new roof"),
        ("Reply: New roof", "reply: new roof"),
        ("Regarding the roof", "regarding the roof"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("a\u0308", "ä"),
        ("Re:", ""),
        ("", ""),
    ],
)
def test_prefixes_of_answers_and_forwards_go(subject: str, expected: str) -> None:
    assert expected == base_subject(subject)


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_ascii_is_folded_as_all_text_is(text: str) -> None:
    nfc = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())

    assert nfc == room._folded(text)


@given(st.one_of(st.text(), st.text("[]rRe: ：")).filter(lambda text: text[:1] != "[" and not {":", "："} & {*text}))
def test_no_prefix_is_without_a_colon_and_no_blob_without_a_bracket(text: str) -> None:
    assert (room._REFWD.match(text), room._BLOB.match(text)) == (None, None)


@given(st.text())
def test_a_reply_has_the_same_base_subject(subject: str) -> None:
    assert base_subject(f"Re: {subject[:900]}") == base_subject(subject[:900])


@given(st.text())
def test_a_base_subject_is_one_line_in_nfc(subject: str) -> None:
    base = base_subject(subject)

    assert base == unicodedata.normalize("NFC", base)
    assert base == " ".join(base.split())


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_time_grows_with_the_length_alone(fragment: str) -> None:
    with in_time():
        base_subject(repeated(fragment))

"""The text of HTML bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.html import text_of


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a</p><p>b</p>", "\na\n\nb\n"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("<b>From:</b> Carla\r\n  Client &lt;<a href='mailto:c@x'>c@x</a>&gt;", "From: Carla Client <c@x>"),
        ("<tr><th>From: </th><td>Carla</td></tr>", "\nFrom: Carla\n"),
        ("<style>p { a: b }</style>a<script>if (a<b) {}</script >b", "ab"),
        ("<head><title>x</title></head>a", "a"),
        ("a<!-- <p> -->b<!-- never closed", "ab"),
        ("<!DOCTYPE html>a", "a"),
        ("1 < 2 &amp; 3", "1 < 2 & 3"),
        ("a&nbsp;b", "a b"),
        ("&#99999999999999999999;a", ";a"),
        ("a <b", "a"),
        ("<div><div><div>a", "\n\na"),
        ("", ""),
    ],
)
def test_html_becomes_lines_of_text(html: str, expected: str) -> None:
    assert expected == text_of(html)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("a<blockquote>b<blockquote>c</blockquote>d</blockquote>e", "a\n\n> b\n\n>> c\n\n> d\n\ne"),
        ("</blockquote>a<blockquote>b", "\n\na\n\n> b"),
        ("a<blockquote><p>b</p><p>c</p></blockquote>", "a\n\n> b\n\n> c\n\n"),
        ("<a href='mailto:c@x?subject=y'>Carla</a>, d", "Carla <c@x>, d"),
        ('<A class=x HREF="mailto:c&#64;x"><b>Carla</b></A>', "Carla <c@x>"),
        ("<a href=mailto:c@x>c@x</a>", "c@x"),
        ("<a href='https://x'>Carla</a>", "Carla"),
        ("<a href='mailto:c@x'>Carla", "Carla"),
        ("</a>Carla</a>", "Carla"),
    ],
)
def test_quotations_and_addresses_are_marked_as_in_text(html: str, expected: str) -> None:
    assert expected == text_of(html, quotes=True)


@pytest.mark.parametrize("html", ["a<blockquote>b</blockquote>", "<a href='mailto:c@x'>Carla</a>"])
def test_they_are_not_unless_asked_for(html: str) -> None:
    assert ">" not in text_of(html)


@given(st.lists(st.sampled_from([*FRAGMENTS, "<p>", "</p>", "<style>", "&#1114112;", "&#xffffffffff;"])).map("".join))
def test_any_html_has_a_text(html: str) -> None:
    assert "\n\n\n" not in text_of(html)
    assert "\n\n\n" not in text_of(html, quotes=True)


@pytest.mark.parametrize(
    "fragment", [*FRAGMENTS, "&#", "<!-", "<p>", "</style", "&amp;", "<a\n", "<a href=mailto:", "<a href=mailto:x@y>"]
)
def test_the_time_grows_with_the_length_alone(fragment: str) -> None:
    with in_time():
        text_of(repeated(fragment, 400_000), quotes=True)

"""Message-ids and references (threading.md T2 to T10 and its examples)."""

import re

import pytest
from _pytest.monkeypatch import MonkeyPatch
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail import msgid
from maillinkd.mail.msgid import MAX_ID, aliases, in_reply_to, is_strong, message_id, normalise, references

id_text = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.text('"@<>().aB \t\r\nxX,&;=?/é\udce4'),
    st.lists(st.sampled_from([*FRAGMENTS, "<a@b>", "c@d", " "])).map("".join),
)


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("a@x", "a@x"),
        ("Case@X.Example", "Case@x.example"),
        (" a b@x\r\n\ty ", "ab@xy"),
        ('"a.b"@x', "a.b@x"),
        ('"a b"@x', "ab@x"),
        ('"a@b"@X', '"a@b"@x'),
        (r'"a\"b"@X', r'"a\"b"@x'),
        ('""@x', '""@x'),
        ("A@B@C", "A@B@c"),
        ("NoAt", "NoAt"),
        ("a@ÄX", "a@Äx"),
        ("a\x00\x7fb@x", "ab@x"),
        ("a" * 2000, "a" * MAX_ID),
        ("", ""),
    ],
)
def test_ids_are_normalised_by_t3_and_t4(inner: str, expected: str) -> None:
    assert expected == normalise(inner)


@given(id_text)
def test_normalising_again_changes_nothing(inner: str) -> None:
    once = normalise(inner)

    assert once == normalise(once)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["<a@x>"], "a@x"),
        (["", " ", "<b@x>", "<c@x>"], "b@x"),
        (["<a@x> <b@x>"], "a@x"),
        (["a@x"], "a@x"),
        (["&lt;a@x&gt;"], "a@x"),
        (["(comment <no@x>) <a@x>"], "a@x"),
        (["=?us-ascii?Q?=3Ca=40x=3E?="], "a@x"),
        (["<a@x"], "a@x"),
        (["<<a@x>>"], "a@x"),
        (["8:14:54 AM"], None),
        (["<>"], None),
        (["<> <a@x>"], None),
        (["(nothing)"], None),
        ([" "], None),
        ([], None),
    ],
)
def test_a_message_has_one_id_or_none(values: list[str], expected: str | None) -> None:
    """T2, T5."""
    assert expected == message_id(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["<a@x> <b@x>"], ["a@x", "b@x"]),
        (["<a@x>,<b@x>", "<c@x>"], ["a@x", "b@x", "c@x"]),
        (["a@x <b@x> c@x, d@x"], ["a@x", "b@x", "c@x", "d@x"]),
        (["<a@x> (b@x <c@x>) <d@x>"], ["a@x", "d@x"]),
        (["<a@x> (b@x <c@x>"], ["a@x", "c@x"]),
        (["<a@\r\n x>"], ["a@x"]),
        (["<a@x> <a@x> <a@X>"], ["a@x"]),
        (["=?us-ascii?Q?=3Ca=40x=3E?="], ["a@x"]),
        (["<Carla <a@x>"], ["a@x"]),
        (["abc ARRAY(0x9d) Your message of"], []),
        (['<"from joe"@x> <b@x>'], ["b@x"]),
        (["<a\udce4@x>"], ["a\udce4@x"]),
        (["<own@x> <> <NULL> <no.id> <y> <b@x>"], ["b@x"]),
        (["<Carla@Client.example> <b@x>"], ["b@x"]),
    ],
)
def test_references_are_all_ids_in_the_fields(values: list[str], expected: list[str]) -> None:
    """T6, T8."""
    assert tuple(expected) == references(values, own="own@x", addresses={"carla@client.example"})


def test_of_many_references_the_first_and_the_last_99_count() -> None:
    """T9."""
    values = [" ".join(f"<{number}@x>" for number in range(150))]

    assert ("0@x", *(f"{number}@x" for number in range(51, 150))) == references(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<a@x>", ["a@x"]),
        ("<a@x> <b@x>", ["a@x", "b@x"]),
        ("<a@x>,\r\n <b@x>", ["a@x", "b@x"]),
        ("<<a@x>>", ["a@x"]),
        ("<abc>", ["abc"]),
        ("<abc>; from joe@x on Monday", []),
        ("<a@x>; from <joe@x> on Monday", ["a@x"]),
        ("<a@x> (Joe's message of <b@x>)", ["a@x"]),
        ('Your message of "Wed, 4 Sep" <id@h>', ["id@h"]),
        ('Message from Dave Long <dave> of "Wed..."', []),
        ('Message from Lewin <K.L@b.example> of "..." <B90B3279050B@host>', ["B90B3279050B@host"]),
        ("Message of <dave>", []),
        ("Carla <a@x> wrote", []),
        ("CAKo1dg-x@mail.example", ["CAKo1dg-x@mail.example"]),
        ("a@x b@x", ["a@x", "b@x"]),
        ("a@x wrote", []),
        ("joe@x's message", []),
        (" ".join(["a@x"] * 21), []),
        ("glyph@t.example", []),
        ("<own@x>", []),
        ("", []),
    ],
)
def test_in_reply_to_is_read_with_doubt(value: str, expected: list[str]) -> None:
    """T7, T8; threading.md, examples 4 and 5."""
    assert tuple(expected) == in_reply_to([value], own="own@x", addresses={"glyph@t.example"})


@pytest.mark.parametrize(
    ("id_", "expected"),
    [("a@b", True), ("@b", False), ("a@", False), ("x" * 20, True), ("x" * 19, False), ("x" * 11 + "1", True)],
)
def test_strong_ids_are_no_words(id_: str, expected: bool) -> None:
    """T7."""
    assert expected is is_strong(id_)


def test_aliases_are_strong_ids_other_than_the_own() -> None:
    """T10."""
    assert aliases(["<a@x> <weak>", "b@x", "<own@x> <a@x>"], own="own@x") == ("a@x", "b@x")


@given(id_text)
def test_any_text_gives_normalised_ids(value: str) -> None:
    found = [*references([value]), *in_reply_to([value]), *aliases([value])]
    if (own := message_id([value])) is not None:
        found.append(own)

    for id_ in found:
        assert id_ == normalise(id_)
        assert id_


@given(
    st.lists(st.sampled_from(["<a@x>", "<Bc@Y.z>", "(c)", ",", "text", "d@e"])),
    st.sampled_from(["\n ", "\r\n\t", " "]),
)
def test_folding_changes_nothing(words: list[str], fold: str) -> None:
    for read in (references, in_reply_to):
        assert read([" ".join(words)]) == read([fold.join(words)])


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_time_grows_with_the_length_alone(fragment: str) -> None:
    value = repeated(fragment)
    with in_time(4):
        message_id([value])
        references([value])
        in_reply_to([value])
        aliases([value])


nearly_plain = st.lists(
    st.one_of(
        st.sampled_from(
            ["<a@b>", "<A.b@X.Example>", "<c+d@[1.2]>", " ", "\t", "<", ">", "@", '"', "(", "&lt;", "e", "F", "É"]
        ),
        st.sampled_from(
            ["=?", "\x00", "\x85", "\u2003", "\udcff", ",", "from ", "\\", "y" * 600, "z@" + "q" * 301, "<none>"]
        ),
    )
).map("".join)


@given(st.one_of(nearly_plain, id_text), st.sampled_from(["a@b", "A.b@x.example", None]))
def test_plain_ids_are_read_as_all_others_are(value: str, own: str | None) -> None:
    def read() -> tuple[object, ...]:
        addresses = {"c+d@[1.2]", "a@b"}
        return (
            message_id([value]),
            references([value], own=own, addresses=addresses),
            in_reply_to([value], own=own, addresses=addresses),
            aliases([value], own=own),
        )

    quickly = read()
    with MonkeyPatch.context() as patch:
        patch.setattr(msgid, "_PLAIN", re.compile("(?!)"))

        assert read() == quickly


@pytest.mark.parametrize("left", [594, 595, 600, 601])
def test_plain_ids_are_no_longer_than_others(left: int) -> None:
    value = f"<{'a' * left}@{'b' * 400}> <{'a' * left}@{'b' * 300}>"

    assert references([value]) == tuple(f"{'a' * left}@{'b' * length}"[:MAX_ID] for length in (400, 300))

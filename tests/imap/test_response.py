"""The response parser: what servers say, however it is cut, and what they must not say."""

import random
import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap import dialogues
from imap.dialogues import said
from maillinkd.imap import response
from maillinkd.imap.response import (
    Capabilities,
    Continuation,
    Exists,
    Expunged,
    ExtendedSearch,
    Fetch,
    Flags,
    Limits,
    Listed,
    MailboxStatus,
    Other,
    Parser,
    ProtocolError,
    Response,
    Search,
    ServerId,
    Status,
    TooLarge,
    Vanished,
    internal_date,
)

SMALL = Limits(line=2_000, literals=5_000, depth=4, values=200)


def parse(data: bytes, limits: Limits | None = None) -> list[Response]:
    return Parser(limits).feed(data)


def outcome(pieces: list[bytes], limits: Limits | None = None) -> tuple[list[Response], bool]:
    """What comes out, and whether it ended in ProtocolError."""
    parser = Parser(limits)
    responses: list[Response] = []
    for piece in pieces:
        try:
            responses += parser.feed(piece)
        except ProtocolError as error:
            return [*responses, *error.before], True
    return responses, False


SENTENCES: dict[str, tuple[str, Response]] = {
    "a greeting": ("* OK ready\n", Status("", "OK", "", "", "ready")),
    "a code with an argument": (
        "* OK [UIDVALIDITY 3857529045] UIDs valid\n",
        Status("", "OK", "UIDVALIDITY", "3857529045", "UIDs valid"),
    ),
    "a code without text": ("* OK [HIGHESTMODSEQ 7]\n", Status("", "OK", "HIGHESTMODSEQ", "7", "")),
    "a code with a quoted bracket": (
        'a1 NO [BADCHARSET ("x]y")] no\n',
        Status("a1", "NO", "BADCHARSET", '("x]y")', "no"),
    ),
    "a tagged refusal": (
        "A7 NO [AUTHENTICATIONFAILED] Invalid (Failure)\n",
        Status("A7", "NO", "AUTHENTICATIONFAILED", "", "Invalid (Failure)"),
    ),
    "an answer without any text": ("a1 OK\n", Status("a1", "OK", "", "", "")),
    "lower case": ("* bye [unavailable] x\n", Status("", "BYE", "UNAVAILABLE", "", "x")),
    "a text that ends like a literal": ("* OK wait {5}\n", Status("", "OK", "", "", "wait {5}")),
    "a text that is UTF-8": ("* OK grüß dich\n", Status("", "OK", "", "", "grüß dich")),
    "a text that begins with a bracket and is none": ("* OK [oops\n", Status("", "OK", "", "", "[oops")),
    "a continuation": ("+ idling\n", Continuation(b"idling")),
    "a bare continuation": ("+\n", Continuation(b"")),
    "capabilities": ("* CAPABILITY IMAP4rev1 Idle\n", Capabilities(frozenset({"IMAP4REV1", "IDLE"}))),
    "a mailbox": (
        '* LIST (\\HasNoChildren \\Sent) "/" "Kunden/M&APw-ller"\n',
        Listed(frozenset({"\\hasnochildren", "\\sent"}), "/", b"Kunden/M&APw-ller"),
    ),
    "a mailbox with a literal name": (
        '* LIST () "." {*}\n⟦a "b"⟧\n',
        Listed(frozenset(), ".", b'a "b"'),
    ),
    "a mailbox called NIL without hierarchy": ("* LIST () NIL NIL\n", Listed(frozenset(), "", b"NIL")),
    "a mailbox with escapes": ('* LIST () "\\\\" "a\\\\b\\"c"\n', Listed(frozenset(), "\\", b'a\\b"c')),
    "found nothing": ("* SEARCH\n", Search(())),
    "found something": ("* SEARCH 2 84 882\n", Search((2, 84, 882))),
    "found something, with a space too many": ("* SEARCH 2 84 \n", Search((2, 84))),
    "found with CONDSTORE": ("* SEARCH 2 5 (MODSEQ 917)\n", Search((2, 5))),
    "ESEARCH": (
        '* ESEARCH (TAG "a") UID COUNT 2 ALL 4:5\n',
        ExtendedSearch("a", True, {"COUNT": "2", "ALL": "4:5"}),
    ),
    "ESEARCH of nothing": ('* ESEARCH (TAG "a") UID\n', ExtendedSearch("a", True, {})),
    "STATUS": (
        '* STATUS "a b" (MESSAGES 231 UIDNEXT 44292 UIDVALIDITY 99999999999)\n',
        MailboxStatus(b"a b", {"MESSAGES": 231, "UIDNEXT": 44292, "UIDVALIDITY": 99999999999}),
    ),
    "STATUS of a name that should be quoted": (
        "* STATUS a b (MESSAGES 1 ) \n",
        MailboxStatus(b"a b", {"MESSAGES": 1}),
    ),
    "STATUS with a mailbox id": ("* STATUS a (MAILBOXID (F1) MESSAGES 2)\n", MailboxStatus(b"a", {"MESSAGES": 2})),
    "FLAGS": ("* FLAGS (\\Seen $Junk [odd] a{b)\n", Flags(("\\Seen", "$Junk", "[odd]", "a{b"))),
    "EXISTS": ("* 23 EXISTS\n", Exists(23)),
    "EXPUNGE": ("* 44 EXPUNGE\n", Expunged(44)),
    "VANISHED": ("* VANISHED 405,411:410\n", Vanished(False, ((405, 405), (410, 411)))),
    "VANISHED (EARLIER)": ("* VANISHED (EARLIER) 1:4294967295\n", Vanished(True, ((1, 4294967295),))),
    "RECENT, which nobody uses": ("* 5 RECENT\n", Other("RECENT")),
    "an extension": ('* XYZZY foo"bar (\n', Other("XYZZY")),
    "an extension with a literal": ("* XYZZY {*}\n⟦)\n* 3 EXISTS\n⟧ more (\n", Other("XYZZY")),
    "flags of a message": ("* 2 FETCH (FLAGS (\\Seen) UID 3)\n", Fetch(2, {"FLAGS": ("\\Seen",), "UID": 3})),
    "a header with what looks like a response": (
        "* 1 FETCH (BODY[HEADER.FIELDS (FROM TO)] {*}\n⟦* 2 FETCH (\n⟧ UID 3)\n",
        Fetch(1, {"BODY[HEADER.FIELDS]": b"* 2 FETCH (\r\n", "UID": 3}),
    ),
    "a quoted subject with parentheses and stars": (
        '* 1 FETCH (ENVELOPE (NIL "5 * 3 (((" NIL))\n',
        Fetch(1, {"ENVELOPE": (None, b"5 * 3 (((", None)}),
    ),
    "a section with quoted names and a bracket": (
        '* 1 FETCH (BODY[HEADER.FIELDS ("F]" "TO")]<0> "x")\n',
        Fetch(1, {"BODY[HEADER.FIELDS]<0>": b"x"}),
    ),
    "an empty literal": ("* 1 FETCH (BODY[] {0}\n UID 1)\n", Fetch(1, {"BODY[]": b"", "UID": 1})),
    "literal8 and the non-synchronising form": (
        "* 1 FETCH (BINARY[1] ~{3}\nabc BODY[] {2+}\nxy)\n",
        Fetch(1, {"BINARY[1]": b"abc", "BODY[]": b"xy"}),
    ),
    "who the server is": (
        '* ID ("Name" "Dovecot" "version" NIL "os" "x" "odd")\n',
        ServerId({"name": "Dovecot", "os": "x"}),
    ),
    "a server that does not say": ("* ID NIL\n", ServerId({})),
    "a body that is NIL": ("* 1 FETCH (BODY[] NIL)\n", Fetch(1, {"BODY[]": None})),
}


@pytest.mark.parametrize(("text", "expected"), SENTENCES.values(), ids=SENTENCES.keys())
def test_reads(text: str, expected: Response) -> None:
    """Each form of the grammar, and each habit of servers, as the value that it means."""
    assert [expected] == parse(said(text))


GARBAGE = {
    "no response at all": "GET / HTTP/1.1\n",
    "a star alone": "*\n",
    "a star without a space": "*OK\n",
    "an open list": "* 1 FETCH (UID 1\n",
    "a list closed twice": "* 1 FETCH (UID 1))\n",
    "an open quote": '* LIST () "/" "abc\n',
    "an attribute without a value": "* 1 FETCH (UID)\n",
    "FETCH without a number": "* FETCH (UID 1)\n",
    "FETCH of two lists": "* 1 FETCH (UID 1) (UID 2)\n",
    "an attribute that is a list": "* 1 FETCH ((UID) 1)\n",
    "SEARCH of words": "* SEARCH one two\n",
    "SEARCH of negative numbers": "* SEARCH -1\n",
    "SEARCH of numbers without end": "* SEARCH " + "9" * 21 + "\n",
    "a mailbox without a name": '* LIST () "/"\n',
    "a control character in an atom": "* LIST () NIL a\tb\n",
    "STATUS without a list": "* STATUS INBOX\n",
    "EXISTS of how many": "* EXISTS\n",
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE.keys())
def test_refuses(text: str) -> None:
    """What the grammar does not know ends in ProtocolError, and what stood before is not lost."""
    with pytest.raises(ProtocolError) as caught:
        parse(b"* 1 EXISTS\r\n" + said(text) + b"* 2 EXISTS\r\n")

    assert (Exists(1),) == caught.value.before


TOO_MUCH = {
    "a line without end": b"* OK " + b"x" * 3_000,
    "a long line": b"* OK " + b"x" * 3_000 + b"\r\n",
    "a huge literal": b"* 1 FETCH (BODY[] {99999999999}\r\n",
    "literals that add up": b"* 1 FETCH (" + b"BODY[] {999}\r\n" + b"x" * 999 + b" BODY[] {4999}\r\n",
    "lists in lists": b"* LIST (((((((((\r\n",
    "a list without end": b"* FLAGS (" + b"a " * 500 + b")\r\n",
    "an extension's literals that add up": (b"* XYZZY {3000}\r\n" + b"x" * 3_000) + b" {3000}\r\n",
}


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_refuses_too_much(data: bytes) -> None:
    """A server cannot make us hold more than the limits."""
    with pytest.raises(TooLarge):
        parse(data, SMALL)
    assert outcome([data], SMALL) == outcome([data[at : at + 1] for at in range(len(data))], SMALL)


def test_a_line_may_be_as_long_as_the_limit() -> None:
    line = b"* OK " + b"x" * (SMALL.line - 5) + b"\r\n"

    assert outcome([line], SMALL) == outcome([line[:-1], line[-1:]], SMALL)
    assert not outcome([line], SMALL)[1]


def test_an_error_is_final() -> None:
    parser = Parser()
    with pytest.raises(ProtocolError):
        parser.feed(b"garbage\r\n")
    with pytest.raises(ProtocolError):
        parser.feed(b"* 1 EXISTS\r\n")


def test_idle_tells_whether_something_is_begun() -> None:
    parser = Parser()
    states = [parser.idle]
    for piece in (b"* 1 FETCH (BODY[] {3}", b"\r\n", b"ab", b"c", b")\r", b"\n"):
        parser.feed(piece)
        states.append(parser.idle)

    assert states == [True, False, False, False, False, False, True]


@pytest.mark.parametrize("dialogue", dialogues.ALL.values(), ids=dialogues.ALL.keys())
def test_dialogues_read_the_same_cut_anywhere(dialogue: bytes) -> None:
    """In two at every byte, and byte by byte."""
    whole, failed = outcome([dialogue])

    assert not failed
    assert len(whole) > 15
    for at in range(len(dialogue) + 1):
        assert (whole, False) == outcome([dialogue[:at], dialogue[at:]])
    assert (whole, False) == outcome([dialogue[at : at + 1] for at in range(len(dialogue))])


def test_the_recorded_fetch_is_read_right() -> None:
    fetches = [each for each in parse(dialogues.DOVECOT) if isinstance(each, Fetch)]

    assert [fetch.uid for fetch in fetches] == [4, 9, 17]
    assert fetches[1].bytes_of("BODY[HEADER.FIELDS]") == b"From: b@client.example\r\n\r\n"
    assert fetches[2].bytes_of("BODY[HEADER.FIELDS]") == b"\r\n"


MUTATIONS = 30_000


def test_mutations_yield_responses_or_protocol_errors() -> None:
    """30,000 damaged dialogues, the same each time: never another exception, and the cut changes nothing."""
    rng = random.Random(9051)
    corpus = list(dialogues.ALL.values())
    parts = [line + b"\r\n" for dialogue in corpus for line in dialogue.split(b"\r\n")]
    failures = 0
    for _ in range(MUTATIONS):
        damaged = _damage(rng, rng.choice(corpus), parts)
        cut = rng.randrange(len(damaged) + 1)
        responses, failed = outcome([damaged[:cut], damaged[cut:]], SMALL)
        failures += failed

        assert (responses, failed) == outcome([damaged], SMALL)

    assert MUTATIONS // 10 < failures < MUTATIONS


def test_the_short_cut_for_fetch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual FETCH is read by a regular expression of its own: the same comes out as by the grammar."""
    rng = random.Random(3501)
    corpus = [
        b"* " + part for dialogue in dialogues.ALL.values() for part in dialogue.split(b"\r\n* ") if b"FETCH" in part
    ]
    damaged = [_damage(rng, rng.choice(corpus) + b"\r\n", [b" "]) for _ in range(20_000)]
    short = [outcome([data], SMALL) for data in corpus + damaged]
    monkeypatch.setattr(response, "_USUAL_FETCH", re.compile(b"(?!)"))

    assert short == [outcome([data], SMALL) for data in corpus + damaged]


_ITEM = st.one_of(
    st.integers(0, 10**19).map(lambda uid: b"UID %d" % uid),
    st.integers(0, 10**10).map(lambda size: b"RFC822.SIZE %d" % size),
    st.sampled_from([b'INTERNALDATE "22-Nov-2026 10:00:00 +0100"', b'INTERNALDATE ""', b'INTERNALDATE "\\""']),
    st.sampled_from([b"FLAGS (\\Seen)", b"MODSEQ (7)", b"X-GM-MSGID 1", b"UID NIL", b"RFC822.SIZE NIL", b'UID "1"']),
)
_SECTION = st.sampled_from(
    [b"BODY[]", b"BODY[]<0>", b"BODY[HEADER.FIELDS (From To)]", b"BODY[HEADER.FIELDS (FROM)]<0>", b"BODY[TEXT]"]
)


_FETCH = st.tuples(
    st.lists(_ITEM, min_size=1, max_size=5),
    st.none() | st.tuples(_SECTION, st.binary(max_size=60)),
    st.sampled_from([b")"] * 5 + [b" )", b" UID 7)", b")x", b""]),
)


@given(st.lists(_FETCH, min_size=1, max_size=4), st.integers(0, 300))
def test_the_usual_fetch_is_read_as_by_the_grammar(
    fetches: list[tuple[list[bytes], tuple[bytes, bytes] | None, bytes]], cut: int
) -> None:
    """Whatever it says, in whatever order, whatever came before it, cut anywhere: the same comes out."""
    answer = b""
    for items, body, end in fetches:
        answer += b"* 4 FETCH (" + b" ".join(items)
        if body is not None:
            answer += b" %s {%d}\r\n%s" % (body[0], len(body[1]), body[1])
        answer += end + b"\r\n"
    answer += b"* 5 EXISTS\r\n"
    pieces = [answer[:cut], answer[cut:]]
    short = outcome(pieces, SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response, "_USUAL_FETCH", re.compile(b"(?!)"))

        assert short == outcome(pieces, SMALL) == outcome([answer], SMALL)


def test_the_short_cut_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what Dovecot answers to our questions; else the tests of its equality would say nothing."""
    taken = []
    take = Parser._take_usual

    def counted(parser: Parser, data: bytes, position: int, responses: list[Response]) -> int:
        after = take(parser, data, position, responses)
        taken.append(after > position)
        return after

    monkeypatch.setattr(Parser, "_take_usual", counted)
    parse(dialogues.DOVECOT + b"* 9 FETCH (UID 5 RFC822.SIZE 7)\r\n")

    assert taken.count(True) == 4


@given(st.binary(max_size=70_000), st.lists(st.integers(0, 70_000), max_size=5))
def test_a_literal_in_pieces_is_whole(octets: bytes, cuts: list[int]) -> None:
    answer = b"* 1 FETCH (BODY[] {%d}\r\n%s)\r\n" % (len(octets), octets)
    bounds = sorted(min(cut, len(answer)) for cut in cuts)
    pieces = [answer[a:b] for a, b in zip([0, *bounds], [*bounds, len(answer)], strict=True)]

    assert ([Fetch(1, {"BODY[]": octets})], False) == outcome(pieces)


def _damage(rng: random.Random, dialogue: bytes, parts: list[bytes]) -> bytes:
    """A window of a dialogue with one to four wounds."""
    start = rng.randrange(len(dialogue))
    data = bytearray(dialogue[start if rng.random() < 0.2 else dialogue.rfind(b"\r\n", 0, start) + 2 :][:600])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = rng.choice(
                    (b"(", b")", b'"', b"{", b"}", b"{3}\r\n", b"\r\n", b"\\", b"*", b"+", b"\0", b"[", b"]")
                )
            case 3:
                data[at:at] = rng.choice(parts)
            case 4:
                data[at:at] = data[at : at + rng.randint(1, 30)]
            case _:
                data[at : at + 3] = str(rng.randrange(10 ** rng.randint(1, 25))).encode()
    return bytes(data)


@given(st.lists(st.sampled_from(list(SENTENCES.values())), max_size=8), st.data())
def test_any_cut_of_any_sentences(sentences: list[tuple[str, Response]], data: st.DataObject) -> None:
    """However sentences follow each other and however they are cut, each is read as if alone."""
    stream = b"".join(said(text) for text, _ in sentences)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert ([expected for _, expected in sentences], False) == outcome(pieces)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes(data: bytes, cut: int) -> None:
    assert outcome([data], SMALL) == outcome([data[:cut], data[cut:]], SMALL)


@given(st.binary(max_size=400))
def test_literals_come_out_as_they_went_in(octets: bytes) -> None:
    assert [Fetch(1, {"BODY[]": octets})] == parse(b"* 1 FETCH (BODY[] {%d}\r\n%s)\r\n" % (len(octets), octets))


@given(st.binary(max_size=100).filter(lambda octets: not set(octets) & set(b"\0\r\n")))
def test_quoted_strings_come_out_as_they_went_in(octets: bytes) -> None:
    quoted = octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')

    assert [Fetch(1, {"X": octets})] == parse(b'* 1 FETCH (X "%s")\r\n' % quoted)


def test_time_grows_with_the_bytes_and_not_with_the_pieces() -> None:
    """16 times the line costs about 16 times the time even byte by byte (an old parser's cost grew 256 times)."""

    def seconds(count: int) -> float:
        line = b"* FLAGS (" + b"a " * count + b")\r\n"
        best = 1e9
        for _ in range(3):
            parser = Parser()
            start = time.thread_time()
            for at in range(0, len(line), 16):
                parser.feed(line[at : at + 16])
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(64_000) < 60 * seconds(4_000)


def test_thousands_of_lines_in_one_read() -> None:
    """traps.md I1: the library's parser dies of recursion at about 980."""
    data = b"".join(b"* %d FETCH (UID %d FLAGS ())\r\n" % (at, at) for at in range(1, 50_001))

    assert list(range(1, 50_001)) == [each.uid for each in parse(data) if isinstance(each, Fetch)]


DATES = {
    "a zone east": (b"22-Nov-2026 10:00:00 +0130", datetime(2026, 11, 22, 8, 30, tzinfo=UTC)),
    "a zone west": (b"22-Nov-2026 10:00:00 -0800", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
    "a day of one digit with its space": (b" 1-Jan-1999 00:00:00 +0000", datetime(1999, 1, 1, tzinfo=UTC)),
    "a leap second": (b"31-Dec-2016 23:59:60 +0000", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    "a month in capitals": (b"01-DEC-2020 00:00:00 +0000", datetime(2020, 12, 1, tzinfo=UTC)),
    "no such day": (b"31-Feb-2020 00:00:00 +0000", None),
    "no such month": (b"01-Foo-2020 00:00:00 +0000", None),
    "before all time": (b"01-Jan-0001 00:00:00 +0100", None),
    "nothing": (None, None),
}


@pytest.mark.parametrize(("text", "expected"), DATES.values(), ids=DATES.keys())
def test_internal_date(text: bytes | None, expected: datetime | None) -> None:
    assert expected == internal_date(text)


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from(["+0000", "-0800", "+0130", "+9959", "-0001"]),
    st.sampled_from(["%d-%b-%Y %H:%M:%S ", "%e-%b-%Y %H:%M:%S ", "%d-%b-%Y %H:%M:60 ", "%d-%b-%y %H:%M:%S "]),
    st.integers(0, 26), st.sampled_from(["", " ", "-", "0", "9", "x", "\xff"]),
)  # fmt: skip
def test_dates_are_read_the_same_with_and_without_the_short_cut(
    moment: datetime, zone: str, form: str, at: int, wound: str
) -> None:
    text = moment.strftime(form) + zone
    value = (text[:at] + wound + text[at + len(wound) :]).encode("latin-1")

    assert response._read_date(value) == internal_date(value)

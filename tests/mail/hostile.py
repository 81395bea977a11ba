"""Text and whole messages made to cost parsers quadratic time, and the clock that holds them to it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT = 2.0
"""Seconds. Linear code needs a tenth of this on a slow machine; quadratic code needs minutes."""

FRAGMENTS = (
    *("(", "((()", "(<", '("\\', "(a)<b@c>", '"', '\\"', '"\\', '"@', "\\", "'"),
    *("<", "<<", ">", "<>", "<a@b>", "[", "[a", "[a]", "@", "a@", "a@b,", "a@b ", "a@b@", "é@é,"),
    *("=?", "=?x?q?", "=?x?q?a?=", "=?x?b?", "=?utf-7?q?+2AA-?=", "=?punycode?q?a?=", "=?zlib?b?a?="),
    *(";", "; ", ' ;a="', " ", "\t", ":", "::", ",", "\x00", "\x7f", "&lt;", "&#9", "&", "a", "-", "> "),
    *("[fwd: ", "Re: ", "(fwd)", "Re[1]:", "From: ", ">From: ", "<!--", "<a ", "<a b='", "<style>", "</", "\r", "\n"),
)


def repeated(fragment: str, length: int = 200_000) -> str:
    """A text of about that many characters."""
    return fragment * (length // len(fragment))


@contextmanager
def in_time(limit: float = LIMIT) -> Iterator[None]:
    """Fails if what is done takes longer than that many seconds of this process's time."""
    start = time.process_time()
    yield
    spent = time.process_time() - start

    assert spent < limit, f"took {spent:.1f} s"


_PLAIN = "Content-Type: text/plain"
_HTML = "Content-Type: text/html"
_MIXED = "Content-Type: multipart/mixed; boundary=b"


def mail(*header: str, body: str = "") -> bytes:
    return "\r\n".join(["From: anna@ourco.example", "To: ourco@bcc.ourco.example", *header, "", body]).encode()


def nested(depth: int, size: int, end: str = "-") -> bytes:
    """A multipart in a multipart, and so on, around that many characters."""
    levels = (f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n" for level in range(depth))
    return ("".join(levels) + "\r\n" + end * size).encode()


MAILS: dict[str, Callable[[], bytes]] = {
    # reliability.md, Threats: MIME bombs; traps.md, Parsing
    "1,000 levels": lambda: nested(1_000, 1_000),
    "300 levels around 5 MB": lambda: nested(300, 5_000_000),
    "300 levels around 5 MB of boundaries": lambda: nested(300, 1_000_000, "\n--b1"),
    "boundaries that begin each other, in each other": lambda: (
        b"".join(
            b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n--%s\r\n' % (b"a" * n, b"a" * n)
            for n in range(1, 11)
        )
        + b"\r\n"
        + b"--aaaaaaaaaaX\n" * 1_400_000
    ),
    "boundaries in the middle of lines": lambda: mail(_MIXED, body="x--b\n" * 4_000_000),
    "boundaries before spaces": lambda: mail(_MIXED, body="--b" + " " * 20_000_000),
    "1,000 long boundaries": lambda: mail(
        _MIXED,
        body="".join(
            f"--b\r\nContent-Type: multipart/mixed; boundary={'x' * 30_000}\r\n\r\n\r\n" for _ in range(1_000)
        ),
    ),
    "a million parts": lambda: mail(_MIXED, body="--b\r\n\r\n" * 1_000_000),
    "a million parts with headers": lambda: mail(
        _MIXED, body="--b\r\nContent-Type: text/html\r\n\r\nx\r\n" * 700_000
    ),
    "100,000 attached messages in each other": lambda: mail("Content-Type: message/rfc822", body="") * 100_000,
    "900 attached messages with 2,500 recipients": lambda: mail(
        _MIXED, body=f"--b\r\nContent-Type: message/rfc822\r\n\r\nTo: {'a@b.example, ' * 2_500}\r\n\r\n" * 900
    ),
    "base64 in base64": lambda: mail(
        "Content-Type: message/rfc822", "Content-Transfer-Encoding: base64", body="QUFB" * 5_000_000
    ),
    "160 kB of semicolons in a parameter": lambda: mail(f'{_MIXED}; x="{";" * 160_000}"'),
    "160 kB of semicolons": lambda: mail(_MIXED + ";" * 160_000),
    "160 kB of parameters in sections": lambda: mail(_PLAIN + "".join(f"; name*{n}=x" for n in range(14_000))),
    "100 kB of From": lambda: mail("From: " + "(" * 50_000 + "a@b, " * 10_000),
    "100 kB of quotes in From": lambda: mail("From: " + '"\\' * 50_000),
    "To of 500 open comments": lambda: mail("To: " + "(" * 500),
    "an address that is none": lambda: mail("From: <a@[", "Message-ID: <>"),
    "a line end in an encoded word": lambda: mail("To: =?utf-8?q?=0A?= <a@b>"),
    "400 kB of Subject": lambda: mail("Subject: " + "=?utf-8?q?a?= " * 28_000),
    "100,000 references": lambda: mail("References: " + "".join(f"<{n}@x>\r\n " for n in range(100_000))),
    "100,000 fields": lambda: mail(*(f"X-{n}: x" for n in range(100_000))),
    "100,000 times To": lambda: mail(*["To: a@b.example"] * 100_000),
    "a header of 16 MB": lambda: mail("X: y\r\n" + " \r\n" * 4_000_000),
    "16 MB of empty lines": lambda: mail(_PLAIN, body="\r\n" * 8_000_000),
    "20 kB of line ends": lambda: mail(_PLAIN, body="\n" * 20_000),
    "20 MB without a line end": lambda: mail(_PLAIN, body="x" * 20_000_000),
    "a quoted header without an end": lambda: mail(_PLAIN, body="From: a@b\nTo: " + "a@b.example,\n" * 1_000_000),
    "quote marks without an end": lambda: mail(_PLAIN, body="> " * 2_000_000),
    "200 kB of comments in HTML": lambda: mail(_HTML, body="<!--" * 50_000),
    "150 kB of open links": lambda: mail(_HTML, body="<a " * 50_000),
    "240 kB of attributes": lambda: mail(_HTML, body="<a " + "b='" * 80_000),
    "links to addresses without an end": lambda: mail(_HTML, body="<a href=mailto:a@b>" * 14_000),
    "quotations without an end": lambda: mail(_HTML, body="<blockquote>x" * 20_000),
    "35 MB of HTML": lambda: mail(_HTML, body="<p>" * 11_600_000),
    "1,000 HTML parts of 35 kB": lambda: mail(
        _MIXED, body=f"--b\r\nContent-Type: text/html\r\n\r\n{'<a ' * 11_600}\r\n" * 1_000
    ),
    "text in punycode": lambda: mail(f"{_PLAIN}; charset=punycode", body="a-" * 200_000),
    "text in UTF-7": lambda: mail(f"{_PLAIN}; charset=utf-7", body="+2AA-" * 100_000),
}
"""Whole messages, each made when it is asked for."""

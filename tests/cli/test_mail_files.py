import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maillinkd.cli.mail_files import Reader, find

MAIL = b"Subject: one\n\nHello\n"
MBOX = (
    b"From a@b Sun Mar  1 10:00:00 2026\nSubject: one\n\nHello\n\n"
    b"From a@b Mon Mar  2 10:00:00 2026\nSubject: two\n\nHi\n"
)
FIRST, SECOND = datetime(2026, 3, 1, 10, tzinfo=UTC), datetime(2026, 3, 2, 10, tzinfo=UTC)


def read(*paths: Path) -> tuple[list[tuple[bytes, datetime | None]], list[str]]:
    reader = Reader(find(paths))
    return list(reader.mails()), reader.problems


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_mbox_tells_when_its_mails_were_received(tmp_path: Path) -> None:
    path = put(tmp_path / "archive", MBOX)

    assert read(path) == ([(b"Subject: one\n\nHello\n", FIRST), (b"Subject: two\n\nHi\n", SECOND)], [])


def test_an_mbox_may_be_compressed(tmp_path: Path) -> None:
    path = put(tmp_path / "archive.gz", gzip.compress(MBOX, mtime=0))

    assert read(path) == read(put(tmp_path / "archive", MBOX))


def test_an_eml_file_says_nothing_of_its_receipt(tmp_path: Path) -> None:
    assert read(put(tmp_path / "one.eml", MAIL)) == ([(MAIL, None)], [])


def test_a_maildir_is_read_with_its_subfolders_but_not_what_is_being_delivered(tmp_path: Path) -> None:
    put(tmp_path / "cur" / "1772359200.M1.host:2,S", b"Subject: cur\n\n")
    put(tmp_path / "new" / "1772445600.M2.host", b"Subject: new\n\n")
    put(tmp_path / "tmp" / "1772445600.M3.host", b"Subject: tmp\n\n")
    put(tmp_path / ".Sent" / "cur" / "1772359200.M4.host:2,S", b"Subject: sent\n\n")
    put(tmp_path / "Archive" / "2025" / "cur" / "unusual-name", b"Subject: nested\n\n")
    put(tmp_path / "dovecot-uidlist", b"3 V1")
    put(tmp_path / "cur" / ".hidden", b"Subject: hidden\n\n")

    mails, problems = read(tmp_path)

    assert dict(mails) == {
        b"Subject: cur\n\n": FIRST,
        b"Subject: new\n\n": SECOND,
        b"Subject: sent\n\n": FIRST,
        b"Subject: nested\n\n": None,
    }
    assert problems == []


def test_a_mail_in_a_maildir_is_a_mail_whatever_it_begins_with(tmp_path: Path) -> None:
    put(tmp_path / "cur" / "1772359200.M1.host:2,S", MBOX)
    put(tmp_path / "cur" / "1772445600.M2.host:2,S", b"\x00 no header at all")

    assert read(tmp_path) == ([(MBOX, FIRST), (b"\x00 no header at all", SECOND)], [])


def test_of_a_folder_the_mail_files_are_taken(tmp_path: Path) -> None:
    put(tmp_path / "b.eml", MAIL)
    put(tmp_path / "deep" / "a.MBOX", MBOX)
    put(tmp_path / "notes.txt", b"no mail")

    mails, problems = read(tmp_path)

    assert [received for _, received in mails] == [None, FIRST, SECOND]
    assert problems == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{\n not mail }", "is neither mbox nor mail"),
        (gzip.compress(MBOX, mtime=0)[:-9], "ended before the end-of-stream"),
        (b"\x1f\x8b but no gzip", "Not a gzipped file|Unknown compression|Compressed|end-of-stream"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_stops_nothing_else(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    bad, good = put(tmp_path / "bad", content), put(tmp_path / "good.eml", MAIL)

    mails, problems = read(bad, good)

    assert (MAIL, None) in mails
    assert len(problems) == 1
    assert problems[0].startswith(f"{bad}: ")
    assert any(part in problems[0] for part in expected.split("|"))


def test_an_empty_mbox_holds_no_mail(tmp_path: Path) -> None:
    assert read(put(tmp_path / "empty.mbox", b"")) == ([], [])


def test_files_are_read_in_the_order_of_the_paths(tmp_path: Path) -> None:
    second, first = put(tmp_path / "2.eml", b"A: 2\n\n"), put(tmp_path / "1.eml", b"A: 1\n\n")

    assert [raw for raw, _ in read(second, first)[0]] == [b"A: 2\n\n", b"A: 1\n\n"]

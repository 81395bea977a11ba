"""Where a message lies while it is being received."""

import os
from pathlib import Path

import pytest

from maillinkd.smtp.spool import IN_MEMORY, Spool


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY])
def test_what_was_added_is_read(size: int, tmp_path: Path) -> None:
    text = os.urandom(size)
    with Spool(limit=size, directory=tmp_path) as spool:
        for start in range(0, size, 10_000):
            spool.add(text[start : start + 10_000])

        assert spool.read() == text
        assert (spool.size, spool.too_large) == (size, False)


def test_a_large_message_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    with Spool(limit=10 * IN_MEMORY, directory=tmp_path) as spool:
        spool.add(b"x" * (IN_MEMORY + 1))
        spool.add(b"y")

        assert list(tmp_path.iterdir()) == []
        assert spool.read() == b"x" * (IN_MEMORY + 1) + b"y"


def test_beyond_its_limit_nothing_is_kept_and_all_is_counted() -> None:
    with Spool(limit=10) as spool:
        spool.add(b"x" * 10)
        assert not spool.too_large
        spool.add(b"x")
        spool.add(b"x" * 100)

        assert (spool.too_large, spool.size, spool.read()) == (True, 111, b"")


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    with Spool(limit=10 * IN_MEMORY, directory=tmp_path / "absent") as spool, pytest.raises(OSError):
        spool.add(b"x" * (IN_MEMORY + 1))

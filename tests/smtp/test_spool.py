"""Where a message lies while it is being received."""

import os
from pathlib import Path

import pytest

from maillinkd.smtp.spool import IN_MEMORY, Spool


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY])
def test_what_was_added_is_read(size: int, tmp_path: Path) -> None:
    text = os.urandom(size)
    spool = Spool(tmp_path)
    for start in range(0, size, 10_000):
        spool.add(text[start : start + 10_000])

    assert spool.read() == text
    spool.drop()


@pytest.mark.parametrize("size", [1, IN_MEMORY + 1])
def test_what_was_dropped_is_gone(size: int, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(b"x" * size)
    files = len(os.listdir("/proc/self/fd"))
    spool.drop()

    assert spool.read() == b""
    assert files - len(os.listdir("/proc/self/fd")) == (size > IN_MEMORY)


def test_a_large_message_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(b"x" * (IN_MEMORY + 1))
    spool.add(b"y")

    assert list(tmp_path.iterdir()) == []
    assert spool.read() == b"x" * (IN_MEMORY + 1) + b"y"
    spool.drop()


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Spool(tmp_path / "absent").add(b"x" * (IN_MEMORY + 1))

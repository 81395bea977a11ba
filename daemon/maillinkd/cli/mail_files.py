"""Mail in files, as `import mail` takes it: mbox, Maildir, .eml, and folders of these."""

import gzip
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from maillinkd.mail.mbox import maildir_received_at, read_mbox

_SUFFIXES = (".eml", ".mbox", ".mbx", ".mbox.gz", ".mbx.gz", ".eml.gz")
"""Names of files that are taken from a folder; a file that is named itself may have any."""
_HEADER_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
"""RFC 5322, 2.2: how a message begins."""
_GZIP = b"\x1f\x8b"

Mail = tuple[bytes, datetime | None]


@dataclass(frozen=True, slots=True)
class MailFile:
    """A file that holds mail."""

    path: Path
    received_at: datetime | None = None
    in_maildir: bool = False


def find(paths: Iterable[Path]) -> list[MailFile]:
    """The files under these paths: a file as it is, a Maildir with its subfolders, a folder's .eml and mbox files.

    In the order of the paths, within a folder in that of the names. Raises OSError for what cannot be looked into.
    """
    return [file for path in paths for file in (_in_folder(path) if path.is_dir() else [MailFile(path)])]


def _in_folder(folder: Path) -> Iterator[MailFile]:
    is_maildir = any((folder / name).is_dir() for name in ("cur", "new"))
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if is_maildir and entry.name == "tmp":
                continue  # not yet delivered
            yield from _in_maildir(entry) if is_maildir and entry.name in ("cur", "new") else _in_folder(entry)
        elif not is_maildir and entry.name.lower().endswith(_SUFFIXES):
            yield MailFile(entry)


def _in_maildir(folder: Path) -> Iterator[MailFile]:
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and not entry.name.startswith("."):
            yield MailFile(entry, maildir_received_at(entry.name), in_maildir=True)


class Reader:
    """Reads mail files one after another. What cannot be read stops nothing else, and is told in `problems`."""

    def __init__(self, files: Sequence[MailFile]) -> None:
        self._files = files
        self.problems: list[str] = []

    def mails(self) -> Generator[Mail, None, None]:
        """The bytes of each mail, and when it was received, where the file tells."""
        for file in self._files:
            try:
                with file.path.open("rb") as raw:
                    if raw.peek(2)[:2] == _GZIP:
                        with gzip.open(raw) as stream:
                            yield from self._read(file, cast(BinaryIO, stream))
                    else:
                        yield from self._read(file, raw)
            except (OSError, EOFError) as error:  # gzip.BadGzipFile is an OSError; EOFError: it was cut off
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                self.problems.append(f"{file.path}: {reason}")

    def _read(self, file: MailFile, stream: BinaryIO) -> Iterator[Mail]:
        start = stream.peek(4_096)  # type: ignore[attr-defined]  # both kinds of stream have it
        start = start.lstrip(b"\r\n")
        if start.startswith(b"From ") and not file.in_maildir:
            yield from read_mbox(stream)
        elif file.in_maildir or _HEADER_FIELD.match(start):
            yield stream.read(), file.received_at
        elif start or not file.path.name.lower().endswith(_SUFFIXES):
            self.problems.append(f"{file.path}: is neither mbox nor mail")

"""A message while it is being received: a little in memory, the rest in an unnamed file, nothing beyond its limit."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

IN_MEMORY = 256 * 1024
"""Octets of a message that may stay in memory while it is being received."""


class Spool:
    """Octets of one message, in the order in which they are added. A context manager; its end drops them."""

    def __init__(self, limit: int, directory: Path | None = None) -> None:
        """`limit` in octets; `directory` is where the file lies, the system's place for such files by default."""
        self._limit = limit
        self._directory = directory
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0
        """Octets added, also those beyond the limit, which are not kept."""

    @property
    def too_large(self) -> bool:
        return self.size > self._limit

    def add(self, octets: bytes) -> None:
        """Adds octets. Raises OSError when the disk does not take them; then the message is lost."""
        self.size += len(octets)
        if self.too_large:
            self.drop()
        elif self._file:
            self._file.write(octets)
        else:
            self._memory += octets
            if len(self._memory) > IN_MEMORY:
                self._spill()

    def read(self) -> bytes:
        """All that was added. Raises OSError when the disk does not give it back."""
        if self._file is None:
            return bytes(self._memory)
        self._file.seek(0)
        return self._file.read()

    def drop(self) -> None:
        """Forgets what was added, and gives memory and disk back."""
        self._memory = bytearray()
        if self._file:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def _spill(self) -> None:
        # Closed by drop(); unbuffered, so that a full disk shows where octets are added, not when they are dropped.
        self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        self._file.write(self._memory)
        self._memory = bytearray()

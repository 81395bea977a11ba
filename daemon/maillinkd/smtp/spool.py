"""A message while it is being received: a little in memory, the rest in an unnamed file."""

import tempfile
from pathlib import Path
from typing import IO

IN_MEMORY = 256 * 1024
"""Octets of a message that may stay in memory while it is being received."""


class Spool:
    """Octets of one message, in the order in which they are added."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` is where the file lies, the system's place for such files by default."""
        self._directory = directory
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, octets: bytes) -> None:
        """Adds octets. Raises OSError when the disk does not take them; then the message is lost."""
        if self._file:
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

    def _spill(self) -> None:
        # Closed by drop(); unbuffered, so that a full disk shows where octets are added, not when they are dropped.
        self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
        self._file.write(self._memory)
        self._memory = bytearray()

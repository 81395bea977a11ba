"""What comes after DATA or BDAT: dots unstuffed, the end found, bare CR and LF refused (RFC 5321, 4.5.2).

A message ends at CRLF.CRLF and nowhere else, and CR and LF stand nowhere but together: so no sender can hide a
second message in the first (SMTP smuggling), whatever the next server takes for a line end.
"""

_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."
_LINE_END = b"\r\n"


class BareLineEnding(Exception):
    """A CR without LF or an LF without CR (RFC 5321, 2.3.8)."""


class _Decoder:
    """What both ways to send a message share: how long it is, and how long its lines are."""

    def __init__(self) -> None:
        self.octets = 0
        """Octets of the message so far, those held back aside."""
        self.longest_line = 0
        """Octets of the longest line so far, without its CRLF."""
        self._line = 0

    def finish(self) -> None:
        """No more is to come. Raises BareLineEnding if a CR still waits for its LF, as it may after BDAT."""

    def _measure(self, text: bytes) -> None:
        """Follows the length of lines. A line is measured exactly only where it might be the longest."""
        self.octets += len(text)
        first = text.find(_LINE_END)
        if first < 0:
            self._line += len(text)
            self.longest_line = max(self.longest_line, self._line)
            return
        self.longest_line = max(self.longest_line, self._line + first)
        if len(text) > self.longest_line:
            self.longest_line = max(self.longest_line, *map(len, text[first:].split(_LINE_END)))
        self._line = len(text) - text.rfind(_LINE_END) - len(_LINE_END)


class DataDecoder(_Decoder):
    """Turns the octets on the wire into those of the message, in chunks of any size, holding at most four back.

    The result does not depend on how the octets are split into chunks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished = False
        """The final dot was seen."""
        self.rest = b""
        """What came after it."""
        # The CRLF that ends the command line DATA also begins the first line of the message (RFC 5321, 4.1.1.4).
        self._held = _LINE_END
        self._opening = True

    def feed(self, chunk: bytes) -> bytes:
        """Takes octets from the wire and returns those of the message that are certain.

        Raises BareLineEnding; then the conversation can't go on.
        """
        data = self._held + chunk
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_END) :]
            data = data[: end + len(_LINE_END)]
        else:
            held = _held_length(data)
            data, self._held = data[: len(data) - held], data[len(data) - held :]
        if not data:
            return b""
        _require_whole_line_ends(data)
        text = data.replace(_STUFFED, _LINE_END)
        if self._opening:
            text = text[len(_LINE_END) :]
            self._opening = False
        self._measure(text)
        return text


class ChunkDecoder(_Decoder):
    """The octets of BDAT (RFC 3030): they are those of the message, dots and all; only the line ends are checked.

    BINARYMIME is not offered, so what comes is text. A CR at the end of a chunk is held back for its LF.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Takes octets from the wire and returns those that are certain. Raises BareLineEnding."""
        data = self._held + chunk
        self._held = data[-1:] if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self._held)]
        _require_whole_line_ends(data)
        self._measure(data)
        return data

    def finish(self) -> None:
        if self._held:
            raise BareLineEnding


def _require_whole_line_ends(data: bytes) -> None:
    if not data.count(b"\r") == data.count(b"\n") == data.count(_LINE_END):
        raise BareLineEnding


def _held_length(data: bytes) -> int:
    """How many of the last octets may belong to an end or a stuffed dot that is still to come."""
    for length in range(len(_END) - 1, 0, -1):
        if data.endswith(_END[:length]):
            return length
    return 0

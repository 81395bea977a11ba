"""PURE: what goes wrong with a server, by what is to be done about it. All texts are safe to log."""

import re

_TEXT_LIMIT = 300
_TRANSIENT_CODES = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "THROTTLED"})
_TRANSIENT_TEXT = re.compile(r"too many (simultaneous )?connections|temporar|try again|not connected|throttl", re.I)
_SUGGESTED = re.compile(r"Suggested Backoff Time: ([0-9]{1,9}) milliseconds", re.I)
_NOT_CONNECTED = re.compile(r"authenticated but not connected", re.I)


class ImapError(Exception):
    """The other end's fault. The text is safe to log: one line, no secret."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.retry_after = _retry_after(text or message)
        """Seconds that the server asked us to stay away, None if it did not."""


class Unreachable(ImapError):
    """No connection, or not one that serves us now: name, network, TLS, greeting, too many connections."""


class Untrusted(Unreachable):
    """The server is not proven to be the one configured, or the way to it is not private."""


class ConnectionLost(Unreachable):
    """The connection broke while in use, or was given up because a deadline passed."""


class Refused(ImapError):
    """A command was answered NO or BAD."""

    def __init__(self, command: str, condition: str, code: str, text: str) -> None:
        bracketed = f"[{code}] " if code else ""
        super().__init__(f"{command}: {condition} {bracketed}{printable(text)}", text)
        self.command = command
        self.condition = condition
        self.code = code
        self.text = printable(text)

    @property
    def transient(self) -> bool:
        """The server says, or seems to say, that later it may be otherwise (RFC 5530)."""
        return self.code in _TRANSIENT_CODES or bool(_TRANSIENT_TEXT.search(self.text))


class NoPassword(ImapError):
    """The password could not be had (its file, variable or command failed), or cannot be sent."""


class LoginRefused(Refused):
    """Name or password are wrong, expired or not permitted: asking again soon makes it worse."""


def printable(text: str) -> str:
    """A server's words on one line, without control characters, not endless."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _TEXT_LIMIT else clean[:_TEXT_LIMIT] + "…"


def _retry_after(text: str) -> float | None:
    if suggested := _SUGGESTED.search(text):
        return int(suggested[1]) / 1000
    return 60.0 if _NOT_CONNECTED.search(text) else None

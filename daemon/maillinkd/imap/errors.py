"""PURE: what goes wrong with a server, by what is to be done about it. All texts are safe to log."""

import re

_TEXT_LIMIT = 300
_TRANSIENT_CODES = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "THROTTLED", "OVERQUOTA"})
_TRANSIENT_TEXT = re.compile(
    r"too many (simultaneous )?connections|number of connections|temporar|try again|not connected|throttl|rate limit",
    re.I,
)
_CONNECTIONS = re.compile(r"too many (simultaneous )?connections|number of connections", re.I)
_TOO_MUCH = re.compile(r"\[OVERQUOTA\]|bandwidth limit|rate limit", re.I)
"""We have asked for too much: Gmail ("Account exceeded command or bandwidth limits", with OVERQUOTA, which for who
stores nothing can mean nothing else) and Yahoo ("Rate limit hit")."""
_TOO_MUCH_WAIT = 1_800.0
_SUGGESTED = re.compile(r"Suggested Backoff Time: ([0-9]{1,9}) milliseconds", re.I)
_NOT_CONNECTED = re.compile(r"authenticated but not connected", re.I)


class ImapError(Exception):
    """The other end's fault. The text is safe to log: one line, no secret."""

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        said = text or message
        self.retry_after = _retry_after(said)
        """Seconds that the server asked us to stay away, or that it wants as is known; None for neither."""
        self.no_connection_left = bool(_CONNECTIONS.search(said))
        """The server permits no more connections than there are."""


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
        super().__init__(f"{command}: {condition} {bracketed}{printable(text)}", f"{bracketed}{text}")
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


class NoToken(NoPassword):
    """There is no OAuth token: nobody has logged in yet, or the provider has revoked it."""


class LoginRefused(Refused):
    """Name or password are wrong, expired or not permitted: asking again soon makes it worse."""


def garbled(host: str, error: Exception) -> Unreachable:
    """For whoever need not know what a ProtocolError is."""
    return Unreachable(f"{host} does not speak IMAP as it should: {error}")


def printable(text: str) -> str:
    """A server's words on one line, without control characters, not endless."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= _TEXT_LIMIT else clean[:_TEXT_LIMIT] + "…"


def _retry_after(text: str) -> float | None:
    if suggested := _SUGGESTED.search(text):
        return int(suggested[1]) / 1000
    if _TOO_MUCH.search(text):
        return _TOO_MUCH_WAIT
    return 60.0 if _NOT_CONNECTED.search(text) else None

"""PURE: a server that is said to hold an address's mail, and who says so."""

import re
from dataclasses import dataclass
from typing import Literal

Tls = Literal["implicit", "starttls"]
Auth = Literal["password", "oauth2"]
Evidence = Literal["list", "https", "dns"]

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")


@dataclass(frozen=True, slots=True)
class Offer:
    """One server. TLS is part of it: what would go in clear is no offer."""

    host: str
    port: int
    tls: Tls
    usernames: tuple[str, ...]
    """The user name in the forms that may be right, the likeliest first."""
    source: str
    """Who says so, for people: "the list of providers (Gmail)", "SRV _imaps._tcp.ourco.example"."""
    evidence: Evidence
    """How far to believe it: our own list, a document that came over HTTPS, or plain DNS, which can be forged."""
    auth: tuple[Auth, ...] = ("password",)
    """How one signs in, the preferred way first."""
    provider: str = ""
    """Who hands out OAuth2 tokens: "google", "microsoft", "" where nobody that we know does."""
    folders: tuple[str, ...] = ("INBOX", "\\Sent")
    bytes_a_day: int = 0
    """To be kept to, below the provider's own limit; 0: it has told none."""
    """What is best followed there."""
    note: str = ""
    """What a person needs to know: where to get an app password, what must be switched on."""

    @property
    def place(self) -> str:
        """`imap.ourco.example:993`, for people."""
        return f"{self.host}:{self.port}" + (" (STARTTLS)" if self.tls == "starttls" else "")

    def leads_away_from(self, domain: str) -> bool:
        """Whether a stranger may have a hand in it: out of the domain, on the word of others than our own list.

        Then a person is to agree (RFC 6186, 6).
        """
        return self.evidence != "list" and not is_inside(self.host, domain)


@dataclass(frozen=True, slots=True)
class Tried:
    """A source that was asked, and what came of it."""

    source: str
    outcome: str


def host_name(text: str) -> str:
    """The host name in the form in which it is compared and dialled: lower case, IDNA, no dot at its end.

    Raises ValueError for what is none (an IP address is one only to look at, and no certificate proves it).
    """
    name = text.strip().rstrip(".").lower()
    if not name.isascii():
        import idna

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError("no host name") from error
    if not _HOST.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ValueError("no host name")
    return name


def is_inside(host: str, domain: str) -> bool:
    """Whether the host is the domain's own: itself or below it (RFC 6186, 6)."""
    return host == domain or host.endswith(f".{domain}")

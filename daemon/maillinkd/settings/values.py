"""What stands in the keys: endpoints, addresses, domains, networks, paths, dates; as types that pydantic checks."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Strict, StringConstraints

from maillinkd.mail.address import normalise


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listening address. Port 0 means any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Reads `127.0.0.1:25`, `localhost:25` or `[::]:25`; raises ValueError for anything else."""
        shape = re.fullmatch(
            r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>[0-9]{1,5})", text
        )
        if shape is None or int(shape["port"]) > 65_535:
            raise ValueError('expected "host:port" or "[::]:port" with a port of 0 to 65535')
        return cls(shape["six"] or shape["host"], int(shape["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    if not isinstance(value, str):
        raise ValueError('expected a text "host:port"')  # noqa: TRY004  # pydantic turns ValueError into a problem
    return Endpoint.parse(value)


def _path(value: object) -> object:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("expected a path without NUL")
        return Path(value) if value else None
    return value


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError('expected a network such as "192.0.2.0/24", without host bits') from error


def _address(value: str) -> str:
    """The address as linking.md compares it (RFC 5321 shape, IDNA domain, lower case)."""
    if not re.fullmatch(r"[^\s@<>,;:\"\\()\[\]\x00-\x1f\x7f]+@[^\s@<>,;:\"\\()\[\]\x00-\x1f\x7f]+", value):
        raise ValueError('expected one address such as "anna@ourco.example"')
    return normalise(value)


def _domain(value: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"\\()\[\]/\x00-\x1f\x7f]+", value) or not value.strip("."):
        raise ValueError('expected a domain such as "ourco.example"')
    return _address(f"postmaster@{value.strip('.')}").partition("@")[2]


def _blocked(value: str) -> str:
    """An address, or "@" and a domain."""
    try:
        return f"@{_domain(value[1:])}" if value.startswith("@") else _address(value)
    except ValueError:
        raise ValueError('expected an address such as "noise@x.example", or a domain as in "@x.example"') from None


def _domain_or_none(value: str) -> str:
    return _domain(value) if value else ""


def _local_part(value: str) -> str:
    # RFC 5321, 4.1.2 (Dot-string), less "+": linking.md L13 puts the tag behind it.
    if value and not re.fullmatch(r"[a-z0-9!#$%&'*/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*/=?^_`{|}~-]+)*", value.lower()):
        raise ValueError('expected the part before "@" and before any "+", such as "ourco"')
    return value.lower()


def _host(value: str) -> str:
    if not re.fullmatch(r"[^\s/@\[\]\x00-\x1f\x7f]+", value) or (":" in value and not is_ip(value)):
        raise ValueError(
            'expected a host name or an IP address alone, such as "imap.example.com"; the port has its own key'
        )
    return value


def address_or_none(text: str) -> str | None:
    """The address, normalised, if the text is one."""
    try:
        return _address(text)
    except ValueError:
        return None


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    return host.lower() == "localhost" or (is_ip(host) and ip_address(host).is_loopback)


SPECIAL_USE = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash")
"""RFC 6154, 2 and RFC 8457."""


def _folder(value: str) -> str:
    """A name, a glob, or a special-use flag (in the RFC's letter case)."""
    if not value or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("expected a folder's name, a glob, or a special-use flag such as '\\Sent'")
    if not value.startswith("\\"):
        return value
    flags = {flag.lower(): flag for flag in SPECIAL_USE}
    if value.lower() not in flags:
        raise ValueError(f"expected one of the special-use flags {', '.join(SPECIAL_USE)}")
    return flags[value.lower()]


def _since(value: object) -> object:
    """TOML's own dates are welcome: `since = 2026-01-05` means `since = "2026-01-05"`."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    return value


def _since_text(value: str) -> str:
    if value == "all" or re.fullmatch(r"[1-9][0-9]{0,3}[dwmy]", value):
        return value
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError('expected "30d", "12w", "6m", "1y", a date such as "2026-01-05", or "all"') from None


def _url(value: str) -> str:
    """An endpoint (RFC 6749, 3.1 and 3.2: TLS, no fragment); on loopback without TLS too."""
    if not value:
        return value
    try:
        url = urlsplit(value)
        host, _ = url.hostname or "", url.port
    except ValueError:
        host, url = "", urlsplit("")
    secure = url.scheme == "https" or (url.scheme == "http" and is_loopback(host))
    if not host or not secure or url.fragment or "@" in url.netloc or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError('expected an address such as "https://login.example.com/oauth2/token"')
    return value


T = TypeVar("T")

Many = Annotated[tuple[T, ...], Strict(False)]
"""A list of TOML."""

Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_.-]{1,64}\z")]
Address = Annotated[str, AfterValidator(_address)]
Domain = Annotated[str, AfterValidator(_domain)]
DomainOrNone = Annotated[str, AfterValidator(_domain_or_none)]
LocalPart = Annotated[str, AfterValidator(_local_part)]
Blocked = Annotated[str, AfterValidator(_blocked)]
HostAndPort = Annotated[Endpoint, BeforeValidator(_endpoint)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url)]
FilePath = Annotated[Path | None, BeforeValidator(_path)]
Folder = Annotated[str, AfterValidator(_folder)]
Since = Annotated[str, AfterValidator(_since_text), BeforeValidator(_since)]

"""What the checks ask of DNS. `resolver` answers from the network, tests answer from a table."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, Protocol

Address = IPv4Address | IPv6Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE | re.ASCII)


class DnsTemporary(Exception):
    """The question was not answered: time, SERVFAIL, no network. Asking again later may help. Safe to show."""


class Dns(Protocol):
    """Asks for records. What does not exist, or cannot be a name, has none. All raise DnsTemporary."""

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """The TXT records, the strings of each joined (RFC 7208, 3.3; RFC 6376, 3.6.2.2)."""

    async def addresses(self, name: str, version: Literal[4, 6]) -> tuple[Address, ...]:
        """The A records, or the AAAA records."""

    async def mx(self, name: str) -> tuple[str, ...]:
        """The hosts of the MX records, the preferred first."""

    async def names(self, address: Address) -> tuple[str, ...]:
        """The names of an address (PTR)."""


def is_domain(text: str) -> bool:
    """Whether the text can be the name of a domain that sends mail: two labels or more, A-labels, no final dot."""
    labels = text.split(".")
    return len(text) <= 253 and len(labels) > 1 and all(_LABEL.fullmatch(label) for label in labels)

"""How many connections there may be: in all, of one client, and new ones of one client in a minute."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_MINUTE = 60.0
_CLIENT_PREFIX_V6 = 64
"""One customer's IPv6 addresses; a client could use a new one for every connection."""

TOTAL = "max_connections"
PER_CLIENT = "max_connections_per_client"
NEW_PER_MINUTE = "max_new_connections_per_minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections may be open, how many of one client, and how many of these may be new in a minute."""

    total: int
    per_client: int
    new_per_minute: int
    exempt: tuple[str, ...] = ()
    """Networks whose clients only the total limits."""


class ConnectionGuard:
    """Counts connections. Times are seconds of a monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        """Raises ValueError for an exempt network that is none."""
        self._open: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._minute_ends = 0.0
        self.limit(limits)

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._open.total()

    def connections_of(self, peer: str) -> int:
        """How many of them are this client's."""
        return self._open[self._client(peer)[0]]

    def limit(self, limits: Limits) -> None:
        """Other limits from now on. Raises ValueError as the making of a guard does, and changes nothing then."""
        self._exempt = tuple(map(ip_network, limits.exempt))
        self._limits = limits

    def is_exempt(self, peer: str) -> bool:
        """Whether only the total limits this client."""
        return not self._client(peer)[1]

    def admit(self, peer: str, now: float) -> str | None:
        """Counts a connection in, to be counted out by `leave`; or the limit that it would break, and no more.

        `peer` is the client's address, "" where it has none (a Unix socket). A client's own limits are asked first.
        """
        client, limited = self._client(peer)
        if limited:
            if self._open[client] >= self._limits.per_client:
                return PER_CLIENT
            if self._new_in_this_minute(client, now) >= self._limits.new_per_minute:
                return NEW_PER_MINUTE
        if self.connections >= self._limits.total:
            return TOTAL
        if limited:
            self._new[client] += 1
        self._open[client] += 1
        return None

    def leave(self, peer: str) -> None:
        """Counts a connection out that was admitted."""
        client, _ = self._client(peer)
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    def move(self, peer: str, client: str, now: float) -> str | None:
        """Counts a connection that was admitted as another client's, for whom its peer speaks.

        Or returns the limit that forbids it, and leaves it counted as it was.
        """
        self.leave(peer)
        limit = self.admit(client, now)
        if limit is not None:
            self._open[self._client(peer)[0]] += 1
        return limit

    def _new_in_this_minute(self, client: str, now: float) -> int:
        if now >= self._minute_ends:
            self._new.clear()
            self._minute_ends = now + _MINUTE
        return self._new[client]

    def _client(self, peer: str) -> tuple[str, bool]:
        """The name under which a peer is counted, and whether the limits of a client hold for it."""
        address = _address(peer)
        if address is None:
            return peer, False
        limited = not any(address in network for network in self._exempt if network.version == address.version)
        return _counted_as(address), limited


def lies_in(peer: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a client's address lies in one of the networks."""
    address = _address(peer)
    return address is not None and any(
        address in network for network in networks if network.version == address.version
    )


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(peer)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _counted_as(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), _CLIENT_PREFIX_V6), strict=False))

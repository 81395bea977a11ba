"""How many connections there may be: in all, of one client, and new ones of one client in a minute."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_MINUTE = 60.0
_CLIENT_PREFIX_V6 = 64
"""One customer's IPv6 addresses; a client could use a new one for every connection."""


class ConnectionGuard:
    """Counts connections. Times are seconds of a monotonic clock."""

    def __init__(self, *, total: int, per_client: int, new_per_minute: int, exempt: Iterable[str]) -> None:
        """`exempt` are networks whose clients only the total limits. Raises ValueError for what is no network."""
        self._total = total
        self._per_client = per_client
        self._new_per_minute = new_per_minute
        self._exempt = _networks(exempt)
        self._open: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._minute_ends = 0.0

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._open.total()

    def exempt(self, networks: Iterable[str]) -> None:
        """Other networks from now on. Raises ValueError for what is no network, and changes nothing then."""
        self._exempt = _networks(networks)

    def admit(self, peer: str, now: float) -> str | None:
        """Counts a connection in, to be counted out by `leave`; or the limit that it would break, and no more.

        `peer` is the client's address, "" where it has none (a Unix socket).
        """
        if self.connections >= self._total:
            return "connections"
        client, limited = self._client(peer)
        if limited:
            if self._open[client] >= self._per_client:
                return "connections_per_client"
            if self._new_in_this_minute(client, now) >= self._new_per_minute:
                return "new_connections_per_minute"
            self._new[client] += 1
        self._open[client] += 1
        return None

    def leave(self, peer: str) -> None:
        """Counts a connection out that was admitted."""
        client, _ = self._client(peer)
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

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


def _networks(names: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(name) for name in names)


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

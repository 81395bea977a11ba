"""What the listener needs to know of the configuration."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from maillinkd.smtp.address import SmartBccAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """What the door needs to know. Times in seconds, sizes in octets; the limits' reasons stand in reliability.md."""

    recipients: SmartBccAddress
    hostname: str
    """Our name in the greeting."""
    listen: tuple[tuple[str, int], ...] = ()
    """Host and port; none if sockets are handed over ready."""
    max_message_size: int = 20_000_000
    tls_certificate: Path | None = None
    """PEM, with its chain. STARTTLS is offered when it is set."""
    tls_key: Path | None = None
    spool_directory: Path | None = None
    """Where a message larger than 256 KiB lies while it is being received; by default in $TMPDIR."""

    max_connections: int = 200
    """Where there are no more, the client that has stalled longest makes room for the next one."""
    max_connections_per_client: int = 20
    """A client is an IPv4 address or an IPv6 /64."""
    max_new_connections_per_minute: int = 60
    """Of one client."""
    exempt_clients: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks for which the two limits above and `greeting_delay` do not hold: ours, and relays, which bring the
    mail of many."""
    trusted_relays: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of relays that may say for whom they speak."""
    proxy_protocol: bool = False
    """Whether the connections of those relays begin with a PROXY header."""
    greeting_delay: float = 0.2
    """Who speaks before he was greeted is turned away: he is no mail server (RFC 5321, 4.3.1)."""
    refusal_delay: float = 0.5
    """From the arrival of a RCPT to the answer that refuses it, whatever the reason: time tells guessers nothing."""
    max_recipients: int = 100
    max_errors: int = 20
    """Refused commands between two messages taken."""
    max_junk_commands: int = 100
    """Commands that bring no mail forward, between two messages taken."""
    max_hops: int = 50
    """Received fields of a message."""

    session_timeout: float = 3600.0
    idle_timeout: float = 300.0
    """RFC 5321, 4.5.3.2.7."""
    data_timeout: float = 180.0
    """Between two pieces of a message (RFC 5321, 4.5.3.2.5)."""
    min_data_rate: float = 500.0
    """Octets a second below which a sender of a message is too slow, after `data_grace`."""
    data_grace: float = 60.0
    data_total_timeout: float = 1800.0
    store_timeout: float = 600.0
    """How long a message may take to become durable: what clients wait for (RFC 5321, 4.5.3.2.6)."""

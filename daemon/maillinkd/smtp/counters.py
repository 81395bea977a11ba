"""What the door has seen since it was opened: what `status` shows, and what metrics are made of."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Numbers that only grow."""

    connections: int = 0
    """That were let in."""
    tls: int = 0
    """Of these, on which TLS was begun."""
    messages: int = 0
    """Answered with 250."""
    octets: int = 0
    """Of these messages."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Mail, commands and connections that were refused: by the setting that is the limit, by the code of a permanent
    reply, or by a word where there is neither (`early_talker`, `bare_line_ending`, `no_space`, `stopping`)."""

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "connections": self.connections,
            "tls": self.tls,
            "messages": self.messages,
            "octets": self.octets,
            "refusals": dict(sorted(self.refusals.items())),
        }

"""The switches of linking.md, each marked **choice** there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, Self

RULE_VERSION = 1
"""Raised whenever the same facts may lead to another answer, so that `verify` knows which rules decided."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The choices in force. The defaults are the preset `recommended` (linking.md, Presets)."""

    preset: Literal["recommended", "pipedrive-strict"] = "recommended"
    count_internal_recipients: bool = False
    unknown_start: Literal["link", "leave"] = "link"
    ignore_plus_tags: bool = False
    single_contact: bool = False
    closed_item_threads: Literal["keep", "exclude_later"] = "keep"
    many_recipients: Literal["slot", "all"] = "slot"
    include_organization_items: bool = False
    include_participants: bool = False
    count_only_older_items: bool = False
    match_rewritten: bool = False

    @classmethod
    def of(cls, preset: str, switches: Mapping[str, Any]) -> Self:
        """The preset with the given switches set beside it; None means "as the preset has it".

        Raises KeyError for a preset that does not exist.
        """
        chosen = PRESETS[preset] | {name: value for name, value in switches.items() if value is not None}
        return cls(preset=preset, **chosen)  # type: ignore[arg-type]  # the settings have checked it

    @property
    def name(self) -> str:
        """Preset and a digest of all switches, `recommended@3f2a91`: equal names decide equally."""
        return _name(self)

    def changed(self, **switches: Any) -> Self:
        """The same policy with other switches."""
        return replace(self, **switches)


@lru_cache(maxsize=64)
def _name(policy: Policy) -> str:
    switches = json.dumps(asdict(policy), sort_keys=True).encode()
    return f"{policy.preset}@{hashlib.sha256(switches).hexdigest()[:6]}"


PRESETS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "pipedrive-strict": {
        "many_recipients": "all",
        "closed_item_threads": "exclude_later",
        "single_contact": True,
        "unknown_start": "leave",
    },
}

SWITCHES = tuple(field.name for field in fields(Policy) if field.name != "preset")

"""What the configuration says of people and policy, as the rules need it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from maillinkd.directory.item import ItemRef
from maillinkd.linker.policy import Policy
from maillinkd.mail.address import is_internal, normalise, without_plus_tag
from maillinkd.settings import Settings

Channel = Literal["imap", "smart_bcc"]
IMAP: Channel = "imap"
SMART_BCC: Channel = "smart_bcc"


@dataclass(frozen=True, slots=True)
class BccTarget:
    """What one envelope recipient of a Smart Bcc mail means (linking.md L13)."""

    item: ItemRef | None
    """None: the universal address."""
    alias: str = ""
    """The token of a one-time address, to which mail from an alias confirms it."""


@dataclass(frozen=True)
class Office:
    """The configuration in force. A new one takes its place when the daemon is told to reload."""

    settings: Settings
    recipient: Callable[[str], BccTarget | None]
    """What an address means to Smart Bcc; None for one that is not ours."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Users of the aliases that were confirmed by mail, by address as `compared` makes it."""
    alias_key: bytes = field(default=b"", repr=False)
    """What the one-time addresses of aliases are signed with."""

    @cached_property
    def policy(self) -> Policy:
        return self.settings.policy.chosen()

    @property
    def forwarded(self) -> Literal["attached+inline", "attached", "off"]:
        return self.settings.smart_bcc.forwarded

    @property
    def trusts_authors(self) -> bool:
        """Whether From of Smart Bcc mail is believed as it stands (L14)."""
        return not self.settings.smart_bcc.require_authentication

    @cached_property
    def _internal(self) -> tuple[frozenset[str], frozenset[str]]:
        addresses = frozenset(map(self.compared, self.settings.internal_addresses()))
        return addresses | self.aliases.keys(), self.settings.internal_domains()

    def compared(self, address: str) -> str:
        """A normalised address as this policy compares it."""
        return without_plus_tag(address) if self.policy.ignore_plus_tags else address

    def is_internal(self, address: str) -> bool:
        """linking.md, Words. The address is given as `compared` makes it."""
        addresses, domains = self._internal
        return address in addresses or is_internal(address, domains)

    @property
    def internal_domains(self) -> frozenset[str]:
        return self._internal[1]

    def blocks(self, owner: str) -> frozenset[str]:
        """Addresses, as `compared` makes them, and "@" with domains, whose mail this owner does not want."""
        return self._blocks.get(owner, self._blocks[""])

    @cached_property
    def _blocks(self) -> dict[str, frozenset[str]]:
        """By owner; "" for those who have no list of their own."""
        settings = self.settings
        general = frozenset(map(self.compared, settings.policy.block))
        own = {name: each.block for name, each in settings.users.items() if each.block}
        own |= {name: each.block for name, each in settings.teams.items() if each.block}
        return {"": general} | {name: general.union(map(self.compared, block)) for name, block in own.items()}

    def owner_of_mailbox(self, mailbox: str) -> str:
        """The user or team whose mailbox it is. Raises KeyError for one that is not configured."""
        return self.settings.mailboxes[mailbox].owner

    def owner_of_address(self, address: str) -> str | None:
        """The user whose address or confirmed alias this is (L14)."""
        found = self.settings.owner_of(address)
        if found is None and self.aliases:
            found = self.aliases.get(self.compared(normalise(address)))
        return found if found in self.settings.users else None

    def writes_for(self, address: str, owner: str) -> bool:
        """Whether the address is the owner's: the user's, or that of a member of the team."""
        user = self.owner_of_address(address)
        team = self.settings.teams.get(owner)
        return user is not None and (user == owner or (team is not None and user in team.members))

    def auto_link(self, owner: str, mailboxes: Collection[str]) -> bool:
        """Row 6: automatic linking is off for the owner, or for every mailbox in which the messages lie.

        An owner or a mailbox that is no longer configured cannot have switched it off.
        """
        if owner in self._off_for_owners:
            return False
        return not mailboxes or not self._off_in_mailboxes.issuperset(mailboxes)

    @cached_property
    def _off_for_owners(self) -> frozenset[str]:
        teams, users = self.settings.teams, self.settings.users
        off = [name for name, team in teams.items() if not team.auto_link and name not in users]
        return frozenset((*off, *(name for name, user in users.items() if not user.auto_link)))

    @cached_property
    def _off_in_mailboxes(self) -> frozenset[str]:
        return frozenset(name for name, mailbox in self.settings.mailboxes.items() if not mailbox.auto_link)

    @property
    def asks_for_mailboxes(self) -> bool:
        """Whether it matters in which mailboxes a thread lies."""
        return bool(self._off_in_mailboxes)

    def may_change(self, user: str, owner: str) -> bool:
        """L17: the owner, every admin, and each member of the team that owns it."""
        if user not in self.settings.users:
            return False
        if self.settings.users[user].admin or user == owner:
            return True
        return owner in self.settings.teams and user in self.settings.teams[owner].members

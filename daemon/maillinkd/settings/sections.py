"""The sections of the file, each with its keys, their types and their defaults."""

from calendar import monthrange
from collections.abc import Mapping
from datetime import date
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.settings.values import (
    Address,
    Blocked,
    Domain,
    DomainOrNone,
    Endpoint,
    FilePath,
    Folder,
    Host,
    HostAndPort,
    LocalPart,
    Many,
    Network,
    Since,
    Url,
)

SECRET_WAYS = ("password_file", "password_env", "password_command")
"""The keys by which a mailbox names its password."""


class Section(BaseModel):
    """Frozen, typed strictly (no "993" for 993), and closed: an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        defer_build=True,  # Settings builds all at once
    )


class LogSettings(Section):
    """`[log]`"""

    format: Literal["auto", "console", "json", "journal"] = "auto"
    decisions: FilePath = None


class PolicySettings(Section):
    """`[policy]`: a preset, and the switches that were set beside it; None is "as the preset has it"."""

    preset: Literal["recommended", "pipedrive-strict"] = "recommended"
    internal_domains: Many[Domain] = ()
    bulk: Literal["store", "metadata", "ignore"] = "store"
    block: Many[Blocked] = ()
    count_internal_recipients: bool | None = None
    unknown_start: Literal["link", "leave"] | None = None
    ignore_plus_tags: bool | None = None
    single_contact: bool | None = None
    closed_item_threads: Literal["keep", "exclude_later"] | None = None
    many_recipients: Literal["slot", "all"] | None = None
    include_organization_items: bool | None = None
    include_participants: bool | None = None
    count_only_older_items: bool | None = None
    match_rewritten: bool | None = None

    def chosen(self) -> Policy:
        """The switches as the linker takes them."""
        return Policy.of(self.preset, {switch: getattr(self, switch) for switch in SWITCHES})


class UserSettings(Section):
    """`[users.NAME]`"""

    address: Address
    aliases: Many[Address] = ()
    admin: bool = False
    auto_link: bool = True
    block: Many[Blocked] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The address first, then the aliases; normalised, without repeats."""
        return tuple(dict.fromkeys((self.address, *self.aliases)))


class TeamSettings(Section):
    """`[teams.NAME]`"""

    members: Many[str]
    auto_link: bool = True
    block: Many[Blocked] = ()


class OAuthSettings(Section):
    """`[oauth]`"""

    key_file: FilePath = None


class OAuthClientSettings(Section):
    """`[oauth_clients.NAME]`: a client as it is registered with a provider (RFC 6749, 2)."""

    provider: Literal["google", "microsoft", "generic"]
    grant: Literal["", "authorization_code", "device_code", "client_credentials", "service_account"] = ""
    client_id: str = Field(default="", max_length=512, pattern=r"\A[\x21-\x7e]*\z")
    client_secret_file: FilePath = None
    service_account_file: FilePath = None
    tenant: str = Field(default="common", pattern=r"\A[A-Za-z0-9.-]{1,255}\z")
    authorization_endpoint: Url = ""
    token_endpoint: Url = ""
    scopes: Many[Annotated[str, Field(pattern=r"\A[\x21\x23-\x5b\x5d-\x7e]+\z")]] = ()

    @property
    def chosen_grant(self) -> str:
        """How tokens are come by: what `grant` says, else what the provider is mostly used with."""
        if self.grant:
            return self.grant
        if self.service_account_file is not None:
            return "service_account"
        return "device_code" if self.provider == "microsoft" else "authorization_code"

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody has to log in once (`auth login`), or the client may help itself."""
        return self.chosen_grant in ("authorization_code", "device_code")


def _bytes_a_day(value: int) -> int:
    if 0 < value < 10_000_000:  # watching alone may take as much
        raise ValueError("expected 0 (no limit), or 10000000 or more")
    return value


OLDEST = date(1970, 1, 1)
"""No way back goes further than this."""


def _months_before(day: date, months: int) -> date:
    """The same day of an earlier month, or that month's last."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


class MailboxSettings(Section):
    """`[mailboxes.NAME]`. `owner` and `port` are filled in when the file leaves them out."""

    owner: str
    host: Host
    port: int = Field(default=993, ge=1, le=65_535)
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    ca_file: FilePath = None
    username: str = Field(min_length=1, max_length=998, pattern=r"\A[^\x00-\x1f\x7f]+\z")
    auth: Literal["password", "oauth2"] = "password"
    password_file: FilePath = None
    password_env: str = Field(default="", pattern=r"\A([A-Za-z_][A-Za-z0-9_]*)?\z")
    # Not in repr: people do write tokens into command lines.
    password_command: Many[str] = Field(default=(), repr=False)
    oauth_client: str = ""
    token_command: Many[str] = Field(default=(), repr=False)
    folders: Many[Folder] = ("INBOX", "\\Sent")
    since: Since = "30d"
    store: Literal["headers", "full"] = "headers"
    expunged: Literal["keep", "mark"] = "keep"
    poll_interval: int = Field(default=60, ge=5, le=86_400)
    audit_interval: int = Field(default=86_400, ge=5, le=31 * 86_400)
    bytes_a_day: Annotated[int, AfterValidator(_bytes_a_day)] = Field(default=0, ge=0)
    auto_link: bool = True

    def since_date(self, today: date) -> date | None:
        """The date (INTERNALDATE) to which a first sync that begins `today` goes back; None: everything.

        A longer way back ends at 1970-01-01.
        """
        if self.since == "all":
            return None
        if self.since[-1] not in "dwmy":
            return date.fromisoformat(self.since)
        number, unit = int(self.since[:-1]), self.since[-1]
        if unit in "dw":
            days = number * (7 if unit == "w" else 1)
            first = date.fromordinal(max(OLDEST.toordinal(), today.toordinal() - days))
        else:
            months = number * (12 if unit == "y" else 1)
            first = _months_before(today, min(months, (today.year - OLDEST.year + 1) * 12))
        return max(first, OLDEST)

    @property
    def secret_ways(self) -> tuple[str, ...]:
        """The keys by which this mailbox names its password; without any it is the systemd credential."""
        return tuple(way for way in SECRET_WAYS if getattr(self, way))


PRESET_FORWARDED: Mapping[str, Literal["attached+inline", "off"]] = {
    "recommended": "attached+inline",
    "pipedrive-strict": "off",
}
"""linking.md, Presets: what each says of `smart_bcc.forwarded`."""


class SmartBccSettings(Section):
    """`[smart_bcc]`"""

    enabled: bool = False
    domain: DomainOrNone = ""
    local_part: LocalPart = Field(default="", max_length=64)
    listen: Many[HostAndPort] = (Endpoint("0.0.0.0", 25), Endpoint("::", 25))  # noqa: S104  # mail comes from everywhere
    tls_certificate: FilePath = None
    tls_key: FilePath = None
    max_message_size: int = Field(default=20_000_000, ge=1, le=2_000_000_000)
    require_authentication: bool = True
    unknown_sender: Literal["quarantine", "reject"] = "quarantine"
    forwarded: Literal["attached+inline", "attached", "off"] = "attached+inline"
    trusted_relays: Many[Network] = ()
    authserv_id: str = Field(default="", pattern=r"\A[\x21-\x7e]*\z")
    proxy_protocol: bool = False
    address_key_file: FilePath = None
    minimum_free: int = Field(default=1_000_000_000, ge=0)
    max_connections: int = Field(default=200, ge=1, le=100_000)
    max_connections_per_client: int = Field(default=20, ge=1)
    max_new_connections_per_minute: int = Field(default=60, ge=1)
    unlimited_clients: Many[Network] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    max_recipients: int = Field(default=100, ge=100)  # RFC 5321, 4.5.3.1.8
    max_errors: int = Field(default=20, ge=1)
    max_junk_commands: int = Field(default=100, ge=1)
    greeting_delay: float = Field(default=0.2, ge=0, le=60)
    refusal_delay: float = Field(default=0.5, ge=0, le=60)
    session_timeout: int = Field(default=3600, ge=1)
    idle_timeout: int = Field(default=300, ge=1)
    data_timeout: int = Field(default=180, ge=1)
    data_total_timeout: int = Field(default=1800, ge=1)
    min_data_rate: int = Field(default=500, ge=1)

    @property
    def address(self) -> str:
        """The universal address (linking.md L13); "" while domain or local part are not set."""
        return f"{self.local_part}@{self.domain}" if self.local_part and self.domain else ""


class DnsSettings(Section):
    """`[dns]`"""

    servers: Many[HostAndPort] = ()


class QuarantineSettings(Section):
    """`[quarantine]`"""

    max_size: int = Field(default=500_000_000, ge=0)
    keep_days: int = Field(default=90, ge=0)


def _not_built(value: str) -> str:
    if value:
        raise ValueError('not in this version: expected ""')
    return value


class ListenerSettings(Section):
    """`[web]` and `[metrics]`: not built yet, so nothing but "" is taken."""

    listen: Annotated[str, AfterValidator(_not_built)] = ""

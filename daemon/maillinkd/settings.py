"""The configuration, typed: read once, checked as a whole, frozen, passed down (contract.md, Configuration).

`load` merges the file, `conf.d/*.toml` beside it and `MAILLINKD__…` of the environment, remembers where each key
came from, and either returns `Settings` or raises one `ConfigurationError` that lists everything that is wrong. The
merging is done here and not by pydantic-settings, which neither knows which file a key came from nor matches
`MAILLINKD__MAILBOXES__ANNA_K__…` with a mailbox that is called `Anna.K`.

Paths are taken as the operating system takes them: relative ones from the working directory, also in `database.url`
(as SQLAlchemy does).
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import tomllib
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.mail.address import normalise, without_plus_tag

DEFAULT_FILE = Path("/etc/maillinkd/maillinkd.toml")
FILE_VARIABLE = "MAILLINKD_CONFIG"
PREFIX = "MAILLINKD__"

SECRET_WAYS = ("password_file", "password_env", "password_command")
OAUTH_KEY = "oauth_key"
"""The systemd credential that holds the key of `[oauth]`."""
RESERVED_NAMES = ("smart_bcc", "web", "metrics")
"""What `run --only` calls the other doors: no mailbox may bear these names."""

COMMAND_SECONDS = 30
"""How long a `password_command` may take."""
SECRET_BYTES = 65_536
"""No secret is larger; more than this is never read."""
ADDRESS_KEY_BYTES = 16
"""The shortest key of Smart Bcc addresses: 128 bits."""

# What TOML's values are called in messages.
TYPE_NAMES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
    datetime: "a date and time",
    date: "a date",
}

KeyPath = tuple[str | int, ...]


# --- Errors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration."""

    source: str
    """The file, or "environment variable NAME"."""
    key: str
    """The key path as TOML writes it, `mailboxes.anna.port`; "" where the source as a whole is wrong."""
    expected: str
    """What was expected. Never holds a value that may be secret."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.expected) if part)


class ConfigurationError(Exception):
    """The admin's to mend (exit code 78): says for everything that is wrong where it stands and what was expected."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SecretUnavailable(ConfigurationError):
    """A secret is configured but cannot be had now: no such file, an unset variable, a command that failed.

    At start that is a configuration error like any other; while the daemon runs it may pass.
    """


# --- Values ---------------------------------------------------------------------------------------------------------


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
    if not re.fullmatch(r"[^\s/@\[\]\x00-\x1f\x7f]+", value) or (":" in value and not _is_ip(value)):
        raise ValueError(
            'expected a host name or an IP address alone, such as "imap.example.com"; the port has its own key'
        )
    return value


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_ip(host) and ip_address(host).is_loopback)


OLDEST = date(1970, 1, 1)
"""No way back goes further than this."""

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


def _months_before(day: date, months: int) -> date:
    """The same day of an earlier month, or that month's last."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _url(value: str) -> str:
    """An endpoint (RFC 6749, 3.1 and 3.2: TLS, no fragment); on loopback without TLS too."""
    if not value:
        return value
    try:
        url = urlsplit(value)
        host, _ = url.hostname or "", url.port
    except ValueError:
        host, url = "", urlsplit("")
    secure = url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))
    if not host or not secure or url.fragment or "@" in url.netloc or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError('expected an address such as "https://login.example.com/oauth2/token"')
    return value


Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_.-]{1,64}\z")]
Address = Annotated[str, AfterValidator(_address)]
Domain = Annotated[str, AfterValidator(_domain)]
FilePath = Annotated[Path | None, BeforeValidator(_path)]
Blocks = Annotated[tuple[Annotated[str, AfterValidator(_blocked)], ...], Strict(False)]
Listen = Annotated[tuple[Annotated[Endpoint, BeforeValidator(_endpoint)], ...], Strict(False)]
Networks = Annotated[tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...], Strict(False)]
Texts = Annotated[tuple[str, ...], Strict(False)]


# --- Sections -------------------------------------------------------------------------------------------------------


class Section(BaseModel):
    """Frozen, typed strictly (no "993" for 993), and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


SQLITE = ("sqlite", "sqlite+aiosqlite")
POSTGRESQL = ("postgresql", "postgresql+asyncpg")


def _database_url(value: str) -> str:
    # Never quote the value: it may hold a password.
    expected = 'expected "sqlite:////absolute/path", "sqlite:///relative/path" or "postgresql://user@host/database"'
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError(expected) from None
    if url.scheme.partition("+")[0] in ("sqlite", "postgresql", "postgres") and url.scheme not in SQLITE + POSTGRESQL:
        raise ValueError(f"{expected}; the driver is chosen by maillinkd, so leave it out")
    # SQLAlchemy 2.0 takes a "%" in the path as it stands, 2.1 as an escape.
    other_than_a_path = url.netloc or url.query or url.fragment or "%" in url.path
    if url.scheme in SQLITE and (other_than_a_path or url.path in ("", "/", "/:memory:")):
        raise ValueError('expected a file: "sqlite:////absolute/path" (four slashes) or "sqlite:///relative/path"')
    if url.scheme in POSTGRESQL and not url.path.strip("/"):
        raise ValueError('expected the database\'s name as well: "postgresql://user@host/database"')
    if url.scheme not in SQLITE + POSTGRESQL:
        raise ValueError(expected)
    return value


class DatabaseSettings(Section):
    """`[database]`"""

    # Not in repr: a URL may hold a password.
    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="sqlite:////var/lib/maillinkd/maillinkd.db", repr=False
    )

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def sqlite_path(self) -> Path | None:
        """The database's file, None on PostgreSQL. A relative one counts from the working directory."""
        return Path(urlsplit(self.url).path[1:]) if self.is_sqlite else None

    def async_url(self) -> str:
        """The URL with the driver that we chose, for SQLAlchemy.

        libpq's `sslmode` becomes `ssl`, as asyncpg calls it.
        """
        if path := self.sqlite_path():
            return f"sqlite+aiosqlite:///{path}"
        url = urlsplit(self.url)
        query = [("ssl" if key == "sslmode" else key, value) for key, value in parse_qsl(url.query)]
        # urlunsplit would drop the "//" of a URL without host (a socket, named in the query).
        options = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return f"postgresql+asyncpg://{url.netloc}{url.path}{options}"

    def shown_url(self) -> str:
        """The URL for people and logs: without its password."""
        url = urlsplit(self.url)
        query = [(key, "***" if "password" in key.lower() else value) for key, value in parse_qsl(url.query)]
        options = f"?{urlencode(query, safe='*/')}" if query else ""
        return f"{url.scheme}://{_without_password(url)}{url.path}{options}"


def _without_password(url: SplitResult) -> str:
    account, at, host = url.netloc.rpartition("@")
    return account.partition(":")[0] + (":***" if ":" in account else "") + at + host


class LogSettings(Section):
    """`[log]`"""

    format: Literal["auto", "console", "json", "journal"] = "auto"
    decisions: FilePath = None


class PolicySettings(Section):
    """`[policy]`: a preset, and the switches that were set beside it; None is "as the preset has it"."""

    preset: Literal["recommended", "pipedrive-strict"] = "recommended"
    internal_domains: Annotated[tuple[Domain, ...], Strict(False)] = ()
    bulk: Literal["store", "metadata", "ignore"] = "store"
    block: Blocks = ()
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
    aliases: Annotated[tuple[Address, ...], Strict(False)] = ()
    admin: bool = False
    auto_link: bool = True
    block: Blocks = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The address first, then the aliases; normalised, without repeats."""
        return tuple(dict.fromkeys((self.address, *self.aliases)))


class TeamSettings(Section):
    """`[teams.NAME]`"""

    members: Texts
    auto_link: bool = True
    block: Blocks = ()


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
    authorization_endpoint: Annotated[str, AfterValidator(_url)] = ""
    token_endpoint: Annotated[str, AfterValidator(_url)] = ""
    scopes: Annotated[tuple[Annotated[str, Field(pattern=r"\A[\x21\x23-\x5b\x5d-\x7e]+\z")], ...], Strict(False)] = ()

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


class MailboxSettings(Section):
    """`[mailboxes.NAME]`. `owner` and `port` are filled in when the file leaves them out."""

    owner: str
    host: Annotated[str, AfterValidator(_host)]
    port: int = Field(default=993, ge=1, le=65_535)
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    ca_file: FilePath = None
    username: str = Field(min_length=1, max_length=998, pattern=r"\A[^\x00-\x1f\x7f]+\z")
    auth: Literal["password", "oauth2"] = "password"
    password_file: FilePath = None
    password_env: str = Field(default="", pattern=r"\A([A-Za-z_][A-Za-z0-9_]*)?\z")
    # Not in repr: people do write tokens into command lines.
    password_command: Texts = Field(default=(), repr=False)
    oauth_client: str = ""
    token_command: Texts = Field(default=(), repr=False)
    folders: Annotated[tuple[Annotated[str, AfterValidator(_folder)], ...], Strict(False)] = ("INBOX", "\\Sent")
    since: Annotated[str, AfterValidator(_since_text), BeforeValidator(_since)] = "30d"
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


class SmartBccSettings(Section):
    """`[smart_bcc]`"""

    enabled: bool = False
    domain: Annotated[str, AfterValidator(_domain_or_none)] = ""
    local_part: Annotated[str, AfterValidator(_local_part)] = Field(default="", max_length=64)
    listen: Listen = (Endpoint("0.0.0.0", 25), Endpoint("::", 25))  # noqa: S104  # mail comes from everywhere
    tls_certificate: FilePath = None
    tls_key: FilePath = None
    max_message_size: int = Field(default=20_000_000, ge=1, le=2_000_000_000)
    require_authentication: bool = True
    unknown_sender: Literal["quarantine", "reject"] = "quarantine"
    forwarded: Literal["attached+inline", "attached", "off"] = "attached+inline"
    trusted_relays: Networks = ()
    authserv_id: str = Field(default="", pattern=r"\A[\x21-\x7e]*\z")
    proxy_protocol: bool = False
    address_key_file: FilePath = None
    minimum_free: int = Field(default=1_000_000_000, ge=0)
    max_connections: int = Field(default=200, ge=1, le=100_000)
    max_connections_per_client: int = Field(default=20, ge=1)
    max_new_connections_per_minute: int = Field(default=60, ge=1)
    unlimited_clients: Networks = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
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

    servers: Listen = ()


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


# --- The whole ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sources:
    """Where each key was set. Takes no part in comparing settings: what they say does not depend on it."""

    main: str = field(compare=False)
    keys: dict[tuple[str, ...], str] = field(default_factory=dict, compare=False)

    def of(self, path: KeyPath) -> str:
        """The source of the key, else of the nearest table above it, else the main file."""
        names = tuple(part for part in path if isinstance(part, str))
        for length in range(len(names), 0, -1):
            if source := self.keys.get(names[:length]):
                return source
        return self.main


class Settings(Section):
    """The whole configuration. Whoever holds one holds one without contradictions."""

    database: DatabaseSettings = DatabaseSettings()
    log: LogSettings = LogSettings()
    policy: PolicySettings = PolicySettings()
    users: dict[Name, UserSettings] = {}
    teams: dict[Name, TeamSettings] = {}
    oauth: OAuthSettings = OAuthSettings()
    oauth_clients: dict[Name, OAuthClientSettings] = {}
    mailboxes: dict[Name, MailboxSettings] = {}
    smart_bcc: SmartBccSettings = SmartBccSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    dns: DnsSettings = DnsSettings()
    web: ListenerSettings = ListenerSettings()
    metrics: ListenerSettings = ListenerSettings()

    _sources: Sources = PrivateAttr(default=Sources("configuration"))
    _owners: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Defaults that depend on another key: a mailbox's owner and port, and what the preset says of forwards."""
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        mailboxes = given.get("mailboxes")
        if isinstance(mailboxes, Mapping):
            filled["mailboxes"] = {name: _with_owner_and_port(name, mailbox) for name, mailbox in mailboxes.items()}
        policy, smart_bcc = given.get("policy", {}), given.get("smart_bcc", {})
        strict = isinstance(policy, Mapping) and policy.get("preset") == "pipedrive-strict"
        if strict and isinstance(smart_bcc, Mapping):
            filled["smart_bcc"] = {"forwarded": "off", **smart_bcc}
        return filled

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if found := tuple(_contradictions(self)):
            raise PydanticCustomError(
                "contradictions", "{text}", {"found": found, "text": "; ".join(t for _, t in found)}
            )
        self._owners.update(
            (self._compared(address), name) for name, user in self.users.items() for address in user.addresses
        )
        return self

    def _compared(self, address: str) -> str:
        """The address as this policy compares it (`policy.ignore_plus_tags`)."""
        address = normalise(address)
        return without_plus_tag(address) if self.policy.chosen().ignore_plus_tags else address

    def internal_domains(self) -> frozenset[str]:
        """Domains whose addresses, and those of their subdomains, are internal (linking.md, Words)."""
        smart_bcc = {self.smart_bcc.domain} if self.smart_bcc.domain else set()
        return frozenset(self.policy.internal_domains) | smart_bcc

    def internal_addresses(self) -> frozenset[str]:
        """Users' addresses and aliases, and user names of mailboxes that are addresses (linking.md, Words)."""
        users = (address for user in self.users.values() for address in user.addresses)
        mailboxes = (_address_or_none(mailbox.username) for mailbox in self.mailboxes.values())
        return frozenset(users) | frozenset(address for address in mailboxes if address)

    def owner_of(self, address: str) -> str | None:
        """The name of the user whose address or alias this is; None if it is nobody's."""
        return self._owners.get(self._compared(address))

    def source_of(self, *path: str | int) -> str:
        """Where a key, or the nearest table above it, was set: a file or an environment variable."""
        return self._sources.of(path)

    def credential(self, mailbox: str, environ: Mapping[str, str] = os.environ) -> Path | None:
        """The systemd credential of this mailbox (LoadCredential=NAME:…); None if there is none."""
        if not (directory := environ.get("CREDENTIALS_DIRECTORY")):
            return None
        path = Path(directory, mailbox)
        return path if path.is_file() else None

    def read_password(self, mailbox: str, environ: Mapping[str, str] = os.environ) -> str:
        """The mailbox's password, read anew. Blocks (a command may take half a minute): call it in a thread.

        Do not keep it. Raises ConfigurationError if no way is configured, SecretUnavailable if the configured one
        yields nothing now.
        """
        settings = self.mailboxes[mailbox]
        match settings.secret_ways:
            case ("password_file",):
                assert settings.password_file is not None
                return self._secret_file(("mailboxes", mailbox, "password_file"), settings.password_file)
            case ("password_env",):
                return self._secret_variable(mailbox, environ)
            case ("password_command",):
                return self._secret_command(mailbox, "password_command")
        if (path := self.credential(mailbox, environ)) is None:
            raise ConfigurationError([self._no_secret(mailbox)])
        return self._secret_file(("mailboxes", mailbox), path)

    def read_token(self, mailbox: str) -> str:
        """The access token that the mailbox's `token_command` prints. Blocks: call it in a thread.

        Raises SecretUnavailable if the command yields none now.
        """
        return self._secret_command(mailbox, "token_command")

    def oauth_client_of(self, mailbox: str) -> OAuthClientSettings | None:
        """The OAuth client by which this mailbox is reached; None where it has a password or a command."""
        settings = self.mailboxes.get(mailbox)
        return self.oauth_clients.get(settings.oauth_client) if settings else None

    def read_client_secret(self, client: str) -> str | None:
        """The secret of an OAuth client; None for a public one. Raises SecretUnavailable if it can't be read."""
        path = self.oauth_clients[client].client_secret_file
        where = ("oauth_clients", client, "client_secret_file")
        return None if path is None else self._first_line(where, self._secret_bytes(where, path), f"{path}", "secret")

    def read_service_account(self, client: str) -> bytes:
        """The key file of a service account, as it stands. Raises SecretUnavailable if it can't be read."""
        path = self.oauth_clients[client].service_account_file
        assert path is not None, "the settings have checked it"
        return self._secret_bytes(("oauth_clients", client, "service_account_file"), path)

    def oauth_key_path(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """Where the key lies that tokens are encrypted with: `oauth.key_file`, the systemd credential, or beside the
        SQLite database; None where none of these is given. The file need not be there yet.
        """
        if self.oauth.key_file is not None:
            return self.oauth.key_file
        if (credential := self.credential(OAUTH_KEY, environ)) is not None:
            return credential
        database = self.database.sqlite_path()
        return database.parent / "oauth.key" if database else None

    def read_oauth_key(self, environ: Mapping[str, str] = os.environ) -> bytes | None:
        """The content of that file; None while it is not there. Raises SecretUnavailable if it can't be read."""
        path = self.oauth_key_path(environ)
        if path is None or not path.exists():
            return None
        return self._secret_bytes(("oauth", "key_file"), path)

    def require_secrets(
        self, mailboxes: Iterable[str], smart_bcc: bool = False, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Checks that what these mailboxes log in with can be had, and with `smart_bcc` the key of its addresses,
        without running any command. Name what this process serves: another's may be readable to that one alone.
        Whether an OAuth token is stored, the database alone knows.

        Raises ConfigurationError with all that are missing.
        """
        problems: list[Problem] = []
        for mailbox in mailboxes:
            try:
                if self.mailboxes[mailbox].auth == "oauth2":
                    self._require_oauth(mailbox, environ)
                elif self.mailboxes[mailbox].secret_ways == ("password_command",):
                    self._require_program(mailbox, "password_command")
                else:
                    self.read_password(mailbox, environ)
            except ConfigurationError as error:
                problems += error.problems
        try:
            if smart_bcc:
                self.read_address_keys()
        except ConfigurationError as error:
            problems += error.problems
        if problems:
            raise ConfigurationError(problems)

    def read_address_keys(self) -> tuple[bytes, ...]:
        """The keys of Smart Bcc address suffixes (linking.md L13), the one that makes suffixes first.

        A file of printable ASCII holds one key a line; any other is one key, but for its last line end. Empty where
        none is configured. Raises SecretUnavailable if the file can't be read or a key is too short.
        """
        if (path := self.smart_bcc.address_key_file) is None:
            return ()
        where = ("smart_bcc", "address_key_file")
        content = self._secret_bytes(where, path).rstrip(b"\r\n")
        is_text = re.fullmatch(rb"[\x20-\x7e\r\n]*", content)
        keys = tuple(line for line in content.splitlines() if line) if is_text else (content,)
        if not keys or any(len(key) < ADDRESS_KEY_BYTES for key in keys):
            expected = f"expected keys of {ADDRESS_KEY_BYTES} bytes or more in {path}, one a line"
            raise SecretUnavailable([self._problem(where, expected)])
        return keys

    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet unwise: files with secrets that every user of the machine can read."""
        files: list[tuple[KeyPath, Path | None]] = [
            (("mailboxes", name, "password_file"), mailbox.password_file) for name, mailbox in self.mailboxes.items()
        ]
        for name, client in self.oauth_clients.items():
            files.append((("oauth_clients", name, "client_secret_file"), client.client_secret_file))
            files.append((("oauth_clients", name, "service_account_file"), client.service_account_file))
        files.append((("oauth", "key_file"), self.oauth_key_path()))
        files.append((("smart_bcc", "tls_key"), self.smart_bcc.tls_key))
        files.append((("smart_bcc", "address_key_file"), self.smart_bcc.address_key_file))
        return tuple(
            str(self._problem(where, f"{path} can be read by every user of this machine; chmod o-rwx it"))
            for where, path in files
            if path is not None and _readable_by_all(path)
        )

    def _problem(self, path: KeyPath, expected: str) -> Problem:
        return Problem(self.source_of(*path), shown_key(path), expected)

    def _no_secret(self, mailbox: str) -> Problem:
        return self._problem(
            ("mailboxes", mailbox),
            f"no password for mailbox {mailbox}: expected password_file, password_env, password_command, "
            f'or a systemd credential named "{mailbox}"',
        )

    def _secret_bytes(self, where: KeyPath, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(SECRET_BYTES)
        except OSError as error:
            raise SecretUnavailable([self._problem(where, f"cannot read {path}: {error.strerror}")]) from error

    def _secret_file(self, where: KeyPath, path: Path) -> str:
        return self._first_line(where, self._secret_bytes(where, path), f"{path}")

    def _secret_variable(self, mailbox: str, environ: Mapping[str, str]) -> str:
        variable = self.mailboxes[mailbox].password_env
        if not (value := environ.get(variable)):
            where = ("mailboxes", mailbox, "password_env")
            raise SecretUnavailable([self._problem(where, f"environment variable {variable} is not set")])
        return value

    def _require_oauth(self, mailbox: str, environ: Mapping[str, str]) -> None:
        settings = self.mailboxes[mailbox]
        if settings.token_command:
            self._require_program(mailbox, "token_command")
            return
        self.read_client_secret(settings.oauth_client)
        if self.oauth_clients[settings.oauth_client].chosen_grant == "service_account":
            self.read_service_account(settings.oauth_client)
        elif self.oauth_clients[settings.oauth_client].needs_a_person:
            self.read_oauth_key(environ)

    def _require_program(self, mailbox: str, key: str) -> None:
        program = getattr(self.mailboxes[mailbox], key)[0]
        if shutil.which(program) is None:
            where = ("mailboxes", mailbox, key)
            raise SecretUnavailable([self._problem(where, f"program {program} is not found or not executable")])

    def _secret_command(self, mailbox: str, key: str) -> str:
        where = ("mailboxes", mailbox, key)
        self._require_program(mailbox, key)
        try:
            output = _output_of(getattr(self.mailboxes[mailbox], key))
        except (OSError, subprocess.SubprocessError) as error:
            raise SecretUnavailable([self._problem(where, _command_failed(error))]) from error
        return self._first_line(where, output, "the command", key.removesuffix("_command"))

    def _first_line(self, where: KeyPath, content: bytes, origin: str, what: str = "password") -> str:
        line = content.partition(b"\n")[0].removesuffix(b"\r")
        if not line:
            raise SecretUnavailable([self._problem(where, f"expected the {what} in the first line of {origin}")])
        try:
            return line.decode()
        except UnicodeDecodeError:
            # The decoder's error quotes the bytes, so it stays behind.
            raise SecretUnavailable([self._problem(where, f"expected UTF-8 in the first line of {origin}")]) from None


def _with_owner_and_port(name: object, mailbox: object) -> object:
    if not isinstance(mailbox, Mapping):
        return mailbox
    filled = {"port": 993 if mailbox.get("tls", "implicit") == "implicit" else 143, **mailbox}
    filled["owner"] = mailbox.get("owner") or name
    return filled


def _address_or_none(text: str) -> str | None:
    try:
        return _address(text)
    except ValueError:
        return None


def _readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # missing or hidden: require_secrets says so


def _output_of(command: tuple[str, ...]) -> bytes:
    """What the command prints. Its whole process group ends with the time: a helper's children hold the pipe open."""
    with subprocess.Popen(  # noqa: S603  # the admin's own command, without a shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            output, complaint = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[0], stderr=complaint)
    return output


def _command_failed(error: Exception) -> str:
    """Names the failure; never the arguments nor what was printed on stdout."""
    match error:
        case subprocess.TimeoutExpired():
            return f"the command did not finish within {COMMAND_SECONDS} s"
        case subprocess.CalledProcessError():
            lines = bytes(error.stderr).decode(errors="replace").strip().splitlines()
            complaint = re.sub(r"[^\x20-\x7e]", "?", lines[-1])[:200] if lines else "no message"
            return f"the command failed with exit code {error.returncode}: {complaint}"
        case OSError():
            return f"the command cannot be run: {error.strerror}"
    return "the command failed"


def _contradictions(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """What no key tells alone: the path of the key to change, and what was expected."""
    yield from _people(settings)
    for name, client in settings.oauth_clients.items():
        yield from _oauth_client(("oauth_clients", name), client, _is_used(settings, name))
    for name, mailbox in settings.mailboxes.items():
        yield from _mailbox(settings, name, mailbox)
    yield from _smart_bcc(settings.smart_bcc)
    for index, server in enumerate(settings.dns.servers):
        if not _is_ip(server.host) or not server.port:
            yield ("dns", "servers", index), 'expected an IP address and a port, such as "127.0.0.1:53"'


def _people(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    for name in settings.users.keys() & settings.teams.keys():
        yield ("teams", name), f"{name} is a user as well: expected a name that no user has"
    for name, team in settings.teams.items():
        if not team.members:
            yield ("teams", name, "members"), "expected at least one user"
        for index, member in enumerate(team.members):
            if member not in settings.users:
                yield ("teams", name, "members", index), f"no user {member!r}{_like(member, settings.users)}"
    claimed: dict[str, str] = {}
    for name, user in settings.users.items():
        for address in user.addresses:
            if (other := claimed.setdefault(settings._compared(address), name)) != name:
                yield ("users", name), f"{address} belongs to user {other} already: expected one user for an address"


def _mailbox(settings: Settings, name: str, mailbox: MailboxSettings) -> Iterator[tuple[KeyPath, str]]:
    path: KeyPath = ("mailboxes", name)
    owners = settings.users.keys() | settings.teams.keys()
    if name in RESERVED_NAMES:
        yield path, f"{name} names another part of maillinkd in `run --only`: expected another name"
    if name == OAUTH_KEY:
        yield path, f"{name} names the systemd credential with the key of [oauth]: expected another name"
    if mailbox.owner not in owners:
        if mailbox.owner == name:
            yield (
                (*path, "owner"),
                f"no owner given and no user is called {name}: expected `owner = ` a user or a team",
            )
        else:
            yield (*path, "owner"), f"no user or team {mailbox.owner!r}{_like(mailbox.owner, owners)}"
    if mailbox.tls == "none" and not _is_loopback(mailbox.host):
        yield (*path, "tls"), 'expected "implicit" or "starttls": "none" is for loopback alone, it shows the password'
    yield from _credentials(settings, path, mailbox)
    if len(mailbox.secret_ways) > 1:
        yield path, f"expected one of {' and '.join(mailbox.secret_ways)}, not {len(mailbox.secret_ways)} of them"
    if not mailbox.folders:
        yield (*path, "folders"), "expected at least one folder"
    if mailbox.password_command and not mailbox.password_command[0]:
        yield (*path, "password_command"), "expected a program and its arguments, each a text of its own"


def _credentials(settings: Settings, path: KeyPath, mailbox: MailboxSettings) -> Iterator[tuple[KeyPath, str]]:
    """Password or OAuth 2.0, never both."""
    if mailbox.auth == "password":
        for key in ("oauth_client", "token_command"):
            if getattr(mailbox, key):
                yield (*path, key), f'expected auth = "oauth2" where {key} is set'
        return
    for key in mailbox.secret_ways:
        yield (*path, key), 'expected no password where auth is "oauth2"'
    if bool(mailbox.oauth_client) == bool(mailbox.token_command):
        yield (*path, "auth"), 'expected oauth_client or token_command, one of them, where auth is "oauth2"'
    elif mailbox.oauth_client and mailbox.oauth_client not in settings.oauth_clients:
        like = _like(mailbox.oauth_client, settings.oauth_clients)
        yield (*path, "oauth_client"), f"no OAuth client {mailbox.oauth_client!r} in [oauth_clients]{like}"
    if mailbox.token_command and not mailbox.token_command[0]:
        yield (*path, "token_command"), "expected a program and its arguments, each a text of its own"


def _is_used(settings: Settings, client: str) -> bool:
    return any(mailbox.oauth_client == client for mailbox in settings.mailboxes.values())


GRANTS = {
    "google": ("authorization_code", "service_account"),
    "microsoft": ("device_code", "authorization_code", "client_credentials"),
    "generic": ("authorization_code", "client_credentials"),
}
"""Which grants a provider has for IMAP. Google's device flow refuses the scopes of mail."""


def _oauth_client(path: KeyPath, client: OAuthClientSettings, used: bool) -> Iterator[tuple[KeyPath, str]]:
    """What is missing is told only of a client that a mailbox uses."""
    grant = client.chosen_grant
    if grant not in GRANTS[client.provider]:
        known = ", ".join(GRANTS[client.provider])
        yield (*path, "grant"), f"{grant} is not for {client.provider}: expected one of {known}"
        return
    if not used:
        return
    needed = {
        "service_account": ("service_account_file",),
        "client_credentials": ("client_id", "client_secret_file"),
    }.get(grant, ("client_id",))
    if client.provider == "generic":
        needed += ("token_endpoint", "scopes")
        needed += ("authorization_endpoint",) if grant == "authorization_code" else ()
    if grant == "device_code" and client.client_secret_file is not None:
        yield (*path, "client_secret_file"), "expected none: the device flow is for public clients, which have none"
    for key in needed:
        if not getattr(client, key):
            yield (*path, key), f"is needed for {client.provider} by {grant}: expected a value"


def _smart_bcc(smart_bcc: SmartBccSettings) -> Iterator[tuple[KeyPath, str]]:
    if smart_bcc.enabled:
        for key, example in (
            ("domain", '"bcc.ourco.example"'),
            ("local_part", '"ourco"'),
            ("listen", '["0.0.0.0:25"]'),
        ):
            if not getattr(smart_bcc, key):
                yield ("smart_bcc", key), f"is needed when smart_bcc is enabled: expected something like {example}"
    if (smart_bcc.tls_certificate is None) != (smart_bcc.tls_key is None):
        missing = "tls_key" if smart_bcc.tls_key is None else "tls_certificate"
        yield ("smart_bcc", missing), "expected tls_certificate and tls_key, both or none"
    if smart_bcc.proxy_protocol and not smart_bcc.trusted_relays:
        yield ("smart_bcc", "proxy_protocol"), "is for your own relays: expected their networks in trusted_relays"
    if len(set(smart_bcc.listen)) != len(smart_bcc.listen):
        yield ("smart_bcc", "listen"), "expected each address once"


def _like(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word.lower(), sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


# --- Taking over a new configuration (SIGHUP) -----------------------------------------------------------------------


def changes_that_need_a_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and that a running daemon does not take over: the database and the listeners."""
    changed = ["database.url"] if old.database != new.database else []
    if old.smart_bcc.enabled != new.smart_bcc.enabled:
        changed.append("smart_bcc.enabled")
    if old.smart_bcc.listen != new.smart_bcc.listen and (old.smart_bcc.enabled or new.smart_bcc.enabled):
        changed.append("smart_bcc.listen")
    return changed


def without_restart(old: Settings, new: Settings) -> Settings:
    """The new configuration with the database and the listeners of the old: what SIGHUP may take over."""
    kept = {"enabled": old.smart_bcc.enabled, "listen": old.smart_bcc.listen}
    return new.model_copy(update={"database": old.database, "smart_bcc": new.smart_bcc.model_copy(update=kept)})


# --- Reading --------------------------------------------------------------------------------------------------------


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the configuration: `path`, else $MAILLINKD_CONFIG, else /etc/maillinkd/maillinkd.toml; `conf.d/*.toml`
    beside it, in the order of their names; `MAILLINKD__…` variables over both.

    Raises ConfigurationError with everything that is wrong: each with its file (or variable), key path, and what was
    expected. Secrets are not read here (see Settings.require_secrets).
    """
    path = path or Path(environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    problems: list[Problem] = []
    tree: dict[str, Any] = {}
    sources = Sources(str(path))
    for file in (path, *_beside(path, problems)):
        _merge(tree, _read(file, problems), sources, str(file), (), problems)
    if problems:  # a file that could not be read would make its keys "missing"
        raise ConfigurationError(problems)
    _override(tree, sources, environ, problems)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += [problem for found in error.errors() for problem in _problems_of(found, sources)]
    if problems:
        raise ConfigurationError(problems)
    settings._sources = sources
    return settings


class TrialSmartBccSettings(Section):
    """What of `[smart_bcc]` is a rule."""

    unknown_sender: Literal["quarantine", "reject"] = "quarantine"
    forwarded: Literal["attached+inline", "attached", "off"] = "attached+inline"


class TrialSettings(Section):
    """A file of rules that are only tried (`simulate`)."""

    policy: PolicySettings = PolicySettings()
    smart_bcc: TrialSmartBccSettings = TrialSmartBccSettings()


def with_policy(settings: Settings, path: Path) -> Settings:
    """The same configuration under the rules of another file: its `[policy]`, and the rules in its `[smart_bcc]`.

    `[policy]` stands in the place of the configuration's own, but for `internal_domains`, which stay unless the file
    names some; so do the rules of `[smart_bcc]`. Raises ConfigurationError.
    """
    problems: list[Problem] = []
    tree = _read(path, problems)
    sections = TrialSettings.model_fields.keys()
    expected = "expected [policy] and [smart_bcc] alone: nothing else is a rule"
    problems += [Problem(str(path), section, expected) for section in sorted(tree.keys() - sections)]
    smart_bcc = tree.get("smart_bcc")
    rules = TrialSmartBccSettings.model_fields.keys()
    expected = f"is no rule: expected {' or '.join(rules)}"
    wrong = sorted(smart_bcc.keys() - rules) if isinstance(smart_bcc, dict) else []
    problems += [Problem(str(path), shown_key(("smart_bcc", key)), expected) for key in wrong]
    try:
        trial = TrialSettings.model_validate({key: tree[key] for key in sections & tree})
    except ValidationError as error:
        known = {problem.key for problem in problems}
        found = [problem for each in error.errors() for problem in _problems_of(each, Sources(str(path)))]
        problems += [problem for problem in found if problem.key not in known]
    if problems:
        raise ConfigurationError(problems)
    policy = trial.policy
    if "internal_domains" not in policy.model_fields_set:
        policy = policy.model_copy(update={"internal_domains": settings.policy.internal_domains})
    given = {key: getattr(trial.smart_bcc, key) for key in trial.smart_bcc.model_fields_set}
    rest = {"policy": policy, "smart_bcc": settings.smart_bcc.model_copy(update=given)}
    return settings.model_copy(update=rest)


def _beside(path: Path, problems: list[Problem]) -> list[Path]:
    directory = path.parent / "conf.d"
    try:
        return sorted(
            file for file in directory.iterdir() if file.suffix == ".toml" and not file.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(str(directory), "", f"expected a readable directory: {error.strerror}"))
        return []


def _read(file: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        problems.append(
            Problem(str(file), "", f"no such file: expected one here, or --config FILE, or ${FILE_VARIABLE}")
        )
    except OSError as error:
        problems.append(Problem(str(file), "", f"expected a readable file: {error.strerror}"))
    except UnicodeDecodeError as error:
        problems.append(Problem(str(file), "", f"expected UTF-8, found another byte at offset {error.start}"))
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(str(file), "", f"expected TOML: {error}"))
    except RecursionError:
        problems.append(Problem(str(file), "", "expected TOML that is not nested without end"))
    return {}


def _merge(
    tree: dict[str, Any],
    given: dict[str, Any],
    sources: Sources,
    source: str,
    above: tuple[str, ...],
    problems: list[Problem],
) -> None:
    """Merges tables key by key; a key that two files set is a problem, as nobody could tell which holds."""
    for key, value in given.items():
        path = (*above, key)
        if key not in tree:
            tree[key] = {} if isinstance(value, dict) else value
            sources.keys[path] = source
        elif not (isinstance(value, dict) and isinstance(tree[key], dict)):
            other = sources.of(path)
            problems.append(Problem(source, shown_key(path), f"is set in {other} as well: expected it in one file"))
            continue
        if isinstance(value, dict):
            _merge(tree[key], value, sources, source, path, problems)


def _override(tree: dict[str, Any], sources: Sources, environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Sets what the environment says; the key of each variable is one that Settings has, whatever its letter case."""
    given: dict[tuple[str, ...], str] = {}
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        source = f"environment variable {variable}"
        path = _path_of(variable, tree)
        if isinstance(path, str):
            problems.append(Problem(source, "", path))
        elif path in given:
            problems.append(
                Problem(source, shown_key(path), f"is set by {given[path]} as well: expected one of them")
            )
        else:
            given[path] = source
            _set(tree, path, _value(environ[variable], path), sources, source)


def _path_of(variable: str, tree: Mapping[str, Any]) -> tuple[str, ...] | str:
    """The key path that a variable means, or what is wrong with it.

    The names of users, teams and mailboxes are matched with those of the files, whatever the letter case, and with
    "_" for "-" and "."; a name that no file has is taken in lower case.
    """
    section, *parts = variable[len(PREFIX) :].lower().split("__")
    if section not in ("users", "teams", "mailboxes", "oauth_clients"):
        if len(parts) != 1 or not parts[0]:
            return f"expected {PREFIX}SECTION__KEY"
        return section, parts[0]
    name, key = "__".join(parts[:-1]), parts[-1] if parts else ""
    if not name or not key:
        return f"expected {PREFIX}{section.upper()}__NAME__KEY"
    table = tree.get(section)
    known = [other for other in table if _folded(other) == _folded(name)] if isinstance(table, Mapping) else []
    if len(known) > 1:
        return f"expected one name in {section} that it can mean, found {' and '.join(sorted(known))}"
    return section, known[0] if known else name, key


def _folded(name: str) -> str:
    """As a variable's name can be written: systemd and shells know letters, digits and "_" alone."""
    return re.sub(r"[-.]", "_", name.lower())


def _set(tree: dict[str, Any], path: tuple[str, ...], value: object, sources: Sources, source: str) -> None:
    table: Any = tree
    for length, name in enumerate(path[:-1], 1):
        if name not in table:
            sources.keys[path[:length]] = source
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return  # the file has no table here, which is reported as the file's error
    table[path[-1]] = value
    sources.keys[path] = source


def _value(text: str, path: tuple[str, ...]) -> object:
    """The text itself where the key wants one; else what TOML reads in it (numbers, true and false, lists)."""
    model = _model_at(path[:-1])
    known = model.model_fields.get(path[-1]) if model else None
    if known is None or _wants_text(known.annotation):
        return text
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if read.keys() == {"value"} else text


def _wants_text(annotation: Any) -> bool:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return not {get_origin(kind) or kind for kind in kinds} & {int, bool, tuple}


# --- Saying what is wrong -------------------------------------------------------------------------------------------


def shown_key(path: KeyPath) -> str:
    """The path as TOML writes it: `mailboxes."anna.k".folders[1]`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part != "[key]":  # pydantic's word for "the key itself is wrong"
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            shown += ("." if shown else "") + (part if bare else f'"{re.sub(r"[^ -~]", "?", part)}"')
    return shown


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    """The model of the table at this path; None if there is none."""
    model: Any = Settings
    for part in path:
        if get_origin(model) is dict:
            model = get_args(model)[1]
        elif _is_model(model) and part in model.model_fields:
            model = model.model_fields[part].annotation
        else:
            return None
    return model if _is_model(model) else None


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _problems_of(error: ErrorDetails, sources: Sources) -> Iterator[Problem]:
    if error["type"] == "contradictions":
        for path, expected in error["ctx"]["found"]:
            yield Problem(sources.of(path), shown_key(path), expected)
    else:
        path = error["loc"]
        yield Problem(sources.of(path), shown_key(path), _expected(error))


def _expected(error: ErrorDetails) -> str:
    """What was expected, in TOML's words. What was found is named by its type alone: it may be secret."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown(error["loc"])
        case "missing":
            return "is missing: expected a value"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"expected {context['expected']}"
        case "string_pattern_mismatch" if error["loc"][-1] == "[key]":
            return "expected a name of 1 to 64 letters, digits, and _ . -"
        case "string_pattern_mismatch":
            return "expected a text without control characters or others that do not belong there"
        case "greater_than_equal":
            return f"expected {context['ge']} or more"
        case "less_than_equal":
            return f"expected {context['le']} or less"
        case "string_too_short":
            return "expected a text that is not empty"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters"
    kinds = {"string": str, "bool": bool, "int": int, "tuple": list, "path": str, "dict": dict, "model": dict}
    kind = kinds.get(error["type"].partition("_")[0])
    wanted = TYPE_NAMES[kind] if kind else error["msg"].removeprefix("Input should be ")
    return f"expected {wanted}, found {TYPE_NAMES.get(type(error['input']), 'something else')}"


def _unknown(path: KeyPath) -> str:
    key = str(path[-1])
    if key == "password" and path[0] == "mailboxes":
        ways = ", ".join(SECRET_WAYS)
        return f"a password does not stand in the configuration: expected {ways} or a systemd credential"
    model = _model_at(path[:-1])
    known = list(model.model_fields) if model else []
    return "unknown key" + (_like(key, known) or f"; expected one of {', '.join(known)}")

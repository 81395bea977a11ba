"""The configuration, typed: read once, checked as a whole, frozen, passed down (contract.md, Configuration).

`load` merges the file, `conf.d/*.toml` beside it and `MAILLINKD__…` of the environment, remembers where each key
came from, and either returns `Settings` or raises one `ConfigurationError` that lists everything that is wrong. The
merging is done here and not by pydantic-settings, which neither knows which file a key came from nor matches
`MAILLINKD__MAILBOXES__ANNA_K__…` with a mailbox that is called `Anna.K`.

Paths are taken as the operating system takes them: relative ones from the working directory, also in `database.url`
(as SQLAlchemy does).
"""

from maillinkd.settings.checks import RESERVED_NAMES
from maillinkd.settings.database import DatabaseSettings
from maillinkd.settings.environment import PREFIX
from maillinkd.settings.problem import ConfigurationError, KeyPath, Problem, SecretUnavailable, Sources, shown_key
from maillinkd.settings.reading import DEFAULT_FILE, FILE_VARIABLE, load
from maillinkd.settings.reload import changes_that_need_a_restart, without_restart
from maillinkd.settings.root import Settings
from maillinkd.settings.secret import ADDRESS_KEY_BYTES, OAUTH_KEY, SECRET_BYTES
from maillinkd.settings.sections import (
    SECRET_WAYS,
    DnsSettings,
    ListenerSettings,
    LogSettings,
    MailboxSettings,
    OAuthClientSettings,
    OAuthSettings,
    PolicySettings,
    QuarantineSettings,
    Section,
    SmartBccSettings,
    TeamSettings,
    UserSettings,
)
from maillinkd.settings.trial import with_policy
from maillinkd.settings.values import SPECIAL_USE, Address, Domain, Endpoint, Name

__all__ = [
    "ADDRESS_KEY_BYTES",
    "DEFAULT_FILE",
    "FILE_VARIABLE",
    "OAUTH_KEY",
    "PREFIX",
    "RESERVED_NAMES",
    "SECRET_BYTES",
    "SECRET_WAYS",
    "SPECIAL_USE",
    "Address",
    "ConfigurationError",
    "DatabaseSettings",
    "DnsSettings",
    "Domain",
    "Endpoint",
    "KeyPath",
    "ListenerSettings",
    "LogSettings",
    "MailboxSettings",
    "Name",
    "OAuthClientSettings",
    "OAuthSettings",
    "PolicySettings",
    "Problem",
    "QuarantineSettings",
    "SecretUnavailable",
    "Section",
    "Settings",
    "SmartBccSettings",
    "Sources",
    "TeamSettings",
    "UserSettings",
    "changes_that_need_a_restart",
    "load",
    "shown_key",
    "with_policy",
    "without_restart",
]

"""The whole configuration: its sections, that they agree, and what is asked of them together."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from maillinkd.mail.address import normalise, without_plus_tag
from maillinkd.settings import checks, secret
from maillinkd.settings.database import DatabaseSettings
from maillinkd.settings.problem import ConfigurationError, KeyPath, Problem, SecretUnavailable, Sources
from maillinkd.settings.sections import (
    PRESET_FORWARDED,
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
from maillinkd.settings.values import Name, address_or_none

LEFT_OUT: Any = Field(default={}, validate_default=True)
"""A section that the file leaves out has its defaults."""


class Settings(Section):
    """The whole configuration. Whoever holds one holds one without contradictions."""

    database: DatabaseSettings = LEFT_OUT
    log: LogSettings = LEFT_OUT
    policy: PolicySettings = LEFT_OUT
    users: dict[Name, UserSettings] = LEFT_OUT
    teams: dict[Name, TeamSettings] = LEFT_OUT
    oauth: OAuthSettings = LEFT_OUT
    oauth_clients: dict[Name, OAuthClientSettings] = LEFT_OUT
    mailboxes: dict[Name, MailboxSettings] = LEFT_OUT
    smart_bcc: SmartBccSettings = LEFT_OUT
    quarantine: QuarantineSettings = LEFT_OUT
    dns: DnsSettings = LEFT_OUT
    web: ListenerSettings = LEFT_OUT
    metrics: ListenerSettings = LEFT_OUT

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
            filled["smart_bcc"] = {"forwarded": PRESET_FORWARDED["pipedrive-strict"], **smart_bcc}
        return filled

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        owners = self.users.keys() | self.teams.keys()
        found = (
            *checks.people(self.users, self.teams, self._compared),
            *checks.oauth_clients(self.oauth_clients, self.mailboxes),
            *(
                each
                for name, mailbox in self.mailboxes.items()
                for each in checks.mailbox(name, mailbox, owners, self.oauth_clients)
            ),
            *checks.smart_bcc(self.smart_bcc),
            *checks.dns(self.dns),
        )
        if found:
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
        mailboxes = (address_or_none(mailbox.username) for mailbox in self.mailboxes.values())
        return frozenset(users) | frozenset(address for address in mailboxes if address)

    def owner_of(self, address: str) -> str | None:
        """The name of the user whose address or alias this is; None if it is nobody's."""
        return self._owners.get(self._compared(address))

    def source_of(self, *path: str | int) -> str:
        """Where a key, or the nearest table above it, was set: a file or an environment variable."""
        return self._sources.of(path)

    def read_password(self, mailbox: str, environ: Mapping[str, str] = os.environ) -> str:
        """The mailbox's password, read anew. Blocks (a command may take half a minute): call it in a thread.

        Do not keep it. Raises ConfigurationError if no way is configured, SecretUnavailable if the configured one
        yields nothing now.
        """
        settings, where = self.mailboxes[mailbox], ("mailboxes", mailbox)
        if settings.password_file is not None:
            return secret.first_line_of(settings.password_file, self._fault(*where, "password_file"))
        if settings.password_env:
            return secret.variable(settings.password_env, environ, self._fault(*where, "password_env"))
        if settings.password_command:
            return self._printed(mailbox, "password")
        if (path := secret.credential(mailbox, environ)) is not None:
            return secret.first_line_of(path, self._fault(*where))
        expected = (
            f"no password for mailbox {mailbox}: expected password_file, password_env, password_command, "
            f'or a systemd credential named "{mailbox}"'
        )
        raise ConfigurationError([self._sources.problem(where, expected)])

    def read_token(self, mailbox: str) -> str:
        """The access token that the mailbox's `token_command` prints. Blocks: call it in a thread.

        Raises SecretUnavailable if the command yields none now.
        """
        return self._printed(mailbox, "token")

    def oauth_client_of(self, mailbox: str) -> OAuthClientSettings | None:
        """The OAuth client by which this mailbox is reached; None where it has a password or a command."""
        settings = self.mailboxes.get(mailbox)
        return self.oauth_clients.get(settings.oauth_client) if settings else None

    def read_client_secret(self, client: str) -> str | None:
        """The secret of an OAuth client; None for a public one. Raises SecretUnavailable if it can't be read."""
        if (path := self.oauth_clients[client].client_secret_file) is None:
            return None
        return secret.first_line_of(path, self._fault("oauth_clients", client, "client_secret_file"), "secret")

    def read_service_account(self, client: str) -> bytes:
        """The key file of a service account, as it stands. Raises SecretUnavailable if it can't be read."""
        path = self.oauth_clients[client].service_account_file
        assert path is not None, "the settings have checked it"
        return secret.content(path, self._fault("oauth_clients", client, "service_account_file"))

    def oauth_key_path(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """Where the key lies that tokens are encrypted with: `oauth.key_file`, the systemd credential, or beside the
        SQLite database; None where none of these is given. The file need not be there yet.
        """
        if self.oauth.key_file is not None:
            return self.oauth.key_file
        if (credential := secret.credential(secret.OAUTH_KEY, environ)) is not None:
            return credential
        database = self.database.sqlite_path()
        return database.parent / "oauth.key" if database else None

    def read_oauth_key(self, environ: Mapping[str, str] = os.environ) -> bytes | None:
        """The content of that file; None while it is not there. Raises SecretUnavailable if it can't be read."""
        path = self.oauth_key_path(environ)
        if path is None or not path.exists():
            return None
        return secret.content(path, self._fault("oauth", "key_file"))

    def read_address_keys(self) -> tuple[bytes, ...]:
        """The keys of Smart Bcc address suffixes (linking.md L13), the one that makes suffixes first.

        A file of printable ASCII holds one key a line; any other is one key, but for its last line end. Empty where
        none is configured. Raises SecretUnavailable if the file can't be read or a key is too short.
        """
        if (path := self.smart_bcc.address_key_file) is None:
            return ()
        return secret.address_keys(path, self._fault("smart_bcc", "address_key_file"))

    def require_secrets(
        self, mailboxes: Iterable[str], smart_bcc: bool = False, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Checks that what these mailboxes log in with can be had, and with `smart_bcc` the key of its addresses,
        without running any command. Name what this process serves: another's may be readable to that one alone.
        Whether an OAuth token is stored, the database alone knows.

        Raises ConfigurationError with all that are missing.
        """
        wanted: list[Callable[[], object]] = [partial(self._require_login, name, environ) for name in mailboxes]
        if smart_bcc:
            wanted.append(self.read_address_keys)
        problems: list[Problem] = []
        for require in wanted:
            try:
                require()
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(problems)

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
            str(self._sources.problem(where, f"{path} can be read by every user of this machine; chmod o-rwx it"))
            for where, path in files
            if path is not None and secret.readable_by_all(path)
        )

    def _printed(self, mailbox: str, what: str) -> str:
        from maillinkd.settings.command import output_of  # for mailboxes that have one

        key = f"{what}_command"
        fault = self._fault("mailboxes", mailbox, key)
        return secret.first_line(output_of(getattr(self.mailboxes[mailbox], key), fault), "the command", fault, what)

    def _fault(self, *path: str | int) -> secret.Fault:
        return lambda expected: SecretUnavailable([self._sources.problem(path, expected)])

    def _require_login(self, mailbox: str, environ: Mapping[str, str]) -> None:
        settings = self.mailboxes[mailbox]
        if settings.token_command or settings.password_command:
            from maillinkd.settings.command import require_program

            key = "token_command" if settings.token_command else "password_command"
            require_program(getattr(settings, key), self._fault("mailboxes", mailbox, key))
        elif settings.auth == "password":
            self.read_password(mailbox, environ)
        else:
            self.read_client_secret(settings.oauth_client)
            client = self.oauth_clients[settings.oauth_client]
            if client.chosen_grant == "service_account":
                self.read_service_account(settings.oauth_client)
            elif client.needs_a_person:
                self.read_oauth_key(environ)


def _with_owner_and_port(name: object, mailbox: object) -> object:
    if not isinstance(mailbox, Mapping):
        return mailbox
    filled = {"port": 993 if mailbox.get("tls", "implicit") == "implicit" else 143, **mailbox}
    filled["owner"] = mailbox.get("owner") or name
    return filled


def model_at(path: KeyPath) -> type[BaseModel] | None:
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

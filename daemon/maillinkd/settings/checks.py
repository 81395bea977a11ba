"""What no key tells alone. Each check yields the path of the key to change, and what was expected there."""

from collections.abc import Callable, Collection, Iterator, Mapping

from maillinkd.settings.problem import KeyPath, did_you_mean
from maillinkd.settings.secret import OAUTH_KEY
from maillinkd.settings.sections import (
    DnsSettings,
    MailboxSettings,
    OAuthClientSettings,
    SmartBccSettings,
    TeamSettings,
    UserSettings,
)
from maillinkd.settings.values import is_ip, is_loopback

Found = Iterator[tuple[KeyPath, str]]

RESERVED_NAMES = ("smart_bcc", "web", "metrics")
"""What `run --only` calls the other doors: no mailbox may bear these names."""

GRANTS = {
    "google": ("authorization_code", "service_account"),
    "microsoft": ("device_code", "authorization_code", "client_credentials"),
    "generic": ("authorization_code", "client_credentials"),
}
"""Which grants a provider has for IMAP. Google's device flow refuses the scopes of mail."""


def people(
    users: Mapping[str, UserSettings], teams: Mapping[str, TeamSettings], compared: Callable[[str], str]
) -> Found:
    """A name is one user's or one team's; an address, as the policy has it `compared`, is one user's."""
    for name in users.keys() & teams.keys():
        yield ("teams", name), f"{name} is a user as well: expected a name that no user has"
    for name, team in teams.items():
        if not team.members:
            yield ("teams", name, "members"), "expected at least one user"
        for index, member in enumerate(team.members):
            if member not in users:
                yield ("teams", name, "members", index), f"no user {member!r}{did_you_mean(member, users)}"
    claimed: dict[str, str] = {}
    for name, user in users.items():
        for address in user.addresses:
            if (other := claimed.setdefault(compared(address), name)) != name:
                yield ("users", name), f"{address} belongs to user {other} already: expected one user for an address"


def oauth_clients(clients: Mapping[str, OAuthClientSettings], mailboxes: Mapping[str, MailboxSettings]) -> Found:
    """A client's grant is one of its provider's; one that a mailbox uses has what that grant needs."""
    used = {mailbox.oauth_client for mailbox in mailboxes.values()}
    for name, client in clients.items():
        path = ("oauth_clients", name)
        grant = client.chosen_grant
        if grant not in GRANTS[client.provider]:
            known = ", ".join(GRANTS[client.provider])
            yield (*path, "grant"), f"{grant} is not for {client.provider}: expected one of {known}"
        elif name in used:
            yield from _what_a_client_lacks(path, client, grant)


def _what_a_client_lacks(path: KeyPath, client: OAuthClientSettings, grant: str) -> Found:
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


def mailbox(
    name: str, settings: MailboxSettings, owners: Collection[str], clients: Mapping[str, OAuthClientSettings]
) -> Found:
    """A mailbox has a name of its own, an owner that is there, and one way to log in."""
    path = ("mailboxes", name)
    if name in RESERVED_NAMES:
        yield path, f"{name} names another part of maillinkd in `run --only`: expected another name"
    if name == OAUTH_KEY:
        yield path, f"{name} names the systemd credential with the key of [oauth]: expected another name"
    if settings.owner not in owners:
        if settings.owner == name:
            expected = f"no owner given and no user is called {name}: expected `owner = ` a user or a team"
        else:
            expected = f"no user or team {settings.owner!r}{did_you_mean(settings.owner, owners)}"
        yield (*path, "owner"), expected
    if settings.tls == "none" and not is_loopback(settings.host):
        yield (*path, "tls"), 'expected "implicit" or "starttls": "none" is for loopback alone, it shows the password'
    yield from _credentials(path, settings, clients)
    if len(ways := settings.secret_ways) > 1:
        yield path, f"expected one of {' and '.join(ways)}, not {len(ways)} of them"
    if not settings.folders:
        yield (*path, "folders"), "expected at least one folder"
    yield from _program((*path, "password_command"), settings.password_command)


def _credentials(path: KeyPath, settings: MailboxSettings, clients: Mapping[str, OAuthClientSettings]) -> Found:
    """Password or OAuth 2.0, never both."""
    if settings.auth == "password":
        for key in ("oauth_client", "token_command"):
            if getattr(settings, key):
                yield (*path, key), f'expected auth = "oauth2" where {key} is set'
        return
    for key in settings.secret_ways:
        yield (*path, key), 'expected no password where auth is "oauth2"'
    if bool(settings.oauth_client) == bool(settings.token_command):
        yield (*path, "auth"), 'expected oauth_client or token_command, one of them, where auth is "oauth2"'
    elif settings.oauth_client and settings.oauth_client not in clients:
        like = did_you_mean(settings.oauth_client, clients)
        yield (*path, "oauth_client"), f"no OAuth client {settings.oauth_client!r} in [oauth_clients]{like}"
    yield from _program((*path, "token_command"), settings.token_command)


def _program(path: KeyPath, command: tuple[str, ...]) -> Found:
    if command and not command[0]:
        yield path, "expected a program and its arguments, each a text of its own"


def smart_bcc(settings: SmartBccSettings) -> Found:
    """What the Smart Bcc host needs is there, and its keys agree."""
    if settings.enabled:
        for key, example in (
            ("domain", '"bcc.ourco.example"'),
            ("local_part", '"ourco"'),
            ("listen", '["0.0.0.0:25"]'),
        ):
            if not getattr(settings, key):
                yield ("smart_bcc", key), f"is needed when smart_bcc is enabled: expected something like {example}"
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        missing = "tls_key" if settings.tls_key is None else "tls_certificate"
        yield ("smart_bcc", missing), "expected tls_certificate and tls_key, both or none"
    if settings.proxy_protocol and not settings.trusted_relays:
        yield ("smart_bcc", "proxy_protocol"), "is for your own relays: expected their networks in trusted_relays"
    if len(set(settings.listen)) != len(settings.listen):
        yield ("smart_bcc", "listen"), "expected each address once"


def dns(settings: DnsSettings) -> Found:
    """Servers are asked by their addresses: nobody could look their names up."""
    for index, server in enumerate(settings.servers):
        if not is_ip(server.host) or not server.port:
            yield ("dns", "servers", index), 'expected an IP address and a port, such as "127.0.0.1:53"'

"""`init`: from an address to a mailbox that is followed."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.cli.config_file import NewClient, NewMailbox, Place
    from maillinkd.imap.account import Account
    from maillinkd.imap.discover.offer import Offer, Tried
    from maillinkd.imap.discover.search import Sources
    from maillinkd.imap.folders import Folder
    from maillinkd.settings import Settings

_LOGINS = 3
"""How often a person may try; more, and servers lock the account."""
_PROBE_SECONDS = 10.0


def add_to(root: typer.Typer) -> None:
    command(
        root,
        "init",
        "maillinkd init anna@ourco.example",
        "maillinkd init anna@ourco.example --yes --password-file /run/secrets/anna --since 90d",
    )(init)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks on the terminal, on standard error; without one, or with --yes, the default is the answer."""

    can: bool

    def text(self, question: str, default: str) -> str:
        return (self._line(f"{question} [{default}]: ") or default) if self.can else default

    def agrees(self, question: str, default: bool) -> bool:
        if not self.can:
            return default
        answer = self._line(f"{question} [{'Y/n' if default else 'y/N'}]: ").lower()
        return answer.startswith("y") if answer else default

    def secret(self, question: str) -> str:
        from getpass import getpass

        try:
            while not (answer := getpass(question)):
                pass
            answer.encode()
        except EOFError:
            raise typer.Abort from None
        except UnicodeEncodeError:
            raise typer.BadParameter("the password is not UTF-8: set the terminal to it") from None
        return answer

    def _line(self, question: str) -> str:
        from maillinkd.cli.output import escaped

        sys.stderr.write(escaped(question))
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        return line.strip()


async def init(
    given: Given,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address whose mailbox is to be followed.")],
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="The IMAP server, instead of looking for it.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Its port; else 993, with STARTTLS 143.")
    ] = None,
    tls: Annotated[
        Literal["implicit", "starttls"] | None, typer.Option(help="How TLS begins there. There is no way without.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to believe instead of the system's.")
    ] = None,
    username: Annotated[
        str | None, typer.Option(metavar="NAME", help="Else the address, or as the server has it.")
    ] = None,
    auth: Annotated[Literal["password", "oauth2"] | None, typer.Option(help="How to sign in.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the password in its first line; else it is asked for.")
    ] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that holds the password.")
    ] = None,
    oauth_client: Annotated[
        str | None, typer.Option(metavar="NAME", help="With oauth2: a client that the configuration has.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option(metavar="ID", help="With oauth2: a new client, as registered with the provider.")
    ] = None,
    client_secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --client-id: holds its secret, if it has one.")
    ] = None,
    folder: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER", help="A name, glob, or special use. May be repeated.")
    ] = None,
    since: Annotated[str | None, typer.Option(help='How far back: 30d, 12w, 6m, 1y, a date, or "all".')] = None,
    store: Annotated[Literal["headers", "full"] | None, typer.Option(help="What is kept of each mail.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The mailbox's name; else made of the address.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(metavar="NAME", help="A user or team; else whose address it is, else a new user.")
    ] = None,
    internal_domain: Annotated[
        list[str] | None,
        typer.Option(metavar="DOMAIN", help="Where all are colleagues. In a first file. Repeatable."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Else conf.d/NAME.toml, or the configuration if none is there."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: defaults hold.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what each source answered.")] = False,
) -> None:
    """Finds the server of an address, tries the login, and writes a commented configuration for it.

    Asks the list of well-known providers, the domain (autoconfig, SRV and MX records) and Thunderbird's database of
    providers; then guesses. TLS is always on, and the certificate checked. The password is asked for on the terminal
    and goes into a file of its own.
    """
    from maillinkd.cli import output
    from maillinkd.cli.config_file import NewClient

    ask = _Asker(can=not yes and sys.stdin.isatty())
    if (port or tls) and not host:
        raise typer.BadParameter("--port and --tls go with --host")
    if password_file and password_env:
        raise typer.BadParameter("--password-file or --password-env, not both")
    if ca_file:
        _believable(ca_file)
    address = _address(address)
    if name is not None:
        _check_name(name)
    draft = _draft(given, address, name, owner, file)
    if name is None:
        _refuse_a_second(draft, address, username, host, overwrite)
    _may_write(draft.place.target, ask, overwrite)
    if host:
        offer, capabilities = await _given_server(address, host, port, tls, ca_file)
    else:
        offer, capabilities = await _found_server(address, ca_file, ask, verbose)
    output.complain(f"server: {offer.place}, by {offer.source}")
    if offer.note:
        output.complain(offer.note)
    mailbox = replace(
        draft.mailbox,
        host=offer.host,
        port=offer.port,
        tls=offer.tls,
        source=offer.source,
        username=username or offer.usernames[0],
        auth=auth or _way(offer, ask),
        ca_file=ca_file and ca_file.absolute(),
        folders=tuple(folder) if folder else _folders(offer, capabilities),
        since=since or "30d",
        store=store or "headers",
        bytes_a_day=_bytes_a_day(offer, capabilities),
    )
    typed = ""
    if mailbox.auth == "oauth2":
        client = NewClient(offer.provider, client_id or "", client_secret_file and client_secret_file.absolute())
        mailbox = _with_client(draft, mailbox, oauth_client, client, ask)
    else:
        mailbox = _with_password(draft, mailbox, password_file, password_env, ask, overwrite)
        names = (username,) if username else offer.usernames
        login = await _log_in(_on_trial(draft, mailbox, internal_domain or ()), mailbox, names, ask)
        typed = login.typed
        chosen = _chosen_folders(mailbox.folders, bool(folder), login.folders, ask)
        mailbox = replace(mailbox, username=login.username, folders=chosen)
    if since is None:
        mailbox = _asked(draft, mailbox, "since", "How far back (30d, 12w, 6m, 1y, a date, all)", ask)
    if store is None:
        mailbox = _asked(draft, mailbox, "store", "What to keep of each mail (headers, full)", ask)
    _put(draft, mailbox, _colleagues(draft, address, internal_domain, ask), typed)
    _say_done(given, draft, mailbox)


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known before anybody is asked."""

    place: "Place"
    mailbox: "NewMailbox"
    settings: "Settings | None"
    """The configuration of which the file becomes a part."""


@dataclass(frozen=True, slots=True)
class _Login:
    username: str
    typed: str
    """The password, if it was typed in; else ""."""
    folders: "tuple[Folder, ...]"


def _address(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from maillinkd.settings import Address

    try:
        return TypeAdapter(Address).validate_python(text.strip())
    except ValidationError:
        raise typer.BadParameter(f'{text!r} is no address: expected one such as "anna@ourco.example"') from None


def _check_name(name: str) -> None:
    """contract.md, Configuration: names are identities."""
    from pydantic import TypeAdapter, ValidationError

    from maillinkd.settings import RESERVED_NAMES, Name
    from maillinkd.settings.secret import OAUTH_KEY

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        expected = "expected 1 to 64 letters, digits, '_', '.' or '-'"
        raise typer.BadParameter(f"--name: {name!r} is no name of a mailbox: {expected}") from None
    if name in (*RESERVED_NAMES, OAUTH_KEY):
        raise typer.BadParameter(f"--name: {name!r} names another part of maillinkd: expected another name")


def _refuse_a_second(draft: _Draft, address: str, username: str | None, host: str | None, overwrite: bool) -> None:
    """Raises typer.BadParameter if a mailbox follows the account already, unless that one is to be overwritten."""
    if (settings := draft.settings) is None:
        return
    for name in sorted(_elsewhere(settings, draft.place, "mailboxes") if overwrite else settings.mailboxes):
        if _is_followed_by(settings, name, address, username, host):
            where = settings.source_of("mailboxes", name)
            raise typer.BadParameter(
                f"mailbox {name} ({where}) follows {address} already: change it there, or name a second one by --name"
            )


def _is_followed_by(settings: "Settings", name: str, address: str, username: str | None, host: str | None) -> bool:
    """Whether a mailbox logs in as the address would: by itself or, where it is the owner's, by its local part."""
    mailbox = settings.mailboxes[name]
    if host is not None and host.lower() != mailbox.host.lower():
        return False
    if username is not None:
        return username == mailbox.username
    is_owners = settings.owner_of(address) == mailbox.owner
    return mailbox.username.lower() in (address, address.rpartition("@")[0] if is_owners else address)


def _believable(ca_file: Path) -> None:
    import ssl

    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError among them
        why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "holds no certificate"
        raise typer.BadParameter(f"--ca-file {ca_file}: {why}") from None


def _draft(given: Given, address: str, name: str | None, owner: str | None, file: Path | None) -> _Draft:
    """Names that collide with nothing in the configuration that is there."""
    from maillinkd.cli.config_file import NewMailbox, Place
    from maillinkd.settings import load

    first = name or next(_names(address))
    place = Place.of(given.config, file, first)
    settings = None if place.is_whole or not place.main.exists() else load(place.main)
    owners = _elsewhere(settings, place, "users") | _elsewhere(settings, place, "teams")
    mailboxes = _elsewhere(settings, place, "mailboxes")
    owned = settings.owner_of(address) if settings else None
    known = owner or (owned if owned in owners else None)
    if owner and owner not in owners:
        there = ", ".join(sorted(owners)) or "none"
        raise typer.BadParameter(f"no user or team {owner!r} in {place.main} (there: {there})")
    taken = mailboxes if known else mailboxes | owners
    if name and name in taken:
        raise typer.BadParameter(f"{name!r} is taken in {place.main}: another --name, or --owner")
    free = name or next(each for each in _names(address) if each not in taken)
    if free != first:
        place = Place.of(given.config, file, free)
    mailbox = NewMailbox(
        name=free,
        address=address,
        owner=known or free,
        new_user=known is None,
        host="",
        port=993,
        tls="implicit",
        username="",
        source="",
    )
    return _Draft(place, mailbox, settings)


def _elsewhere(settings: "Settings | None", place: "Place", section: str) -> set[str]:
    """The names in a section that stand in other files than the one that is to be written."""
    if settings is None:
        return set()
    return {name for name in getattr(settings, section) if settings.source_of(section, name) != str(place.target)}


def _names(address: str) -> Iterator[str]:
    """Names for the mailbox of an address: anna, anna-ourco, anna-ourco-2 …"""
    import re

    from maillinkd.settings import RESERVED_NAMES

    local, _, domain = address.rpartition("@")
    short = re.sub(r"[^a-z0-9_.-]", "-", local.partition("+")[0])[:40].strip("-.") or "mailbox"
    longer = f"{short}-{re.sub(r'[^a-z0-9-]', '-', domain.partition('.')[0])[:16]}"
    if short not in RESERVED_NAMES:
        yield short
    yield longer
    number = 2
    while True:
        yield f"{longer}-{number}"
        number += 1


def _may_write(path: Path, ask: _Asker, overwrite: bool) -> None:
    from maillinkd.ingest.hand import Refused

    if path.exists() and not overwrite and not ask.agrees(f"{path} is there already. Replace it?", False):
        raise Refused(f"{path} is there already: nothing was written; see --overwrite, --output, --name")


async def _given_server(
    address: str, host: str, port: int | None, tls: Literal["implicit", "starttls"] | None, ca_file: Path | None
) -> "tuple[Offer, frozenset[str]]":
    """The server that the command names. Raises ImapError if it does not answer."""
    from maillinkd.imap.discover.offer import Offer

    tls = tls or ("starttls" if port == 143 else "implicit")
    usernames = (address, address.rpartition("@")[0])
    offer = Offer(host, port or (993 if tls == "implicit" else 143), tls, usernames, "--host", evidence="list")
    return offer, await _probe(offer, ca_file)


async def _found_server(
    address: str, ca_file: Path | None, ask: _Asker, verbose: bool
) -> "tuple[Offer, frozenset[str]]":
    """The first server that is said to hold the address's mail, answers, and is agreed to."""
    from maillinkd.imap.discover import search
    from maillinkd.imap.errors import Unreachable

    async def probe(offer: "Offer") -> frozenset[str]:
        return await _probe(offer, ca_file)

    found = await search.find(address, _sources())
    tried = list(found.tried)
    answer = await search.first_answering(found.offers, probe)
    tried += answer.tried
    if answer.offer is None and not found.note and all(offer.evidence != "list" for offer in found.offers):
        answer = await search.first_answering(search.guesses(address), probe)
        tried += answer.tried
    if verbose or answer.offer is None:
        _say_tried(tried)
    domain = address.rpartition("@")[2]
    if answer.offer is None:
        raise Unreachable(found.note or f"no IMAP server was found for {domain}: name it with --host")
    if answer.offer.leads_away_from(domain):
        _agree(answer.offer, domain, ask)
    return answer.offer, answer.capabilities


def _sources() -> "Sources":
    """How the world is asked; a test puts another one here."""
    from maillinkd.imap.discover.search import Sources

    return Sources()


def _agree(offer: "Offer", domain: str, ask: _Asker) -> None:
    """RFC 6186, 6: a host outside the domain is for a person to agree to; without one, HTTPS must vouch for it."""
    from maillinkd.ingest.hand import NotPermitted

    question = f"{offer.source} names {offer.place}, which is outside {domain}. Send the password there?"
    if ask.agrees(question, False) if ask.can else offer.evidence == "https":
        return
    raise NotPermitted(
        f"{offer.place}, named by {offer.source}, was not agreed to; if it is right: --host {offer.host}"
    )


async def _probe(offer: "Offer", ca_file: Path | None) -> frozenset[str]:
    from maillinkd.imap.account import Account, Deadlines
    from maillinkd.imap.client import capabilities_of

    account = Account(
        offer.host, offer.host, offer.port, offer.tls, "", "", tls_ca_file=str(ca_file) if ca_file else None
    )
    return await capabilities_of(account, Deadlines(connect=_PROBE_SECONDS, command=_PROBE_SECONDS, logout=1))


def _say_tried(tried: "list[Tried]") -> None:
    from maillinkd.cli import output

    for each in tried:
        output.complain(f"  {each.source}: {each.outcome}")


def _way(offer: "Offer", ask: _Asker) -> Literal["password", "oauth2"]:
    """How to sign in. Where both ways are open a person chooses."""
    if len(offer.auth) == 1 or not offer.provider:
        return offer.auth[0]
    return "oauth2" if ask.agrees("Sign in by OAuth2, instead of an app password?", False) else "password"


def _with_client(
    draft: _Draft, mailbox: "NewMailbox", name: str | None, new: "NewClient", ask: _Asker
) -> "NewMailbox":
    """The OAuth client by which tokens are come by: one that the configuration has, else a new one."""
    clients = draft.settings.oauth_clients if draft.settings else {}
    elsewhere = _elsewhere(draft.settings, draft.place, "oauth_clients")
    known = {key: client.provider for key, client in clients.items() if key in elsewhere}
    if name is not None:
        if name not in known:
            raise typer.BadParameter(f"no OAuth client {name!r} (there: {', '.join(sorted(known)) or 'none'})")
        return replace(mailbox, oauth_client=name)
    if not new.provider:
        raise typer.BadParameter(f"who gives out tokens for {mailbox.host}? Name an OAuth client with --oauth-client")
    fitting = sorted(key for key, provider in known.items() if provider == new.provider)
    if len(fitting) > 1 and not new.client_id:
        raise typer.BadParameter(f"which OAuth client? --oauth-client {' or '.join(fitting)}")
    if fitting and not new.client_id:
        return replace(mailbox, oauth_client=fitting[0])
    if not new.client_id:
        new = replace(new, client_id=ask.text(f"Client id of maillinkd at {new.provider}", ""))
    if not new.client_id:
        raise typer.BadParameter(
            f"expected --client-id, as {new.provider} gave it when maillinkd was registered there"
        )
    if new.provider in known:
        raise typer.BadParameter(f"there is an OAuth client {new.provider!r}: --oauth-client, or change it there")
    return replace(mailbox, oauth_client=new.provider, new_client=new)


def _with_password(
    draft: _Draft, mailbox: "NewMailbox", file: Path | None, variable: str | None, ask: _Asker, overwrite: bool
) -> "NewMailbox":
    """Where the password is, or will be: then the file is not there yet, or may be replaced."""
    if file:
        return replace(mailbox, password_file=file.absolute())
    if variable:
        return replace(mailbox, password_env=variable)
    if not ask.can:
        raise typer.BadParameter("nobody can be asked for the password: --password-file or --password-env")
    own = draft.place.main.parent / f"{mailbox.name}.password"
    _may_write(own, ask, overwrite)
    return replace(mailbox, password_file=own, ask_password=True)


def _folders(offer: "Offer", capabilities: frozenset[str]) -> tuple[str, ...]:
    return ("\\All",) if "X-GM-EXT-1" in capabilities else offer.folders


def _bytes_a_day(offer: "Offer", capabilities: frozenset[str]) -> int:
    from maillinkd.imap.discover.providers import of_domain

    gmail = of_domain("gmail.com") if "X-GM-EXT-1" in capabilities else None
    return gmail.bytes_a_day if gmail else offer.bytes_a_day


def _on_trial(draft: _Draft, mailbox: "NewMailbox", domains: "list[str] | tuple[str, ...]") -> "Settings":
    from maillinkd.cli.config_file import read_on_trial

    return read_on_trial(draft.place, _text(draft, mailbox, tuple(domains)))


def _text(draft: _Draft, mailbox: "NewMailbox", domains: tuple[str, ...]) -> str:
    from datetime import UTC, datetime

    from maillinkd.cli.config_file import Whole, database_beside, text_of

    whole = Whole(database_beside(draft.place.main), domains) if draft.place.is_whole else None
    return text_of(mailbox, whole, datetime.now(UTC).date())


async def _log_in(settings: "Settings", mailbox: "NewMailbox", usernames: tuple[str, ...], ask: _Asker) -> _Login:
    """Tries the user name in its usual forms; then a person may correct it. Raises LoginRefused at the end."""
    from maillinkd.cli import output
    from maillinkd.imap.errors import LoginRefused

    for attempt in range(1, _LOGINS + 1):
        typed = ask.secret(f"Password of {usernames[0]}: ") if mailbox.ask_password else ""
        password = typed or settings.read_password(mailbox.name)
        refused: LoginRefused | None = None
        for name in usernames:
            try:
                return _Login(name, typed, await _folders_of(mailbox, name, password))
            except LoginRefused as error:
                refused = refused or error
        assert refused is not None
        if attempt == _LOGINS or not mailbox.ask_password:
            raise refused
        output.complain(str(refused))
        usernames = (ask.text("User name", usernames[0]),)
    raise AssertionError("the last attempt ends above")


async def _folders_of(mailbox: "NewMailbox", username: str, password: str) -> "tuple[Folder, ...]":
    from maillinkd.imap.account import Deadlines
    from maillinkd.imap.client import connect

    connection = await connect(_account(mailbox, username, password), Deadlines(connect=_PROBE_SECONDS))
    try:
        folders = await connection.folders()
        await connection.logout()
    finally:
        connection.abort()
    return folders


def _account(mailbox: "NewMailbox", username: str, password: str) -> "Account":
    from maillinkd.imap.account import Account

    ca_file = str(mailbox.ca_file) if mailbox.ca_file else None
    return Account(mailbox.name, mailbox.host, mailbox.port, mailbox.tls, username, password, tls_ca_file=ca_file)


def _chosen_folders(
    wanted: tuple[str, ...], fixed: bool, there: "tuple[Folder, ...]", ask: _Asker
) -> tuple[str, ...]:
    """Which folders to follow, of those that are there; `fixed`: as the command named them."""
    from maillinkd.cli import output
    from maillinkd.imap.folders import resolve

    if not fixed:
        wanted = _there(wanted, there) or _there(("INBOX", "\\Sent"), there)
        if ask.can:
            output.complain(f"folders there: {', '.join(folder.name for folder in there)}")
            answer = ask.text("Folders to follow, with commas between", ", ".join(wanted))
            wanted = tuple(each.strip() for each in answer.split(",") if each.strip())
    if missing := resolve(wanted, there).missing:
        output.complain(f"warning: not on the server: {', '.join(missing)}")
    return wanted


def _there(wanted: tuple[str, ...], there: "tuple[Folder, ...]") -> tuple[str, ...]:
    """Without what the server does not have: Gmail shows All Mail only if it is told to."""
    from maillinkd.imap.folders import resolve

    missing = resolve(wanted, there).missing
    return tuple(each for each in wanted if each not in missing)


def _asked(draft: _Draft, mailbox: "NewMailbox", key: str, question: str, ask: _Asker) -> "NewMailbox":
    """The mailbox with what a person says of a setting: asked again while it is none."""
    from maillinkd.cli import output
    from maillinkd.settings import ConfigurationError

    while True:
        answer: dict[str, Any] = {key: ask.text(question, getattr(mailbox, key))}
        answered = replace(mailbox, **answer)
        try:
            _on_trial(draft, answered, ())
        except ConfigurationError as error:
            if not ask.can:
                raise
            output.complain(str(error))
        else:
            return answered


def _colleagues(draft: _Draft, address: str, given: list[str] | None, ask: _Asker) -> tuple[str, ...]:
    """The internal domains of a first file. Nobody's domain is taken for one unless somebody says so."""
    if given is not None or not draft.place.is_whole:
        return tuple(given or ())
    from maillinkd.imap.discover.providers import of_domain

    domain = address.rpartition("@")[2]
    if of_domain(domain) or not ask.agrees(f"Is everybody at {domain} a colleague?", False):
        return ()
    return (domain,)


def _put(draft: _Draft, mailbox: "NewMailbox", domains: tuple[str, ...], typed: str) -> None:
    """The file is read on trial; then the password is put in its place, and the file last."""
    from maillinkd.cli.config_file import put

    _on_trial(draft, mailbox, domains)
    if typed:
        assert mailbox.password_file is not None
        put(mailbox.password_file, f"{typed}\n")
    put(draft.place.target, _text(draft, mailbox, domains))


def _say_done(given: Given, draft: _Draft, mailbox: "NewMailbox") -> None:
    from maillinkd.cli import output

    oauth = mailbox.auth == "oauth2"
    next_command = f"maillinkd auth login {mailbox.name}" if oauth else "maillinkd check --connect"
    if given.json:
        output.say_json(
            {
                "event": "configured",
                "mailbox": mailbox.name,
                "owner": mailbox.owner,
                "file": str(draft.place.target),
                "host": mailbox.host,
                "port": mailbox.port,
                "tls": mailbox.tls,
                "username": mailbox.username,
                "auth": mailbox.auth,
                "source": mailbox.source,
                "folders": mailbox.folders,
                "next": next_command,
            }
        )
    else:
        output.say(output.escaped(f"mailbox {mailbox.name} written to {draft.place.target}; next: {next_command}"))

"""`users list`, `users alias add|remove`: whose mail Smart Bcc takes (linking.md L14)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.settings import Settings
    from maillinkd.store.aliases import Alias

app = group("users", "Users, and the addresses they write from.", "maillinkd users list")
alias_app = group(
    "alias", "Users' further addresses, confirmed by mail.", "maillinkd users alias add anna@home.example --confirm"
)

LIFETIME = timedelta(days=2)
"""How long a one-time address waits for its mail."""
_TOKEN_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # noqa: S105  # Crockford's base32
_TOKEN_LENGTH = 16

_Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Such as anna@home.example.", show_default=False)]


def add_to(root: typer.Typer) -> None:
    app.add_typer(alias_app)
    root.add_typer(app)


@command(app, "list", "maillinkd users list", "maillinkd users list --json")
async def list_users(given: Given) -> None:
    """Lists users with their addresses and aliases, and how each came to be theirs."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.store import aliases

    settings = given.settings()
    async with open_house(settings, decides=False) as house, house.database.reading() as connection:
        rows = list(_rows(settings, await aliases.listing(connection)))
    if given.json:
        for row in rows:
            output.say_json(row)
        return
    columns = ("user", "address", "kind", "state", "until")
    shown = ([row["user"], row["address"], row["kind"], row["state"], row["expires_at"]] for row in rows)
    output.table(columns, shown, nothing="no users are configured")


def _rows(settings: "Settings", found: "Sequence[Alias]") -> Iterator[dict[str, Any]]:
    """A line for each address, by user. `state`: configured, confirmed, waiting, expired, or removed."""
    for name, user in sorted(settings.users.items()):
        for address in user.addresses:
            kind = "address" if address == user.address else "alias"
            yield _row(name, address, kind, "configured")
        yield from (_confirmable(each) for each in found if each.user == name)
    yield from (_confirmable(each) | {"state": "removed"} for each in found if each.user not in settings.users)


def _confirmable(alias: "Alias") -> dict[str, Any]:
    from maillinkd.directory.lines import rfc3339

    if alias.expires_at is None:
        return _row(alias.user, alias.address, "alias", "confirmed")
    state = "waiting" if alias.expires_at > datetime.now(UTC) else "expired"
    return _row(alias.user, alias.address, "alias", state, rfc3339(alias.expires_at))


def _row(user: str, address: str, kind: str, state: str, expires_at: str | None = None) -> dict[str, Any]:
    return {"user": user, "address": address, "kind": kind, "state": state, "expires_at": expires_at}


@command(
    alias_app,
    "add",
    "maillinkd users alias add anna@home.example --confirm --user anna",
)
async def add(
    given: Given,
    address: _Address,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Print a one-time address; mail to it from the alias confirms it.")
    ] = False,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose alias it is; needed where there are several users.")
    ] = None,
) -> None:
    """Makes an address an alias of a user, once mail has come from it that is authenticated. Sends nothing.

    An alias that needs no proof is written in the configuration, in `aliases` of its user.
    """
    from maillinkd.app import open_house, smart_bcc_address
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339
    from maillinkd.ingest.hand import Refused
    from maillinkd.settings import ConfigurationError, Problem
    from maillinkd.store import aliases

    if not confirm:
        raise typer.BadParameter("expected --confirm; an alias without proof is written in the configuration")
    plain, settings = _normalised(address), given.settings()
    owner = _user(settings, user)
    expires_at = datetime.now(UTC) + LIFETIME
    token = _token()
    async with open_house(settings, decides=False) as house:
        bcc = smart_bcc_address(settings, house.office.alias_key)
        if bcc is None:
            where = settings.source_of("smart_bcc")
            raise ConfigurationError(
                [Problem(where, "smart_bcc", "expected domain and local_part: no mail can come")]
            )
        holder = house.office.owner_of_address(plain)
        if holder is not None:
            raise Refused(f"{plain} belongs to user {holder} already")
        async with house.database.transaction() as connection:
            await aliases.ask(connection, house.office.compared(plain), owner, token, expires_at)
    to = bcc.alias_address(token)
    if given.json:
        facts = {"event": "alias_waits", "user": owner, "address": plain, "expires_at": rfc3339(expires_at)}
        output.say_json(facts | {"send_to": to})
    else:
        output.say(f"Send any mail from {plain} to this address, until {expires_at:%Y-%m-%d %H:%M} UTC:\n\n{to}")


@command(alias_app, "remove", "maillinkd users alias remove anna@home.example")
async def remove(given: Given, address: _Address) -> None:
    """Removes an alias that was confirmed by mail, or waits for it. Mail that is filed stays where it is."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.ingest.hand import Refused
    from maillinkd.store import aliases

    settings = given.settings()
    plain = _normalised(address)
    async with open_house(settings, decides=False) as house:
        async with house.database.transaction() as connection:
            removed = await aliases.remove(connection, house.office.compared(plain))
        configured = settings.owner_of(plain)
    if not removed and configured is not None:
        where = settings.source_of("users", configured)
        raise Refused(f"{plain} stands in the configuration ({where}): take it out there")
    if not removed:
        raise Refused(f"{plain} is no alias")
    if given.json:
        output.say_json({"event": "alias_removed", "address": plain})
    else:
        output.say(f"{plain} is an alias no more")


def _normalised(address: str) -> str:
    from maillinkd.mail.address import parse_addresses

    found = parse_addresses(address)
    if len(found) != 1:
        raise typer.BadParameter(f"{address!r} is no address: expected one such as anna@home.example")
    return found[0]


def _user(settings: "Settings", name: str | None) -> str:
    if name is None and len(settings.users) == 1:
        return next(iter(settings.users))
    known = ", ".join(sorted(settings.users)) or "none is configured"
    if name is None:
        raise typer.BadParameter(f"expected --user: one of {known}")
    if name not in settings.users:
        raise typer.BadParameter(f"there is no user {name!r}: expected one of {known}")
    return name


def _token() -> str:
    import secrets

    return "".join(secrets.choice(_TOKEN_ALPHABET) for _ in range(_TOKEN_LENGTH))

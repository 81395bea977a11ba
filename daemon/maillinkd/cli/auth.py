"""`auth login|show|forget`: how mailboxes with OAuth 2.0 are opened."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.oauth.login import Invitation
    from maillinkd.settings import Settings

app = group("auth", "Access to mailboxes by OAuth 2.0.", "maillinkd auth login anna")

Mailbox = Annotated[str, typer.Argument(metavar="MAILBOX", help='One with auth = "oauth2".', show_default=False)]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(app, "login", "maillinkd auth login anna")
async def log_in(given: Given, mailbox: Mailbox) -> None:
    """Grants maillinkd access to a mailbox, by a browser on this machine or on another one."""
    from maillinkd import app as house
    from maillinkd.cli import output

    settings = given.settings()
    values.check_mailboxes(settings, [mailbox])
    token = await house.log_in(settings, mailbox, lambda to: _invite(given, to), _typed_lines())
    ends = None if token.expires_at is None else token.expires_at.isoformat(timespec="seconds")
    if given.json:
        output.say_json({"event": "logged_in", "mailbox": mailbox, "expires_at": ends})
    else:
        output.say(f"mailbox {mailbox} can be opened; maillinkd check --connect tries it")


def _invite(given: Given, to: "Invitation") -> None:
    """Says what the person is to do. With --json, to a program that shows it to him."""
    from maillinkd.cli import output

    if given.json:
        output.say_json({"event": "visit", "url": to.url, "code": to.code or None})
    elif to.code:
        output.say(f"Open {output.escaped(to.url)} on any machine, and type the code {output.escaped(to.code)}")
    else:
        output.say(f"Open this address in a browser, and grant access:\n\n{output.escaped(to.url)}\n")
        output.say(
            "If the browser runs on another machine, its last page cannot be shown; paste that page's address here:"
        )


async def _typed_lines() -> AsyncIterator[str]:
    """What is typed, or comes through a pipe. Not by a thread, which could not be stopped while it waits."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    try:
        descriptor = sys.stdin.fileno()
        loop.add_reader(descriptor, arrived.set)
    except (OSError, ValueError, AttributeError):  # closed, a file, or no real one
        return
    try:
        typed = b""
        while True:
            await arrived.wait()
            arrived.clear()
            some = os.read(descriptor, 65_536)
            *lines, typed = (typed + some).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
            if not some:
                return
    finally:
        loop.remove_reader(descriptor)


@command(app, "show", "maillinkd auth show")
async def show(given: Given) -> int:
    """Shows for each mailbox with OAuth 2.0 whether a token is there and when it ends. Asks no server."""
    from maillinkd.cli import output

    rows, code = await standings(given)
    if given.json:
        for row in rows:
            output.say_json({"event": "auth", **row})
    else:
        columns = ("mailbox", "way", "state", "token until")
        output.table(columns, (list(row.values()) for row in rows), nothing='no mailbox has auth = "oauth2"')
    return code


@command(app, "forget", "maillinkd auth forget anna")
async def forget(given: Given, mailbox: Mailbox) -> int:
    """Forgets a mailbox's token. To withdraw the access itself, do so at the provider."""
    from maillinkd import app as house
    from maillinkd.cli import output

    forgotten = await house.forget_login(given.settings(), mailbox)
    if given.json:
        output.say_json({"event": "forgotten", "mailbox": mailbox, "was_there": forgotten})
    elif forgotten:
        output.say(f"the token of mailbox {mailbox} is forgotten")
    else:
        output.complain(f"no token of mailbox {mailbox} is stored")
    return 0 if forgotten else 1


async def standings(given: Given) -> tuple[list[dict[str, Any]], int]:
    """How each mailbox with OAuth 2.0 stands, and the exit code: that of the first that cannot be opened."""
    from maillinkd import app as house
    from maillinkd.cli import exit_codes
    from maillinkd.oauth import keeper

    settings = given.settings()
    names = sorted(name for name, mailbox in settings.mailboxes.items() if mailbox.auth == "oauth2")
    rows, code = [], 0
    async with house.open_logins(settings, names) as logins:
        for name in names:
            row: dict[str, Any] = {"mailbox": name, "way": _way(settings, name), "state": "good", "expires_at": None}
            try:
                standing = await keeper.standing(settings, name, logins)
            except Exception as error:
                found = exit_codes.of(error)
                if found is None:
                    raise
                row["state"], code = str(error), code or found
            else:
                row["state"] = "good" if standing.stored else "good, nothing needs to be stored"
                row["expires_at"] = standing.expires_at and standing.expires_at.isoformat(timespec="seconds")
            rows.append(row)
    return rows, code


def _way(settings: "Settings", mailbox: str) -> str:
    client = settings.oauth_client_of(mailbox)
    return client.chosen_grant if client else "token_command"

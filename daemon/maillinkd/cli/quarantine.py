"""`quarantine list|show|release|retry|drop`: mail that could not be read, or was not trusted."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.store.views import HeldView

app = group(
    "quarantine",
    "Mail that could not be read, or was not trusted.",
    "maillinkd quarantine list",
    "maillinkd quarantine release 3 --owner anna",
)

_Held = Annotated[str, typer.Argument(metavar="ID", help="As `quarantine list` shows it.")]

LINES = 400
"""Lines of a mail that are shown to a person."""


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


def _number(mail: str) -> int:
    return values.number(mail, "mail in quarantine", "`maillinkd quarantine list` shows it")


@command(app, "list", "maillinkd quarantine list", "maillinkd quarantine list --json")
async def list_quarantine(given: Given) -> None:
    """Lists what is there, the oldest first."""
    await list_held(given)


async def list_held(given: Given) -> None:
    """Prints what lies in quarantine."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.store import views

    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        found = await views.list_held(connection)
    if given.json:
        for each in found:
            output.say_json(_line(each))
        return
    output.table(
        ("#id", "received", "held since", "channel", "reason", "author", "#bytes", "message-id", "error"),
        (
            (
                each.id,
                f"{each.received_at:%Y-%m-%d %H:%M}",
                f"{each.held_at:%Y-%m-%d}" if each.held_at else "",
                each.mailbox or each.channel,
                each.reason,
                each.author,
                each.size,
                each.message_id,
                each.error,
            )
            for each in found
        ),
        nothing="nothing in quarantine",
    )


def _line(each: "HeldView") -> dict[str, Any]:
    from maillinkd.directory.lines import rfc3339

    return {
        "id": each.id,
        "message_id": each.message_id,
        "channel": each.channel,
        "reason": each.reason,
        "received_at": rfc3339(each.received_at),
        "held_at": each.held_at and rfc3339(each.held_at),
        "size": each.size,
        "author": each.author or None,
        "mailbox": each.mailbox,
        "error": each.error or None,
    }


@command(app, "show", "maillinkd quarantine show 3")
async def show(given: Given, mail: _Held) -> None:
    """Shows a mail with its envelope, safe to print on a terminal: control characters are escaped."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339
    from maillinkd.ingest.hand import Refused
    from maillinkd.logs import plain
    from maillinkd.store import quarantine

    number = _number(mail)
    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        held = await quarantine.get(connection, number)
    if held is None:
        raise Refused(f"there is no mail {number} in quarantine")
    facts: dict[str, Any] = {
        "id": held.number,
        "message_id": f"<{held.message_id}>" if held.message_id else None,
        "channel": held.channel,
        "reason": held.reason,
        "received_at": rfc3339(held.received_at),
        "held_at": held.held_at and rfc3339(held.held_at),
        "size": held.size,
        "author": held.author or None,
        "mailbox": held.mailbox,
        "error": held.error or None,
        "sender": held.sender or None,
        "recipients": held.recipients,
        "spf": held.verdict.spf if held.verdict is not None else None,
        "dkim": held.verdict.dkim if held.verdict is not None else None,
    }
    text = held.raw.decode("utf-8", "replace")
    if given.json:
        output.say_json(facts | {"text": text})
        return
    output.pairs((name.replace("_", " "), value) for name, value in facts.items())
    output.say()
    lines = text.splitlines()
    for line in lines[:LINES]:
        output.say(f"| {plain(line)}")
    if len(lines) > LINES:
        output.say(f"({len(lines) - LINES} more lines; --json has them all)")


@command(app, "release", "maillinkd quarantine release 3", "maillinkd quarantine release 3 --owner anna")
async def release(
    given: Given,
    mail: _Held,
    owner: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Whose mail it is; else the user whose address the author is."),
    ] = None,
) -> None:
    """Takes a mail out, and files and links it as if it had been trusted."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.hand import sentence
    from maillinkd.cli.importing import INSTANCE
    from maillinkd.ingest import release

    number = _number(mail)
    async with open_house(given.settings(), instance=INSTANCE) as house:
        lines = await release.release(house, number, owner)
    for line in lines:
        if given.json:
            output.say_json(line)
        else:
            output.say(sentence(line))
    if not lines and not given.json:
        output.say(f"mail {number} is filed; it was known already")


@command(app, "retry", "maillinkd quarantine retry")
async def retry(given: Given) -> None:
    """Reads again all mail that could not be read, after a fix or an upgrade, and files what can be."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.hand import sentence
    from maillinkd.cli.importing import INSTANCE
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import release

    with progress("reading again", "mails") as advance:
        async with open_house(given.settings(), instance=INSTANCE) as house:
            found = await release.retry(house, advance)
    for line in found.lines:
        if given.json:
            output.say_json(line)
        else:
            output.say(sentence(line))
    counts = {"filed": found.filed, "distrusted": found.distrusted, "unreadable": found.unreadable}
    if given.json:
        output.say_json({"event": "retried", **counts})
    else:
        output.say(
            f"{found.filed} filed, {found.distrusted} held for another reason now, "
            f"{found.unreadable} still cannot be read"
        )


@command(app, "drop", "maillinkd quarantine drop 3")
async def drop(given: Given, mail: _Held) -> None:
    """Forgets a mail for good."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.ingest.hand import Refused
    from maillinkd.store import quarantine

    number = _number(mail)
    async with open_house(given.settings(), decides=False) as house, house.database.transaction() as connection:
        dropped = await quarantine.drop(connection, number)
    if not dropped:
        raise Refused(f"there is no mail {number} in quarantine")
    if given.json:
        output.say_json({"event": "dropped", "id": number})
    else:
        output.say(f"mail {number} is dropped")

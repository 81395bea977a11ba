"""`import mail`, `import items`: from files."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.cli.item_files import Plan
    from maillinkd.settings import Settings

INSTANCE = "cli"
"""Under which name the decisions of commands stand in the journal."""

app = group(
    "import",
    "Takes mail and items in from files.",
    "maillinkd import items crm.jsonl",
    "maillinkd import mail archive.mbox --mailbox anna",
)


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(
    app,
    "mail",
    "maillinkd import mail archive.mbox.gz Maildir/ --mailbox anna",
    "maillinkd import mail offer.eml --smart-bcc ourco+deal61@bcc.ourco.example --sender anna@ourco.example",
)
async def import_mail(
    given: Given,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", exists=True, help="mbox files (.gz too), Maildirs, .eml files, or folders of these."
        ),
    ],
    mailbox: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the configuration: the mail is filed as that mailbox's.")
    ] = None,
    smart_bcc: Annotated[
        list[str] | None,
        typer.Option(metavar="RCPT", help="File it as if received by SMTP for this address; may be repeated."),
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --smart-bcc: the envelope's sender; <> is the empty one."),
    ] = None,
) -> int:
    """Takes mail in from files: into a mailbox's scope, or as if it had come to Smart Bcc addresses.

    Mail that is known already is not filed twice. The threads are decided once all of the mail is placed.
    """
    from maillinkd.app import open_house
    from maillinkd.cli import mail_files, output
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import imports
    from maillinkd.store import journal, views

    settings = given.settings()
    envelope_sender = check_destination(settings, mailbox, smart_bcc, sender)
    files = mail_files.Reader(mail_files.find(paths))
    with progress("importing mail", "messages") as advance, closing(files.mails()) as mails:
        async with open_house(settings, instance=INSTANCE) as house:
            async with house.database.reading() as connection:
                before = await journal.newest(connection)
            if mailbox is not None:
                summary = await imports.import_mail(house, mailbox, mails, advance)
            else:
                summary = await imports.import_smart_bcc(house, smart_bcc or [], envelope_sender, mails, advance)
            async with house.database.reading() as connection:
                decisions = await views.count_decisions(connection, before, INSTANCE)
    counts = {
        "read": summary.read,
        "new": summary.new,
        "known": max(0, summary.read - summary.new - summary.quarantined - sum(summary.filtered.values())),
        "quarantined": summary.quarantined,
        "filtered": dict(summary.filtered),
        "decisions": decisions,
    }
    if given.json:
        output.say_json({"event": "import_mail", **counts, "problems": len(files.problems)})
    else:
        output.say(
            f"read {summary.read}, new {summary.new}, already known {counts['known']}, "
            f"quarantined {summary.quarantined}, {_filtered(summary.filtered)}decisions {decisions}"
        )
    for problem in files.problems:
        output.complain(problem)
    return 1 if files.problems else 0


def _filtered(counts: Mapping[str, int]) -> str:
    return "".join(f"filtered ({reason}) {number}, " for reason, number in sorted(counts.items()))


def check_destination(
    settings: "Settings", mailbox: str | None, smart_bcc: list[str] | None, sender: str | None
) -> str:
    """Whose mail it is: raises typer.BadParameter unless it is said in one way, and known.

    Returns the envelope's sender (RFC 5321, 4.1.2), "" being the empty one, and that of mail for a mailbox.
    """
    from maillinkd.mail.address import normalise, parse_addresses

    if (mailbox is None) == (not smart_bcc):
        raise typer.BadParameter("expected either --mailbox NAME, or --smart-bcc RCPT with --sender ADDRESS")
    if mailbox is not None and sender is not None:
        raise typer.BadParameter("--sender goes with --smart-bcc, not with --mailbox")
    if smart_bcc and sender is None:
        raise typer.BadParameter("--smart-bcc needs --sender ADDRESS, the envelope's sender")
    if mailbox is not None:
        values.check_mailboxes(settings, [mailbox])
    if sender is None or sender in ("", "<>"):
        return ""
    if parse_addresses(sender) != (normalise(sender),):
        raise typer.BadParameter(
            f"--sender: {sender!r} is no address: expected one such as anna@ourco.example, or <>"
        )
    return sender


@command(
    app,
    "items",
    "maillinkd import items crm.jsonl",
    "maillinkd import items deals.jsonl --complete deal --dry-run",
    "maillinkd import items people.csv deals.xlsx --timezone Europe/Berlin",
)
async def import_items(
    given: Given,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="JSON Lines, one item a line, or CSV or XLSX as Pipedrive exports it; - is standard input.",
        ),
    ],
    complete: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="The files hold all items of this kind: others count as deleted. May be repeated."
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Of times in CSV and XLSX that name none: Europe/Berlin, UTC."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of CSV that is not UTF-8 and has no byte order mark: cp1252.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
) -> int:
    """Takes items in: fields that a line does not have stay as they are, null clears one.

    In an export an empty cell clears. Persons and organizations are found by id, else by a name that one alone bears.

    A line that is wrong is reported with its number and why; the others go in, and the exit code is 1.
    """
    from maillinkd.app import open_house
    from maillinkd.cli import item_files, output
    from maillinkd.cli.progress import progress

    kinds = item_files.kinds(complete or ())
    settings = given.settings()
    found = item_files.read(files, item_files.zone(timezone), item_files.encoding(encoding))
    for said in (*found.notes, *found.problems):
        output.complain(said)
    with progress("importing items", "items", len(found.changes)) as advance:
        async with open_house(settings, instance=INSTANCE, decides=not dry_run) as house:
            plan = await item_files.plan(house, found, kinds)
            for problem in plan.problems:
                output.complain(problem)
            if not dry_run:
                await item_files.carry_out(house, plan, advance)
    wrong = len(found.problems) + len(plan.problems)
    _say_items(given, plan, len(found.changes), wrong, dry_run=dry_run)
    return 1 if wrong else 0


def _say_items(given: Given, plan: "Plan", read: int, wrong: int, *, dry_run: bool) -> None:
    from maillinkd.cli import output

    counts: dict[str, Any] = {
        "read": read,
        "new": plan.new,
        "changed": plan.changed,
        "unchanged": plan.unchanged,
        "deleted": plan.deleted,
        "wrong": wrong,
    }
    if given.json:
        output.say_json({"event": "import_items", **counts, "dry_run": dry_run})
        return
    said = ", ".join(f"{name} {number}" for name, number in counts.items())
    output.say(f"would be: {said}" if dry_run else said)

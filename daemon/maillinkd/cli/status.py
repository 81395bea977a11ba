"""`status`: what every mailbox is doing, and how much there is of everything."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maillinkd.settings import Settings
    from maillinkd.store.views import Counts


def add_to(root: typer.Typer) -> None:
    command(root, "status", "maillinkd status", "maillinkd status --json")(status)


async def status(given: Given) -> None:
    """Shows each mailbox and folder, what waits for somebody, and whose data is no longer configured (removed)."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.store import cursors, views

    settings = given.settings()
    async with open_house(settings, decides=False) as house, house.database.reading() as connection:
        reports, folders = await cursors.reports(connection), await cursors.folders(connection)
        stored = await views.stored_in_folders(connection)
        holders = await views.holders(connection, datetime.now(UTC))
        owners = _owners(await views.owners(connection), settings)
        counts, reasons = await views.counts(connection), await views.reasons(connection)
    smtp = reports.pop("smart_bcc", None)
    names = {*settings.mailboxes, *reports, *(mailbox for mailbox, _ in stored)}
    mailboxes = [
        _mailbox(name, settings, reports.get(name, {}), folders, stored, holders.get(name)) for name in sorted(names)
    ]
    if given.json:
        for mailbox in mailboxes:
            output.say_json({"event": "mailbox", **mailbox})
        for owner in owners:
            output.say_json({"event": "owner", **owner})
        if smtp is not None:
            output.say_json({"event": "smtp", **smtp})
        output.say_json({"event": "counts", **asdict(counts), "reasons": reasons})
        return
    _show_mailboxes(mailboxes)
    output.say()
    output.table(
        ("owner", "#threads", "#by Smart Bcc", ""),
        ((each["owner"], each["imap"], each["smart_bcc"], "removed" if each["removed"] else "") for each in owners),
        nothing="no threads yet",
    )
    output.say()
    _show_counts(counts, reasons)
    if smtp is not None:
        _show_smtp(smtp)


def _mailbox(
    name: str,
    settings: "Settings",
    report: "Mapping[str, Any]",
    folders: "Sequence[Mapping[str, Any]]",
    stored: "Mapping[tuple[str, str], int]",
    holder: str | None,
) -> dict[str, Any]:
    from maillinkd.store.cursors import IMPORTED

    known = settings.mailboxes.get(name)
    own = [
        {
            "folder": folder["folder"],
            "messages": stored.get((name, folder["folder"]), 0),
            "first_sync_done": folder["first_sync_done"],
            "since": folder["since"],
            "uidvalidity": folder["uidvalidity"],
            "missing": folder["missing"],
            "audited_at": folder["audited_at"],
        }
        for folder in folders
        if folder["mailbox"] == name
    ]
    facts = {
        key: report.get(key)
        for key in (
            "state",
            "since",
            "last_success",
            "lag",
            "first_sync",
            "waits_for",
            "next_look",
            "next_try",
            "last_error",
            "folder",
        )
    }
    if known is None:
        facts["state"] = "removed"
    elif facts["state"] is None:
        facts["state"] = "never run"
    elif holder is None and facts["state"] not in ("done", "failed"):
        facts |= {"state": "stopped", "waits_for": None, "next_look": None}
    return {
        "mailbox": name,
        "owner": known.owner if known else None,
        "removed": known is None,
        **facts,
        "missing_folders": report.get("missing_folders", []),
        "followed_by": holder,
        "folders": own,
        "imported": stored.get((name, IMPORTED), 0),
    }


def _owners(found: "Mapping[str, Mapping[str, int]]", settings: "Settings") -> list[dict[str, Any]]:
    configured = settings.users.keys() | settings.teams.keys()
    return [
        {
            "owner": owner,
            "imap": channels.get("imap", 0),
            "smart_bcc": channels.get("smart_bcc", 0),
            "removed": owner not in configured,
        }
        for owner, channels in found.items()
    ]


def _show_mailboxes(mailboxes: "Sequence[Mapping[str, Any]]") -> None:
    from maillinkd.cli import output

    rows: list[tuple[object, ...]] = []
    for each in mailboxes:
        trouble = each["last_error"] or ""
        if each["missing_folders"]:
            trouble = f"missing: {', '.join(each['missing_folders'])}  {trouble}".strip()
        rows.append(
            (
                each["mailbox"],
                _doing(each),
                each["since"],
                each["last_success"],
                each["lag"],
                each["next_try"] or each["next_look"],
                each["imported"] or "",
                trouble,
            )
        )
        rows += [
            (
                f"  {folder['folder']}",
                "" if folder["first_sync_done"] else "first sync",
                "",
                "",
                "",
                "",
                folder["messages"],
                f"{folder['missing']} missing: maillinkd audit" if folder["missing"] else "",
            )
            for folder in each["folders"]
        ]
    output.table(
        ("mailbox", "state", "since", "last success", "#lag", "next try", "#stored", "trouble"),
        rows,
        nothing="no mailboxes",
    )


def _doing(mailbox: "Mapping[str, Any]") -> str:
    """The state, what it waits for, and how much a first sync has still to fetch."""
    said = str(mailbox["state"])
    if mailbox["waits_for"]:
        said += f" ({mailbox['waits_for']})"
    if mailbox["first_sync"]:
        said += f", {mailbox['first_sync']} of a first sync to fetch"
    return said


def _show_smtp(smtp: "Mapping[str, Any]") -> None:
    from maillinkd.cli import output

    output.say()
    output.say(f"Smart Bcc by SMTP, since {smtp['since']}:")
    output.pairs((name, str(smtp[name])) for name in ("open", "connections", "tls", "messages", "octets"))
    if smtp["refusals"]:
        output.say()
        output.table(("refused for", "#times"), smtp["refusals"].items(), nothing="")


def _show_counts(counts: "Counts", reasons: "Mapping[str, int]") -> None:
    from maillinkd.cli import output

    output.pairs((name, str(number)) for name, number in asdict(counts).items())
    if reasons:
        output.say()
        output.table(("reason", "#threads"), reasons.items(), nothing="")

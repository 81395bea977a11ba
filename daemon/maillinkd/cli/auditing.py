"""`audit`: whether all that the servers have is accounted for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maillinkd.imap.audit import Audit, FolderAudit

_SHOWN = 20
"""Ranges of missing UIDs that people are shown of one folder."""


def add_to(root: typer.Typer) -> None:
    command(root, "audit", "maillinkd audit", "maillinkd audit --mailbox anna --repair")(audit)


async def audit(
    given: Given,
    mailbox: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this mailbox. May be repeated.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch what is missing.")] = False,
) -> int:
    """Compares every folder's UIDs with what is stored. Ends with exit code 3 where mail is missing."""
    from maillinkd import app
    from maillinkd.cli.progress import progress

    settings = given.settings()
    values.check_mailboxes(settings, mailbox or ())
    filed: dict[str, int] = {}
    with progress("repairing", "messages") as advance:

        def report(state: Any) -> None:
            advance(state.filed - filed.get(state.mailbox, 0))
            filed[state.mailbox] = state.filed

        outcomes = await app.audit(settings, mailbox or (), repair=repair, report=report)
    found = {name: each for name, each in outcomes.items() if not isinstance(each, Exception)}
    if given.json:
        _say(found)
    else:
        _show(found)
    return _complain_of(outcomes)


def _say(found: "Mapping[str, Audit]") -> None:
    from maillinkd.cli import output

    for audit in found.values():
        for folder in audit.folders:
            output.say_json({"event": "audit", "mailbox": audit.mailbox, **_facts(folder)})


def _facts(folder: "FolderAudit") -> dict[str, Any]:
    from maillinkd.imap.tally import ranges

    tally = folder.tally
    filtered = {
        word.removeprefix("filtered:"): number
        for word, number in sorted(tally.dispositions.items())
        if word.startswith("filtered:")
    }
    if tally.before_since:
        filtered["before_since"] = tally.before_since
    return {
        "folder": folder.folder,
        "uidvalidity": folder.uidvalidity,
        "renumbered_from": folder.renumbered_from,
        "on_server": tally.on_server,
        "stored": tally.dispositions["stored"],
        "filtered": filtered,
        "quarantined": tally.dispositions["quarantined"],
        "not_yet_read": tally.unread,
        "missing": tally.missing_count,
        "missing_uids": ranges(tally.missing),
        "expunged": tally.expunged,
        "gone": tally.gone,
        "repaired": folder.repaired,
    }


def _show(found: "Mapping[str, Audit]") -> None:
    from maillinkd.cli import output

    folders = [(audit.mailbox, _facts(folder), folder) for audit in found.values() for folder in audit.folders]
    output.table(
        ("mailbox", "folder", "#on server", "#stored", "#filtered", "#quarantined", "#not yet read", "#missing", ""),
        (
            (
                mailbox,
                facts["folder"],
                facts["on_server"],
                facts["stored"],
                sum(facts["filtered"].values()),
                facts["quarantined"],
                facts["not_yet_read"],
                facts["missing"],
                _remark(facts),
            )
            for mailbox, facts, _ in folders
        ),
        nothing="no folder was audited",
    )
    for mailbox, facts, folder in folders:
        if facts["missing"]:
            output.say(output.escaped(f"missing in {mailbox}, {facts['folder']}: {_some(folder)}"))


def _remark(facts: "Mapping[str, Any]") -> str:
    gone = facts["expunged"] + facts["gone"]
    remarks = (
        (f"{facts['repaired']} fetched", facts["repaired"]),
        (f"{gone} no longer on the server", gone),
        (f"UIDVALIDITY was {facts['renumbered_from']}: to be read anew", facts["renumbered_from"] is not None),
    )
    return ", ".join(text for text, holds in remarks if holds)


def _some(folder: "FolderAudit") -> str:
    from maillinkd.imap.tally import ranges

    missing = folder.tally.missing
    more = f" and {len(missing) - _SHOWN} ranges more (--json has all)" if len(missing) > _SHOWN else ""
    return f"UID {ranges(missing[:_SHOWN])}{more}"


def _complain_of(outcomes: "Mapping[str, Audit | Exception]") -> int:
    """Says what could not be audited, and returns the exit code: mail that is missing counts most."""
    from maillinkd.cli import exit_codes, output

    code = exit_codes.OK
    for name, each in outcomes.items():
        if isinstance(each, Exception):
            output.complain(f"maillinkd: mailbox {name}: {each}")
            code = code or exit_codes.of(each) or exit_codes.FAILED
            continue
        for folder in each.missing_folders:
            output.complain(f"maillinkd: mailbox {name}: not on the server: {folder}")
        for folder in each.unopened:
            output.complain(f"maillinkd: mailbox {name}: the server does not open {folder}")
            code = code or exit_codes.FAILED
    if any(not isinstance(each, Exception) and each.missing for each in outcomes.values()):
        return exit_codes.GAPS
    return code

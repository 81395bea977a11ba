"""`run`, `sync`, `check`, `demo`: what talks to servers."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.app import DryRun
    from maillinkd.imap.plan import Plan
    from maillinkd.imap.poller import Summary
    from maillinkd.settings import Settings


def add_to(root: typer.Typer) -> None:
    command(root, "run", "maillinkd run", "maillinkd run --only anna --only smart_bcc")(run)
    command(root, "sync", "maillinkd sync", "maillinkd sync --mailbox anna --dry-run")(sync)
    command(root, "check", "maillinkd check", "maillinkd check --connect")(check)
    command(root, "demo", "maillinkd demo")(demo)


def run(
    given: Given,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this: a mailbox, or smart_bcc. May be repeated."),
    ] = None,
    no_uvloop: Annotated[
        bool, typer.Option("--no-uvloop", help="Python's own event loop: slower, and more memory a connection.")
    ] = False,
) -> None:
    """The daemon: follows all mailboxes and receives Smart Bcc mail, until SIGTERM or Ctrl-C. SIGHUP reloads."""
    from maillinkd import app

    if only:
        values.check_mailboxes(given.settings(), only, also=(app.SMART_BCC,))
    _live(app.run(lambda: _loud(given, given.settings()), only or ()), fast=not no_uvloop)


def demo(given: Given) -> None:
    """The daemon on a sample mailbox that comes with it, to look at. Ctrl-C stops it."""
    from importlib.util import find_spec

    from maillinkd import app
    from maillinkd.ingest.hand import Refused
    from maillinkd.settings import load

    if find_spec("pymap") is None:
        raise Refused("the demo's mail server is not installed: pip install 'maillinkd[demo]'")

    def read(path: Path) -> "Settings":
        return _loud(given, load(given.config or path))

    _live(app.run_demo(read))


def _loud(given: Given, settings: "Settings") -> "Settings":
    """With --json the log, which is all that a daemon says, is in JSON."""
    if not given.json:
        return settings
    return settings.model_copy(update={"log": settings.log.model_copy(update={"format": "json"})})


def _live(work: Any, *, fast: bool = True) -> None:
    """Runs the daemon, on uvloop where it is installed; `fast` false: on Python's own event loop."""
    from importlib.util import find_spec

    if fast and find_spec("uvloop") is not None:
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


async def sync(
    given: Given,
    mailbox: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this mailbox. May be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show folders, counts and bytes, and write nothing.")
    ] = False,
) -> int:
    """One pass: until every mailbox is up to date. The failure of one does not stop the others."""
    from maillinkd import app
    from maillinkd.cli.progress import progress

    settings = given.settings()
    values.check_mailboxes(settings, mailbox or ())
    filed: dict[str, int] = {}
    with progress("syncing", "messages") as advance:

        def report(state: Any) -> None:
            advance(state.filed - filed.get(state.mailbox, 0))
            filed[state.mailbox] = state.filed

        if dry_run:
            found = await app.dry_run(settings, mailbox or (), report)
        else:
            outcomes = await app.sync(settings, mailbox or (), report)
    return _say_dry_run(given, found) if dry_run else _say_summaries(given, outcomes)


def _say_summaries(given: Given, outcomes: "dict[str, Summary | Exception]") -> int:
    from maillinkd.cli import output

    done = {name: each for name, each in outcomes.items() if not isinstance(each, Exception)}
    if given.json:
        for name, each in done.items():
            output.say_json(
                {
                    "event": "synced",
                    "mailbox": name,
                    "folders": each.folders,
                    "missing_folders": each.missing_folders,
                    "filed": each.filed,
                    "gone": each.gone,
                }
            )
    else:
        output.table(
            ("mailbox", "#filed", "#gone", "folders", "missing folders"),
            (
                (name, each.filed, each.gone, ", ".join(each.folders), ", ".join(each.missing_folders))
                for name, each in done.items()
            ),
            nothing="no mailbox was synced",
        )
    return _complain_of(outcomes)


def _say_dry_run(given: Given, found: "DryRun") -> int:
    """What would be fetched, then what would be decided."""
    from maillinkd.cli import output
    from maillinkd.cli.decisions import rehearsed
    from maillinkd.logs import decision_text

    code = _say_plans(given, found.plans)
    if found.decisions is None:
        output.complain("maillinkd: with PostgreSQL a dry run shows no decisions")
    for line in found.decisions or ():
        is_new = line["thread"] in found.new_threads
        if given.json:
            output.say_json(rehearsed(line, thread=None) if is_new else rehearsed(line))
        else:
            output.say(decision_text(line | ({"thread": "new"} if is_new else {})))
    return code


def _say_plans(given: Given, plans: "dict[str, Plan | Exception]") -> int:
    from maillinkd.cli import output

    rows = [
        {"mailbox": name, "folder": each.folder, "new": each.new, "first_sync": each.first, "bytes": each.size}
        for name, plan in plans.items()
        if not isinstance(plan, Exception)
        for each in plan.folders
    ]
    for name, plan in plans.items():
        if not isinstance(plan, Exception) and plan.missing_folders:
            output.complain(f"mailbox {name}: not on the server: {', '.join(plan.missing_folders)}")
    if given.json:
        for row in rows:
            output.say_json({"event": "plan", **row})
    else:
        output.table(
            ("mailbox", "folder", "#new", "#first sync", "#bytes"),
            (list(row.values()) for row in rows),
            nothing="nothing to fetch",
        )
    return _complain_of(plans)


def _complain_of(outcomes: "dict[str, Any]") -> int:
    """Says what failed, and returns the exit code: that of the first failure."""
    from maillinkd.cli import exit_codes, output

    failed = [(name, each) for name, each in outcomes.items() if isinstance(each, Exception)]
    for name, error in failed:
        output.complain(f"maillinkd: mailbox {name}: {error}")
    return (exit_codes.of(failed[0][1]) or exit_codes.FAILED) if failed else 0


async def check(
    given: Given,
    connect: Annotated[bool, typer.Option("--connect", help="Log in to every mailbox as well.")] = False,
) -> int:
    """Checks the configuration, its secrets and certificates, and the database; with --connect every login."""
    from maillinkd import app
    from maillinkd.cli import database, exit_codes, output
    from maillinkd.cli.auth import standings
    from maillinkd.cli.certificates import certificate_problem

    settings = given.settings()
    settings.require_secrets(settings.mailboxes, smart_bcc=settings.smart_bcc.enabled)
    app.office_of(settings)
    app.require_decisions_file(settings)
    for warning in settings.warnings():
        output.complain(f"warning: {warning}")
    code = 0
    _say_check(given, "configuration", "good", f"{len(settings.mailboxes)} mailboxes, {len(settings.users)} users")
    if settings.smart_bcc.tls_certificate is not None:
        problem = certificate_problem(settings.smart_bcc)
        _say_check(given, "certificate", problem or "good", str(settings.smart_bcc.tls_certificate))
        code = exit_codes.CONFIGURATION if problem else 0
    said, usable = await database.schema_of(given)
    _say_check(given, "database", said["state"], said["database"])
    code = code or (0 if usable else exit_codes.FAILED)
    rows, refused = await standings(given)
    for row in rows:
        ends = f"token until {row['expires_at']}, renewed before" if row["expires_at"] else row["way"]
        _say_check(given, f"login of {row['mailbox']}", row["state"], ends)
    code = code or refused
    for name in sorted(settings.mailboxes) if connect else ():
        try:
            folders = await app.check_login(settings, name)
        except Exception as error:
            found = exit_codes.of(error)
            if found is None:
                raise
            code = code or found
            _say_check(given, f"mailbox {name}", str(error), "")
        else:
            _say_check(given, f"mailbox {name}", "good", f"{len(folders)} folders")
    return code


def _say_check(given: Given, what: str, state: str, detail: str) -> None:
    from maillinkd.cli import output
    from maillinkd.logs import plain

    if given.json:
        output.say_json({"event": "check", "what": what, "state": state, "detail": detail or None})
    else:
        output.say(plain(f"{what}: {state}" + (f" ({detail})" if detail else "")))

"""`simulate`: what another policy would change (linking.md L24)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.ingest.again import Change
    from maillinkd.settings import Settings

EXAMPLES = 3
"""Threads of a kind of change that are named to people, if not said otherwise."""


def add_to(root: typer.Typer) -> None:
    command(
        root,
        "simulate",
        "maillinkd simulate --policy strict.toml",
        "maillinkd simulate --policy strict.toml --since 90d --json",
    )(simulate)


@dataclass
class _Group:
    """Changes of one kind."""

    count: int = 0
    examples: list["Change"] = field(default_factory=list)


async def simulate(
    given: Given,
    policy: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="TOML with the [policy] to try, as in the configuration.",
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Threads with mail since then: 2026-01-05T09:00:00Z, a date, or 24h, 30d."),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many threads of each kind of change to name.")
    ] = EXAMPLES,
) -> None:
    """Decides all threads again under another policy, changes nothing, and says what would be different.

    What a hand or mail to an item's address has settled stays. `decide` does it for good, once the configuration has
    that policy. With --json every thread that would change is a line, and the counts are the last one.
    """
    from maillinkd.app import office_of, open_house
    from maillinkd.cli import output
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import again
    from maillinkd.settings import with_policy

    start = values.moment(since) if since is not None else None
    settings = given.settings()
    tried = with_policy(settings, policy)
    office = office_of(tried)
    groups: dict[tuple[str, str, str], _Group] = {}
    looked_at = 0
    with progress("simulating", "threads") as advance:

        def count(more: int) -> None:
            nonlocal looked_at
            looked_at += more
            advance(more)

        async with open_house(settings, decides=False) as house, house.database.reading() as connection:
            office = replace(office, aliases=house.office.aliases)
            async for change in again.simulate(connection, office, start, count):
                group = groups.setdefault(_kind(change), _Group())
                group.count += 1
                if len(group.examples) < examples:
                    group.examples.append(change)
                if given.json:
                    output.say_json(_line(change))
    ordered = sorted(groups.items(), key=lambda each: (-each[1].count, each[0]))
    ignored = _only_later(settings, tried)
    if given.json:
        output.say_json(_summary(looked_at, office.policy.name, ordered, ignored))
    else:
        _show(looked_at, office.policy.name, ordered, ignored)


def _only_later(old: "Settings", new: "Settings") -> list[str]:
    """Those rules that differ, presets included, but are asked while mail is filed, and say nothing of mail that is
    here."""
    return [name for name, value in _when_mail_comes(old).items() if value != _when_mail_comes(new)[name]]


def _when_mail_comes(settings: "Settings") -> dict[str, object]:
    policy, smart_bcc = settings.policy, settings.smart_bcc
    return {
        "policy.block": frozenset(policy.block),
        "policy.bulk": policy.bulk,
        "policy.match_rewritten": policy.chosen().match_rewritten,
        "smart_bcc.forwarded": smart_bcc.forwarded,
        "smart_bcc.unknown_sender": smart_bcc.unknown_sender,
    }


def _kind(change: "Change") -> tuple[str, str, str]:
    """Reason before and after, and what becomes of the slot."""
    before, after = change.before.slot.item, change.after.slot.item
    match (before is None, after is None):
        case (True, True):
            slot = "empty"
        case (True, False):
            slot = "filled"
        case (False, True):
            slot = "emptied"
        case _:
            slot = "kept" if before == after else "other item"
    old, new = change.reasons
    return str(old or "undecided"), str(new), slot


def _line(change: "Change") -> dict[str, Any]:
    old, new = change.reasons
    return {
        "event": "change",
        "thread": change.before.number,
        "owner": change.owner,
        "channel": change.channel,
        "subject": change.before.subject,
        "reason_before": old and str(old),
        "reason": str(new),
        "slot_before": change.before.slot.item and str(change.before.slot.item),
        "slot": change.after.slot.item and str(change.after.slot.item),
        "persons_before": _refs(change.before, "person"),
        "persons": _refs(change.after, "person"),
        "organizations_before": _refs(change.before, "organization"),
        "organizations": _refs(change.after, "organization"),
        "candidates": list(change.after.candidates),
    }


def _refs(state: Any, kind: str) -> list[str]:
    return sorted(str(ref) for ref in state.links if ref.kind == kind)


_Ordered = list[tuple[tuple[str, str, str], _Group]]


def _summary(looked_at: int, policy: str, groups: _Ordered, ignored: list[str]) -> dict[str, Any]:
    return {
        "event": "simulated",
        "policy": policy,
        "threads": looked_at,
        "changes": sum(group.count for _, group in groups),
        "groups": [
            {
                "reason_before": before,
                "reason": after,
                "slot": slot,
                "count": group.count,
                "examples": [change.before.number for change in group.examples],
            }
            for (before, after, slot), group in groups
        ],
        "later": ignored,
    }


def _show(looked_at: int, policy: str, groups: _Ordered, ignored: list[str]) -> None:
    from maillinkd.cli import output

    output.table(
        ("#threads", "reason before", "reason then", "slot"),
        ((group.count, before, after, slot) for (before, after, slot), group in groups),
        nothing="nothing would change",
    )
    for (before, after, _), group in groups:
        if not group.examples:
            continue
        output.say()
        output.say(f"{before} -> {after}")
        for change in group.examples:
            old, new = change.before.slot.item or "-", change.after.slot.item or _asked(change)
            output.say(output.escaped(f"  {change.before.number:>6}  {old} -> {new}  {change.before.subject}"))
        if group.count > len(group.examples):
            output.say(f"  and {group.count - len(group.examples)} more")
    if groups:
        output.say()
    changes = sum(group.count for _, group in groups)
    output.say(f"{changes} of {looked_at} threads would change under {policy}")
    for name in ignored:
        output.say(f"{name} counts when mail comes: it changes no thread that is there")


def _asked(change: "Change") -> str:
    return " ".join(f"{each}?" for each in change.after.candidates) or "-"

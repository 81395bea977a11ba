"""`explain`: why a thread's slot is as it is (linking.md L23)."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.cli.rows import Case, Row
    from maillinkd.store.journal import Recorded


def add_to(root: typer.Typer) -> None:
    command(root, "explain", "maillinkd explain 12", "maillinkd explain 12 --json")(explain)


async def explain(
    given: Given, thread: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's number.")]
) -> None:
    """Says why a thread is linked as it is: what was known then, each rule that was asked, and its answer."""
    from maillinkd.app import open_house
    from maillinkd.cli import output, rows
    from maillinkd.ingest.hand import Refused
    from maillinkd.linker.decision import Reason, Trigger
    from maillinkd.linker.snapshot import Snapshot
    from maillinkd.store import links, views

    number = values.number(thread)
    async with open_house(given.settings()) as house, house.database.reading() as connection:
        label = await links.label_of(connection, number)
        if label is None:
            raise Refused(f"there is no thread {number}")
        view = (await views.read_threads(connection, [label]))[label]
        decision = None if view.decision is None else await views.recorded(connection, view.decision)
    if decision is None:
        raise Refused(f"thread {view.id} is not decided yet: an import is under way, or was cut off")
    if decision.facts is None:
        raise Refused(f"the facts of decision {decision.number} were erased")
    line = decision.line
    reason, trigger = Reason(line["reason"]), Trigger(line["trigger"])
    case = rows.case_of(Snapshot.of_facts(decision.facts), provisional="provisional" in line["flags"])
    asked = rows.asked(case, reason, trigger)
    would_fill = None if line["slot"] else rows.would_fill(case, reason, line["candidates"])
    if given.json:
        output.say_json(_line(view.id, decision, asked, would_fill))
    else:
        _show(view.id, decision, case, asked, would_fill)


def _line(thread: int, decision: "Recorded", asked: "list[Row]", would_fill: str | None) -> dict[str, Any]:
    line = {name: value for name, value in decision.line.items() if name not in ("timestamp", "thread")}
    return {
        "thread": thread,
        "decision": decision.number,
        "timestamp": decision.line["timestamp"],
        **line,
        "batch": decision.batch,
        "rows": [
            {
                "row": row.number,
                "reason": row.reason,
                "question": row.question,
                "answer": row.answer,
                "because": row.because,
            }
            for row in asked
        ],
        "would_fill": would_fill,
        "facts": decision.facts,
    }


def _show(thread: int, decision: "Recorded", case: "Case", asked: "list[Row]", would_fill: str | None) -> None:
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339

    line = decision.line
    output.pairs(
        (
            ("thread", thread),
            ("decision", f"{decision.number}, {line['timestamp']}, by {line['actor']} ({line['trigger']})"),
            ("policy", f"{line['policy']}, rule version {line['rule_version']}"),
            ("message", line["message_id"]),
            ("started", rfc3339(case.snapshot.started_at)),
            ("slot before", line["slot_before"] or "empty"),
            ("flags", line["flags"]),
        )
    )
    output.say()
    output.table(("participant", "what it counts as"), _people(case, decision), nothing="no participants")
    if case.items:
        output.say()
        output.table(
            ("item", "open", "added", "of"),
            ((item.ref, item.open, rfc3339(item.added_at), item.person or item.organization) for item in case.items),
            nothing="",
        )
    output.say()
    if asked:
        for row in asked:
            output.say(output.escaped(f"{row.number:>2}  {'yes' if row.answer else 'no ':<3}  {row.question}"))
            output.say(output.escaped(f"         {row.because}"))
    else:
        output.say("The directory changed; no row was asked.")
    output.say()
    output.pairs(
        (
            ("outcome", f"{line['outcome']}: {line['slot'] or 'no item'}, {line['reason']}"),
            ("persons", line["persons"]),
            ("organizations", line["organizations"]),
            ("candidates", line["candidates"]),
            ("lost in the merge", line.get("lost", ())),
            ("to fill it", would_fill),
        )
    )


def _people(case: "Case", decision: "Recorded") -> "list[tuple[str, str]]":
    from maillinkd.mail.message import Role

    snapshot = case.snapshot
    evidence = (decision.facts or {}).get("evidence", {})
    found: dict[str, str] = {}
    for letter in snapshot.letters:
        for each in letter.participants:
            address = each.address
            if address in snapshot.internal:
                said = "internal"
            elif address in case.strangers:
                said = "a stranger's message: does not count"
            elif address in snapshot.known:
                said = " ".join(map(str, snapshot.known[address]))
            else:
                said = "external, not known"
            if each.role is Role.FORWARDED:
                said += f" (found in the forward: {evidence.get(address, 'without its tag')})"
            found.setdefault(address, said)
    return sorted(found.items())

"""`explain`: why a thread's slot is as it is, and what would fill it (linking.md L23)."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.directory.item import ItemRef
    from maillinkd.ingest.explain import Explanation, Tried
    from maillinkd.linker.explain import Contact, Way
    from maillinkd.mail.bonds import Tie
    from maillinkd.settings import Settings


def add_to(root: typer.Typer) -> None:
    command(
        root,
        "explain",
        "maillinkd explain 12",
        "maillinkd explain 12 --json",
        "maillinkd explain --mail offer.eml --mailbox anna",
    )(explain)


async def explain(
    given: Given,
    thread: Annotated[str | None, typer.Argument(metavar="THREAD", help="The thread's number.")] = None,
    mail: Annotated[
        Path | None,
        typer.Option(metavar="FILE.eml", exists=True, dir_okay=False, help="A mail that is not here, in its place."),
    ] = None,
    mailbox: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --mail: as if it came into this mailbox.")
    ] = None,
    smart_bcc: Annotated[
        list[str] | None,
        typer.Option(metavar="RCPT", help="With --mail: as if received by SMTP for this address; may be repeated."),
    ] = None,
    sender: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --smart-bcc: the envelope's sender.")
    ] = None,
) -> None:
    """Says why a thread is linked as it is: what was known, each rule with its answer, and what would fill its slot.

    With --mail it says what would become of a mail, and keeps nothing of it.
    """
    from maillinkd.app import open_house
    from maillinkd.cli.importing import check_destination
    from maillinkd.ingest import explain as explaining

    if (thread is None) == (mail is None):
        raise typer.BadParameter("expected either THREAD, or --mail FILE.eml")
    settings = given.settings()
    if thread is not None:
        if mailbox is not None or smart_bcc or sender is not None:
            raise typer.BadParameter("--mailbox, --smart-bcc and --sender go with --mail")
        number = values.number(thread)
        async with open_house(settings, decides=False) as house, house.database.reading() as connection:
            found = await explaining.explain(connection, house.office, number)
        _say(given, found)
        return
    assert mail is not None
    check_destination(settings, mailbox, smart_bcc, sender)
    _say_tried(given, await _try(settings, mail, explaining.Door(mailbox, tuple(smart_bcc or ()), sender or "")))


async def _try(settings: "Settings", path: Path, door: Any) -> "Tried":
    from maillinkd.app import open_house
    from maillinkd.cli import mail_files
    from maillinkd.ingest import explain as explaining

    files = mail_files.Reader(mail_files.find([path]))
    with closing(files.mails()) as mails:
        found = [next(mails, None), next(mails, None)]
    if found[0] is None or found[1] is not None:
        raise typer.BadParameter(f"{path}: expected one mail" + "".join(f"; {each}" for each in files.problems))
    raw, received_at = found[0]
    async with open_house(settings, decides=False) as house:
        return await explaining.explain_mail(house.database, house.office, door, raw, received_at)


# -- as JSON --------------------------------------------------------------------------------------------------------


def _say(given: Given, found: "Explanation") -> None:
    from maillinkd.cli import output

    if given.json:
        output.say_json(_line(found))
    else:
        _show(found)


def _say_tried(given: Given, tried: "Tried") -> None:
    from maillinkd.cli import output

    mail = {"new": tried.new, "quarantined": tried.held is not None, "filtered": tried.filtered is not None}
    if not tried.threads:
        if given.json:
            output.say_json({"thread": None, "mail": mail, **_why_not_filed(tried)})
        else:
            output.paragraph(_not_filed(tried))
        return
    for found in tried.threads:
        opened = found.thread.id in tried.opened
        if given.json:
            unborn: dict[str, Any] = {"decision": None} if tried.new else {}
            line = _line(found) | unborn | ({"thread": None} if opened else {})
            output.say_json(line | {"mail": mail | {"opens_thread": opened}})
        else:
            where = "it would open a thread" if opened else f"it would join thread {found.thread.id}"
            output.say(f"{where}; nothing of this is kept" if tried.new else "it is here already")
            output.say()
            _show(found, tried=tried.new, opened=opened)


def _why_not_filed(tried: "Tried") -> dict[str, Any]:
    if (held := tried.held) is not None:
        number = None if tried.new else held.id
        return {"reason": held.reason, "error": held.error or None, "quarantine": number}
    return {"reason": tried.filtered, "because": list(tried.because)}


def _not_filed(tried: "Tried") -> str:
    if (held := tried.held) is not None:
        where = "it would go to quarantine" if tried.new else f"it lies in quarantine already, as {held.id}"
        return f"{where}: {held.reason}" + (f" ({held.error})" if held.error else "")
    if tried.filtered is not None:
        what = {"blocked": "its author is blocked, by", "bulk": "it is bulk mail, by"}[tried.filtered]
        return f"it would not be stored: filtered ({tried.filtered}); {what} {', '.join(tried.because)}"
    return "nothing would become of it: this very mail was filed before"


def _line(found: "Explanation") -> dict[str, Any]:
    from maillinkd.directory.lines import rfc3339

    decision = found.decision
    line = {name: value for name, value in decision.line.items() if name not in ("timestamp", "thread")}
    return {
        "thread": found.thread.id,
        "decision": decision.number,
        "timestamp": decision.line["timestamp"],
        **line,
        "batch": decision.batch,
        "subject": found.thread.subject,
        "started_at": rfc3339(found.thread.started_at),
        "rows": [
            {
                "row": row.number,
                "reason": row.reason,
                "question": row.question,
                "asked": row.answer is not None,
                "answer": row.answer,
                "because": row.because,
            }
            for row in found.rows
        ],
        "contacts": [_contact(found, each) for each in found.contacts],
        "ranked": [
            {
                "item": str(each.ref),
                "title": each.title,
                "last_mail": each.last_mail and rfc3339(each.last_mail),
                "added_at": rfc3339(each.added_at),
            }
            for each in found.candidates
        ],
        "messages": [
            {
                "id": each.id,
                "message_id": each.message_id,
                "sent_at": rfc3339(each.sent_at),
                "subject": each.subject,
                "bond": found.ties[each.id].bond,
                "by": found.ties[each.id].message_id,
                "other": found.ties[each.id].other,
            }
            for each in found.messages
        ],
        "today": found.today and {"slot": found.today.slot and str(found.today.slot), "reason": found.today.reason},
        "would_fill": None if found.ways is None else [_way(each) for each in found.ways],
        "facts": decision.facts,
    }


def _contact(found: "Explanation", contact: "Contact") -> dict[str, Any]:
    evidence = _evidence(found)
    return {
        "item": str(contact.ref),
        "title": _title(found, contact.ref),
        "linked": contact.linked,
        "why": contact.why,
        "decision": found.acts.get(contact.ref),
        "addresses": [
            {
                "address": trace.address,
                "role": trace.role,
                "message_id": f"<{trace.message_id}>",
                "evidence": evidence.get(trace.address, "header") if trace.role == "forwarded" else "header",
            }
            for trace in contact.traces
        ],
        "of": [str(ref) for ref in contact.of],
    }


def _way(way: "Way") -> dict[str, Any]:
    return {"change": way.change, "slot": way.slot and str(way.slot), "then": way.then}


def _evidence(found: "Explanation") -> dict[str, str]:
    """L15: where the addresses of forwards were found."""
    return {address: where for each in found.messages for address, where in each.evidence.items()}


def _title(found: "Explanation", ref: "ItemRef") -> str | None:
    return found.items[ref].title or None if ref in found.items else None


# -- for people -----------------------------------------------------------------------------------------------------


def _show(found: "Explanation", *, tried: bool = False, opened: bool = False) -> None:
    from maillinkd.cli import output

    _show_head(found, tried=tried, opened=opened)
    if found.case is not None:
        _show_facts(found)
    if found.contacts:
        output.say()
        for each in found.contacts:
            title = _title(found, each.ref)
            named = f"{each.ref} ({title})" if title else f"{each.ref}"
            output.paragraph(f"{named}: {_because(found, each)}", "linked  " if each.linked else "not     ", " " * 8)
    output.say()
    _show_rows(found)
    output.say()
    _show_outcome(found)
    _show_ways(found)
    output.say()
    output.table(
        ("#message", "sent", "from", "in this thread because"),
        (
            (each.id, f"{each.sent_at:%Y-%m-%d %H:%M}", _from(each.participants), _bond(found.ties[each.id]))
            for each in found.messages
        ),
        nothing="no messages",
    )


def _show_head(found: "Explanation", *, tried: bool, opened: bool) -> None:
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339

    line = found.decision.line
    made = f"{line['timestamp']}, by {line['actor']} ({line['trigger']})"
    started = found.case.snapshot.started_at if found.case is not None else found.thread.started_at
    output.pairs(
        (
            ("thread", "a new one" if opened else found.thread.id),
            ("subject", found.thread.subject),
            ("decision", made if tried else f"{found.decision.number}, {made}"),
            ("policy", f"{line['policy']}, rule version {line['rule_version']}"),
            ("message", line["message_id"]),
            ("started", rfc3339(started)),
            ("slot before", line["slot_before"] or "empty"),
            ("flags", line["flags"]),
        )
    )


def _show_facts(found: "Explanation") -> None:
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339

    case = found.case
    assert case is not None
    output.say()
    output.table(("participant", "what it counts as"), _people(found), nothing="no participants")
    if case.items:
        output.say()
        output.table(
            ("item", "title", "open", "added", "of"),
            (
                (
                    item.ref,
                    _title(found, item.ref),
                    item.open,
                    rfc3339(item.added_at),
                    item.person or item.organization,
                )
                for item in case.items
            ),
            nothing="",
        )


def _show_rows(found: "Explanation") -> None:
    from maillinkd.cli import output

    if found.case is None:
        output.say("The facts of this decision were erased; the rows cannot be asked again.")
        return
    if not any(row.answer is not None for row in found.rows):
        output.say("No row was asked: " + found.rows[0].because + ".")
        return
    for row in found.rows:
        if row.answer is None:
            continue
        output.paragraph(row.question, f"{row.number:>2}  {'yes' if row.answer else 'no ':<3}  ", " " * 9)
        output.paragraph(row.because, " " * 9, " " * 9)
    for numbers, because in _not_asked(found):
        output.paragraph(f"not asked: {because}", f"{numbers:>5}    ", " " * 9)


def _not_asked(found: "Explanation") -> Iterator[tuple[str, str]]:
    """Rows that follow each other and were not asked for the same reason, as a range."""
    left = [row for row in found.rows if row.answer is None]
    while left:
        alike = [row for row in left if row.because == left[0].because]
        first, last = alike[0].number, alike[-1].number
        yield (str(first) if first == last else f"{first}-{last}"), alike[0].because
        left = left[len(alike) :]


def _show_outcome(found: "Explanation") -> None:
    from maillinkd.cli import output

    line, today = found.decision.line, found.today
    now = None
    if today is not None and (today.slot, today.reason) != (found.thread.slot, found.thread.reason):
        now = f"{today.slot or 'no item'}, {today.reason}: `maillinkd decide` would change it"
    output.pairs(
        (
            ("outcome", f"{line['outcome']}: {line['slot'] or 'no item'}, {line['reason']}"),
            ("persons", line["persons"]),
            ("organizations", line["organizations"]),
            ("lost in the merge", line.get("lost", ())),
            ("today", now),
        )
    )
    if len(found.candidates) > 1 or (found.candidates and found.thread.slot is None):
        output.say()
        output.table(
            ("candidate", "title", "last mail", "added"),
            (
                (
                    each.ref,
                    each.title,
                    f"{each.last_mail:%Y-%m-%d}" if each.last_mail else "-",
                    f"{each.added_at:%Y-%m-%d}",
                )
                for each in found.candidates
            ),
            nothing="",
        )


def _show_ways(found: "Explanation") -> None:
    from maillinkd.cli import output

    if found.ways is None:
        return
    output.say()
    output.say("The slot is filled when")
    for way in found.ways:
        linked = f": {way.slot}" if way.slot is not None else ""
        then = ", after `maillinkd decide`" if way.then == "decide" else ""
        output.paragraph(f"{way.change}{then}{linked}", "  - ", "    ")


_WORDS = {
    "organization": "of {of}",
    "by_hand": "linked by hand, decision {decision}",
    "tombstone": "unlinked by hand, decision {decision}",
    "not_first": "another one is the first known person (single_contact)",
    "dropped": "many recipients and no open item (many_recipients)",
    "switched_off": "automatic linking is off",
    "stranger": "only in a stranger's message, which counts for nothing",
}


def _because(found: "Explanation", contact: "Contact") -> str:
    if contact.why != "address":
        of = ", ".join(map(str, contact.of))
        return _WORDS[contact.why].format(of=of, decision=found.acts.get(contact.ref))
    evidence = _evidence(found)
    first = contact.traces[0]
    where = f"{first.address} in {first.role} of <{first.message_id}>"
    if first.role == "forwarded":
        where += f", {evidence.get(first.address, 'without its tag')}"
    more = len(contact.traces) - 1
    return where + (f", and {more} more" if more else "")


def _people(found: "Explanation") -> list[tuple[str, str]]:
    case = found.case
    assert case is not None
    snapshot = case.snapshot
    evidence = (found.decision.facts or {}).get("evidence", {})
    people: dict[str, str] = {}
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
            if each.role == "forwarded":
                said += f" (found in the forward: {evidence.get(address, 'without its tag')})"
            people.setdefault(address, said)
    return sorted(people.items())


def _from(participants: Any) -> str:
    return " ".join(each.address for each in participants if each.role == "from")


_BONDS = {
    "first": "it is the first",
    "detached": "it opened the thread, for a second item",
    "refers": "it refers to {by}, message {other}",
    "referred_to": "message {other} refers to it",
    "same_reference": "it refers to {by}, as message {other} does",
    "same_id": "it bears the id of message {other}",
    "content": "it has people, subject and text of another copy",
}


def _bond(tie: "Tie") -> str:
    return _BONDS[tie.bond].format(by=f"<{tie.message_id}>", other=tie.other)

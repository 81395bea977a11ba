"""`threads list`, `threads show`: the conversations."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.store.views import MessageView, PlaceView, ThreadView

app = group("threads", "The conversations, and what they are linked to.", "maillinkd threads list --status todo")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


Status = Literal["linked", "open", "todo", "quarantined"]


@command(
    app,
    "list",
    "maillinkd threads list --status todo --owner anna",
    "maillinkd threads list --item deal:61 --json",
)
async def list_threads(
    given: Given,
    status: Annotated[
        Status | None,
        typer.Option(
            help="linked; open: without a deal, lead or project; todo: waits for somebody to decide; quarantined.",
        ),
    ] = None,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Of this user or team.")] = None,
    item: Annotated[str | None, typer.Option(metavar="KIND:ID", help="Linked to this item.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With this in a subject, an address or a Message-ID.")
    ] = None,
) -> None:
    """Lists threads, the one with the newest message first."""
    from maillinkd.app import open_house
    from maillinkd.cli import output, quarantine
    from maillinkd.store import views

    if status == "quarantined":
        if owner or item or search:
            raise typer.BadParameter(
                "--status quarantined goes with no other choice: what lies there is in no thread"
            )
        await quarantine.list_held(given)
        return
    linked_to = values.item(item) if item is not None else None
    found = []
    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        async for view in views.list_threads(
            connection,
            status=views.ThreadStatus(status) if status else None,
            owner=owner,
            linked_to=linked_to,
            search=search,
        ):
            if given.json:
                output.say_json(thread_line(view))
            else:
                found.append(view)
    if not given.json:
        thread_table(found)


@command(app, "show", "maillinkd threads show 12", "maillinkd threads show 12 --json")
async def show(
    given: Given, thread: Annotated[str, typer.Argument(metavar="ID", help="The thread's number.")]
) -> None:
    """Shows a thread with its messages, and where each of them lies."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.ingest.hand import Refused
    from maillinkd.store import links, views

    number = values.number(thread)
    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        label = await links.label_of(connection, number)
        if label is None:
            raise Refused(f"there is no thread {number}")
        view = (await views.read_threads(connection, [label]))[label]
        messages = await views.messages_of(connection, label)
    if given.json:
        output.say_json(thread_line(view) | {"messages": [_message_line(each) for each in messages]})
        return
    _show_thread(view)
    for each in messages:
        output.say()
        _show_message(each)


def thread_line(view: "ThreadView") -> dict[str, Any]:
    """The thread as the contract has it."""
    from maillinkd.directory.lines import rfc3339

    line: dict[str, Any] = {
        "id": view.id,
        "owner": view.owner,
        "channel": view.channel,
        "subject": view.subject,
        "started_at": rfc3339(view.started_at),
        "last_message_at": rfc3339(view.last_message_at),
        "message_count": view.message_count,
        "message_ids": view.message_ids,
        "participants": view.participants,
        "slot": view.slot and str(view.slot),
        "persons": [str(ref) for ref in view.persons],
        "organizations": [str(ref) for ref in view.organizations],
        "reason": view.reason,
        "flags": view.flags,
        "candidates": view.candidates,
        "decision": view.decision,
        "linked_by": view.linked_by and {"decision": view.linked_by.decision, "reason": view.linked_by.reason},
    }
    if view.slot_deleted:
        line["slot_deleted"] = True
    return line


def thread_table(found: "list[ThreadView]") -> None:
    """Prints threads for people."""
    from maillinkd.cli import output

    output.table(
        ("#id", "last message", "owner", "#mails", "slot", "reason", "persons", "subject"),
        (
            (
                view.id,
                f"{view.last_message_at:%Y-%m-%d %H:%M}",
                f"{view.owner}" if view.channel == "imap" else f"{view.owner} (bcc)",
                view.message_count,
                _slot(view) or " ".join(f"{each}?" for each in view.candidates),
                view.reason or "(undecided)",
                view.persons,
                view.subject,
            )
            for view in found
        ),
        nothing="no threads",
    )


def _slot(view: "ThreadView") -> str:
    if view.slot is None:
        return ""
    return f"{view.slot} (deleted)" if view.slot_deleted else str(view.slot)


def _show_thread(view: "ThreadView") -> None:
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339

    by = view.linked_by
    output.pairs(
        (
            ("thread", view.id),
            ("subject", view.subject),
            ("owner", f"{view.owner}, {view.channel}"),
            ("started", rfc3339(view.started_at)),
            ("last message", rfc3339(view.last_message_at)),
            ("slot", f"{_slot(view)}, by decision {by.decision} ({by.reason})" if by else "-"),
            ("persons", view.persons),
            ("organizations", view.organizations),
            ("reason", f"{view.reason}, decision {view.decision}" if view.reason else "not decided yet"),
            ("candidates", view.candidates),
            ("flags", view.flags),
            ("participants", view.participants),
        )
    )


def _message_line(message: "MessageView") -> dict[str, Any]:
    from maillinkd.directory.lines import rfc3339

    by_role: dict[str, list[str]] = {"from": [], "reply_to": [], "to": [], "cc": [], "bcc": [], "forwarded": []}
    for each in message.participants:
        by_role[each.role].append(each.address)
    line: dict[str, Any] = {
        "id": message.id,
        "message_id": message.message_id,
        "sent_at": rfc3339(message.sent_at),
        "received_at": rfc3339(message.received_at),
        "subject": message.subject,
        "size": message.size,
        **by_role,
        "flags": message.flags,
        "names": message.names,
        "answers": message.answers,
        "places": [_place_line(each) for each in message.places],
    }
    if message.evidence:
        line["evidence"] = dict(message.evidence)
    if message.made_id:
        line["made_id"] = True
    if message.gmail is not None:
        line["labels"] = message.gmail.labels
        line["gmail_thread"] = message.gmail.thread and str(message.gmail.thread)
    return line


def _place_line(place: "PlaceView") -> dict[str, Any]:
    line: dict[str, Any] = {
        "mailbox": place.mailbox,
        "folder": place.folder,
        "uidvalidity": place.uidvalidity,
        "uid": place.uid,
    }
    return line | ({"gone": True} if place.gone else {})


def _show_message(message: "MessageView") -> None:
    from maillinkd.cli import output
    from maillinkd.directory.lines import rfc3339

    def of(role: str) -> list[str]:
        return [each.address for each in message.participants if each.role == role]

    found = [f"{address} ({where})" for address, where in message.evidence.items()]
    places = [
        f"{place.mailbox}: {place.folder} {place.uid}" + (" (gone)" if place.gone else "")
        if place.folder is not None
        else f"{place.mailbox}: imported"
        for place in message.places
    ]
    output.pairs(
        (
            ("sent", rfc3339(message.sent_at)),
            ("from", of("from")),
            ("to", of("to")),
            ("cc", of("cc")),
            ("bcc", of("bcc")),
            ("reply to", of("reply_to")),
            ("forwarded", ", ".join(found)),
            ("subject", message.subject),
            ("message-id", message.message_id),
            ("answers", message.answers and f"message {message.answers}"),
            ("sent to", message.names and f"the address of {message.names}"),
            ("flags", message.flags),
            ("lies in", ", ".join(places)),
            ("labels", message.gmail and ", ".join(message.gmail.labels)),
        )
    )

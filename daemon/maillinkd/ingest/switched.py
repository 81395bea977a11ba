"""Stored messages that turn up in another mailbox, and thereby switch automatic linking on (linking.md row 6)."""

from collections.abc import Collection, Mapping
from typing import Any

from maillinkd.ingest.desk import Desk
from maillinkd.ingest.office import Office
from maillinkd.store import cursors, mailroom
from maillinkd.store.database import Connection

TurnedUp = Mapping[bytes, tuple[str, str]]
"""Node of a stored message to the mailbox in which it turns up, and its Message-ID as the decision line shows it."""


async def off_so_far(connection: Connection, office: Office, owner: str, found: TurnedUp) -> TurnedUp:
    """Those whose threads lay only in mailboxes where automatic linking is off, and now lie in one where it is on.

    To be asked before it is noted where they lie.
    """
    if not office.asks_for_mailboxes:
        return {}
    in_linking = {node: place for node, place in found.items() if office.auto_link(owner, [place[0]])}
    if not in_linking:
        return {}
    known = await mailroom.known_nodes(connection, in_linking)
    threads = {each.thread for each in known.values()}
    lies_in = await cursors.mailboxes_of(connection, threads, decided=True)
    return {
        node: place
        for node, place in in_linking.items()
        if node in known and not office.auto_link(owner, lies_in.get(known[node].thread, ()))
    }


async def decide(
    connection: Connection,
    office: Office,
    place: tuple[str, str],
    found: TurnedUp,
    decided: Collection[int],
    *,
    provisional: bool,
    instance: str,
) -> list[dict[str, Any]]:
    """Decides the threads of these messages, but for those (labels) that the batch has decided anyway.

    An empty slot is asked about message by message from the first one on, so that the answer does not depend on the
    mailbox that was read first (L26). Returns the decision lines.
    """
    known = await mailroom.known_nodes(connection, found)
    about = {each.thread: found[node] for node, each in known.items() if each.thread not in decided}
    if not about:
        return []
    desk = Desk(connection, await mailroom.lock_scope(connection, *place), office, instance=instance)
    await desk.open(about)
    files = []
    for file in desk.files.values():
        if not file.new:
            files.append(file)
        elif file.state.slot.item is None:  # an import decides its own threads when it ends: these from the first on
            await mailroom.unsettle(connection, [each.id for each in file.letters])
    for file in files:
        if file.state.slot.item is None:
            file.new = {each.id for each in file.letters}
        desk.decide(file)
    return await desk.put_back(files, provisional=provisional, about=about)

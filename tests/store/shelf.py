"""Messages and threads as the tests of the store put them on the shelf: short, and only what the test is about."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.decision import Reason
from maillinkd.mail.message import Participant, Role
from maillinkd.mail.threads import Known, node
from maillinkd.store import links, mailroom
from maillinkd.store.links import Settled, ThreadState
from maillinkd.store.mailroom import NewMessage, Scope

NOON = datetime(2025, 12, 15, 12, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def letter(
    scope: Scope, message_id: str, *, minutes: int = 0, people: Mapping[str, Role] | None = None
) -> NewMessage:
    """A message from berta to anna."""
    own = node(scope.id, message_id)
    people = people or {"berta@acme.example": Role.FROM, "anna@ourco.example": Role.TO}
    return NewMessage(
        id=-1,
        node=own,
        identity=mailroom.identity_in(scope.id, message_id.encode(), own),
        message_id=message_id,
        made_id=False,
        sent_at=at(minutes),
        received_at=at(minutes + 1),
        subject="New roof",
        base_subject="new roof",
        participants=tuple(Participant(role, address) for address, role in people.items()),
        evidence={address: "inline" for address, role in people.items() if role is Role.FORWARDED},
        refers=(),
        last_reference=None,
        forward=False,
        detached=False,
        names=None,
        marks=frozenset(),
        headers=b"Subject: New roof\r\n",
        size=1024,
        undecided=False,
    )


async def open_threads(connection: AsyncConnection, scope_id: int, count: int) -> list[int]:
    """So many empty threads."""
    labels = await mailroom.new_labels(connection, count)
    scope = Scope(scope_id, "", "", b"")
    empty = [state(scope, label, message_count=0, id_count=0) for label in labels]
    await links.write(connection, [Settled(each, 0, is_new=True) for each in empty])
    return labels


async def store(connection: AsyncConnection, scope_id: int, letters: Sequence[NewMessage]) -> list[int]:
    """Stores the messages, and returns their numbers."""
    numbers = await mailroom.new_numbers(connection, len(letters))
    await mailroom.store(connection, scope_id, dict(zip(numbers, letters, strict=True)), {})
    return numbers


async def thread_of(connection: AsyncConnection, scope: Scope, letters: Sequence[NewMessage]) -> int:
    """Stores the messages in a thread of their own, and returns its label."""
    (label,) = await open_threads(connection, scope.id, 1)
    await store(connection, scope.id, letters)
    await mailroom.write_nodes(connection, {each.node: Known(label, borne=True, detached=False) for each in letters})
    return label


def state(scope: Scope, label: int, **fields: object) -> ThreadState:
    """A thread as it stands when nothing is to be said of it."""
    plain = ThreadState(
        id=label,
        number=label,
        scope=scope.id,
        started_at=at(0),
        last_message_at=at(0),
        message_count=1,
        id_count=1,
        subject="New roof",
        reason=Reason.NO_ITEM,
        candidates=(),
        flags=frozenset(),
        slot_lost=False,
        decision=None,
    )
    return plain._replace(**fields)  # type: ignore[arg-type]


def settled(state: ThreadState, decision: int, *, is_new: bool = False) -> Settled:
    return Settled(state, decision, is_new=is_new)

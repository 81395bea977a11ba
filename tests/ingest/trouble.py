"""What can go wrong while mail is filed: code of ours, the database, the worker."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingest.scene import Scene
from maillinkd.ingest.house import House
from maillinkd.ingest.office import Office
from maillinkd.mail import body, message
from maillinkd.store import mailroom
from maillinkd.worker.parent import Worker

POISON = "poison@x"
_parse, _store, _forwarded = message.parse, mailroom.store, body.forwarded_addresses


class DeathError(BaseException):
    """The process ends here."""


def parse_fails(headers: bytes, **arguments: Any) -> Any:
    if POISON.encode() in headers:
        raise RecursionError("too deep")
    return _parse(headers, **arguments)


async def store_fails(connection: Any, scope: int, new: Any, raws: Any) -> Any:
    if any(each.message_id == POISON for each in new.values()):
        raise ValueError("cannot be stored")
    return await _store(connection, scope, new, raws)


def forwarded_fails(raw: bytes, *arguments: Any) -> Any:
    if POISON.encode() in raw:
        raise RecursionError("too deep")
    return _forwarded(raw, *arguments)


def break_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "parse", parse_fails)


def break_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom, "store", store_fails)


BROKEN = {"parse": break_parse, "store": break_store}


ERRORS = {"parse": "RecursionError: too deep", "store": "ValueError: cannot be stored"}


def failing(scene: Scene, failure: BaseException) -> Callable[[], Any]:
    """A way into the database that breaks when the transaction is about to be committed."""
    transaction = scene.database.transaction

    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        async with transaction() as connection:
            yield connection
            raise failure

    return broken


class FailingWorker(Worker):
    """Does the work here, and fails as told where the poison is met."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure
        self.asked = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.asked += 1
        if arguments and isinstance(arguments[0], bytes) and POISON.encode() in arguments[0]:
            raise self.failure
        return function(*arguments)


def working(scene: Scene, worker: Worker, office: Office | None = None) -> Scene:
    """The same house with a worker."""
    told: list[dict[str, Any]] = []
    house_ = House(
        scene.database, office or scene.house.office, instance="test/all", publish=told.append, worker=worker
    )
    return Scene(scene.database, house_, told)

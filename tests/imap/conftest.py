"""A server, and a connection to it."""

from collections.abc import AsyncIterator

import pytest

from imap.connecting import SHORT, account
from imap.ledger import ListLedger
from maillinkd.imap.client import Connection, connect
from system.imap_peer import FakeServer, mail


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[FakeServer]:
    """With so many mails in INBOX as the module's `MAILS` says; else none."""
    async with FakeServer() as running:
        for number in range(1, getattr(request.module, "MAILS", 0) + 1):
            running.inbox.append(mail(number))
        yield running


@pytest.fixture
async def connection(server: FakeServer) -> AsyncIterator[Connection]:
    """Logged in; there are three mails."""
    for number in range(1, 4):
        server.inbox.append(mail(number))
    connected = await connect(account(server), SHORT)
    yield connected
    connected.abort()


@pytest.fixture
def ledger() -> ListLedger:
    return ListLedger()

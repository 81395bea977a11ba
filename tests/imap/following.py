"""A mailbox's task, followed by a test."""

import asyncio
from collections.abc import Callable

import pytest

from imap.ledger import ListLedger
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.backoff import Backoff, Backoffs
from maillinkd.imap.budget import Traffic
from maillinkd.imap.poller import Summary, follow
from maillinkd.imap.state import MailboxState, State
from system.imap_peer import FakeServer, Proxy

QUICK = Backoffs(Backoff(0.001, 0.01), Backoff(0.001, 0.01), Backoff(0.001, 0.01))
SHORT = Deadlines(connect=5, command=1, search=1, bytes_per_second=1e9, idle_done=1, logout=1)
OPENS = ("EXAMINE", "UID SEARCH", "UID FETCH")


def account(server: FakeServer | Proxy, **changes: object) -> Account:
    settings: dict[str, object] = {"name": "anna", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    settings |= {"username": "anna", "password": "secret", "folders": ("INBOX",)}
    return Account(**{**settings, **changes})  # type: ignore[arg-type]


async def once(server: FakeServer | Proxy, ledger: ListLedger, **changes: object) -> Summary:
    async with asyncio.timeout(30):
        return await follow(account(server, **changes), ledger, once=True, backoffs=QUICK, deadlines=SHORT)


class Following:
    """A task that follows, and what it reported. `async with Following(...) as following: ...`"""

    def __init__(
        self,
        server: FakeServer | Proxy,
        ledger: ListLedger,
        backoffs: Backoffs = QUICK,
        traffic: Traffic | None = None,
        **changes: object,
    ) -> None:
        self.states: list[MailboxState] = []
        self._reported = asyncio.Event()
        self._start = lambda: follow(
            account(server, **changes),
            ledger,
            report=self._report,
            backoffs=backoffs,
            deadlines=SHORT,
            traffic=traffic,
        )

    def _report(self, state: MailboxState) -> None:
        self.states.append(state)
        self._reported.set()

    async def until(self, wanted: Callable[[MailboxState], bool], seconds: float = 10.0) -> MailboxState:
        """Waits for a state that is reported from now on, or holds now."""
        async with asyncio.timeout(seconds):
            while not (self.states and wanted(self.states[-1])):
                self._reported.clear()
                await self._reported.wait()
        return self.states[-1]

    async def ever(self, state: State) -> MailboxState:
        async with asyncio.timeout(10):
            while not (found := [each for each in self.states if each.state is state]):
                self._reported.clear()
                await self._reported.wait()
        return found[-1]

    async def __aenter__(self) -> "Following":
        self.task = asyncio.create_task(self._start())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def idling(server: FakeServer) -> None:
    """Until somebody is in IDLE."""
    async with asyncio.timeout(5):
        while not any(peer.idling for peer in server.connections):
            await asyncio.sleep(0.001)


def asked(server: FakeServer, *names: str) -> list[str]:
    """The commands of these names that were given since the last login, without arguments."""
    start = max(at for at, line in enumerate(server.commands) if line.startswith(("AUTHENTICATE", "LOGIN")))
    words = [" ".join(line.split(" ")[: 2 if line.startswith("UID") else 1]) for line in server.commands[start:]]
    return [word for word in words if word in names]

"""Whose Smart Bcc mail it is: checks of authors under way, and the aliases that mail confirms (linking.md L14).

A check asks DNS and may take its time, so it runs beside the filing of other mail and never inside a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from maillinkd.ingest.office import Office
from maillinkd.mail.author import Disguised, author_of, every_field
from maillinkd.mail.delivery import Received
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, Role
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.store import aliases
from maillinkd.store.aliases import Alias
from maillinkd.store.database import Connection
from maillinkd.store.inbound import Waiting
from maillinkd.store.quarantine import UNAUTHENTICATED, UNKNOWN_SENDER

Authenticate = Callable[[Received], Awaitable[Verdict]]

AT_A_TIME = 100
"""Checks under way. They wait for DNS, and hold their mail in memory."""
OCTETS_AT_A_TIME = 64 * 1024 * 1024
"""Octets of that mail, unless it is one."""
A_MOMENT = 0.3
"""Seconds for which a batch waits for its checks: most are answered from what is remembered."""
FIRST_DELAY = timedelta(minutes=1)
LONGEST_DELAY = timedelta(hours=1)
PATIENCE = timedelta(days=1)
"""How long a mail waits for DNS to answer. Then it goes to quarantine."""

log = structlog.get_logger("maillinkd.ingest")


class Checks:
    """The checks under way, by the number of the mail."""

    def __init__(self, done: Callable[[], None]) -> None:
        """`done` is called when one has ended that nobody waited for."""
        self._running: dict[int, asyncio.Task[Verdict]] = {}
        self._octets: dict[int, int] = {}
        self._done = done

    @property
    def unfinished(self) -> frozenset[int]:
        """The numbers of mail that nobody needs to look at now."""
        return frozenset(number for number, task in self._running.items() if not task.done())

    @property
    def room(self) -> int:
        """How many more may begin."""
        if sum(self._octets.values()) >= OCTETS_AT_A_TIME:
            return 0
        return AT_A_TIME - len(self._running)

    async def of(self, mails: Sequence[Waiting], authenticate: Authenticate) -> Mapping[int, Verdict]:
        """The verdicts on those that are checked by now; the check of the others has begun, or begins later."""
        for mail in mails:
            if mail.number not in self._running and self.room > 0:
                self._begin(mail, authenticate)
        wanted = {mail.number: task for mail in mails if (task := self._running.get(mail.number)) is not None}
        if wanted:
            await asyncio.wait(wanted.values(), timeout=A_MOMENT)
        return {number: self._take(number) for number, task in wanted.items() if task.done()}

    async def stop(self) -> None:
        """Ends all checks; the mail is checked again after the next start."""
        running = list(self._running.values())
        self._running.clear()
        self._octets.clear()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, mail: Waiting, authenticate: Authenticate) -> None:
        task = asyncio.ensure_future(authenticate(mail.received))
        task.add_done_callback(lambda _: self._done())
        self._running[mail.number] = task
        self._octets[mail.number] = len(mail.received.raw)

    def _take(self, number: int) -> Verdict:
        task = self._running.pop(number)
        del self._octets[number]
        error = task.exception()
        if error is None:
            return task.result()
        log.error("author could not be checked", exc_info=error)
        return Verdict(Standing.FAIL, why=f"the check failed: {type(error).__name__}")


def next_try(mail: Waiting, now: datetime) -> datetime | None:
    """When the author of a mail is checked again that could not be checked; None where it has waited long enough."""
    if now - mail.received.received_at > PATIENCE:
        return None
    return now + min(FIRST_DELAY * (1 << min(mail.tries, 10)), LONGEST_DELAY)


@dataclass(frozen=True, slots=True)
class Judged:
    """Whose mail it is; or why nobody's."""

    owner: str = ""
    reason: str = ""
    """Why it goes to quarantine; "" where it need not."""
    error: str = ""
    unchecked: bool = False
    """It claims to be a user's, and has still to be checked."""
    confirms: str = ""
    """The alias that it confirms."""


def judge(
    office: Office, received: Received, message: Message, asked: Mapping[str, Alias], *, trusted: bool
) -> Judged:
    """L14: whose mail this is, from what is known by now.

    `asked`: the aliases that wait for mail, by the token of their one-time addresses. `trusted`: From is believed.
    Mail of those who are no users is never checked: so only the zones of users' domains cost us questions.
    """
    authors = [each.address for each in message.participants if each.role is Role.FROM]
    author = authors[0] if len(authors) == 1 else ""
    if not trusted and (disguise := _disguise(received, author)) is not None:
        return Judged(reason=UNAUTHENTICATED, error=disguise)
    alias = next((found for token in _tokens(office, received) if (found := asked.get(token)) is not None), None)
    if alias is not None and alias.address != office.compared(author):
        alias = None
    who = office.owner_of_address(author)
    if who is None and alias is not None and alias.user in office.settings.users:
        who = alias.user
    if who is None:
        return Judged(reason=UNKNOWN_SENDER, error=f"{author or 'nobody'} is no user's address")
    verdict = received.verdict
    if not trusted and (verdict is None or verdict.standing is Standing.TEMPORARY):
        return Judged(unchecked=True)
    if not trusted and verdict is not None and verdict.standing is Standing.FAIL:
        return Judged(reason=UNAUTHENTICATED, error=str(verdict))
    return Judged(owner=who, confirms=alias.address if alias is not None and alias.user == who else "")


def _disguise(received: Received, author: str) -> str | None:
    """Why From names nobody plainly; None if it does."""
    try:
        plain = author_of(every_field(split(received.raw)[0]))
    except Disguised as error:
        return str(error)
    return None if plain == author else "From can be read in two ways"


def _tokens(office: Office, received: Received) -> Iterator[str]:
    for recipient in received.recipients:
        target = office.recipient(recipient)
        if target is not None and target.alias:
            yield target.alias


async def asked_for(
    connection: Connection, office: Office, mails: Iterable[Received], now: datetime
) -> dict[str, Alias]:
    """The aliases that wait for these mails, by token."""
    found = {}
    for token in {token for received in mails for token in _tokens(office, received)}:
        alias = await aliases.asked(connection, token)
        if alias is not None and alias.expires_at is not None and now < alias.expires_at:
            found[token] = alias
    return found

"""Smart Bcc mail: made durable, many in one commit; then sorted and filed, oldest first.

What was taken waits in `inbound` until the transaction that files it, so a crash in between loses nothing: the next
start goes on with what is there.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from maillinkd.ingest import aside, authors
from maillinkd.ingest.authors import Authenticate, Checks
from maillinkd.ingest.desk import shown_id
from maillinkd.ingest.house import House
from maillinkd.ingest.office import SMART_BCC
from maillinkd.ingest.sorting import Sorted, SortedBatch, sort
from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, read
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.store import inbound
from maillinkd.store.aliases import Alias
from maillinkd.store.database import Connection
from maillinkd.store.inbound import Waiting

MAX_BATCH = 200
"""Messages that one group commit makes durable."""
CONSUME_CHUNK = 20
"""Messages filed in a transaction: other mail that comes meanwhile waits for it."""
QUIET = 0.02
"""Seconds without new mail after which what came is filed."""
BUSY = 0.4
"""Seconds after which it is filed although more is coming."""

_Waiting = tuple[Received, asyncio.Future[None]]

log = structlog.get_logger("maillinkd.ingest")


async def _nobody_checks(_: Received) -> Verdict:
    return Verdict(Standing.FAIL, why="nobody checks authors here")


class SmartBcc:
    """The way of a mail from the SMTP door to its thread."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.authenticate: Authenticate | None = None
        """Checks authors (L14). Set by whoever receives mail; without it none is believed."""
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._kept = asyncio.Event()
        self._checks = Checks(self._kept.set)
        self._taken_at = 0.0

    # -- what comes is made durable

    async def take(self, received: Received) -> None:
        """Makes a mail durable; returns when it is on disk. Mail that comes together is committed together.

        Raises TemporaryFailure when it was not kept.
        """
        loop = asyncio.get_running_loop()
        self._taken_at = loop.time()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append((received, future))
        self._arrived.set()
        await future

    async def keep_what_comes(self) -> None:
        """Commits what `take` was given, group by group, until cancelled."""
        self._house.takes_mail = True
        while True:
            await self._arrived.wait()
            group, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            if not self._queue:
                self._arrived.clear()
            if group:
                await self._keep(group)

    async def _keep(self, group: Sequence[_Waiting]) -> None:
        try:
            await inbound.keep(self._house.database, [received for received, _ in group])
        except TemporaryFailure as failure:
            _answer(group, failure)
        except Exception as error:
            if len(group) > 1:  # one of them has brought out a bug of ours; it shall not harm the others
                log.exception("mail could not be kept together; keeping it one by one", messages=len(group))
                for each in group:
                    await self._keep([each])
                return
            log.exception("mail could not be kept")
            _answer(group, TemporaryFailure(f"{type(error).__name__}: {error}"))
        except BaseException:
            _answer(group, TemporaryFailure("stopping"))
            raise
        else:
            _answer(group)
            self._kept.set()

    # -- what was kept is filed

    async def file_what_was_kept(self) -> None:
        """Files inbound mail, oldest first, until cancelled; begins with what an earlier process left."""
        try:
            await self._file_what_was_kept()
        finally:
            await self._checks.stop()

    async def _file_what_was_kept(self) -> None:
        while True:
            self._kept.clear()
            try:
                while await self.file_inbound():
                    await self._let_mail_in()
            except TemporaryFailure as failure:
                log.warning("inbound mail waits", error=str(failure))
                await asyncio.sleep(1)
                continue
            except Exception:
                log.exception("inbound mail cannot be filed; it waits")
                await asyncio.sleep(30)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._kept.wait(), timeout=5)  # another process may have taken mail
            await self._let_mail_in()

    async def _let_mail_in(self) -> None:
        """Steps back while mail comes, whose senders wait; for a moment only, because it is to be decided too."""
        loop = asyncio.get_running_loop()
        end = loop.time() + BUSY
        while self._queue or loop.time() - self._taken_at < QUIET:
            if loop.time() > end:
                return
            await asyncio.sleep(QUIET)

    async def file_inbound(self) -> int:
        """Files a batch of inbound mail in one transaction. Returns how many there were.

        Mail whose author is still being checked stays; it is asked for again when that is done.
        """
        house = self._house
        async with house.database.reading() as connection:
            waiting = await inbound.waiting(
                connection, CONSUME_CHUNK, due=datetime.now(UTC), but=self._checks.unfinished
            )
            asked = await self._asked(connection, [each.received for each in waiting])
        if not waiting:
            return 0
        received = await self._authenticated(waiting, asked)
        if not received:
            return len(waiting) if self._checks.room > 0 else 0
        trusted = house.office.trusts_authors
        mails = {number: await sort(house, each, asked, trusted=trusted) for number, each in received.items()}
        order = sorted(mails, key=lambda number: mails[number].sent_at)
        await aside.file_batch(house, SortedBatch(house, mails, kept=True), order)
        for each in mails.values():
            _log(each)
        return len(waiting)

    # -- whose mail it is

    async def vouch(self, received: Received) -> Received | None:
        """Checks the author before a mail is taken: the mail with what was found; None if he may not write to us.

        Raises TemporaryFailure where DNS or the database fails.
        """
        async with self._house.database.reading() as connection:
            asked = await self._asked(connection, [received])
        judged = self._judge(received, asked)
        if judged is not None and judged.unchecked and self.authenticate is not None:
            received = replace(received, verdict=await self.authenticate(received))
            judged = self._judge(received, asked)
        if judged is not None and judged.unchecked:
            raise TemporaryFailure(f"the author cannot be checked: {received.verdict or 'nobody checks here'}")
        return None if judged is not None and judged.reason else received

    def _judge(self, received: Received, asked: Mapping[str, Alias]) -> authors.Judged | None:
        """Whose mail it is; None if it cannot be read."""
        message = read(split(received.raw)[0], received.received_at, len(received.raw))
        if not isinstance(message, Message):
            return None
        office = self._house.office
        return authors.judge(office, received, message, asked, trusted=office.trusts_authors)

    async def _asked(self, connection: Connection, mails: Sequence[Received]) -> Mapping[str, Alias]:
        """Takes the confirmed aliases over; returns those that wait for these mails, by token."""
        await self._house.take_over_aliases(connection)
        return await authors.asked_for(connection, self._house.office, mails, datetime.now(UTC))

    async def _authenticated(self, waiting: Sequence[Waiting], asked: Mapping[str, Alias]) -> dict[int, Received]:
        """Those of the mails that can be filed or held, with what the check of their authors came to."""
        ready: dict[int, Received] = {}
        unchecked: list[Waiting] = []
        for each in waiting:
            judged = self._judge(each.received, asked)
            if judged is not None and judged.unchecked:
                unchecked.append(each)
            else:
                ready[each.number] = each.received
        if not unchecked:
            return ready
        verdicts = await self._checks.of(unchecked, self.authenticate or _nobody_checks)
        for each in unchecked:
            verdict = verdicts.get(each.number)
            if verdict is not None and verdict.standing is Standing.TEMPORARY:
                verdict = await self._put_off(each, verdict)
            if verdict is not None:
                ready[each.number] = replace(each.received, verdict=verdict)
        return ready

    async def _put_off(self, mail: Waiting, verdict: Verdict) -> Verdict | None:
        """Lets a mail wait for DNS, and returns nothing; or gives it up."""
        until = authors.next_try(mail, datetime.now(UTC))
        if until is None:
            return replace(verdict, standing=Standing.FAIL, why=f"given up: {verdict.why}")
        async with self._house.transaction() as connection:
            await inbound.put_off(connection, mail.number, mail.tries + 1, until)
        facts = verdict.words | {"until": until.isoformat(timespec="seconds")}
        log.warning("mail waits: its author cannot be checked", tries=mail.tries + 1, **facts)
        return None


def _answer(group: Sequence[_Waiting], failure: TemporaryFailure | None = None) -> None:
    """Tells those who wait that their mail is kept, or why it is not."""
    for _, future in group:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _log(mail: Sorted) -> None:
    if mail.held is not None:
        id_ = shown_id(mail.held.message_id)
        facts = mail.held.verdict.words if mail.held.verdict is not None else {}
        log.warning("quarantined", reason=mail.held.reason, message_id=id_, channel=SMART_BCC, **facts)
    if mail.confirms:
        log.info("alias confirmed", alias=mail.confirms, user=mail.owner)

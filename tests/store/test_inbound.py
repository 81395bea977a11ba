"""Mail that was answered with 250 and is not yet filed."""

from dataclasses import replace
from typing import Any

import pytest

from maillinkd.mail.delivery import Received
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.store import inbound
from maillinkd.store.database import Database
from store.shelf import at

MAIL = Received(
    sender="anna@ourco.example",
    recipients=("ourco@bcc.ourco.example", "ourco+deal61@bcc.ourco.example"),
    raw=b"Subject: New roof\r\n\r\n\x00\xff\r\n",
    received_at=at(0),
    client_address="192.0.2.7",
    helo="mail.ourco.example",
    tls=True,
)


async def _keep(database: Database, *received: Received) -> None:
    await inbound.keep(database, received)


async def _waiting(database: Database, limit: int = 10, **chosen: Any) -> list[inbound.Waiting]:
    async with database.reading() as connection:
        return await inbound.waiting(connection, limit, **chosen)


async def test_mail_comes_back_as_it_was_taken(database: Database) -> None:
    await _keep(database, MAIL)

    assert [each.received for each in await _waiting(database)] == [MAIL]


async def test_a_retry_after_a_lost_250_is_not_doubled(database: Database) -> None:
    """The same bytes in the same envelope, an hour later and from another address of the same client."""
    await _keep(database, MAIL, MAIL)
    await _keep(database, replace(MAIL, received_at=at(60), client_address="192.0.2.8"))

    assert [each.received for each in await _waiting(database)] == [MAIL]


@pytest.mark.parametrize(
    "other",
    [
        replace(MAIL, raw=MAIL.raw + b"."),
        replace(MAIL, sender=""),
        replace(MAIL, recipients=MAIL.recipients[:1]),
        replace(MAIL, recipients=MAIL.recipients[::-1]),
        replace(MAIL, sender=MAIL.recipients[0], recipients=(MAIL.sender, MAIL.recipients[1])),
    ],
)
async def test_other_bytes_or_another_envelope_are_another_mail(database: Database, other: Received) -> None:
    await _keep(database, MAIL, other)

    assert [each.received for each in await _waiting(database)] == [MAIL, other]


async def test_who_waits_longest_comes_first(database: Database) -> None:
    mails = [replace(MAIL, sender=f"{n}@ourco.example", received_at=at(-n)) for n in range(5)]
    await _keep(database, *mails)

    assert [each.received for each in await _waiting(database, limit=2)] == mails[:2]
    first_two = {each.number for each in await _waiting(database, limit=2)}
    assert [each.received for each in await _waiting(database, but=first_two)] == mails[2:]


async def test_what_came_through_a_relay_and_was_checked_comes_back_so(database: Database) -> None:
    mail = replace(MAIL, relay="10.0.0.1", verdict=Verdict(Standing.PASS, "pass", "none", relay="10.0.0.1"))
    await _keep(database, mail)

    assert [each.received for each in await _waiting(database)] == [mail]


async def test_mail_that_was_put_off_is_not_due_before_its_time(database: Database) -> None:
    await _keep(database, MAIL)
    (mail,) = await _waiting(database)
    async with database.transaction() as connection:
        await inbound.put_off(connection, mail.number, 3, at(10))

    assert await _waiting(database, due=at(9)) == []
    assert [each.tries for each in await _waiting(database, due=at(10))] == [3]
    assert [each.tries for each in await _waiting(database)] == [3]


async def test_filed_mail_waits_no_longer_and_the_same_may_come_again(database: Database) -> None:
    await _keep(database, MAIL)
    async with database.transaction() as connection:
        await inbound.filed(connection, [each.number for each in await inbound.waiting(connection, 10)])
    assert await _waiting(database) == []

    await _keep(database, MAIL)
    assert [each.received for each in await _waiting(database)] == [MAIL]


async def test_an_envelope_that_is_no_utf8_has_a_digest() -> None:
    assert inbound.digest_of(replace(MAIL, sender="\udcff@x")) != inbound.digest_of(MAIL)


async def test_the_size_is_that_of_what_waits(database: Database) -> None:
    await _keep(database, MAIL, replace(MAIL, raw=b"x" * 100))

    async with database.reading() as connection:
        assert await inbound.size(connection) == len(MAIL.raw) + 100


async def test_what_was_filed_is_remembered_for_a_time(database: Database) -> None:
    one, other, unknown = b"1" * 32, b"2" * 32, b"3" * 32
    async with database.transaction() as connection:
        assert await inbound.size(connection) == 0
        assert await inbound.known(connection, {one}) == set()
        await inbound.remember(connection, {one}, at(0))
        await inbound.remember(connection, {one, other}, at(60))
        assert await inbound.known(connection, {one, other, unknown}) == {one, other}
        await inbound.forget(connection, at(1))
        assert await inbound.known(connection, {one, other, unknown}) == {other}

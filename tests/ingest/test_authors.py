"""Whose Smart Bcc mail it is (L14): what is checked, what waits, and how an alias becomes a user's."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from ingest.scene import ANNA, BEN, CARLA, STRANGER, UNIVERSAL, Scene, letter, office_with, received, settings_with
from maillinkd.app import office_of
from maillinkd.ingest import authors
from maillinkd.ingest.authors import LONGEST_DELAY, PATIENCE, Checks, next_try
from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.store import aliases, inbound, quarantine
from maillinkd.store.inbound import Waiting

KEY = b"k" * 32
ALIAS = "anna@home.example"
PASS = Verdict(Standing.PASS, "pass", "none")
FAIL = Verdict(Standing.FAIL, "fail", "none", "-all of ourco.example")
LATER = Verdict(Standing.TEMPORARY, "temperror", "none", "DNS did not answer")


@dataclass
class Judge:
    """Gives the same verdict on everything, once it may."""

    verdict: Verdict
    asked: list[str] = field(default_factory=list)
    may: asyncio.Event | None = None

    async def __call__(self, received: Received) -> Verdict:
        self.asked.append(received.sender)
        if self.may is not None:
            await self.may.wait()
        return self.verdict


def careful(scene: Scene, verdict: Verdict) -> Judge:
    """The house asks for authentication, and the judge gives it."""
    settings = settings_with(smart_bcc={"require_authentication": True})
    scene.house.office = office_of(settings, alias_key=KEY)
    judge = Judge(verdict)
    scene.smart_bcc.authenticate = judge
    return judge


def bcc_mail(id_: str = "a@x", *, sender: str = ANNA, to: tuple[str, ...] = (UNIVERSAL,)) -> Received:
    return received(letter(id_, sender=sender, to=CARLA), *to, sender="envelope@ourco.example", at=datetime.now(UTC))


async def held_reasons(scene: Scene) -> list[str]:
    return [held.reason for held in await scene.held()]


async def test_what_is_authenticated_is_filed(either: Scene) -> None:
    careful(either, PASS)
    await either.deliver(bcc_mail())

    assert (await either.thread()).owner == "anna"
    assert await either.count("inbound") == 0


async def test_what_is_not_goes_to_quarantine_with_the_verdict(either: Scene) -> None:
    careful(either, FAIL)
    with capture_logs() as lines:
        await either.deliver(bcc_mail())
    async with either.database.reading() as connection:
        held = await quarantine.get(connection, 1)

    assert held is not None
    assert (held.reason, held.verdict) == ("smart_bcc_unauthenticated", FAIL)
    assert held.error == "spf=fail dkim=none (-all of ourco.example)"
    (line,) = [line for line in lines if line["event"] == "quarantined"]
    assert (line["spf"], line["dkim"]) == ("fail", "none")


async def test_strangers_are_never_checked(scene: Scene) -> None:
    judge = careful(scene, PASS)
    await scene.deliver(bcc_mail(sender=STRANGER))

    assert judge.asked == []
    assert await held_reasons(scene) == ["smart_bcc_unknown_sender"]


@pytest.mark.parametrize(
    "sender",
    [
        f"{ANNA}, {BEN}",
        f"{ANNA}\r\nFrom: {BEN}",
        f'"{ANNA}" <{STRANGER}>',
        f"Team: {ANNA};",
        "=?utf-8?q?anna?=@ourco.example",
    ],
)
async def test_who_is_disguised_is_not_authenticated(scene: Scene, sender: str) -> None:
    judge = careful(scene, PASS)
    await scene.deliver(bcc_mail(sender=sender))

    assert judge.asked == []
    assert await held_reasons(scene) == ["smart_bcc_unauthenticated"]


async def test_without_anybody_who_checks_nobody_is_believed(scene: Scene) -> None:
    careful(scene, PASS)
    scene.smart_bcc.authenticate = None
    await scene.deliver(bcc_mail())

    assert await held_reasons(scene) == ["smart_bcc_unauthenticated"]


async def test_a_check_that_fails_by_a_bug_of_ours_proves_nothing(scene: Scene) -> None:
    careful(scene, PASS)

    async def bug(_: Received) -> Verdict:
        raise RuntimeError("a bug")

    scene.smart_bcc.authenticate = bug
    await scene.deliver(bcc_mail())

    assert await held_reasons(scene) == ["smart_bcc_unauthenticated"]


async def test_while_dns_fails_mail_waits_and_is_tried_again(either: Scene) -> None:
    judge = careful(either, LATER)
    await either.deliver(bcc_mail())
    async with either.database.reading() as connection:
        (waiting,) = await inbound.waiting(connection, 10)
        due = await inbound.waiting(connection, 10, due=datetime.now(UTC))

    assert (waiting.tries, due, await either.held()) == (1, [], [])

    async with either.database.transaction() as connection:
        await inbound.put_off(connection, waiting.number, 1, datetime.now(UTC) - timedelta(seconds=1))
    judge.verdict = PASS
    await either.file_inbound()

    assert (await either.thread()).owner == "anna"


async def test_after_a_day_it_is_given_up(scene: Scene) -> None:
    careful(scene, LATER)
    mail = bcc_mail()
    await scene.deliver(replace(mail, received_at=mail.received_at - PATIENCE - timedelta(minutes=1)))

    (held,) = await scene.held()
    assert (held.reason, held.error) == (
        "smart_bcc_unauthenticated",
        "spf=temperror dkim=none (given up: DNS did not answer)",
    )


def test_the_tries_come_less_and_less_often() -> None:
    now = datetime.now(UTC)
    mail = bcc_mail()
    delays = [next_try(Waiting(1, mail, tries), now) for tries in (0, 1, 2, 6, 500)]

    assert delays == [now + timedelta(minutes=1), now + timedelta(minutes=2), now + timedelta(minutes=4),
                      now + LONGEST_DELAY, now + LONGEST_DELAY]  # fmt: skip


async def test_a_slow_check_delays_nobody_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "A_MOMENT", 0.05)
    judge = careful(scene, PASS)
    judge.may = asyncio.Event()
    await scene.keep(bcc_mail("slow@x"))
    filing = asyncio.create_task(scene.smart_bcc.file_what_was_kept())
    while not judge.asked:
        await asyncio.sleep(0)
    await scene.keep(replace(bcc_mail("quick@x", sender=BEN), verdict=PASS))
    await scene.file_inbound()
    before = [thread.owner for thread in await scene.threads()]
    judge.may.set()
    async with asyncio.timeout(10):
        while len(await scene.threads()) < 2:
            await asyncio.sleep(0.01)
    filing.cancel()
    await asyncio.gather(filing, return_exceptions=True)

    assert before == ["ben"]
    assert judge.asked == ["envelope@ourco.example"]


async def test_checks_are_few_and_end_when_they_are_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "A_MOMENT", 0.01)
    monkeypatch.setattr(authors, "AT_A_TIME", 3)
    checks = Checks(lambda: None)
    judge = Judge(PASS, may=asyncio.Event())
    found = await checks.of([Waiting(number, bcc_mail()) for number in range(10)], judge)

    assert (found, len(judge.asked), checks.room) == ({}, 3, 0)
    assert checks.unfinished == {0, 1, 2}

    await checks.stop()
    assert (checks.unfinished, checks.room) == (frozenset(), 3)


async def test_large_mails_are_checked_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "A_MOMENT", 0.01)
    monkeypatch.setattr(authors, "OCTETS_AT_A_TIME", 10)
    checks = Checks(lambda: None)
    judge = Judge(PASS, may=asyncio.Event())
    await checks.of([Waiting(number, bcc_mail()) for number in range(3)], judge)

    assert len(judge.asked) == 1
    await checks.stop()


# Before the reply to DATA


@pytest.mark.parametrize(
    ("verdict", "sender", "accepted"),
    [(PASS, ANNA, True), (FAIL, ANNA, False), (PASS, STRANGER, False), (PASS, f"{ANNA}, {BEN}", False)],
)
async def test_vouching(scene: Scene, verdict: Verdict, sender: str, accepted: bool) -> None:
    careful(scene, verdict)
    vouched = await scene.smart_bcc.vouch(bcc_mail(sender=sender))

    assert (vouched is not None) is accepted
    assert vouched is None or vouched.verdict == PASS


async def test_vouching_while_dns_fails_is_temporary(scene: Scene) -> None:
    careful(scene, LATER)

    with pytest.raises(TemporaryFailure, match="DNS did not answer"):
        await scene.smart_bcc.vouch(bcc_mail())


async def test_what_was_checked_before_it_was_taken_is_not_checked_again(either: Scene) -> None:
    judge = careful(either, PASS)
    vouched = await either.smart_bcc.vouch(bcc_mail())
    assert vouched is not None
    await either.deliver(vouched)

    assert (len(judge.asked), len(await either.threads())) == (1, 1)


async def test_on_a_closed_network_from_is_believed(scene: Scene) -> None:
    scene.house.office = office_with()

    assert await scene.smart_bcc.vouch(bcc_mail()) is not None
    assert await scene.smart_bcc.vouch(bcc_mail(sender=STRANGER)) is None


# Aliases


def one_time(token: str = "0123456789abcdef") -> str:
    return SmartBccAddress("bcc.ourco.example", "ourco", alias_key=KEY).alias_address(token)


async def ask(scene: Scene, *, lifetime: timedelta = timedelta(days=1), token: str = "0123456789abcdef") -> None:
    async with scene.database.transaction() as connection:
        assert await aliases.ask(connection, ALIAS, "anna", token, datetime.now(UTC) + lifetime)


async def test_mail_from_an_alias_confirms_it(either: Scene) -> None:
    careful(either, PASS)
    await ask(either)
    with capture_logs() as lines:
        await either.deliver(bcc_mail("c@x", sender=ALIAS, to=(one_time(),)))

    assert await either.threads() == []
    await either.deliver(bcc_mail("d@x", sender=ALIAS))
    assert either.house.office.owner_of_address(ALIAS) == "anna"
    assert either.house.office.is_internal(ALIAS)
    assert [line for line in lines if line["event"] == "alias confirmed"] != []
    assert (await either.thread()).owner == "anna"
    assert (await either.held(), await either.count("inbound")) == ([], 0)


async def test_another_address_of_the_same_mail_is_served_too(scene: Scene) -> None:
    careful(scene, PASS)
    await ask(scene)
    await scene.deliver(bcc_mail("c@x", sender=ALIAS, to=(one_time(), UNIVERSAL)))

    assert ((await scene.thread()).owner, await scene.held()) == ("anna", [])


@pytest.mark.parametrize(
    ("sender", "verdict", "lifetime", "reason"),
    [
        (ALIAS, FAIL, 1, "smart_bcc_unauthenticated"),
        (STRANGER, PASS, 1, "smart_bcc_unknown_sender"),
        (BEN, PASS, 1, "smart_bcc_unknown_recipient"),
        (ALIAS, PASS, -1, "smart_bcc_unknown_sender"),
    ],
)
async def test_nothing_else_confirms_it(
    scene: Scene, sender: str, verdict: Verdict, lifetime: int, reason: str
) -> None:
    careful(scene, verdict)
    await ask(scene, lifetime=timedelta(days=lifetime))
    await scene.deliver(bcc_mail("c@x", sender=sender, to=(one_time(),)))
    await scene.house.refresh_aliases()

    assert await held_reasons(scene) == [reason]
    assert scene.house.office.owner_of_address(ALIAS) is None


async def test_a_one_time_address_serves_once(scene: Scene) -> None:
    careful(scene, PASS)
    await ask(scene)
    await scene.deliver(bcc_mail("c@x", sender=ALIAS, to=(one_time(),)))
    await scene.deliver(bcc_mail("d@x", sender=ALIAS, to=(one_time(),)))

    assert await held_reasons(scene) == ["smart_bcc_unknown_recipient"]


async def test_an_alias_of_a_user_who_is_gone_is_nobodys(scene: Scene) -> None:
    careful(scene, PASS)
    await ask(scene)
    async with scene.database.transaction() as connection:
        await aliases.confirm(connection, ALIAS, datetime.now(UTC))
    await scene.house.refresh_aliases()
    assert scene.house.office.owner_of_address(ALIAS) == "anna"

    gone = replace(scene.house.office, aliases={ALIAS: "nobody"})
    assert gone.owner_of_address(ALIAS) is None

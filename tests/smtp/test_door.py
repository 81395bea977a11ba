"""Who gets a place, and what becomes of a message between its last octet and the reply."""

import asyncio
import socket
import struct
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from maillinkd.mail.delivery import NoSpace, Received, TemporaryFailure
from maillinkd.mail.verdict import Standing, Verdict
from smtp.dialogue import MAIL, PATIENCE, TEXT, UNIVERSAL, Client, Inbound, listening, until

# Places


async def test_connections_above_the_limits_are_told_421_and_counted() -> None:
    limits = {"max_connections": 4, "max_connections_per_client": 2, "exempt_clients": ()}
    async with listening(Inbound(), **limits) as listener:
        async with await Client.greeted(listener), await Client.greeted(listener):
            async with await Client.connect(listener) as third:
                assert (await third.rest()).startswith("421 4.7.0 mx.ourco.example")
            assert listener.connections == 2
        await until(lambda: listener.connections == 0)
        async with await Client.greeted(listener):
            assert listener.counters.refusals["max_connections_per_client"] == 1

    async with listening(Inbound(), max_connections=1) as listener, await Client.greeted(listener):
        async with await Client.connect(listener) as second:
            assert (await second.rest()).startswith("421 4.7.0 mx.ourco.example")
        assert listener.counters.refusals["max_connections"] == 1


async def test_where_places_are_short_the_longest_staller_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that connect and wait, or drip a message, keep nobody out; one that gets on keeps its place."""
    monkeypatch.setattr("maillinkd.smtp.door.STALLED", 0.2)
    inbound = Inbound()
    async with listening(inbound, max_connections=4) as listener:
        idle, dripping, busy, storing = [await Client.greeted(listener) for _ in range(4)]
        await dripping.begin()
        dripping.send(b"S")
        inbound.go_on.clear()
        await storing.begin()
        storing.send(MAIL)
        await asyncio.wait_for(inbound.begun.wait(), PATIENCE)
        async with await Client.connect(listener) as early:  # nobody has stalled for long enough yet
            assert (await early.rest()).startswith("421 4.7.0")
        await asyncio.sleep(0.25)
        await busy.asks("MAIL FROM:<anna@ourco.example>", f"RCPT TO:<{UNIVERSAL}>")

        first, second = await Client.greeted(listener), await Client.greeted(listener)

        assert (await idle.rest()).startswith("421 4.3.2")
        assert (await dripping.rest()).startswith("421 4.3.2")
        inbound.go_on.set()
        assert (await storing.reply()).startswith("250 ")
        assert (await busy.ask("DATA")).startswith("354 ")
        assert listener.connections == 4
        assert (await first.mail(MAIL)).startswith("250 ")
        await asyncio.gather(*(each.close() for each in (idle, dripping, busy, storing, first, second)))
        await until(lambda: listener.connections == 0)


async def test_each_limit_has_its_counter() -> None:
    inbound = Inbound()
    async with listening(inbound, max_message_size=1000, max_errors=1, idle_timeout=0.2) as listener:
        async with await Client.greeted(listener) as client:
            await client.mail(MAIL)
            await client.ask("MAIL FROM:<> SIZE=1001")
            await client.rest()
        async with await Client.greeted(listener) as client:
            await client.rest()

    assert listener.counters.facts() == {
        "connections": 2,
        "tls": 0,
        "messages": 1,
        "octets": len(TEXT),
        "refusals": {"552": 1, "idle_timeout": 1, "max_errors": 1, "max_message_size": 1},
    }


# The way to the store


async def test_250_comes_only_after_the_message_is_durable() -> None:
    inbound = Inbound()
    inbound.go_on.clear()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await client.begin()
        client.send(MAIL)
        await asyncio.wait_for(inbound.begun.wait(), PATIENCE)
        answer = asyncio.create_task(client.reply())
        await asyncio.wait([answer], timeout=0.05)
        assert not answer.done()
        inbound.go_on.set()

        assert (await answer).startswith("250 ")


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (TemporaryFailure("database is locked"), "451 4.3.0"),
        (NoSpace("disk full"), "452 4.3.1"),
        (ValueError("line one\nline two: é 550 5.0.0"), "451 4.3.0"),
        (RuntimeError("\ud800"), "451 4.3.0"),
    ],
)
async def test_a_failure_of_ours_is_temporary_tells_nothing_and_the_next_message_goes_through(
    failure: Exception, reply: str
) -> None:
    inbound = Inbound(failures=[failure])
    with capture_logs() as logs:
        async with listening(inbound) as listener, await Client.greeted(listener) as client:
            failed = await client.mail(MAIL)
            assert (await client.mail(MAIL)).startswith("250 ")

    assert failed[:9] == reply
    assert str(failure).partition("\n")[0] not in failed
    assert len(inbound.taken) == 1
    assert [entry["log_level"] for entry in logs if entry["log_level"] != "info"] in (["warning"], ["error"])


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_a_client_that_leaves_after_the_dot_does_not_undo_the_commit(way: str) -> None:
    inbound = Inbound()
    inbound.go_on.clear()
    async with listening(inbound) as listener:
        client = await Client.greeted(listener)
        await client.begin()
        client.send(MAIL)
        await client.writer.drain()
        await asyncio.wait_for(inbound.begun.wait(), PATIENCE)
        if way == "reset":
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            client.writer.transport.abort()
            await until(lambda: listener.connections == 0)
        elif way == "close":
            await client.close()
        else:
            client.writer.write_eof()
        async with await Client.greeted(listener):  # so much later
            inbound.go_on.set()
            if way == "half-close":
                assert (await client.reply()).startswith("250 ")
                await client.close()
        await listener.stop(drain=PATIENCE)

    assert [received.raw for received in inbound.taken] == [TEXT]


async def test_the_author_is_checked_before_the_reply_to_data() -> None:
    asked = []
    verdict = Verdict(Standing.PASS, "pass", "none")

    async def check_author(received: Received) -> Received | None:
        asked.append((received.raw, received.sender))
        if received.sender == "slow@ourco.example":
            raise TemporaryFailure("no resolver")
        return replace(received, verdict=verdict) if received.sender == "anna@ourco.example" else None

    inbound = Inbound()
    async with (
        listening(inbound, hooks={"check_author": check_author}) as listener,
        await Client.greeted(listener) as client,
    ):
        senders = ["anna@ourco.example", "eve@evil.example", "slow@ourco.example"]
        replies = [(await client.mail(MAIL, sender=sender))[:9] for sender in senders]

    assert replies == ["250 2.0.0", "550 5.7.1", "451 4.3.0"]
    assert asked == [(TEXT, sender) for sender in senders]
    assert [(received.sender, received.verdict) for received in inbound.taken] == [("anna@ourco.example", verdict)]
    assert listener.counters.refusals["author"] == 1


# The end


async def test_stopping_says_421_to_the_idle_and_finishes_the_message_under_way() -> None:
    inbound = Inbound()
    inbound.go_on.clear()
    async with listening(inbound) as listener:
        address = listener.addresses[0]
        idle, sending, storing = [await Client.greeted(listener) for _ in range(3)]
        await idle.ask("MAIL FROM:<>")
        await sending.begin()
        sending.send(TEXT)
        await storing.begin()
        storing.send(MAIL)
        await asyncio.wait_for(inbound.begun.wait(), PATIENCE)

        stopping = asyncio.create_task(listener.stop(drain=PATIENCE))
        assert (await idle.rest()).startswith("421 4.3.2")
        with pytest.raises(OSError):
            await asyncio.open_connection(*address)
        inbound.go_on.set()
        sending.send(b".\r\nMAIL FROM:<>\r\n")
        assert [line[:9] for line in (await sending.rest()).splitlines()] == ["250 2.0.0", "421 4.3.2"]
        assert [line[:9] for line in (await storing.rest()).splitlines()] == ["250 2.0.0", "421 4.3.2"]
        await asyncio.gather(*(client.close() for client in (idle, sending, storing)))
        await asyncio.wait_for(stopping, PATIENCE)

    assert len(inbound.taken) == 2


async def test_stopping_waits_no_longer_than_it_is_told() -> None:
    inbound = Inbound()
    inbound.go_on.clear()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await client.begin()
        client.send(MAIL)
        await asyncio.wait_for(inbound.begun.wait(), PATIENCE)

        await asyncio.wait_for(listener.stop(drain=0.05), PATIENCE)
        assert await client.rest() == ""

    assert inbound.taken == []

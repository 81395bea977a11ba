"""The SMTP door under the load of Postfix's smtp-source, and as swaks sees it."""

import asyncio
import shutil
from dataclasses import replace

import pytest

from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.listener import Listener, ListenerConfig

pytestmark = pytest.mark.postfix

UNIVERSAL = "ourco@bcc.ourco.example"
CONFIG = ListenerConfig(
    recipients=SmartBccAddress("bcc.ourco.example", "ourco"), hostname="mx.ourco.example", listen=(("127.0.0.1", 0),)
)
STORED = "<<< 250 2.0.0 Message stored"
PATIENCE = 60.0


async def smtp_source(listener: Listener, *options: str) -> tuple[int, str]:
    """Runs smtp-source against the listener; its exit code and what it said."""
    program = shutil.which("smtp-source", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program
    host, port = listener.addresses[0]
    envelope = ["-f", "anna@ourco.example", "-t", UNIVERSAL, "-l", "4000"]
    process = await asyncio.create_subprocess_exec(
        program, *options, *envelope, f"inet:{host}:{port}", stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


@pytest.mark.parametrize(("messages", "sessions"), [(50, 1), (500, 10), (1000, 50)])
@pytest.mark.parametrize("reuse", [True, False], ids=["reused", "new"])
async def test_every_250_is_one_message_taken(messages: int, sessions: int, reuse: bool) -> None:
    taken: list[Received] = []

    async def take(received: Received) -> None:
        await asyncio.sleep(0)
        taken.append(received)

    listener = Listener(CONFIG, take)
    await listener.start()
    try:
        outcome = await smtp_source(listener, *(["-d"] if reuse else []), "-m", str(messages), "-s", str(sessions))
    finally:
        await listener.stop()

    # Exit code 0: smtp-source had a 250 for every message.
    assert outcome == (0, "")
    assert len(taken) == messages
    assert {received.recipients for received in taken} == {(UNIVERSAL,)}
    assert min(len(received.raw) for received in taken) >= 4000


async def test_a_store_that_fails_now_and_then_takes_no_message_that_was_refused() -> None:
    """What got 451 is not kept, what got 250 is kept once."""
    taken: list[Received] = []
    asked = 0

    async def take(received: Received) -> None:
        nonlocal asked
        asked += 1
        if asked % 7 == 0:
            raise TemporaryFailure("now and then")
        taken.append(received)

    listener = Listener(replace(CONFIG, max_errors=1000), take)
    await listener.start()
    try:
        _, said = await smtp_source(listener, "-v", "-A", "-m", "100", "-s", "5")
    finally:
        await listener.stop()

    assert said.count("<<< 451 4.3.0") == asked // 7 > 0
    assert said.count(STORED) == len(taken) == asked - asked // 7


async def test_stopping_under_load_loses_no_message_that_was_answered() -> None:
    """SIGTERM's way: what was answered with 250 is taken, and no connection stays behind."""
    taken = 0
    enough = asyncio.Event()

    async def take(received: Received) -> None:
        nonlocal taken
        await asyncio.sleep(0)
        taken += 1
        if taken == 200:
            enough.set()

    listener = Listener(CONFIG, take)
    await listener.start()
    load = asyncio.create_task(smtp_source(listener, "-v", "-m", "100000", "-s", "20"))
    await asyncio.wait_for(enough.wait(), PATIENCE)
    await asyncio.wait_for(listener.stop(drain=PATIENCE), PATIENCE)
    _, said = await load

    assert listener.connections == 0
    assert 200 <= said.count(STORED) <= taken


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
async def test_swaks_is_told_about_each_recipient_and_its_message_is_taken() -> None:
    taken: list[Received] = []

    async def take(received: Received) -> None:
        taken.append(received)

    listener = Listener(CONFIG, take)
    await listener.start()
    host, port = listener.addresses[0]
    recipients = "ourco+deal61@bcc.ourco.example,nobody@bcc.ourco.example,carla@client.example"
    try:
        process = await asyncio.create_subprocess_exec(
            *("swaks", "--server", host, "--port", str(port), "--pipeline"),
            *("--from", "anna@ourco.example", "--to", recipients, "--body", ".\\n..\\nHello"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        await listener.stop()

    assert [received.recipients for received in taken] == [("ourco+deal61@bcc.ourco.example",)]
    assert b"\r\n\r\n.\r\n..\r\nHello" in taken[0].raw
    assert (b"550 5.1.1" in said, b"550 5.7.1" in said) == (True, True)

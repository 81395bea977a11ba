"""Commands and their replies, recipients, limits of errors, relays."""

import asyncio
import smtplib
import time
from email.message import EmailMessage
from ipaddress import ip_network
from typing import Any

import pytest
from structlog.testing import capture_logs

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.listener import Listener
from smtp.dialogue import MAIL, PATIENCE, UNIVERSAL, Client, Inbound, SelfSigned, listening

STARTED = ["HELO c", "MAIL FROM:<a@b.example>"]


# Messages


async def test_one_session_carries_many_messages_and_the_null_sender() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        replies = [await client.mail(MAIL, sender=sender) for sender in ("anna@ourco.example", "", "b@c.example")]
        assert (await client.ask("QUIT")).startswith("221 2.0.0")
        assert await client.reply() == ""

    assert [reply[:3] for reply in replies] == ["250"] * 3
    assert [received.sender for received in inbound.taken] == ["anna@ourco.example", "", "b@c.example"]


async def test_smtplib_can_send_utf8_addresses_and_8bit_text() -> None:
    inbound = Inbound()
    message = EmailMessage()
    message["From"] = "änna@ourco.example"
    message["To"] = "carla@client.example"
    message.set_content("Grüße\n", cte="8bit")

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.send_message(message, "änna@ourco.example", [UNIVERSAL])

    async with listening(inbound) as listener:
        await asyncio.to_thread(send, listener.addresses[0][1])

    assert inbound.taken[0].sender == "änna@ourco.example"
    assert "Grüße".encode() in inbound.taken[0].raw


# Who may be written to


FOREIGN = [
    "carla@client.example",
    "ourco@ourco.example",
    "ourco@sub.bcc.ourco.example",
    "ourco@bcc.ourco.example.evil.example",
    '"ourco@bcc.ourco.example"@evil.example',
    '"carla@client.example"@evil.example',
    "ourco@[127.0.0.1]",
    "ourco@[IPv6:::1]",
    "carla%client.example@evil.example",
]


NOT_OURS = [
    "carla%client.example@bcc.ourco.example",
    "client.example!carla@bcc.ourco.example",
    '"carla@client.example"@bcc.ourco.example',
    '"carla%client.example"@bcc.ourco.example',
    "@bcc.ourco.example:carla@client.example",
    "@evil.example,@bcc.ourco.example:carla@client.example",
    "carla@client.example@bcc.ourco.example",
    "carla@bcc.ourco.example",
    "postmaster@bcc.ourco.example",
    "postmaster",
    "ourco",
    "ourco@",
    "@bcc.ourco.example",
    "ourco+deal@bcc.ourco.example",
    "ourco+61@bcc.ourco.example",
    " ourco@bcc.ourco.example",
    "ourco@bcc.ourco.example,carla@client.example",
    "ourco@bcc.ourco.example> <carla@client.example",
    "carla@client.example\x00@bcc.ourco.example",
    "",
]


async def test_nothing_is_relayed() -> None:
    async with listening(Inbound(), max_errors=1000) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<anna@ourco.example>")
        foreign = [(await client.ask(f"RCPT TO:<{recipient}>"))[:9] for recipient in FOREIGN]
        others = [await client.ask(f"RCPT TO:<{recipient}>") for recipient in NOT_OURS]
        bare = [await client.ask(f"RCPT TO:{recipient}") for recipient in FOREIGN + NOT_OURS]

        assert foreign == ["550 5.7.1"] * len(FOREIGN)
        assert [reply for reply in others + bare if not reply.startswith("5")] == []
        assert (await client.ask("DATA")).startswith("503 5.5.1")


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@bcc.ourco.example", "550 5.1.1"),
        ("ourco+person3@bcc.ourco.example", "550 5.1.1"),
        ("ourco+deal61@bcc.ourco.example", "250 2.1.5"),
        ("OURCO+DEAL61@BCC.OURCO.EXAMPLE.", "250 2.1.5"),
        ('"ourco+deal61"@bcc.ourco.example', "250 2.1.5"),
    ],
)
async def test_a_recipient_is_known_by_its_form(recipient: str, reply: str) -> None:
    async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")

        assert (await client.ask(f"RCPT TO:<{recipient}>"))[:9] == reply


async def test_every_refused_recipient_is_answered_after_the_same_time() -> None:
    """Neither answer nor time tells a guesser whether key, tag or name was wrong."""
    keyed = SmartBccAddress("bcc.ourco.example", "ourco", (b"a key of the tests", b"the key before it"))
    good = keyed.address_of(ItemRef(ItemKind.DEAL, "61"))
    guesses = [
        "ourco+deal61@bcc.ourco.example",
        "ourco+deal61.00000000@bcc.ourco.example",
        "ourco+deal62.00000000@bcc.ourco.example",
        "ourco+nothing@bcc.ourco.example",
        f"ourco+{'x' * 200}.00000000@bcc.ourco.example",
        "nobody@bcc.ourco.example",
    ]
    loop = asyncio.get_running_loop()
    async with (
        listening(Inbound(), recipients=keyed, refusal_delay=0.1) as listener,
        await Client.greeted(listener) as client,
    ):
        await client.ask("MAIL FROM:<>")
        answers, times = set(), []
        for guess in guesses:
            began = loop.time()
            answers.add(await client.ask(f"RCPT TO:<{guess}>"))
            times.append(loop.time() - began)
        for foreign in ("carla@client.example", "<", "ourco@"):
            began = loop.time()
            assert (await client.ask(f"RCPT TO:<{foreign}>")).startswith("55")
            times.append(loop.time() - began)
        assert (await client.ask(f"RCPT TO:<{good}>")).startswith("250 ")

    assert answers == {"550 5.1.1 Unknown recipient"}
    assert min(times) >= 0.099


async def test_the_delay_of_a_refusal_does_not_depend_on_how_long_it_took_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is due at a moment that is fixed before the address is looked at."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(asyncio.get_running_loop().time() + seconds)
        await sleep(0)

    def parse(self: SmartBccAddress, recipient: str) -> None:
        if "slow" in recipient:
            time.sleep(0.05)

    monkeypatch.setattr(SmartBccAddress, "parse", parse)
    monkeypatch.setattr("maillinkd.smtp.conversation.asyncio.sleep", note)
    loop = asyncio.get_running_loop()
    delays = []
    async with listening(Inbound(), refusal_delay=10.0) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")
        for name in ("quick", "slow"):
            began = loop.time()
            await client.ask(f"RCPT TO:<{name}@bcc.ourco.example>")
            delays.append(slept.pop() - began)

    assert delays == pytest.approx([10.0, 10.0], abs=0.04)


# Commands


async def test_ehlo_lists_what_we_do_and_nothing_else(tls: SelfSigned) -> None:
    plain = [
        "mx.ourco.example",
        "PIPELINING",
        "SIZE 20000000",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "ENHANCEDSTATUSCODES",
    ]

    def lines(names: list[str]) -> str:
        return "\n".join([*(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}"])

    async with listening(Inbound()) as listener, await Client.connect(listener) as client:
        assert await client.reply() == "220 mx.ourco.example ESMTP maillinkd"
        assert await client.ask("EHLO client.example") == lines(plain)
        assert await client.ask("HELO client.example") == "250 mx.ourco.example"
    async with tls.listening(Inbound()) as listener, await Client.connect(listener) as client:
        await client.reply()
        assert await client.ask("EHLO client.example") == lines([*plain[:3], "STARTTLS", *plain[3:]])
        assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
        await client.start_tls(tls.trusted)
        assert await client.ask("EHLO client.example") == lines(plain)


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        (["MAIL FROM:<a@b.example>"], ["503 5.5.1"]),
        (["EHLO"], ["501 5.5.4"]),
        (["EHLO two words"], ["501 5.5.4"]),
        (["HELO \x07"], ["501 5.5.4"]),
        (["HELO c", "RCPT TO:<ourco@bcc.ourco.example>"], ["250 mx.ou", "503 5.5.1"]),
        ([*STARTED, "DATA"], ["250 mx.ou", "250 2.1.0", "503 5.5.1"]),
        ([*STARTED, "MAIL FROM:<>"], ["250 mx.ou", "250 2.1.0", "503 5.5.1"]),
        ([*STARTED, "RSET", "MAIL FROM:<>"], ["250 mx.ou", "250 2.1.0", "250 2.0.0", "250 2.1.0"]),
        ([*STARTED, "HELO c", "MAIL FROM:<>"], ["250 mx.ou", "250 2.1.0", "250 mx.ou", "250 2.1.0"]),
        (["HELO c", "MAIL FROM:<"], ["250 mx.ou", "553 5.1.7"]),
        (["HELO c", "MAIL FROM:<a@b.example> SIZE=20000000"], ["250 mx.ou", "250 2.1.0"]),
        (["HELO c", "MAIL FROM:<a@b.example> SIZE=20000001"], ["250 mx.ou", "552 5.3.4"]),
        (["noop", "NOOP x", "VRFY anna"], ["250 2.0.0", "250 2.0.0", "252 2.0.0"]),
        (["EXPN all", "HELP", "AUTH PLAIN", "STARTTLS"], ["502 5.5.1"] * 4),
        (["", "GET / HTTP/1.1", "r\u017fet"], ["500 5.5.2"] * 3),
    ],
)
async def test_commands_are_answered(commands: list[str], replies: list[str]) -> None:
    async with listening(Inbound()) as listener, await Client.connect(listener) as client:
        await client.reply()

        assert [(await client.ask(command))[:9] for command in commands] == replies


async def test_a_command_that_ends_in_a_bare_lf_is_refused() -> None:
    async with listening(Inbound()) as listener, await Client.connect(listener) as client:
        await client.reply()
        client.send(b"NOOP\n")

        assert (await client.reply()).startswith("500 5.5.2")


async def test_a_bug_in_a_command_is_temporary_and_leaves_no_envelope_behind() -> None:
    answers = [RuntimeError("bug: é\r\n250 ok"), True]

    def has_room(size: int) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with capture_logs() as logs:
        async with (
            listening(Inbound(), hooks={"has_room": has_room}) as listener,
            await Client.greeted(listener) as client,
        ):
            codes = await client.asks("MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>")

    assert codes == ["451", "250"]
    assert [entry["event"] for entry in logs if entry["log_level"] != "info"] == ["smtp_command_failed"]


async def test_a_disk_without_room_is_told_at_mail() -> None:
    sizes = []

    def has_room(size: int) -> bool:
        sizes.append(size)
        return size < 1000

    async with (
        listening(Inbound(), hooks={"has_room": has_room}) as listener,
        await Client.greeted(listener) as client,
    ):
        assert (await client.ask("MAIL FROM:<a@b.example> SIZE=5000")).startswith("452 4.3.1")
        assert (await client.ask("MAIL FROM:<a@b.example>")).startswith("250 ")

    assert sizes == [5000, 0]


# Limits


async def test_who_speaks_before_the_greeting_is_turned_away() -> None:
    limits = {"greeting_delay": 0.1, "exempt_clients": ()}
    async with listening(Inbound(), **limits) as listener:
        async with await Client.connect(listener) as early:
            early.send(b"EHLO spam.example\r\nMAIL FROM:<spam@spam.example>\r\n")
            assert [line[:9] for line in (await early.rest()).splitlines()] == ["554 5.5.0"]
        async with await Client.greeted(listener) as patient:
            assert (await patient.mail(MAIL)).startswith("250 ")

        assert listener.counters.refusals == {"early_talker": 1, "554": 1}


async def test_twenty_thousand_recipients_end_the_session() -> None:
    async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")
        client.send(f"RCPT TO:<{UNIVERSAL}>\r\n".encode() * 20_000)
        codes = [line[:3] for line in (await client.rest()).splitlines()]

    assert codes.count("250") == 100
    assert codes.count("452") == 99
    assert codes[-1] == "421"


async def test_a_hundred_recipients_and_a_few_more_are_no_offence() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")
        codes = await client.asks(*[f"RCPT TO:<{UNIVERSAL}>"] * 150, "DATA")
        client.send(MAIL)
        assert (await client.reply()).startswith("250 ")

    assert codes == ["250"] * 100 + ["452"] * 50 + ["354"]
    assert len(inbound.taken[0].recipients) == 100


@pytest.mark.parametrize(
    ("command", "before"),
    [
        ("RCPT TO:<nobody@bcc.ourco.example>", 19),
        ("FOO", 19),
        ("NOOP", 98),
        ("VRFY anna", 98),
        ("EHLO c.example", 98),
    ],
)
async def test_errors_and_junk_end_the_session(command: str, before: int) -> None:
    async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")
        client.send(f"{command}\r\n".encode() * 3000)
        replies = [line[:3] for line in (await client.rest()).splitlines() if line[3] == " "]

    assert len(replies) == before + 2
    assert replies[-1] == "421"


async def test_a_message_taken_forgives_errors_and_junk() -> None:
    async with (
        listening(Inbound(), max_errors=3, max_junk_commands=5) as listener,
        await Client.greeted(listener) as client,
    ):
        for _ in range(5):
            assert await client.asks("RSET", "NOOP", "FOO") == ["250", "250", "500"]
            assert (await client.mail(MAIL)).startswith("250 ")


# Relays


RELAYS: dict[str, Any] = {"trusted_relays": (ip_network("127.0.0.0/8"),)}


async def test_a_trusted_relay_says_for_whom_it_speaks() -> None:
    inbound = Inbound()
    async with listening(inbound, **RELAYS) as listener, await Client.connect(listener) as client:
        await client.reply()
        offered = await client.ask("EHLO relay.example")
        said = "XCLIENT ADDR=192.0.2.7 HELO=client.example"
        answered = await client.asks(said, "MAIL FROM:<>", "EHLO relay.example")
        await client.mail(MAIL)
        await client.ask("XCLIENT ADDR=[UNAVAILABLE]")
        await client.ask("EHLO relay.example")
        await client.mail(MAIL)

    assert ("XCLIENT NAME ADDR" in offered, "XFORWARD NAME ADDR" in offered) == (True, True)
    assert answered == ["220", "503", "250"]
    found = [(each.client_address, each.helo, each.relay) for each in inbound.taken]
    assert found == [("192.0.2.7", "client.example", "127.0.0.1")] * 2


async def test_a_relay_may_say_it_for_one_message() -> None:
    inbound = Inbound()
    async with listening(inbound, **RELAYS) as listener, await Client.greeted(listener) as client:
        codes = await client.asks("XFORWARD NAME=client.example ADDR=192.0.2.7", "XFORWARD HELO=mail.example")
        await client.mail(MAIL)
        await client.mail(MAIL)

    assert codes == ["250", "250"]
    found = [(each.client_address, each.helo, each.relay) for each in inbound.taken]
    assert found == [("192.0.2.7", "mail.example", "127.0.0.1"), ("127.0.0.1", "client.example", "127.0.0.1")]


async def test_nobody_else_may() -> None:
    inbound = Inbound()
    relays = (ip_network("192.0.2.0/24"),)
    async with listening(inbound, trusted_relays=relays) as listener, await Client.connect(listener) as client:
        await client.reply()
        offered = await client.ask("EHLO x.example")
        codes = await client.asks("XCLIENT ADDR=192.0.2.7", "XFORWARD ADDR=192.0.2.7")
        await client.mail(MAIL)

    assert "XCLIENT" not in offered
    assert codes == ["550", "550"]
    assert [(each.client_address, each.relay) for each in inbound.taken] == [("127.0.0.1", "")]


async def test_nor_in_the_middle_of_a_message_nor_in_other_words() -> None:
    async with listening(Inbound(), **RELAYS) as listener, await Client.greeted(listener) as client:
        wrong = await client.asks("XCLIENT", "XCLIENT ADDR=here", "XCLIENT X=1")
        late = await client.asks("MAIL FROM:<>", "XCLIENT ADDR=192.0.2.7", "XFORWARD ADDR=::1")

    assert (wrong, late) == (["501", "501", "501"], ["250", "503", "503"])


async def test_limits_count_the_client_for_whom_a_relay_speaks() -> None:
    async with listening(Inbound(), max_connections_per_client=1, **RELAYS) as listener:
        async with await Client.greeted(listener) as one, await Client.greeted(listener) as two:
            assert (await one.ask("XCLIENT ADDR=192.0.2.7")).startswith("220 ")
            assert (await two.ask("XCLIENT ADDR=192.0.2.7")).startswith("421 ")
            assert listener.connections == 2
        assert listener.counters.refusals["max_connections_per_client"] == 1


async def proxied(listener: Listener, *pieces: bytes) -> Client:
    client = await Client.connect(listener)
    for piece in pieces:
        client.send(piece)
    return client


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n", "192.0.2.7"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\1\x0f\xa0\0\x19", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ],
)
async def test_behind_a_proxy_the_client_is_the_one_that_it_announces(header: bytes, address: str) -> None:
    inbound = Inbound()
    async with (
        listening(inbound, proxy_protocol=True, greeting_delay=0, **RELAYS) as listener,
        await proxied(listener, header[:7], header[7:]) as client,
    ):
        assert (await client.reply()).startswith("220 ")
        offered = await client.ask("EHLO client.example")
        await client.mail(MAIL)

    assert "XCLIENT" not in offered
    assert [(each.client_address, each.relay) for each in inbound.taken] == [(address, "")]


@pytest.mark.parametrize("header", [b"EHLO x.example\r\n", b"PROXY TCP4 x y 1 2\r\n", b"PROXY " + b"x" * 5_000])
async def test_a_connection_of_a_proxy_that_announces_nobody_is_cut(header: bytes) -> None:
    async with (
        listening(Inbound(), proxy_protocol=True, **RELAYS) as listener,
        await proxied(listener, header) as client,
    ):
        assert (await client.rest()).startswith("421 ")
        assert listener.counters.refusals["proxy_protocol"] == 1


async def test_whoever_speaks_too_early_behind_a_proxy_is_turned_away() -> None:
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\nEHLO x.example\r\n"
    async with (
        listening(Inbound(), proxy_protocol=True, greeting_delay=0.05, **RELAYS) as listener,
        await proxied(listener, header) as client,
    ):
        assert (await client.rest()).startswith("554 ")

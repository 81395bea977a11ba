"""The SMTP door: what it takes, what it refuses, and what no client can do to it (traps.md, S1 to S22)."""

import asyncio
import contextlib
import logging
import smtplib
import socket
import ssl
import struct
import subprocess
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.mail.delivery import NoSpace, Received, TemporaryFailure
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.listener import Listener, _Connection
from smtp.dialogue import CONFIG, PATIENCE, UNIVERSAL, Client, Inbound, listening

TEXT = b"From: anna@ourco.example\r\nTo: carla@client.example\r\nSubject: New roof\r\n\r\nHello.\r\n"
MAIL = TEXT + b".\r\n"
STARTED = ["HELO c", "MAIL FROM:<a@b.example>"]


# What is taken


async def test_a_message_is_taken_with_its_envelope_and_answered_with_250() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        before = datetime.now(UTC)
        reply = await client.mail(MAIL, recipients=[UNIVERSAL, "OurCo+Deal61@bcc.ourco.example"])

    [received] = inbound.taken
    assert reply.startswith("250 2.")
    assert received.raw == TEXT
    assert received.sender == "anna@ourco.example"
    assert received.recipients == (UNIVERSAL, "OurCo+Deal61@bcc.ourco.example")
    assert (received.client_address, received.helo, received.tls) == ("127.0.0.1", "client.example", False)
    assert timedelta(0) <= received.received_at - before < timedelta(seconds=PATIENCE)


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


async def test_one_session_carries_many_messages_and_the_null_sender() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        replies = [await client.mail(MAIL, sender=sender) for sender in ("anna@ourco.example", "", "b@c.example")]
        assert (await client.ask("QUIT")).startswith("221 2.0.0")
        assert await client.reply() == ""

    assert [reply[:3] for reply in replies] == ["250"] * 3
    assert [received.sender for received in inbound.taken] == ["anna@ourco.example", "", "b@c.example"]


async def test_pipelined_commands_are_answered_in_order() -> None:
    inbound = Inbound()
    envelope = (
        f"MAIL FROM:<a@b.example>\r\nRCPT TO:<no@bcc.ourco.example>\r\nRCPT TO:<{UNIVERSAL}>\r\nDATA\r\n".encode()
    )
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        client.send(envelope)
        codes = [(await client.reply())[:3] for _ in range(4)]
        client.send(MAIL + envelope)
        codes += [(await client.reply())[:3] for _ in range(5)]
        client.send(MAIL + b"NOOP\r\nQUIT\r\n")
        codes += [(await client.reply())[:3] for _ in range(3)]

    assert codes == ["250", "550", "250", "354", "250", "250", "550", "250", "354", "250", "250", "221"]
    assert [received.raw for received in inbound.taken] == [TEXT, TEXT]


async def test_a_whole_session_sent_in_one_go_by_a_client_that_closes_its_side_is_answered() -> None:
    """As `printf … | nc -N` does."""
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.connect(listener) as client:
        client.send(
            f"HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<{UNIVERSAL}>\r\nDATA\r\n".encode() + MAIL + b"QUIT\r\n"
        )
        client.writer.write_eof()
        replies = await client.rest()

    assert [reply[:3] for reply in replies.splitlines()] == ["220", "250", "250", "250", "354", "250", "221"]
    assert len(inbound.taken) == 1


async def test_a_session_split_at_every_octet_is_the_same_session() -> None:
    session = (
        f"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<{UNIVERSAL}>\r\nDATA\r\n".encode()
        + b"S: x\r\n\r\n.\x2e\r\n..a\r\n.\r\nRSET\r\nQUIT\r\n"
    )
    inbound = Inbound()
    outcomes = set()
    async with listening(inbound) as listener:
        for at in range(1, len(session)):
            async with await Client.connect(listener) as client:
                client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.send(session[:at])
                await client.writer.drain()
                await client.reply()  # the greeting: by now the first part is on its way alone
                client.send(session[at:])
                outcomes.add(await client.rest())

    assert len(outcomes) == 1
    assert {received.raw for received in inbound.taken} == {b"S: x\r\n\r\n.\r\n.a\r\n"}
    assert len(inbound.taken) == len(session) - 1


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


# Commands


async def test_ehlo_lists_what_we_do_and_nothing_else(tls: "Certificate") -> None:
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


async def test_a_command_line_without_end_is_cut_off() -> None:
    async with listening(Inbound()) as listener, await Client.connect(listener) as client:
        await client.reply()
        client.send(b"X" * 4096)

        assert (await client.rest()).startswith("500 5.5.2")


async def test_nothing_grows_with_the_number_of_connections(tls: "Certificate") -> None:
    """The library adds 26 octets to a limit of the class with every EHLO, and lets each connection reset it (S16)."""
    async with listening(Inbound()) as listener:
        for _ in range(3):
            async with await Client.greeted(listener) as client:
                for _ in range(3):
                    await client.ask("EHLO c.example")
                assert (await client.ask("MAIL FROM:<a@b.example> " + " " * 1000 + "SIZE=1")).startswith("250 ")
                client.send(b"MAIL FROM:<" + b"a" * 2100 + b"\r\n")
                assert (await client.rest()).startswith("500 5.5.2")


# DATA


@pytest.mark.parametrize(
    "end",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r\r\n.\r\r\n",
        b"\n\n.\r\n",
        b"\r\n\n.\r\n",
    ],
)
async def test_no_second_message_can_be_smuggled(end: bytes) -> None:
    smuggled = f"MAIL FROM:<boss@ourco.example>\r\nRCPT TO:<{UNIVERSAL}>\r\nDATA\r\n".encode() + MAIL
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await client.begin()
        client.send(TEXT.removesuffix(b"\r\n") + end + smuggled)
        replies = await client.rest()

    assert replies == "554 5.6.0 Bare CR or LF in the message\r\n"
    assert inbound.taken == []


async def test_a_message_that_is_too_large_is_refused_at_its_end_and_the_session_goes_on() -> None:
    inbound = Inbound()
    async with listening(inbound, max_message_size=1000) as listener, await Client.greeted(listener) as client:
        exact = b"x" * 498 + b"\r\n" + b"y" * 498 + b"\r\n"
        replies = [
            await client.mail(exact + b".\r\n"),
            await client.mail(exact + b"z\r\n.\r\n"),
            await client.mail(MAIL),
        ]

    assert [reply[:9] for reply in replies] == ["250 2.0.0", "552 5.3.4", "250 2.0.0"]
    assert [received.raw for received in inbound.taken] == [exact, TEXT]


async def test_a_message_twice_too_large_is_not_read_to_its_end() -> None:
    inbound = Inbound()
    async with listening(inbound, max_message_size=1000) as listener, await Client.greeted(listener) as client:
        await client.begin()
        client.send(b"x" * 500 + b"\r\n" + b"y" * 2000)

        assert await client.rest() == "552 5.3.4 Message too large\r\n"
    assert inbound.taken == []


async def test_long_lines_are_taken_up_to_64_kib() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        longest = b"x" * 65536 + b"\r\n"
        replies = [
            await client.mail(longest + b".\r\n"),
            await client.mail(b"x" + longest + b".\r\n"),
            await client.mail(MAIL),
        ]

    assert [reply[:9] for reply in replies] == ["250 2.0.0", "554 5.6.0", "250 2.0.0"]
    assert [received.raw for received in inbound.taken] == [longest, TEXT]


async def test_a_large_message_arrives_whole() -> None:
    text = b"".join(b"%08d" % number + b"x" * 70 + b"\r\n" for number in range(50_000))
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        assert (await client.mail(text + b".\r\n")).startswith("250 ")

    assert inbound.taken[0].raw == text


async def test_clients_that_send_without_end_cost_no_memory(tmp_path: Path) -> None:
    """S1: 30 MB without a line end, from each of 20 clients."""

    async def flood(listener: Listener) -> str:
        async with await Client.greeted(listener) as client:
            await client.begin()
            with contextlib.suppress(ConnectionError):
                for _ in range(30):
                    client.send(b"x" * 1_000_000)
                    await client.writer.drain()
            return await client.rest()

    async with listening(Inbound(), max_message_size=10_000_000, spool_directory=tmp_path) as listener:
        before = _resident()
        async with asyncio.timeout(60):
            replies = await asyncio.gather(*(flood(listener) for _ in range(20)))
        grown = _resident() - before

    assert {reply[:3] for reply in replies} <= {"552", ""}
    assert grown < 20_000_000 + 20 * 1_000_000  # the clients' own buffers are in this process, too


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_a_message_that_went_round_too_often_is_refused() -> None:
    inbound = Inbound()
    async with listening(inbound, max_hops=3) as listener, await Client.greeted(listener) as client:
        assert (await client.mail(b"X: y\r\n" + b"Received: a\r\n" * 3 + MAIL)).startswith("250 ")
        assert (await client.mail(b"X: y\r\n" + b"RECEIVED: a\r\n" * 4 + MAIL)).startswith("554 5.4.6")


# BDAT


async def bdat(client: Client, *chunks: bytes) -> list[str]:
    """Sends a message in chunks, the last one marked, all in one go; the codes of the replies."""
    for number, chunk in enumerate(chunks, start=1):
        client.send(b"BDAT %d%s\r\n%b" % (len(chunk), b" LAST" if number == len(chunks) else b"", chunk))
    return [(await client.reply())[:9] for _ in chunks]


async def enveloped(client: Client) -> None:
    assert await client.asks("MAIL FROM:<anna@ourco.example>", f"RCPT TO:<{UNIVERSAL}>") == ["250", "250"]


@pytest.mark.parametrize(
    "chunks",
    [
        [TEXT],
        [TEXT, b""],
        [b"", TEXT],
        [TEXT[:40], TEXT[40:]],
        [TEXT[:-1], TEXT[-1:]],
        [TEXT[at : at + 1] for at in range(len(TEXT))],
        [b"S: x\r\n\r\n.\r\n..\r\nQUIT\r\n"],
    ],
)
async def test_a_message_may_come_in_chunks(chunks: list[bytes]) -> None:
    """RFC 3030: octets as they are, dots and all, pipelined."""
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        codes = await bdat(client, *chunks)
        assert (await client.mail(MAIL)).startswith("250 ")

    assert set(codes) == {"250 2.0.0"}
    assert [received.raw for received in inbound.taken] == [b"".join(chunks), TEXT]


async def test_a_whole_session_with_chunks_split_at_every_octet_is_the_same_session() -> None:
    session = (
        f"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<{UNIVERSAL}>\r\n".encode()
        + b"BDAT 9\r\nS: x\r\n\r\n\r"
        + b"BDAT 4 LAST\r\n\n.\r\nNOOP\r\nQUIT\r\n"
    )
    inbound = Inbound()
    outcomes = set()
    async with listening(inbound) as listener:
        for at in range(1, len(session)):
            async with await Client.connect(listener) as client:
                client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.send(session[:at])
                await client.writer.drain()
                await client.reply()
                client.send(session[at:])
                outcomes.add(await client.rest())

    assert len(outcomes) == 1
    assert {received.raw for received in inbound.taken} == {b"S: x\r\n\r\n\r\n.\r\n"}
    assert len(inbound.taken) == len(session) - 1


async def test_chunks_that_are_not_wanted_are_read_and_refused() -> None:
    """What is in them is no command, whatever it looks like."""
    evil = b"MAIL FROM:<evil@evil.example>\r\n"
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        assert await bdat(client, evil, evil) == ["503 5.5.1"] * 2
        await enveloped(client)
        client.send(b"BDAT 3\r\nS: RSET\r\nBDAT %d LAST\r\n%b" % (len(evil), evil))
        codes = [(await client.reply())[:9] for _ in range(3)]
        assert await client.asks(f"RCPT TO:<{UNIVERSAL}>", "DATA") == ["503", "503"]

    assert codes == ["250 2.0.0", "250 2.0.0", "503 5.5.1"]
    assert inbound.taken == []


async def test_data_and_new_recipients_have_no_place_between_chunks() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        client.send(b"BDAT %d\r\n%b" % (len(TEXT), TEXT))
        await client.reply()
        codes = await client.asks("DATA", f"RCPT TO:<{UNIVERSAL}>", "MAIL FROM:<>", "NOOP", "BDAT 0 LAST")

    assert codes == ["503", "503", "503", "250", "250"]
    assert [received.raw for received in inbound.taken] == [TEXT]


async def test_a_message_in_chunks_has_the_same_limits() -> None:
    inbound = Inbound()
    async with listening(inbound, max_message_size=100_000) as listener, await Client.greeted(listener) as client:
        line = b"x" * 498 + b"\r\n"
        await enveloped(client)
        too_large = await bdat(client, line * 100, line * 101, b"MAIL FROM:<>")
        await enveloped(client)
        too_long = await bdat(client, b"x" * 65537, b"\r\n")
        await enveloped(client)
        exact = await bdat(client, line * 100, line * 100)
        await enveloped(client)
        client.send(b"BDAT 200001\r\n")
        assert await client.rest() == "552 5.3.4 Message too large\r\n"

    assert too_large == ["250 2.0.0", "552 5.3.4", "503 5.5.1"]
    assert too_long == ["554 5.6.0", "503 5.5.1"]
    assert exact == ["250 2.0.0", "250 2.0.0"]
    assert [len(received.raw) for received in inbound.taken] == [100_000]


@pytest.mark.parametrize("chunks", [[b"a\n"], [b"a\rb"], [b"a\r", b"b"], [b"a\r", b"", b"\r\n"], [b"a\r\n\r"]])
async def test_a_bare_cr_or_lf_in_chunks_ends_the_session(chunks: list[bytes]) -> None:
    inbound = Inbound()
    async with listening(inbound) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        for number, chunk in enumerate(chunks, start=1):
            client.send(b"BDAT %d%b\r\n%b" % (len(chunk), b" LAST" if number == len(chunks) else b"", chunk))

        assert (await client.rest()).splitlines()[-1] == "554 5.6.0 Bare CR or LF in the message"
    assert inbound.taken == []


@pytest.mark.parametrize("argument", ["", "x", "-1", "1 FIRST", "1 LAST x", "9" * 21, "٣"])
async def test_a_chunk_of_unknown_length_ends_the_session(argument: str) -> None:
    """Whatever follows might be taken for commands."""
    async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        client.send(f"BDAT {argument}\r\nNOOP\r\n".encode())

        assert [line[:9] for line in (await client.rest()).splitlines()] == ["501 5.5.4"]


async def test_chunks_of_nothing_are_junk_and_slow_ones_are_cut() -> None:
    async with listening(Inbound(), max_junk_commands=5) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        client.send(b"BDAT 0\r\n" * 10)
        assert (await client.rest()).splitlines()[-1].startswith("421 4.7.0")
    async with listening(Inbound(), data_grace=0.2) as listener, await Client.greeted(listener) as client:
        await enveloped(client)
        assert "421 4.4.2" in await _drip(client, b"BDAT 1\r\nx" * 100, every=0.02, size=9)
        assert listener.refusals["min_data_rate"] == 1


# Failures of ours, and clients that leave


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


async def test_a_full_disk_under_the_spool_is_temporary(tmp_path: Path) -> None:
    async with (
        listening(Inbound(), spool_directory=tmp_path / "absent") as listener,
        await Client.greeted(listener) as client,
    ):
        assert (await client.mail(b"x" * 70 + b"\r\n" + b"y" * 60_000 + b"\r\n" * 150_000 + b".\r\n")).startswith(
            "452 4.3.1"
        )
        assert (await client.mail(MAIL)).startswith("250 ")


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
            await _until(lambda: listener.connections == 0)
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


async def test_a_client_that_leaves_before_the_dot_leaves_nothing() -> None:
    inbound = Inbound()
    async with listening(inbound) as listener:
        for cut in range(len(MAIL)):
            client = await Client.greeted(listener)
            await client.begin()
            client.send(MAIL[:cut])
            await client.close()
        await listener.stop(drain=PATIENCE)

    assert inbound.taken == []


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
    assert listener.refusals["author"] == 1


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
        assert listener.refusals["max_connections_per_client"] == 1


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
        assert listener.refusals["proxy_protocol"] == 1


async def test_whoever_speaks_too_early_behind_a_proxy_is_turned_away() -> None:
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\nEHLO x.example\r\n"
    async with (
        listening(Inbound(), proxy_protocol=True, greeting_delay=0.05, **RELAYS) as listener,
        await proxied(listener, header) as client,
    ):
        assert (await client.rest()).startswith("554 ")


# Limits


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


async def test_connections_above_the_limits_are_told_421_and_counted() -> None:
    limits = {"max_connections": 4, "max_connections_per_client": 2, "exempt_clients": ()}
    async with listening(Inbound(), **limits) as listener:
        async with await Client.greeted(listener), await Client.greeted(listener):
            async with await Client.connect(listener) as third:
                assert (await third.rest()).startswith("421 4.7.0 mx.ourco.example")
            assert listener.connections == 2
        await _until(lambda: listener.connections == 0)
        async with await Client.greeted(listener):
            assert listener.refusals["max_connections_per_client"] == 1

    async with listening(Inbound(), max_connections=1) as listener, await Client.greeted(listener):
        async with await Client.connect(listener) as second:
            assert (await second.rest()).startswith("421 4.7.0 mx.ourco.example")
        assert listener.refusals["max_connections"] == 1


async def _until(condition: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


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
    monkeypatch.setattr("maillinkd.smtp.listener.asyncio.sleep", note)
    loop = asyncio.get_running_loop()
    delays = []
    async with listening(Inbound(), refusal_delay=10.0) as listener, await Client.greeted(listener) as client:
        await client.ask("MAIL FROM:<>")
        for name in ("quick", "slow"):
            began = loop.time()
            await client.ask(f"RCPT TO:<{name}@bcc.ourco.example>")
            delays.append(slept.pop() - began)

    assert delays == pytest.approx([10.0, 10.0], abs=0.04)


async def test_who_speaks_before_the_greeting_is_turned_away() -> None:
    limits = {"greeting_delay": 0.1, "exempt_clients": ()}
    async with listening(Inbound(), **limits) as listener:
        async with await Client.connect(listener) as early:
            early.send(b"EHLO spam.example\r\nMAIL FROM:<spam@spam.example>\r\n")
            assert [line[:9] for line in (await early.rest()).splitlines()] == ["554 5.5.0"]
        async with await Client.greeted(listener) as patient:
            assert (await patient.mail(MAIL)).startswith("250 ")

        assert listener.refusals == {"early_talker": 1, "554": 1}


async def test_where_places_are_short_the_longest_staller_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that connect and wait, or drip a message, keep nobody out; one that gets on keeps its place."""
    monkeypatch.setattr("maillinkd.smtp.listener.STALLED", 0.2)
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
        await _until(lambda: listener.connections == 0)


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


# Time


async def test_a_client_that_says_nothing_is_told_so() -> None:
    async with listening(Inbound(), idle_timeout=0.1) as listener, await Client.greeted(listener) as client:
        assert (await client.rest()).startswith("421 4.4.2")


async def test_a_client_that_drips_a_command_is_idle() -> None:
    async with listening(Inbound(), idle_timeout=0.3) as listener, await Client.greeted(listener) as client:
        assert (await _drip(client, b"NOOP" * 100, every=0.02)).startswith("421 4.4.2")


async def test_a_session_ends_however_busy_it_is() -> None:
    async with (
        listening(Inbound(), session_timeout=0.3, max_junk_commands=10_000) as listener,
        await Client.greeted(listener) as client,
    ):
        assert "421 4.4.2" in await _drip(client, b"NOOP\r\n" * 100, every=0.01)


async def test_a_sender_that_is_too_slow_is_cut_and_a_slow_one_is_not() -> None:
    inbound = Inbound()
    slow = {"data_timeout": 5.0, "data_grace": 0.3, "min_data_rate": 500.0}
    async with listening(inbound, **slow) as listener:
        async with await Client.greeted(listener) as client:
            await client.begin()
            assert (await _drip(client, MAIL * 100, every=0.01)).startswith("421 4.4.2")
        async with await Client.greeted(listener) as client:
            await client.begin()
            for _ in range(40):  # twice the grace, at 2,000 octets a second
                client.send(b"x" * 38 + b"\r\n")
                await asyncio.sleep(0.02)
            client.send(b".\r\n")
            assert (await client.reply()).startswith("250 ")

    assert len(inbound.taken) == 1


async def test_a_sender_that_stops_in_mid_message_is_cut() -> None:
    async with listening(Inbound(), data_timeout=0.1) as listener, await Client.greeted(listener) as client:
        await client.begin()
        client.send(TEXT)

        assert (await client.rest()).startswith("421 4.4.2")


async def test_a_message_has_an_end_in_time_however_fast_it_comes() -> None:
    async with listening(Inbound(), data_total_timeout=0.3) as listener, await Client.greeted(listener) as client:
        await client.begin()

        assert (await _drip(client, (b"x" * 500 + b"\r\n") * 300, every=0.01, size=502)).startswith("421 4.4.2")


async def test_a_client_that_never_reads_is_cut_off() -> None:
    """S5: closing would wait for it for ever."""
    async with listening(Inbound(), idle_timeout=0.3, max_junk_commands=10**9) as listener:
        host, port = listener.addresses[0]
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (host, port))
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    while True:
                        await loop.sock_sendall(deaf, b"NOOP\r\n" * 10_000)
            await _until(lambda: listener.connections == 0)


async def _drip(client: Client, octets: bytes, *, every: float, size: int = 1) -> str:
    """Sends a little at a time until the listener has had enough; returns what it said."""
    answer = asyncio.create_task(client.rest())
    for start in range(0, len(octets), size):
        client.send(octets[start : start + size])
        if (await asyncio.wait([answer], timeout=every))[0]:
            break
    return await answer


# Start and stop


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


async def test_sockets_that_are_bound_already_are_listened_on() -> None:
    ready = socket.create_server(("127.0.0.1", 0))
    inbound = Inbound()
    listener = Listener(CONFIG, inbound)
    await listener.start([ready])
    try:
        assert ready.getsockname() in listener.addresses
        reader, writer = await asyncio.open_connection(*ready.getsockname())
        async with Client(reader, writer) as client:
            assert (await client.reply()).startswith("220 ")
    finally:
        await listener.stop(drain=0.1)


async def test_an_address_that_is_taken_fails_and_leaves_no_port_open() -> None:
    async with listening(Inbound()) as listener:
        host, port = listener.addresses[0]
        other = Listener(replace(CONFIG, listen=(("127.0.0.1", 0), (host, port))), Inbound())
        with pytest.raises(OSError):
            await other.start()

        assert other.addresses == ()


async def test_no_attribute_of_ours_hides_one_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that both use is a fault that shows under load alone, and any release may bring one."""
    written: Counter[str] = Counter()

    def write(self: object, name: str, value: object) -> None:
        written[name] += 1
        object.__setattr__(self, name, value)

    monkeypatch.setattr(_Connection, "__setattr__", write, raising=False)
    _Connection(Listener(CONFIG, Inbound()))

    assert {name for name, times in written.items() if times > 1} == set()


def test_the_library_never_logs_what_clients_say() -> None:
    async def session() -> None:
        async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
            await client.mail(MAIL)

    asyncio.run(session())

    assert logging.getLogger("mail.log").level == logging.WARNING


# TLS


class Certificate:
    """A self-signed certificate for mx.ourco.example, and a client's context that trusts it."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.renew()

    def renew(self) -> None:
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=mx.ourco.example"
        )
        extension = ["-addext", "subjectAltName=DNS:mx.ourco.example"]
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run([*command.split(), *extension, *files], check=True, capture_output=True)

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def listening(self, inbound: Inbound) -> contextlib.AbstractAsyncContextManager[Listener]:
        return listening(inbound, tls_certificate=self.certificate, tls_key=self.key)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


async def test_a_message_is_taken_under_tls(tls: Certificate) -> None:
    inbound = Inbound()
    large = TEXT + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * 20_000
    async with tls.listening(inbound) as listener, await Client.greeted(listener) as client:
        assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
        await client.start_tls(tls.trusted)
        assert await client.asks("MAIL FROM:<>", "EHLO client.example", "STARTTLS") == ["503", "250", "502"]
        assert (await client.mail(large + b".\r\n")).startswith("250 ")
        assert (await client.ask("QUIT")).startswith("221 ")

    assert (inbound.taken[0].raw, inbound.taken[0].tls) == (large, True)


async def test_what_is_injected_before_the_handshake_is_forgotten(tls: Certificate) -> None:
    """CVE-2024-34083: commands that follow STARTTLS in the clear, and an envelope from before."""
    inbound = Inbound()
    async with tls.listening(inbound) as listener, await Client.greeted(listener) as client:
        await client.asks("MAIL FROM:<evil@evil.example>", f"RCPT TO:<{UNIVERSAL}>")
        client.send(b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nRSET\r\n")
        assert (await client.reply()).startswith("220 ")
        await client.start_tls(tls.trusted)

        assert (await client.ask(f"RCPT TO:<{UNIVERSAL}>")).startswith("503 ")
        assert (await client.ask("NOOP")).startswith("250 ")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_and_no_tls_at_all_end_the_connection_and_nothing_else(tls: Certificate) -> None:
    old = tls.trusted
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with tls.listening(Inbound()) as listener:
        assert listener.tls
        assert listener.tls.minimum_version == ssl.TLSVersion.TLSv1_2
        async with await Client.greeted(listener) as client:
            await client.ask("STARTTLS")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.start_tls(old)
        async with await Client.greeted(listener) as client:
            await client.ask("STARTTLS")
            client.send(b"NOOP\r\n" * 10)
            assert "250" not in await _raw_rest(client)
        async with await Client.greeted(listener) as client:
            assert (await client.ask("NOOP")).startswith("250 ")
        await _until(lambda: listener.connections == 0)


async def _raw_rest(client: Client) -> str:
    async with asyncio.timeout(PATIENCE):
        try:
            return (await client.reader.read()).decode("latin-1")
        except ConnectionResetError:
            return ""


async def test_a_renewed_certificate_is_used_by_itself_and_a_broken_one_is_not(tls: Certificate) -> None:
    async def serial(listener: Listener) -> object:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with await Client.greeted(listener) as client:
            await client.ask("STARTTLS")
            await client.start_tls(context)
            return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async with tls.listening(Inbound()) as listener:
        old = await serial(listener)
        tls.renew()
        new = await serial(listener)
        good = tls.certificate.read_bytes()
        tls.certificate.write_bytes(b"no certificate")
        with capture_logs() as logs:
            assert await serial(listener) == await serial(listener) == new != old
        with pytest.raises(OSError):
            listener.reconfigure(listener.config)
        tls.certificate.unlink()
        assert await serial(listener) == new
        tls.certificate.write_bytes(good)
        assert await serial(listener) == new

    # Once for each change, not once a client.
    assert [entry["event"] for entry in logs if entry["event"].startswith("smtp_certificate_not")] == [
        "smtp_certificate_not_read"
    ]


async def test_another_configuration_holds_for_later_connections(tls: Certificate) -> None:
    async with listening(Inbound(), max_message_size=1000) as listener, await Client.greeted(listener) as early:
        files = {"tls_certificate": tls.certificate, "tls_key": tls.key}
        listener.reconfigure(replace(listener.config, max_message_size=2000, **files))
        with pytest.raises(OSError):
            listener.reconfigure(replace(listener.config, max_message_size=3000, tls_key=tls.key.with_name("absent")))
        with pytest.raises(ValueError):
            listener.reconfigure(replace(listener.config, max_message_size=3000, exempt_clients=("all",)))

        async with await Client.connect(listener) as late:
            await late.reply()
            assert "SIZE 2000\n250-STARTTLS" in await late.ask("EHLO c.example")
        assert (await early.ask("MAIL FROM:<> SIZE=1500")).startswith("552 ")


async def test_stopping_ends_sessions_under_tls(tls: Certificate) -> None:
    async with tls.listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await client.ask("STARTTLS")
        await client.start_tls(tls.trusted)
        await client.ask("EHLO c.example")
        stopping = asyncio.create_task(listener.stop(drain=PATIENCE))

        assert (await client.rest()).startswith("421 4.3.2")
        await client.close()
        await asyncio.wait_for(stopping, PATIENCE)

"""Messages by DATA and BDAT: what is taken, what is refused, what no client can do by them (traps.md, S1 to S12)."""

import asyncio
import contextlib
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from maillinkd.smtp.data import ChunkDecoder
from maillinkd.smtp.listener import Listener
from maillinkd.smtp.receiving import LINE_OCTETS, _Transfer
from maillinkd.smtp.spool import Spool
from smtp.dialogue import MAIL, PATIENCE, TEXT, UNIVERSAL, Client, Inbound, drip, listening

# DATA


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


async def test_a_full_disk_under_the_spool_is_temporary(tmp_path: Path) -> None:
    async with (
        listening(Inbound(), spool_directory=tmp_path / "absent") as listener,
        await Client.greeted(listener) as client,
    ):
        assert (await client.mail(b"x" * 70 + b"\r\n" + b"y" * 60_000 + b"\r\n" * 150_000 + b".\r\n")).startswith(
            "452 4.3.1"
        )
        assert (await client.mail(MAIL)).startswith("250 ")


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


@pytest.mark.parametrize("excess", [b"x" * 101, b"x" * 70_000])
def test_of_a_message_that_is_refused_nothing_is_kept(excess: bytes) -> None:
    most = 100 if len(excess) < LINE_OCTETS else 100_000
    transfer = _Transfer(Spool(), ChunkDecoder(), most=most, began=0.0)
    transfer.feed(b"S: x\r\n")
    assert transfer.spool.read() == b"S: x\r\n"

    transfer.feed(excess)
    transfer.feed(b"\r\n")

    assert (transfer.octets, transfer.spool.read()) == (len(excess) + 8, b"")


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
        assert "421 4.4.2" in await drip(client, b"BDAT 1\r\nx" * 100, every=0.02, size=9)
        assert listener.counters.refusals["min_data_rate"] == 1


# Time


async def test_a_sender_that_is_too_slow_is_cut_and_a_slow_one_is_not() -> None:
    inbound = Inbound()
    slow = {"data_timeout": 5.0, "data_grace": 0.3, "min_data_rate": 500.0}
    async with listening(inbound, **slow) as listener:
        async with await Client.greeted(listener) as client:
            await client.begin()
            assert (await drip(client, MAIL * 100, every=0.01)).startswith("421 4.4.2")
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

        assert (await drip(client, (b"x" * 500 + b"\r\n") * 300, every=0.01, size=502)).startswith("421 4.4.2")

"""Octets, replies, deadlines and TLS: what clients do to a connection (traps.md, S4 to S22)."""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter

import pytest

from maillinkd.smtp.connection import Connection
from maillinkd.smtp.conversation import Conversation
from maillinkd.smtp.door import Door
from maillinkd.smtp.receiving import Receiving
from smtp.dialogue import CONFIG, MAIL, PATIENCE, TEXT, UNIVERSAL, Client, Inbound, SelfSigned, drip, listening, until

# Reading and replying


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


async def test_a_command_line_without_end_is_cut_off() -> None:
    async with listening(Inbound()) as listener, await Client.connect(listener) as client:
        await client.reply()
        client.send(b"X" * 4096)

        assert (await client.rest()).startswith("500 5.5.2")


async def test_nothing_grows_with_the_number_of_connections(tls: SelfSigned) -> None:
    """The library adds 26 octets to a limit of the class with every EHLO, and lets each connection reset it (S16)."""
    async with listening(Inbound()) as listener:
        for _ in range(3):
            async with await Client.greeted(listener) as client:
                for _ in range(3):
                    await client.ask("EHLO c.example")
                assert (await client.ask("MAIL FROM:<a@b.example> " + " " * 1000 + "SIZE=1")).startswith("250 ")
                client.send(b"MAIL FROM:<" + b"a" * 2100 + b"\r\n")
                assert (await client.rest()).startswith("500 5.5.2")


async def test_no_attribute_of_ours_hides_one_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that both use is a fault that shows under load alone, and any release may bring one."""
    written: Counter[str] = Counter()

    def write(self: object, name: str, value: object) -> None:
        written[name] += 1
        object.__setattr__(self, name, value)

    monkeypatch.setattr(Conversation, "__setattr__", write, raising=False)
    Conversation(Door(CONFIG, Inbound()))

    assert {name for name, times in written.items() if times > 1} == set()


def test_no_method_of_ours_replaces_one_of_the_library_unawares() -> None:
    library = set(dir(Connection.__mro__[1]))
    ours = {name for each in (Connection, Receiving, Conversation) for name in vars(each)}

    assert {name for name in ours & library if not name.startswith(("__", "smtp_"))} == {
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "_handle_client",
        "_reset_timeout",
        "_set_rset_state",
        "_timeout_cb",
    }


def test_every_command_of_the_library_is_replaced() -> None:
    """What it would do with AUTH or EXPN was not made for strangers."""
    library = {name for name in dir(Connection.__mro__[1]) if name.startswith("smtp_")}

    assert library - vars(Conversation).keys() - vars(Receiving).keys() == set()


# Time


async def test_a_client_that_says_nothing_is_told_so() -> None:
    async with listening(Inbound(), idle_timeout=0.1) as listener, await Client.greeted(listener) as client:
        assert (await client.rest()).startswith("421 4.4.2")


async def test_a_client_that_drips_a_command_is_idle() -> None:
    async with listening(Inbound(), idle_timeout=0.3) as listener, await Client.greeted(listener) as client:
        assert (await drip(client, b"NOOP" * 100, every=0.02)).startswith("421 4.4.2")


async def test_a_session_ends_however_busy_it_is() -> None:
    async with (
        listening(Inbound(), session_timeout=0.3, max_junk_commands=10_000) as listener,
        await Client.greeted(listener) as client,
    ):
        assert "421 4.4.2" in await drip(client, b"NOOP\r\n" * 100, every=0.01)


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
            await until(lambda: listener.connections == 0)


# TLS


async def test_a_message_is_taken_under_tls(tls: SelfSigned) -> None:
    inbound = Inbound()
    large = TEXT + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * 20_000
    async with tls.listening(inbound) as listener, await Client.greeted(listener) as client:
        assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
        await client.start_tls(tls.trusted)
        assert await client.asks("MAIL FROM:<>", "EHLO client.example", "STARTTLS") == ["503", "250", "502"]
        assert (await client.mail(large + b".\r\n")).startswith("250 ")
        assert (await client.ask("QUIT")).startswith("221 ")

    assert (inbound.taken[0].raw, inbound.taken[0].tls) == (large, True)


async def test_what_is_injected_before_the_handshake_is_forgotten(tls: SelfSigned) -> None:
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
async def test_old_tls_and_no_tls_at_all_end_the_connection_and_nothing_else(tls: SelfSigned) -> None:
    old = tls.trusted
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with tls.listening(Inbound()) as listener:
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
        await until(lambda: listener.connections == 0)


async def _raw_rest(client: Client) -> str:
    async with asyncio.timeout(PATIENCE):
        try:
            return (await client.reader.read()).decode("latin-1")
        except ConnectionResetError:
            return ""


async def test_stopping_ends_sessions_under_tls(tls: SelfSigned) -> None:
    async with tls.listening(Inbound()) as listener, await Client.greeted(listener) as client:
        await client.ask("STARTTLS")
        await client.start_tls(tls.trusted)
        await client.ask("EHLO c.example")
        stopping = asyncio.create_task(listener.stop(drain=PATIENCE))

        assert (await client.rest()).startswith("421 4.3.2")
        await client.close()
        await asyncio.wait_for(stopping, PATIENCE)

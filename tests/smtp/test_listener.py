"""Sockets: where it listens, and with which configuration."""

import asyncio
import logging
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from maillinkd.smtp.listener import Listener
from smtp.dialogue import CONFIG, MAIL, Client, Inbound, SelfSigned, listening


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


def test_who_does_not_listen_does_not_load_the_library() -> None:
    """Commands, and a daemon without Smart Bcc, start the sooner."""
    program = "import sys, maillinkd.app; print(sorted({'aiosmtpd', 'maillinkd.smtp.config'} & sys.modules.keys()))"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert printed == "[]\n"


def test_the_library_never_logs_what_clients_say() -> None:
    """At INFO it logs addresses, at DEBUG whole lines of mail."""
    logging.getLogger("mail.log").setLevel(logging.DEBUG)

    async def session() -> None:
        async with listening(Inbound()) as listener, await Client.greeted(listener) as client:
            await client.mail(MAIL)

    asyncio.run(session())

    assert logging.getLogger("mail.log").level == logging.WARNING


async def test_another_configuration_holds_for_later_connections(tls: SelfSigned) -> None:
    async with listening(Inbound(), max_message_size=1000) as listener, await Client.greeted(listener) as early:
        new = replace(CONFIG, max_message_size=2000, tls_certificate=tls.certificate, tls_key=tls.key)
        listener.reconfigure(new)
        with pytest.raises(OSError):
            listener.reconfigure(replace(new, max_message_size=3000, tls_key=tls.key.with_name("absent")))
        with pytest.raises(ValueError):
            listener.reconfigure(replace(new, max_message_size=3000, exempt_clients=("all",)))

        async with await Client.connect(listener) as late:
            await late.reply()
            assert "SIZE 2000\n250-STARTTLS" in await late.ask("EHLO c.example")
        assert (await early.ask("MAIL FROM:<> SIZE=1500")).startswith("552 ")

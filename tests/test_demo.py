"""The demo's mailbox is lifelike, its items resolve, and its server does what a client asks of it."""

import asyncio
import gc
import imaplib
import json
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header
from email.utils import getaddresses, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from maillinkd import demo

APPENDED = b"From: Carla Client <carla@client.example>\r\nTo: anna@ourco.example\r\nSubject: Hello\r\n\r\nHello\r\n"


def sample() -> list[demo.SampleMail]:
    return [mail for path in demo.mail_files().values() for mail in demo.read_mbox(path)]


def items() -> list[dict[str, object]]:
    return [json.loads(line) for line in demo.items_file().read_text(encoding="utf-8").splitlines()]


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    async with demo.serve(port=0) as address:
        yield address


async def visit(server: tuple[str, int], dialogue: Callable[[imaplib.IMAP4], Any]) -> Any:
    """A dialogue of a logged-in client, off the server's loop."""

    def visitor() -> Any:
        with imaplib.IMAP4(*server, timeout=10) as client:
            client.login(demo.USER, demo.PASSWORD)
            return dialogue(client)

    return await asyncio.to_thread(visitor)


def test_every_message_has_an_id_a_sender_a_recipient_and_its_own_time() -> None:
    for mail in sample():
        message = message_from_bytes(mail.raw)

        assert message["Message-ID"].startswith("<")
        assert getaddresses([message["From"]])[0][1].rpartition("@")[2].endswith(".example")
        assert getaddresses(message.get_all("To"))
        assert parsedate_to_datetime(message["Date"]) == mail.received_at
        assert decode_header(message["Subject"])
        assert message.defects == []


def test_mail_has_crlf_line_ends_as_imap_serves_it() -> None:
    for mail in sample():
        assert mail.raw.count(b"\n") == mail.raw.count(b"\r\n")


def test_a_message_that_went_to_both_folders_is_there_twice() -> None:
    """Some sixty messages; the one that Anna sent herself too shows what identity is for (threading.md T11)."""
    ids = Counter(message_from_bytes(mail.raw)["Message-ID"] for mail in sample())

    assert 60 <= len(ids) <= 70
    assert [count for count in ids.values() if count > 1] == [2]


def test_every_reference_of_an_item_resolves() -> None:
    known = {(item["kind"], item["id"]) for item in items()}
    named = [
        (kind, item[field])
        for item in items()
        for field, kind in (("person", "person"), ("organization", "organization"), ("converted_from", "lead"))
        if item.get(field)
    ] + [("person", person) for item in items() for person in item.get("participants", ())]

    assert [name for name in named if name not in known] == []
    assert len(known) == len(items())


def test_the_mailbox_of_the_configuration_is_the_one_that_is_served() -> None:
    config = tomllib.loads(demo.config_file().read_text(encoding="utf-8"))
    anna = config["mailboxes"]["anna"]

    assert (anna["host"], anna["port"], anna["username"]) == (demo.HOST, demo.PORT, demo.USER)
    assert anna["password_command"] == ["echo", demo.PASSWORD]
    assert anna["folders"] == list(demo.mail_files())


async def test_the_server_holds_the_mail_of_the_files(server: tuple[str, int]) -> None:
    def count(client: imaplib.IMAP4) -> dict[str, int]:
        return {name: int(client.select(name, readonly=True)[1][0]) for name in demo.mail_files()}

    counts = await visit(server, count)

    assert counts == {name: len(demo.read_mbox(path)) for name, path in demo.mail_files().items()}


async def test_internaldate_is_the_time_of_the_message(server: tuple[str, int]) -> None:
    def dates(client: imaplib.IMAP4) -> set[datetime]:
        client.select("INBOX", readonly=True)
        _, answers = client.uid("FETCH", "1:*", "(INTERNALDATE)")
        times = [imaplib.Internaldate2tuple(answer) for answer in answers]
        return {datetime.fromtimestamp(time.mktime(local), UTC) for local in times if local}

    dates_served = await visit(server, dates)

    assert dates_served == {mail.received_at for mail in demo.read_mbox(demo.mail_files()["INBOX"])}


async def test_the_header_fields_come_as_they_stand_in_the_file(server: tuple[str, int]) -> None:
    def first(client: imaplib.IMAP4) -> bytes:
        client.select("INBOX", readonly=True)
        return client.fetch("1", "(BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])")[1][0][1]

    header = await visit(server, first)

    assert header == b"From: Martina Vogt <boss@ourco.example>\r\nSubject: Umsatzziele 2026\r\n\r\n"


async def test_a_wrong_password_is_refused(server: tuple[str, int]) -> None:
    def log_in() -> None:
        with imaplib.IMAP4(*server, timeout=10) as client:
            client.login(demo.USER, "wrong")

    with pytest.raises(imaplib.IMAP4.error):
        await asyncio.to_thread(log_in)


async def test_an_idling_client_hears_of_appended_mail_at_once(server: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*server)

    async def until(beginning: bytes) -> bytes:
        while not (line := await asyncio.wait_for(reader.readline(), 10)).startswith(beginning):
            assert line, "the server hung up"
        return line

    async def command(line: bytes) -> None:
        writer.write(line + b"\r\n")
        await until(line[:1] + b" OK")

    before = len(demo.read_mbox(demo.mail_files()["INBOX"]))
    await until(b"* OK")
    await command(f"a LOGIN {demo.USER} {demo.PASSWORD}".encode())
    await command(b"b EXAMINE INBOX")
    writer.write(b"c IDLE\r\n")
    await until(b"+ ")

    gc.collect()  # which on Python 3.13 ended connections that nobody held
    await visit(server, lambda client: client.append("INBOX", None, None, APPENDED))
    told = await until(b"* ")

    assert told == f"* {before + 1} EXISTS\r\n".encode()
    writer.write(b"DONE\r\n")
    await until(b"c OK")
    writer.close()


async def test_appended_mail_without_a_date_gets_the_present_one(server: tuple[str, int]) -> None:
    def append(client: imaplib.IMAP4) -> bytes:
        client.append("INBOX", None, None, APPENDED)
        _, (exists,) = client.select("INBOX", readonly=True)
        return client.fetch(exists.decode(), "(INTERNALDATE)")[1][0]

    started = datetime.now(UTC).replace(microsecond=0)
    local = imaplib.Internaldate2tuple(await visit(server, append))

    assert local is not None
    assert started <= datetime.fromtimestamp(time.mktime(local), UTC) <= datetime.now(UTC)


async def test_a_second_demo_takes_another_port(server: tuple[str, int]) -> None:
    async with demo.serve(port=server[1]) as second:
        assert second[1] != server[1]


async def test_leaving_says_goodbye_to_who_is_connected() -> None:
    async with demo.serve(port=0) as address:
        reader, writer = await asyncio.open_connection(*address)
        greeting = await asyncio.wait_for(reader.readline(), 10)
    rest = await asyncio.wait_for(reader.read(), 10)

    assert greeting.startswith(b"* OK ")
    assert rest.startswith(b"* BYE ")
    writer.close()


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mbox"):
        async with demo.serve({"INBOX": tmp_path / "gone.mbox"}, port=0):
            pass

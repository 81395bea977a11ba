"""Folder names in every script, made and kept by Dovecot: listed, opened, found by the name that people type."""

from collections.abc import Iterator

import pytest

from maillinkd.imap.account import Account
from maillinkd.imap.client import connect
from maillinkd.imap.errors import Refused
from maillinkd.imap.folders import resolve
from system.dovecot import Dovecot, running_dovecot

pytestmark = pytest.mark.dovecot

NAMES = (
    "Entwürfe", "Отправленные", "Απεσταλμένα", "דואר", "البريد", "भेजे", "ส่งแล้ว", "보낸편지함", "已发送邮件",
    "送信済み", "👩‍👧 family", "🇫🇷", "R&D", "&", "a & b/c & d", "100%", "a*b", 'say "hi"', "back\\slash", "{5}",
    "(x)", "two  spaces", "日本語/台北/👍🏽",
)  # fmt: skip

ILLEGAL = "Q&A"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        server.doveadm("mailbox", "create", "-u", "anna", *NAMES)
        # Put there by hand, as a broken program might: no modified UTF-7.
        server.deliver("anna", [b"From: a@x.example\r\n\r\nHello\r\n"], folder=ILLEGAL)
        yield server


def annas(dovecot: Dovecot) -> Account:
    return Account(
        "anna", "localhost", dovecot.tls_port, "implicit", "anna", dovecot.password, tls_ca_file=dovecot.ca_file
    )


async def test_every_folder_is_listed_by_its_name_and_opens(dovecot: Dovecot) -> None:
    connection = await connect(annas(dovecot))
    try:
        folders = await connection.folders()
        for folder in folders:
            if folder.name == ILLEGAL:
                continue
            assert (await connection.examine(folder)).uidvalidity
    finally:
        connection.abort()

    assert set(NAMES) <= {folder.name for folder in folders}


async def test_what_the_configuration_names_is_found(dovecot: Dovecot) -> None:
    connection = await connect(annas(dovecot))
    try:
        folders = await connection.folders()
    finally:
        connection.abort()

    assert tuple(folder.name for folder in resolve(NAMES, folders).folders) == NAMES


async def test_a_name_that_is_illegal_on_the_wire_does_not_stop_the_others(dovecot: Dovecot) -> None:
    """Dovecot itself lists such a folder and does not find it again."""
    connection = await connect(annas(dovecot))
    try:
        folders = {folder.name: folder for folder in await connection.folders()}
        with pytest.raises(Refused):
            await connection.examine(folders[ILLEGAL])
        opened = await connection.examine(folders["R&D"])
    finally:
        connection.abort()

    assert opened.exists == 0

"""Public archives, imported as a user would: the threads on the shelf are the expected ones (threading.md, Data)."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from maillinkd.app import open_house
from maillinkd.ingest import imports
from maillinkd.linker.snapshot import moment
from maillinkd.mail.message import parse
from maillinkd.mail.threads import node
from maillinkd.settings import load
from maillinkd.store import mailroom
from maillinkd.store.schema import message, message_ref, scope

pytestmark = pytest.mark.corpora

ARCHIVES = [
    "usrp-users",
    "pipermail-r-package-devel",
    "openwrt",
    "dovecot-list-2002-2004",
    "openiscsi",
    "notmuch-test",
]

CONFIGURATION = """
[database]
url = "sqlite:///{directory}/maillinkd.db"
[users.anna]
address = "anna@ourco.example"
[mailboxes.anna]
host = "imap.ourco.example"
username = "anna"
password_env = "NONE"
"""


def mail(fields: dict[str, Any]) -> bytes:
    """The mail that has these raw header fields; a string or number is a note of the collector."""
    lines = [f"{name}:{value}\n" for name, values in fields.items() if isinstance(values, list) for value in values]
    return "".join([*lines, "\n"]).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("archive", ARCHIVES)
async def test_an_imported_archive_lies_in_the_expected_threads(corpora: Path, tmp_path: Path, archive: str) -> None:
    with gzip.open(corpora / archive / "expected.spec.json.gz") as file:
        expected = {frozenset(thread) for thread in json.load(file)["threads"]}
    with gzip.open(corpora / archive / "headers.jsonl.gz", "rt", encoding="utf-8") as lines:
        mails = {fields["key"]: mail(fields) for fields in map(json.loads, lines)}
    (tmp_path / "maillinkd.toml").write_text(CONFIGURATION.format(directory=tmp_path))

    async with open_house(load(tmp_path / "maillinkd.toml"), publish=lambda line: None) as house:
        files = ((raw, None) for raw in mails.values())
        summary = await imports.import_mail(house, "anna", files, lambda count: None)
        async with house.database.reading() as connection:
            scope_id = (await connection.execute(select(scope.c.id))).scalar_one()
            lies_in = select(message.c.identity, message_ref.c.thread).join(
                message_ref, message_ref.c.node == message.c.node
            )
            threads = {row.identity: row.thread for row in await connection.execute(lies_in)}

    found = defaultdict[int, set[str]](set)
    for key, raw in mails.items():
        each = parse(raw, received_at=moment(0), size=len(raw))
        identity = mailroom.identity_in(scope_id, each.identity, node(scope_id, each.message_id))
        found[threads[identity]].add(key)
    assert summary.read == len(mails)
    assert summary.quarantined == 0
    assert len(found) == len(expected)
    assert set(map(frozenset, found.values())) == expected

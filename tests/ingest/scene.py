"""A house on a database of its own, as a test sees it: invented mail goes in, threads and told lines come out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from maillinkd.app import office_of
from maillinkd.directory.lines import read_change
from maillinkd.ingest import changes, imports
from maillinkd.ingest.house import House
from maillinkd.ingest.office import Office
from maillinkd.ingest.smart_bcc import SmartBcc
from maillinkd.ingest.synced import Synced
from maillinkd.mail.delivery import Fetched, FolderBatch, FolderCursor, Received
from maillinkd.mail.header import split
from maillinkd.settings import Settings
from maillinkd.store import schema, views
from maillinkd.store.database import Database
from maillinkd.store.views import HeldView, MessageView, ThreadView

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""When the first mail of a test is sent, unless it says otherwise."""

ANNA = "anna@ourco.example"
BEN = "ben@ourco.example"
CARLA = "carla@client.example"
DORA = "dora@client.example"
STRANGER = "stranger@elsewhere.example"

UNIVERSAL = "ourco@bcc.ourco.example"


def bcc(item: str) -> str:
    """The Smart Bcc address of an item, `deal61`."""
    return f"ourco+{item}@bcc.ourco.example"


CONFIGURATION: dict[str, Any] = {
    "policy": {"internal_domains": ["ourco.example"]},
    "users": {
        "anna": {"address": ANNA, "aliases": ["anna.k@ourco.example"]},
        "ben": {"address": BEN},
        "clara": {"address": "clara@ourco.example"},
        "boss": {"address": "boss@ourco.example", "admin": True},
    },
    "teams": {"support": {"members": ["anna", "ben"]}},
    "mailboxes": {
        "anna": {"host": "imap.ourco.example", "username": ANNA, "password_env": "NONE"},
        "anna2": {"owner": "anna", "host": "imap.ourco.example", "username": "anna2", "password_env": "NONE"},
        "ben": {"host": "imap.ourco.example", "username": BEN, "password_env": "NONE"},
        "support": {"host": "imap.ourco.example", "username": "support@ourco.example", "password_env": "NONE"},
    },
    "smart_bcc": {
        "enabled": True,
        "domain": "bcc.ourco.example",
        "local_part": "ourco",
        "require_authentication": False,
    },
}
"""Anna has two mailboxes, Ben one, the team one; Boss is an admin, Clara has nothing to do with it all."""

ORGANIZATION = {"kind": "organization", "id": "7", "title": "Client Ltd"}
PERSON = {"kind": "person", "id": "3", "title": "Carla", "addresses": [CARLA], "organization": "7"}
DEAL = {"kind": "deal", "id": "61", "title": "Roof", "person": "3", "added_at": "2026-01-05T09:00:00Z"}
OTHER_DEAL = {"kind": "deal", "id": "62", "title": "Cellar", "person": "3", "added_at": "2026-01-06T09:00:00Z"}
LEAD = {"kind": "lead", "id": "abc-1", "title": "Asks", "person": "3", "added_at": "2026-01-05T09:00:00Z"}
CLIENT = (ORGANIZATION, PERSON, DEAL)
"""Carla of Client Ltd, with one open deal that is older than all mail."""


def settings_with(**sections: dict[str, Any]) -> Settings:
    """The configuration with some keys changed: a section's tables are merged into it, one level deep."""
    given = dict(CONFIGURATION)
    for name, section in sections.items():
        known = given.get(name, {})
        given[name] = known | {
            key: known[key] | value if isinstance(value, dict) and isinstance(known.get(key), dict) else value
            for key, value in section.items()
        }
    return Settings.model_validate(given)


def office_with(**sections: dict[str, Any]) -> Office:
    return office_of(settings_with(**sections))


def hours(number: float) -> datetime:
    """So many hours after NOON."""
    return NOON + timedelta(hours=number)


def letter(
    id_: str | None = None,
    *,
    sender: str | None = CARLA,
    to: str | Sequence[str] = ANNA,
    cc: Sequence[str] = (),
    date: datetime | None = NOON,
    refers: Sequence[str] = (),
    subject: str = "New roof",
    text: str = "Good morning.",
) -> bytes:
    """A mail; what is None is not in its header."""
    recipients = [to] if isinstance(to, str) else list(to)
    fields = {
        "Message-ID": None if id_ is None else f"<{id_}>",
        "From": sender,
        "To": ", ".join(recipients) or None,
        "Cc": ", ".join(cc) or None,
        "Date": None if date is None else date.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        "Subject": subject,
        "References": " ".join(f"<{ref}>" for ref in refers) or None,
    }
    header = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{header}\r\n{text}\r\n".encode("utf-8", "surrogateescape")


def fetched(uid: int, raw: bytes, received_at: datetime = NOON, *, full: bool = False) -> Fetched:
    """What a FETCH of that mail brings."""
    return Fetched(uid, split(raw)[0], raw if full else None, received_at, len(raw))


def batch(
    *messages: Fetched,
    mailbox: str = "anna",
    folder: str = "INBOX",
    uidvalidity: int = 1,
    gone: tuple[int, ...] = (),
    first_sync: bool = False,
    bottom: int = 0,
) -> FolderBatch:
    """A batch after whose filing the cursor stands above its messages."""
    top = max((each.uid for each in messages), default=0)
    cursor = FolderCursor(uidvalidity, top, bottom, None, 0)
    return FolderBatch(mailbox, folder, cursor, messages, gone, first_sync)


def received(raw: bytes, *recipients: str, sender: str = ANNA, at: datetime = NOON) -> Received:
    """One SMTP transaction."""
    return Received(sender, recipients or (UNIVERSAL,), raw, at, "192.0.2.1", "mx.example")


@dataclass
class Scene:
    """A house, and what it has told."""

    database: Database
    house: House
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.synced = Synced(self.house)
        self.smart_bcc = SmartBcc(self.house)

    @classmethod
    def on(cls, database: Database, office: Office | None = None, instance: str = "test/all") -> "Scene":
        told: list[dict[str, Any]] = []
        house = House(database, office or office_with(), instance=instance, publish=told.append)
        return cls(database, house, told)

    def after_a_restart(self) -> "Scene":
        """The same house opened anew, by a process that remembers nothing."""
        return Scene.on(self.database, self.house.office)

    # -- what comes in

    async def know(self, *items: dict[str, Any]) -> None:
        """Imports items."""
        await changes.import_items(self.house, [read_change(item) for item in items])

    async def arrive(self, *mails: bytes, mailbox: str = "anna", folder: str = "INBOX", first_uid: int = 1) -> None:
        """New mail in a synced folder, each with the next UID, in one batch."""
        messages = (fetched(first_uid + n, raw) for n, raw in enumerate(mails))
        await self.synced.file(batch(*messages, mailbox=mailbox, folder=folder))

    async def bring(self, mails: Iterable[bytes], mailbox: str = "anna") -> None:
        """Imports mails from a file."""
        await imports.import_mail(self.house, mailbox, ((raw, None) for raw in mails), lambda _: None)

    async def deliver(self, *deliveries: Received) -> None:
        """Smart Bcc mail: made durable, then filed."""
        await self.keep(*deliveries)
        await self.file_inbound()

    async def keep(self, *deliveries: Received) -> None:
        from maillinkd.store import inbound

        await inbound.keep(self.database, deliveries)

    async def file_inbound(self) -> int:
        filed = 0
        while some := await self.smart_bcc.file_inbound():
            filed += some
        return filed

    # -- what is there

    async def threads(self) -> list[ThreadView]:
        """All threads, the oldest first."""
        async with self.database.reading() as connection:
            found = [view async for view in views.list_threads(connection)]
        return sorted(found, key=lambda view: (view.started_at, view.id))

    async def thread(self) -> ThreadView:
        """The only thread."""
        (found,) = await self.threads()
        return found

    async def thread_of(self, id_: str) -> ThreadView:
        """The thread in which the mail with this id lies."""
        (found,) = [view for view in await self.threads() if f"<{id_}>" in view.message_ids]
        return found

    async def messages(self, thread: ThreadView | None = None) -> list[MessageView]:
        view = thread or await self.thread()
        async with self.database.reading() as connection:
            return await views.messages_of(connection, view.label)

    async def held(self) -> list[HeldView]:
        """What lies in quarantine."""
        async with self.database.reading() as connection:
            return await views.list_held(connection)

    async def cursor(self, mailbox: str = "anna", folder: str = "INBOX") -> FolderCursor | None:
        return await self.synced.cursor(mailbox, folder)

    async def count(self, table: str, *conditions: Any) -> int:
        """Rows of a table."""
        query = select(func.count()).select_from(schema.metadata.tables[table]).where(*conditions)
        async with self.database.reading() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def counts(self) -> dict[str, int]:
        """Rows of every table."""
        return {name: await self.count(name) for name in schema.metadata.tables}

    async def unlogged(self) -> int:
        """Decisions whose line is not noted as written."""
        return await self.count("decision", schema.decision.c.logged_at.is_(None))


def slot(view: ThreadView) -> str | None:
    return view.slot and str(view.slot)


def people(view: ThreadView) -> list[str]:
    """Persons and organizations of a thread."""
    return [str(ref) for ref in (*view.persons, *view.organizations)]


def standing(view: ThreadView) -> tuple[Any, ...]:
    """What a thread has come to, but for numbers, which depend on who came first."""
    return (view.owner, view.channel, view.message_ids, slot(view), view.reason, tuple(people(view)), view.candidates,
            tuple(flag for flag in view.flags if flag != "slot_lost_in_merge"))  # fmt: skip

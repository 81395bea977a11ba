"""The tables. Times are microseconds since 1970-01-01 UTC; lists and facts are JSON; ids of items are lower case in
`…_key` columns, which compare, and as they came in `…_id` columns, which show."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect


class Bytes(LargeBinary):
    """Bytes as both drivers take and give them: SQLAlchemy's own conversion costs more than the insert."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


class Flag(Boolean):
    """A truth value; both drivers take Python's as they are."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        return None


VERSION = "0003"
"""The newest migration. A database with another one that this program does not know is refused."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only for INTEGER PRIMARY KEY."""

scope = Table(
    "scope",
    metadata,
    Column("id", Number, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("chain", Bytes, nullable=False),  # hash of the newest decision of the scope
    UniqueConstraint("owner", "channel"),
)

raw_message = Table(
    "raw_message",
    metadata,
    Column("sha256", Bytes(32), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("compressed", Bytes, nullable=False),  # zlib; of a large message its beginning
)

raw_piece = Table(
    "raw_piece",
    metadata,
    Column("sha256", ForeignKey("raw_message.sha256"), nullable=False),
    Column("number", Integer, nullable=False),  # from 1, in the order of the message
    Column("compressed", Bytes, nullable=False),  # zlib, each for itself
    PrimaryKeyConstraint("sha256", "number"),
)

thread = Table(
    "thread",
    metadata,
    Column("id", Number, primary_key=True),  # the label: changes hands in a merge
    Column("number", BigInteger, unique=True),  # what people call it, where a merge made it another than the id
    Column("scope", ForeignKey("scope.id"), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("last_message_at", BigInteger, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("id_count", Integer, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", String(40)),
    Column("candidates", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("slot_lost", Flag, nullable=False),
    Column("unlinked_by_hand", Flag, nullable=False),  # row 2
    Column("decision", BigInteger),  # of the last slot decision
    Index(None, "scope", "last_message_at"),
    Index(None, "reason"),
    sqlite_autoincrement=True,
)

thread_alias = Table(
    "thread_alias",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("thread", ForeignKey("thread.id"), nullable=False, index=True),
)

message_ref = Table(
    "message_ref",
    metadata,
    Column("node", Bytes(16), primary_key=True),  # hash of (scope, message-id)
    Column("thread", ForeignKey("thread.id"), nullable=False, index=True),
    Column("borne", Flag, nullable=False),
    Column("detached", Flag, nullable=False),
    sqlite_with_rowid=False,
)

message = Table(
    "message",
    metadata,
    Column("id", Number, primary_key=True),
    Column("scope", ForeignKey("scope.id"), nullable=False),
    Column("node", Bytes(16), nullable=False, index=True),  # its thread is that of the node
    Column("identity", Bytes(16), nullable=False, unique=True),  # hash of (scope, T11, node)
    Column("message_id", Text, nullable=False),
    Column("made_id", Flag, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("base_subject", Text, nullable=False),
    Column("participants", Text, nullable=False),  # JSON [["from","a@x"], ["forwarded","b@y","inline"]]
    Column("refers", Text, nullable=False),  # JSON: the ids that it refers to, in order
    Column("last_reference", Bytes(16)),  # node of the last id of References (L16 b)
    Column("forward", Flag, nullable=False),  # L15
    Column("detached", Flag, nullable=False),  # T17
    Column("names", Text),  # the item whose Smart Bcc address it arrived at
    Column("marks", Text, nullable=False),  # JSON: smart_bcc_…, bridge, excluded_from_item
    Column("headers", Bytes, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("raw", ForeignKey("raw_message.sha256")),
    Column("undecided", Flag, nullable=False),  # placed, and its thread not yet decided (import)
    Index("ix_message_undecided", "id", sqlite_where=Column("undecided"), postgresql_where=Column("undecided")),
    sqlite_autoincrement=True,
)

participant = Table(
    "participant",
    metadata,
    Column("address", Text, nullable=False),  # and, for one with a tag, the address without it
    Column("message", ForeignKey("message.id"), nullable=False),
    PrimaryKeyConstraint("address", "message"),
    sqlite_with_rowid=False,
)

folder = Table(
    "folder",
    metadata,
    Column("id", Number, primary_key=True),
    Column("mailbox", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("top", BigInteger, nullable=False),
    Column("bottom", BigInteger, nullable=False),
    Column("since", Date),
    Column("before_since", BigInteger, nullable=False),
    Column("seen_uidvalidity", BigInteger),  # the server's numbers when all of it was last read (Stand)
    Column("seen_uidnext", BigInteger),
    Column("seen_messages", BigInteger),
    Column("seen_modseq", BigInteger),
    Column("seen_gone_marked", Flag),
    Column("compared_at", BigInteger),
    Column("audited_at", BigInteger),
    Column("missing", BigInteger),  # UIDs, when it was audited last
    UniqueConstraint("mailbox", "name"),
)

occurrence = Table(
    "occurrence",
    metadata,
    Column("folder", ForeignKey("folder.id"), nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("message", ForeignKey("message.id"), index=True),
    Column("disposition", String(40), nullable=False),  # stored, quarantined, gone, filtered:REASON
    PrimaryKeyConstraint("folder", "uidvalidity", "uid"),
    sqlite_with_rowid=False,
)

gmail = Table(
    "gmail",
    metadata,
    Column("folder", ForeignKey("folder.id"), nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uid", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False, index=True),  # X-GM-MSGID, as a number with a sign
    Column("thread_id", BigInteger, nullable=False),  # X-GM-THRID, 0: not given
    Column("labels", Text, nullable=False),  # JSON
    PrimaryKeyConstraint("folder", "uidvalidity", "uid"),
    sqlite_with_rowid=False,
)

item = Table(
    "item",
    metadata,
    Column("kind", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("id", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("status", String(16)),
    Column("person_key", String(64)),
    Column("organization_key", String(64)),
    Column("owner", Text),
    Column("added_at", BigInteger),
    Column("imported_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("archived", Flag, nullable=False),
    Column("deleted", Flag, nullable=False),
    Column("converted_from", String(64)),  # a deal's lead, as a key
    Column("given", Text, nullable=False),  # JSON: references as they came, for showing
    PrimaryKeyConstraint("kind", "key"),
    Index(None, "person_key"),
    Index(None, "organization_key"),
    Index(None, "converted_from"),
)

item_participant = Table(
    "item_participant",
    metadata,
    Column("person_key", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    PrimaryKeyConstraint("person_key", "kind", "key"),
    Index(None, "kind", "key"),
)

item_address = Table(
    "item_address",
    metadata,
    Column("address", Text, nullable=False),
    Column("key", String(64), nullable=False),  # the person's
    Column("plain", Text, nullable=False),  # without its tag
    Column("position", Integer, nullable=False),
    PrimaryKeyConstraint("address", "key"),
    Index(None, "plain"),
    Index(None, "key"),
)

link = Table(
    "link",
    metadata,
    Column("thread", ForeignKey("thread.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("slot", Integer),  # 1 for a deal, lead or project, else NULL
    Column("origin", String(16), nullable=False),
    Column("added_at", BigInteger),  # L27: when the item was added, as known when row 14 made the link
    Column("reason", String(40), nullable=False),
    Column("decision", BigInteger, nullable=False),
    PrimaryKeyConstraint("thread", "kind", "key"),
    UniqueConstraint("thread", "slot"),  # a thread has one slot
    CheckConstraint(
        "(slot IS NULL) = (kind IN ('person', 'organization')) AND (slot IS NULL OR slot = 1)", name="slot"
    ),
    Index(None, "kind", "key"),
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("thread", ForeignKey("thread.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("decision", BigInteger, nullable=False),
    PrimaryKeyConstraint("thread", "kind", "key"),
    Index(None, "kind", "key"),
)

batch = Table(
    "batch",
    metadata,
    Column("id", Number, primary_key=True),
    Column("command", String(16), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

decision = Table(
    "decision",
    metadata,
    Column("id", Number, primary_key=True),
    Column("scope", ForeignKey("scope.id"), nullable=False),
    Column("thread", BigInteger, nullable=False, index=True),  # the number that it had then
    Column("at", BigInteger, nullable=False),
    Column("line", Text, nullable=False),  # JSON: the decision line, but for its own number
    Column("reason", String(40), nullable=False),
    Column("mailbox", String(64)),
    Column("batch", ForeignKey("batch.id")),
    Column("rule_version", Integer, nullable=False),
    Column("facts", Bytes),  # zlib JSON; NULL once erased
    Column("salt", Bytes(16), nullable=False),
    Column("digest", Bytes(32), nullable=False),  # of salt and facts
    Column("chain", Bytes(32), nullable=False),  # of the chain before, the line and the digest
    Column("instance", String(64), nullable=False),
    Column("logged_at", BigInteger),
    Index(
        "ix_decision_unlogged",
        "id",
        sqlite_where=Column("logged_at").is_(None),
        postgresql_where=Column("logged_at").is_(None),
    ),
    sqlite_autoincrement=True,
)

inbound = Table(
    "inbound",
    metadata,
    Column("id", Number, primary_key=True),
    Column("digest", Bytes(32), nullable=False, unique=True),  # of envelope and bytes
    Column("sender", Text, nullable=False),
    Column("recipients", Text, nullable=False),  # JSON
    Column("client_address", Text, nullable=False),
    Column("helo", Text, nullable=False),
    Column("tls", Flag, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("raw", Bytes, nullable=False),
    Column("relay", Text),  # the trusted relay that brought it
    Column("verdict", Text),  # JSON, where its author was checked before it was taken
    Column("tries", Integer),  # of the check of its author, while DNS fails
    Column("next_try", BigInteger),
    sqlite_autoincrement=True,
)

filed_mail = Table(
    "filed_mail",  # mail with neither Message-ID nor Date, which nothing else tells from its retry
    metadata,
    Column("digest", Bytes(32), primary_key=True),  # of envelope and bytes
    Column("at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Number, primary_key=True),
    Column("digest", Bytes(32), nullable=False, unique=True),  # the same mail does not lie there twice
    Column("channel", String(16), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("error", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("held_at", BigInteger),  # keep_days counts from here; NULL, by a program of schema 0002, keeps it
    Column("size", BigInteger, nullable=False),
    Column("raw", Bytes, nullable=False),  # zlib: the whole mail, or the header block of a synced one
    Column("sender", Text, nullable=False),
    Column("recipients", Text, nullable=False),  # JSON
    Column("author", Text, nullable=False),
    Column("verdict", Text),  # JSON: what the check of its author came to
    Column("folder", ForeignKey("folder.id")),
    Column("uidvalidity", BigInteger),
    Column("uid", BigInteger),
    sqlite_autoincrement=True,
)

mailbox_state = Table(
    "mailbox_state",
    metadata,
    Column("mailbox", String(64), primary_key=True),
    Column("state", Text, nullable=False),  # JSON, as `status` shows it
    Column("at", BigInteger, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(80), primary_key=True),  # a mailbox, or the Smart Bcc consumer
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

oauth_token = Table(
    "oauth_token",
    metadata,
    Column("mailbox", String(64), primary_key=True),
    Column("sealed", Bytes, nullable=False),  # encrypted, see oauth/seal.py
    Column("at", BigInteger, nullable=False),
)

alias = Table(
    "alias",
    metadata,
    Column("address", String(320), primary_key=True),  # as the policy compares it
    Column("owner", String(64), nullable=False),  # the user
    Column("token", Bytes(32), unique=True),  # SHA-256 of that in its one-time address; NULL once confirmed
    Column("expires_at", BigInteger),
    Column("confirmed_at", BigInteger),
)

setting = Table(
    "setting",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

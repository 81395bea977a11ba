"""The first schema.

Revision 0001, the first one. Tables stand before those that refer to them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite counts up by itself only for INTEGER PRIMARY KEY."""


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", Number, nullable=False),
        sa.Column("command", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "folder",
        sa.Column("id", Number, nullable=False),
        sa.Column("mailbox", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("top", sa.BigInteger(), nullable=False),
        sa.Column("bottom", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Date()),
        sa.Column("before_since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_folder"),
        sa.UniqueConstraint("mailbox", "name", name="uq_folder_mailbox_name"),
    )
    op.create_table(
        "inbound",
        sa.Column("id", Number, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("client_address", sa.Text(), nullable=False),
        sa.Column("helo", sa.Text(), nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inbound"),
        sa.UniqueConstraint("digest", name="uq_inbound_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "item",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16)),
        sa.Column("person_key", sa.String(length=64)),
        sa.Column("organization_key", sa.String(length=64)),
        sa.Column("owner", sa.Text()),
        sa.Column("added_at", sa.BigInteger()),
        sa.Column("imported_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("converted_from", sa.String(length=64)),
        sa.Column("given", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_item"),
    )
    op.create_index("ix_item_converted_from", "item", ["converted_from"])
    op.create_index("ix_item_organization_key", "item", ["organization_key"])
    op.create_index("ix_item_person_key", "item", ["person_key"])
    op.create_table(
        "item_address",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("plain", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("address", "key", name="pk_item_address"),
    )
    op.create_index("ix_item_address_key", "item_address", ["key"])
    op.create_index("ix_item_address_plain", "item_address", ["plain"])
    op.create_table(
        "item_participant",
        sa.Column("person_key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("person_key", "kind", "key", name="pk_item_participant"),
    )
    op.create_index("ix_item_participant_kind_key", "item_participant", ["kind", "key"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lease"),
    )
    op.create_table(
        "mailbox_state",
        sa.Column("mailbox", sa.String(length=64), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", name="pk_mailbox_state"),
    )
    op.create_table(
        "raw_message",
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("compressed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_raw_message"),
    )
    op.create_table(
        "scope",
        sa.Column("id", Number, nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scope"),
        sa.UniqueConstraint("owner", "channel", name="uq_scope_owner_channel"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )
    op.create_table(
        "decision",
        sa.Column("id", Number, nullable=False),
        sa.Column("scope", Number, nullable=False),
        sa.Column("thread", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("mailbox", sa.String(length=64)),
        sa.Column("batch", Number),
        sa.Column("rule_version", sa.Integer(), nullable=False),
        sa.Column("facts", sa.LargeBinary()),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("chain", sa.LargeBinary(length=32), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("logged_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["batch"], ["batch.id"], name="fk_decision_batch"),
        sa.ForeignKeyConstraint(["scope"], ["scope.id"], name="fk_decision_scope"),
        sa.PrimaryKeyConstraint("id", name="pk_decision"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decision_thread", "decision", ["thread"])
    op.create_index(
        "ix_decision_unlogged",
        "decision",
        ["id"],
        sqlite_where=sa.text("logged_at IS NULL"),
        postgresql_where=sa.text("logged_at IS NULL"),
    )
    op.create_table(
        "message",
        sa.Column("id", Number, nullable=False),
        sa.Column("scope", Number, nullable=False),
        sa.Column("node", sa.LargeBinary(length=16), nullable=False),
        sa.Column("identity", sa.LargeBinary(length=16), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("made_id", sa.Boolean(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("base_subject", sa.Text(), nullable=False),
        sa.Column("participants", sa.Text(), nullable=False),
        sa.Column("refers", sa.Text(), nullable=False),
        sa.Column("last_reference", sa.LargeBinary(length=16)),
        sa.Column("forward", sa.Boolean(), nullable=False),
        sa.Column("detached", sa.Boolean(), nullable=False),
        sa.Column("names", sa.Text()),
        sa.Column("marks", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(length=32)),
        sa.Column("undecided", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["raw"], ["raw_message.sha256"], name="fk_message_raw"),
        sa.ForeignKeyConstraint(["scope"], ["scope.id"], name="fk_message_scope"),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sa.UniqueConstraint("identity", name="uq_message_identity"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_message_node", "message", ["node"])
    op.create_index(
        "ix_message_undecided",
        "message",
        ["id"],
        sqlite_where=sa.text("undecided"),
        postgresql_where=sa.text("undecided"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", Number, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("folder", Number),
        sa.Column("uidvalidity", sa.BigInteger()),
        sa.Column("uid", sa.BigInteger()),
        sa.ForeignKeyConstraint(["folder"], ["folder.id"], name="fk_quarantine_folder"),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        sa.UniqueConstraint("digest", name="uq_quarantine_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "thread",
        sa.Column("id", Number, nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("scope", Number, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_message_at", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("id_count", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=40)),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("slot_lost", sa.Boolean(), nullable=False),
        sa.Column("unlinked_by_hand", sa.Boolean(), nullable=False),
        sa.Column("decision", sa.BigInteger()),
        sa.ForeignKeyConstraint(["scope"], ["scope.id"], name="fk_thread_scope"),
        sa.PrimaryKeyConstraint("id", name="pk_thread"),
        sa.UniqueConstraint("number", name="uq_thread_number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_thread_reason", "thread", ["reason"])
    op.create_index("ix_thread_scope_last_message_at", "thread", ["scope", "last_message_at"])
    op.create_table(
        "link",
        sa.Column("thread", Number, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("slot", sa.Integer()),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("added_at", sa.BigInteger()),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("decision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(slot IS NULL) = (kind IN ('person', 'organization')) AND (slot IS NULL OR slot = 1)",
            name=op.f("ck_link_slot"),
        ),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"], name="fk_link_thread"),
        sa.PrimaryKeyConstraint("thread", "kind", "key", name="pk_link"),
        sa.UniqueConstraint("thread", "slot", name="uq_link_thread_slot"),
    )
    op.create_index("ix_link_kind_key", "link", ["kind", "key"])
    op.create_table(
        "message_ref",
        sa.Column("node", sa.LargeBinary(length=16), nullable=False),
        sa.Column("thread", Number, nullable=False),
        sa.Column("borne", sa.Boolean(), nullable=False),
        sa.Column("detached", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"], name="fk_message_ref_thread"),
        sa.PrimaryKeyConstraint("node", name="pk_message_ref"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_message_ref_thread", "message_ref", ["thread"])
    op.create_table(
        "occurrence",
        sa.Column("folder", Number, nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("message", Number),
        sa.Column("disposition", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["folder"], ["folder.id"], name="fk_occurrence_folder"),
        sa.ForeignKeyConstraint(["message"], ["message.id"], name="fk_occurrence_message"),
        sa.PrimaryKeyConstraint("folder", "uidvalidity", "uid", name="pk_occurrence"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_occurrence_message", "occurrence", ["message"])
    op.create_table(
        "participant",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("message", Number, nullable=False),
        sa.ForeignKeyConstraint(["message"], ["message.id"], name="fk_participant_message"),
        sa.PrimaryKeyConstraint("address", "message", name="pk_participant"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thread_alias",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("thread", Number, nullable=False),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"], name="fk_thread_alias_thread"),
        sa.PrimaryKeyConstraint("number", name="pk_thread_alias"),
    )
    op.create_index("ix_thread_alias_thread", "thread_alias", ["thread"])
    op.create_table(
        "tombstone",
        sa.Column("thread", Number, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"], name="fk_tombstone_thread"),
        sa.PrimaryKeyConstraint("thread", "kind", "key", name="pk_tombstone"),
    )


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first schema")

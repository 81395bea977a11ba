"""What resynchronisation, audits, accounts with OAuth2, Gmail, large messages and undo need.

Revision 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite counts up by itself only for INTEGER PRIMARY KEY."""


def upgrade() -> None:
    op.create_index("ix_tombstone_kind_key", "tombstone", ["kind", "key"])
    op.create_table(
        "oauth_token",
        sa.Column("mailbox", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", name="pk_oauth_token"),
    )
    op.create_table(
        "raw_piece",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("compressed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["raw_message.sha256"], name="fk_raw_piece_sha256"),
        sa.PrimaryKeyConstraint("sha256", "number", name="pk_raw_piece"),
    )
    op.create_table(
        "filed_mail",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_filed_mail"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_filed_mail_at", "filed_mail", ["at"])
    for name in ("seen_uidvalidity", "seen_uidnext", "seen_messages", "seen_modseq", "compared_at"):
        op.add_column("folder", sa.Column(name, sa.BigInteger()))
    op.add_column("folder", sa.Column("seen_gone_marked", sa.Boolean()))
    op.add_column("folder", sa.Column("audited_at", sa.BigInteger()))
    op.add_column("folder", sa.Column("missing", sa.BigInteger()))
    op.create_table(
        "gmail",
        sa.Column("folder", Number, nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("thread_id", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["folder"], ["folder.id"], name="fk_gmail_folder"),
        sa.PrimaryKeyConstraint("folder", "uidvalidity", "uid", name="pk_gmail"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_gmail_message_id", "gmail", ["message_id"])
    op.add_column("inbound", sa.Column("relay", sa.Text()))
    op.add_column("inbound", sa.Column("verdict", sa.Text()))
    op.add_column("inbound", sa.Column("tries", sa.Integer()))
    op.add_column("inbound", sa.Column("next_try", sa.BigInteger()))
    op.add_column("quarantine", sa.Column("verdict", sa.Text()))
    op.create_table(
        "alias",
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("token", sa.LargeBinary(length=32)),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("confirmed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("address", name="pk_alias"),
        sa.UniqueConstraint("token", name="uq_alias_token"),
    )

"""Mail in quarantine counts its days from when it was put there; UIDs whose mail was dropped from it say so.

Revision 0003, after 0002.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quarantine", sa.Column("held_at", sa.BigInteger()))
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    op.execute(sa.text("UPDATE quarantine SET held_at = :now").bindparams(sa.bindparam("now", now, sa.BigInteger())))
    op.execute(
        "UPDATE occurrence SET disposition = 'filtered:quarantine_dropped'"
        " WHERE disposition = 'quarantined' AND NOT EXISTS"
        " (SELECT 1 FROM quarantine q WHERE q.folder = occurrence.folder AND q.uid = occurrence.uid)"
    )

"""What learning needs to know of an attempt: its mode, its queue time, whether it counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from athena_prefect.storage.types import Duration

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE = "execution_records"


def upgrade() -> None:
    """Bring the schema from 0001 to 0002."""
    op.add_column(TABLE, sa.Column("mode", sa.String(length=255), nullable=True))
    op.add_column(TABLE, sa.Column("queue_time", Duration(), nullable=True))
    op.add_column(TABLE, sa.Column("cached", sa.Boolean(), nullable=True))
    op.add_column(TABLE, sa.Column("abandoned", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Take the schema back to 0001."""
    for name in ("abandoned", "cached", "queue_time", "mode"):
        op.drop_column(TABLE, name)

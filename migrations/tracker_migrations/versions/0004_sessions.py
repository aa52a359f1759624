"""When a run was opened last, and how long it was open before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("runs", sa.Column("opened_ms", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("spent_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False))

"""Adds roles and tags of checkpoints, how many a run keeps, and the state of pruned ones' files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "checkpoints", sa.Column("role", sa.String(length=8), server_default=sa.text("'model'"), nullable=False)
    )
    op.add_column("checkpoints", sa.Column("tag", sa.String(length=250), nullable=True))
    op.add_column("checkpoints", sa.Column("removed", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.create_index("ix_checkpoints_run_id_sha256", "checkpoints", ["run_id", "sha256"], unique=False)
    op.create_index(
        "ix_checkpoints_published",
        "checkpoints",
        ["run_id"],
        unique=False,
        sqlite_where=sa.text("status = 'published'"),
        postgresql_where=sa.text("status = 'published'"),
    )
    op.create_index(
        "ix_checkpoints_pending",
        "checkpoints",
        ["run_id"],
        unique=False,
        sqlite_where=sa.text("status = 'pruned' AND removed < 2"),
        postgresql_where=sa.text("status = 'pruned' AND removed < 2"),
    )
    op.add_column("runs", sa.Column("keep_last", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("keep_best", sa.Integer(), nullable=True))

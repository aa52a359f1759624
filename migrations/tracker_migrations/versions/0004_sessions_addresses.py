"""Adds when a run was opened last and how long before; makes addresses relative to the database's folder."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from tracker_migrations.relative_addresses import make_relative

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("runs", sa.Column("opened_ms", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("spent_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "database_folders",
        sa.Column("folder", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("folder", name=op.f("pk_database_folders")),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        make_relative(connection, Path(str(connection.engine.url.database)).absolute())

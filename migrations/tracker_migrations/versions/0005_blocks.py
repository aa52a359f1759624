"""Adds blocks of points, packed histograms, keys of 64 bits on PostgreSQL, and indexes on runs; drops rollups.

No row of points is changed: they stay valid, and are sealed when their series is written, or by `tracker db compact`.
A server of an older release that still runs on a PostgreSQL store fails from here on instead of missing what is in
blocks: the columns that it reads with every series are gone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_IDS = ("experiments", "runs", "series", "events", "checkpoints", "datasets", "models", "model_metrics", "tokens")
_KEYS = {
    "experiments": ("id",),
    "runs": ("id", "experiment_id"),
    "journals": ("run_id",),
    "fits": ("run_id",),
    "epochs": ("run_id",),
    "series": ("id", "run_id"),
    "metric_points": ("series_id",),
    "params": ("run_id",),
    "tags": ("run_id",),
    "events": ("id", "run_id"),
    "checkpoints": ("id", "run_id"),
    "histograms": ("run_id",),
    "experiment_tags": ("experiment_id",),
    "datasets": ("id", "experiment_id"),
    "run_datasets": ("run_id", "dataset_id"),
    "models": ("id", "experiment_id", "run_id"),
    "model_texts": ("model_id",),
    "model_metrics": ("id", "model_id", "run_id"),
    "run_models": ("run_id",),
    "tokens": ("id",),
}
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    op.drop_table("metric_rollups")
    for what in ("step", "count"):
        # In SQL, since Alembic would copy SQLite's table.
        op.execute(f"ALTER TABLE series RENAME COLUMN rolled_{what} TO sealed_{what}")
    op.execute("UPDATE series SET sealed_step = -1, sealed_count = 0 WHERE sealed_count != 0 OR sealed_step != -1")
    op.add_column("histograms", sa.Column("data", sa.LargeBinary(), nullable=True))
    op.create_table(
        "metric_blocks",
        sa.Column("series_id", _KEY, nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("first_take", sa.Integer(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("last_take", sa.Integer(), nullable=False),
        sa.Column("min_offset_ms", sa.BigInteger(), nullable=False),
        sa.Column("max_offset_ms", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("fit", sa.Integer(), nullable=True),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("extremes", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "first_step", "first_take", name=op.f("pk_metric_blocks")),
    )
    if is_postgres:
        # Only the indexes on them are built again.
        for name, length in (("name", 250), ("status", 16)):
            op.execute(f'ALTER TABLE runs ALTER COLUMN {name} TYPE varchar({length}) COLLATE "C"')
    op.create_index("ix_runs_status", "runs", ["status"])
    op.create_index("ix_runs_ended_ms", "runs", ["ended_ms"])
    deleted = sa.text("deleted_ms IS NOT NULL")
    op.create_index("ix_runs_deleted", "runs", ["started_ms", "id"], sqlite_where=deleted, postgresql_where=deleted)
    if is_postgres:
        # It is compressed already.
        op.execute("ALTER TABLE metric_blocks ALTER COLUMN data SET STORAGE EXTERNAL")
        _widen()


def _widen() -> None:
    for table, columns in _KEYS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'ALTER COLUMN {name} TYPE bigint' for name in columns)}")
    for table in _IDS:
        op.execute(f"ALTER SEQUENCE {table}_id_seq AS bigint")

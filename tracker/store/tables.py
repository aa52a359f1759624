"""Tables of the run store. Keys are integers, callers see run ids (`runs.uid`); times are in ms since the epoch.

A float column that is NULL where a number was written holds NaN: SQLite has no NaN, and PostgreSQL sorts its own above
infinity, so both keep it as NULL. A column of type `Address` has an address without a scheme for files next to a SQLite
file, relative to its folder. Columns `head` are the first 200 characters of a text, short enough to be indexed.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tracker.store.addresses import Address

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

KEY = BigInteger().with_variant(Integer, "sqlite")
"""An integer key of 64 bits; SQLite's INTEGER has them, and only a column of that type is its row id."""
HEAD = 200
LEASED = text("status = 'running' AND writer != ''")
"""Runs with a lease. Written as text, without parameters, so that queries can use the index on such runs."""
DELETED = text("deleted_ms IS NOT NULL")
"""Deleted runs; not those of a deleted experiment."""
PUBLISHED = text("status = 'published'")
"""Checkpoints whose files exist, perhaps few of many. Written as text for the same reason."""
PENDING = text("status = 'pruned' AND removed < 2")
"""Pruned checkpoints whose files are not removed yet."""

CHECKPOINT_SAVED = "checkpoint_saved"
"""Kind of the event of a checkpoint; the `uri` in its `detail` has the form of the checkpoint's row."""


def run_column() -> Column[int]:
    """The run that a row belongs to."""
    return Column("run_id", KEY, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False)


def as_bytes(length: int) -> String:
    """Text that sorts by code points, whatever the database's own collation; SQLite does so by default."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _head(of: str) -> Column[str]:
    return Column("head", as_bytes(HEAD), Computed(f"substr({of}, 1, {HEAD})", persisted=True))


experiments = Table(
    "experiments",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("name", String(500), nullable=False, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    # NULL: the store's default location.
    Column("artifact_location", Address),
    Column("updated_ms", BigInteger),
)

runs = Table(
    "runs",
    metadata,
    Column("id", KEY, primary_key=True),
    # Sorted by code points, so that the ids with one prefix are a range.
    Column("uid", as_bytes(64), nullable=False, unique=True),
    Column("experiment_id", KEY, ForeignKey("experiments.id"), nullable=False),
    # Sorted by code points, so that an index has their order.
    Column("name", as_bytes(250), nullable=False),
    Column("status", as_bytes(16), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("alive_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Column("stop_requested_ms", BigInteger),
    # The writer that opened the run last: only it can end the run. Empty for a run without a lease.
    Column("writer", String(64), nullable=False),
    Column("artifact_uri", Address, nullable=False),
    # The metric, declared or read from a callback, that decides the best epoch; NULL: val_loss, else loss.
    Column("monitor", String(250)),
    Column("monitor_source", String(16)),
    Column("best_metric", String(250)),
    Column("best_epoch", BigInteger),
    Column("best_value", Double),
    # Raised by every change of the run or of its rows: what was read is valid while the version is unchanged.
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    # How many checkpoints are kept, the last and the best; both NULL: all.
    Column("keep_last", Integer),
    Column("keep_best", Integer),
    # When the last process opened it (NULL: the first one did, at `started_ms`), and how long earlier ones had it open.
    Column("opened_ms", BigInteger),
    Column("spent_ms", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_runs_started_ms_id", "started_ms", "id"),
    Index("ix_runs_experiment_id_started_ms_id", "experiment_id", "started_ms", "id"),
    Index("ix_runs_name", "name"),
    Index("ix_runs_status", "status"),
    Index("ix_runs_ended_ms", "ended_ms"),
    Index("ix_runs_deleted", "started_ms", "id", sqlite_where=DELETED, postgresql_where=DELETED),
    # Every read looks for expired leases.
    Index(
        "ix_runs_alive_ms",
        "alive_ms",
        sqlite_where=LEASED,
        postgresql_where=LEASED,
    ),
)

journals = Table(
    "journals",
    metadata,
    run_column(),
    Column("writer", String(64), nullable=False),
    Column("last_number", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "writer"),
    sqlite_with_rowid=False,
)

database_folders = Table(
    "database_folders",
    metadata,
    # URIs of the folders that this SQLite file was in when runs began: journals that name one of them belong to it.
    Column("folder", Text, primary_key=True),
    sqlite_with_rowid=False,
)

fits = Table(
    "fits",
    metadata,
    run_column(),
    Column("number", Integer, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("first_epoch", BigInteger, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("phase_epoch", BigInteger, nullable=False),
    Column("phase_step", BigInteger, nullable=False),
    Column("epochs", BigInteger),
    Column("steps_per_epoch", BigInteger),
    Column("batch_size", BigInteger),
    Column("resumed_from", BigInteger),
    Column("host", Text, nullable=False),
    Column("writer", String(64), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("outcome", String(16)),
    PrimaryKeyConstraint("run_id", "number"),
    sqlite_with_rowid=False,
)

epochs = Table(
    "epochs",
    metadata,
    run_column(),
    Column("number", BigInteger, nullable=False),
    Column("fit", Integer, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("seconds", Double),
    Column("step", BigInteger),
    PrimaryKeyConstraint("run_id", "number", "fit"),
    sqlite_with_rowid=False,
)

series = Table(
    "series",
    metadata,
    Column("id", KEY, primary_key=True),
    run_column(),
    Column("key", String(250), nullable=False),
    Column("axis", String(8), nullable=False),
    Column("goal", String(3)),
    Column("goal_source", String(16)),
    # A point above `top_step` with this `take` meets no older one of its step.
    Column("top_step", BigInteger, nullable=False),
    Column("take", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("last_value", Double),
    Column("last_step", BigInteger),
    Column("last_ms", BigInteger),
    Column("min_value", Double),
    Column("min_step", BigInteger),
    Column("min_ms", BigInteger),
    Column("max_value", Double),
    Column("max_step", BigInteger),
    Column("max_ms", BigInteger),
    # min_value or max_value by the goal, so that an index can order runs by it.
    Column("best_value", Double),
    # No point in `metric_blocks` is above this step; -1: the series has no blocks, else it is at least 0.
    Column("sealed_step", BigInteger, nullable=False, server_default=text("-1")),
    # `count` less the rows of `metric_points`, superseded ones too.
    Column("sealed_count", BigInteger, nullable=False, server_default=text("0")),
    UniqueConstraint("run_id", "key"),
    Index("ix_series_key_last_value", "key", "last_value", "run_id"),
    Index("ix_series_key_best_value", "key", "best_value", "run_id"),
)

metric_points = Table(
    "metric_points",
    metadata,
    # No foreign key: only the write path inserts rows, in a transaction that holds their series.
    Column("series_id", KEY, nullable=False),
    Column("step", BigInteger, nullable=False),
    # 0 for the first value of a step, higher when a step is written again: the highest counts.
    Column("take", Integer, nullable=False),
    Column("fit", Integer, nullable=False),
    # Since the run's `started_ms`: two bytes a point less than since the epoch.
    Column("offset_ms", BigInteger, nullable=False),
    Column("value", Double),
    PrimaryKeyConstraint("series_id", "step", "take"),
    sqlite_with_rowid=False,
)

metric_blocks = Table(
    "metric_blocks",
    metadata,
    # Sealed points of long series (`tracker.store.points.blocks`). A point is in a block or a row of `metric_points`.
    Column("series_id", KEY, nullable=False),
    # The first and the last point by step and take. Blocks of a series may overlap.
    Column("first_step", BigInteger, nullable=False),
    Column("first_take", Integer, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last_take", Integer, nullable=False),
    Column("min_offset_ms", BigInteger, nullable=False),
    Column("max_offset_ms", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    # The fit of all its points; NULL: they are of several, or hide each other, so that `extremes` may have hidden ones.
    Column("fit", Integer),
    # Version of the format of `extremes` and `data` (`tracker.store.points.block_codec`).
    Column("codec", SmallInteger, nullable=False),
    # Minimum and maximum of each 256 points.
    Column("extremes", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("series_id", "first_step", "first_take"),
)

write_buffer = Table(
    "tails",
    metadata,
    Column("id", KEY, primary_key=True),
    # The write buffer: packed points that a server under load soon moves into series (`tracker.store.write`).
    Column("data", LargeBinary, nullable=False),
)

params = Table(
    "params",
    metadata,
    run_column(),
    Column("key", String(250), nullable=False),
    # "str", "num", "bool", "null" or "json"; `text` has strings as they are, the rest as JSON.
    Column("type", String(4), nullable=False),
    Column("text", Text, nullable=False),
    # The value as a number if it is one, or a numeric string.
    Column("number", Double),
    _head("text"),
    PrimaryKeyConstraint("run_id", "key"),
    Index("ix_params_key_head", "key", "head"),
    Index("ix_params_key_number", "key", "number"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    run_column(),
    Column("key", String(250), nullable=False),
    Column("value", Text, nullable=False),
    _head("value"),
    PrimaryKeyConstraint("run_id", "key"),
    Index("ix_tags_key_head", "key", "head"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("id", KEY, primary_key=True),
    run_column(),
    Column("ms", BigInteger, nullable=False),
    Column("kind", String(250), nullable=False),
    Column("epoch", BigInteger),
    Column("step", BigInteger),
    Column("fit", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_events_run_id_ms", "run_id", "ms", "id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", KEY, primary_key=True),
    run_column(),
    Column("fit", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("ms", BigInteger, nullable=False),
    Column("format", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("metrics", Text, nullable=False),
    Column("is_best", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("uri", Address, nullable=False),
    Column("status", String(16), nullable=False),
    Column("role", String(8), nullable=False, server_default=text("'model'")),
    Column("tag", String(250)),
    # State of a pruned one's file: 0 exists, 1 no row may name it any more, 2 removed, -1 perhaps stored again since.
    Column("removed", SmallInteger, nullable=False, server_default=text("0")),
    Index("ix_checkpoints_run_id_epoch", "run_id", "epoch"),
    Index("ix_checkpoints_run_id_sha256", "run_id", "sha256"),
    Index("ix_checkpoints_published", "run_id", sqlite_where=PUBLISHED, postgresql_where=PUBLISHED),
    Index("ix_checkpoints_pending", "run_id", sqlite_where=PENDING, postgresql_where=PENDING),
)

histograms = Table(
    "histograms",
    metadata,
    run_column(),
    Column("key", String(250), nullable=False),
    Column("axis", String(8), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("fit", Integer, nullable=False),
    Column("ms", BigInteger, nullable=False),
    # n + 1 edges and n counts, packed (`tracker.store.points.histogram_codec`). NULL in rows from before revision 0005,
    # which have them as JSON in `edges` and `counts`; newer rows have empty texts there.
    Column("data", LargeBinary),
    Column("edges", Text, nullable=False),
    Column("counts", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "key", "step", "fit"),
    sqlite_with_rowid=False,
)

"""Tables of experiment tags, data sets, logged models and access tokens.

They refer to `experiments` and `runs`. The write path of metrics does not use them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tracker.store.addresses import Address
from tracker.store.tables import KEY, as_bytes, run_column
from tracker.store.tables import metadata as metadata

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", KEY, ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(250), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("experiment_id", "key"),
    sqlite_with_rowid=False,
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("experiment_id", KEY, ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(500), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("source_type", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text),
    Column("profile", Text),
    UniqueConstraint("experiment_id", "name", "digest"),
    Index("ix_datasets_name", "name"),
)

run_datasets = Table(
    "run_datasets",
    metadata,
    run_column(),
    Column("dataset_id", KEY, ForeignKey("datasets.id", ondelete="CASCADE"), nullable=False),
    # A JSON object: what the run used it for.
    Column("tags", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "dataset_id"),
    Index("ix_run_datasets_dataset_id", "dataset_id"),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("uid", as_bytes(64), nullable=False, unique=True),
    Column("experiment_id", KEY, ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", KEY, ForeignKey("runs.id", ondelete="SET NULL")),
    Column("name", String(500), nullable=False),
    Column("kind", String(500)),
    Column("status", String(16), nullable=False),
    Column("status_message", Text),
    Column("artifact_uri", Address, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Index("ix_models_experiment_id_created_ms", "experiment_id", "created_ms"),
    Index("ix_models_run_id", "run_id"),
)

model_texts = Table(
    "model_texts",
    metadata,
    # Parameters and tags of a model: `kind` is "param" or "tag".
    Column("model_id", KEY, ForeignKey("models.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(5), nullable=False),
    Column("key", String(250), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("model_id", "kind", "key"),
    sqlite_with_rowid=False,
)

model_metrics = Table(
    "model_metrics",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("model_id", KEY, ForeignKey("models.id", ondelete="CASCADE"), nullable=False),
    run_column(),
    Column("key", String(250), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("value", Double),
    Column("dataset_name", String(500)),
    Column("dataset_digest", String(64)),
    Index("ix_model_metrics_model_id", "model_id", "key"),
    Index("ix_model_metrics_run_id", "run_id"),
)

run_models = Table(
    "run_models",
    metadata,
    # Models that a run used ("input") or made ("output").
    run_column(),
    Column("direction", String(6), nullable=False),
    Column("model_uid", String(64), nullable=False),
    Column("step", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "direction", "model_uid"),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("name", String(250), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    # SHA-256 of the token, in hex: the token itself is shown once and never stored.
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

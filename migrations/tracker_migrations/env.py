"""Alembic's entry point. The caller passes a connection inside a transaction; see `tracker.store.schema`."""

from __future__ import annotations

from alembic import context

from tracker.store.catalogue_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()

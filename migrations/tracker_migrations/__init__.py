"""Alembic's revisions of the run store: numbered, append-only, expanding before they contract."""

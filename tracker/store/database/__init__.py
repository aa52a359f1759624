"""Connections to SQLite and PostgreSQL: files, time limits, and the drivers' own cursors."""

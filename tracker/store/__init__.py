"""The run store in SQL: tables, the one write path, the reads. SQLAlchemy lives here and nowhere above."""

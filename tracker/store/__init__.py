"""The run store in SQL, with SQLAlchemy: tables, write path and reads."""

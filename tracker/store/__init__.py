"""The run store in SQL: tables, write path and reads. No other package imports SQLAlchemy."""

"""The server's routes by subject; each module has a table of operations."""

"""Reads of runs: rows become records."""

"""Entities, rules, errors and ports: what the words mean. No I/O, and nothing of ours is imported here."""

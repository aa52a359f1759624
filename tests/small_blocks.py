"""Stores whose points are sealed early: a block has eight points, where others have thousands."""

from __future__ import annotations

from tracker.store.store import SqlRunStore

POINTS = 8


def open_small(url: str) -> SqlRunStore:
    """`SqlRunStore.open` for a store with small blocks, so that short series meet them too."""
    return SqlRunStore.open(url, block_points=POINTS)

"""How each status looks, and the words of `tracker.query.quantity_format`."""

from __future__ import annotations

from tracker.domain.vocabulary import RunStatus
from tracker.query.quantity_format import ago, clock, duration, plural, size, thousands, took

__all__ = ["STATUS_STYLES", "ago", "clock", "duration", "plural", "size", "thousands", "took"]

STATUS_STYLES: dict[RunStatus, str] = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "interrupted": "yellow",
    "preempted": "yellow",
    "lost": "magenta",
}

"""Tracker, an experiment tracker for Keras. The public names; each is documented where it is defined."""

from __future__ import annotations

from tracker.api import compare, load_checkpoint, open_store, start_run
from tracker.client.run import Run
from tracker.domain.errors import TrackerError

__all__ = ["Run", "TrackerError", "compare", "load_checkpoint", "open_store", "start_run"]
__version__ = "0.1.0"

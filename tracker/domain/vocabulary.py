"""The words for how things stand, and the numbers that go with them."""

from __future__ import annotations

from typing import Literal

RunStatus = Literal["running", "finished", "failed", "interrupted", "preempted", "lost"]
FitOutcome = Literal["completed", "stopped_early", "stopped", "nan", "failed", "interrupted", "preempted", "lost"]
Axis = Literal["epoch", "step", "time"]
CheckpointRole = Literal["model", "state"]

RUN_STATUSES: tuple[RunStatus, ...] = ("running", "finished", "failed", "interrupted", "preempted", "lost")
FIT_OUTCOMES: tuple[FitOutcome, ...] = (
    "completed", "stopped_early", "stopped", "nan", "failed", "interrupted", "preempted", "lost",
)  # fmt: skip

ORBAX_ARCHIVE = ".orbax.zip"
FOLDER_ARCHIVE = ".dir.zip"
"""The formats of checkpoints that were folders, and are kept as one file; the first of those that Orbax wrote."""
UNNUMBERED = -1
"""In place of a fit's number: the point came from a client without a journal, and stands beside others of its step."""
DEFAULT_EXPERIMENT = "Default"
LEASE_MS = 120_000
"""A run that gave no sign of life for this long is `lost`."""
HEARTBEAT_MS = 15_000
"""How often a client renews its run's lease."""

"""Statuses, outcomes, axes and roles, and times of the lease."""

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
"""Formats of checkpoint folders that are stored as one file; the first is for those that Orbax wrote."""
UNNUMBERED = -1
"""In place of a fit's number: the point is an unnumbered write; several of them at one step are all kept."""
DEFAULT_EXPERIMENT = "Default"
LEASE_MS = 120_000
"""A run without a sign of life for this long is `lost`."""
HEARTBEAT_MS = 15_000
"""How often a client renews its run's lease."""

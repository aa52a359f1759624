"""Progress of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a run: what a client must know to continue it.

    `next_epoch` and `next_step` follow the last visible ones; `steps` is how many steps the optimizer did.
    `phase_epoch` and `phase_step` are what `next_epoch` and `steps` were when the current phase began.
    """

    fits: int = 0
    phase: int = 0
    next_epoch: int = 0
    next_step: int = 0
    steps: int = 0
    phase_epoch: int = 0
    phase_step: int = 0

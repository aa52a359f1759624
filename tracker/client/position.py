"""Position of a run: its current fit, phase, epoch and optimizer step."""

from __future__ import annotations

from tracker.client.clock import now_ms
from tracker.domain.run_progress import Progress


class Position:
    """Current position of a run: `Progress`, updated with each record."""

    def __init__(self, progress: Progress) -> None:
        self.fits = progress.fits
        self.phase = progress.phase
        self.next_epoch = progress.next_epoch
        self.next_step = progress.next_step
        self.steps = progress.steps
        self.phase_epoch = progress.phase_epoch
        self.phase_step = progress.phase_step
        self._moment = 0

    def moment(self) -> int:
        """Milliseconds since the Unix epoch, strictly increasing.

        Events and checkpoints are sorted by time, so this keeps them in the order in which they happened.
        """
        self._moment = moment = max(now_ms(), self._moment + 1)
        return moment

    def enter_fit(
        self, initial_epoch: int, epochs: int | None, steps_per_epoch: int | None, resumed_steps: int | None = None
    ) -> tuple[int, int]:
        """Begin the next fit; return the run's numbers of its first epoch and of its first optimizer step.

        A fit from epoch 0 begins a new phase, whose numbers go on from the run's last. A later `initial_epoch`
        continues the phase: points at and after it will be superseded. So does a fit with `resumed_steps` (the run's
        optimizer steps where it resumes), even from epoch 0. A fit that plans no epoch changes nothing.
        """
        self.fits += 1
        if epochs == 0:
            return self.next_epoch, self.steps + 1
        begins = initial_epoch == 0 and resumed_steps is None
        if begins or self.phase == 0:
            self.phase += 1
            self.phase_epoch = self.next_epoch if initial_epoch == 0 else 0
            self.phase_step = self.steps if initial_epoch == 0 else 0
        self.next_epoch = self.phase_epoch + initial_epoch
        if resumed_steps is not None:
            self.steps = resumed_steps
        elif initial_epoch == 0:
            self.steps = self.phase_step
        elif steps_per_epoch:
            self.steps = self.phase_step + initial_epoch * steps_per_epoch
        return self.next_epoch, self.steps + 1

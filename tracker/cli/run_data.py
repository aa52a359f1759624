"""All records of one run in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tracker.domain.ports import RunReader
from tracker.domain.records import Checkpoint, Epoch, Event, Fit, Run, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRun:
    """One run with all its records, except the points of its metrics."""

    run: Run
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: Mapping[str, Series]
    fits: Sequence[Fit]
    epochs: Sequence[Epoch]
    events: Sequence[Event]
    checkpoints: Sequence[Checkpoint]

    @classmethod
    def read(cls, store: RunReader, run_id: str) -> Self:
        """Read the run from `store`; RunNotFound."""
        return cls(
            run=store.get_run(run_id),
            params=store.params(run_id),
            tags=store.tags(run_id),
            metrics=store.metrics(run_id),
            fits=store.fits(run_id),
            epochs=store.epochs(run_id),
            events=store.events(run_id),
            checkpoints=store.checkpoints(run_id),
        )

    @property
    def failure(self) -> Mapping[str, Any] | None:
        """The type, message and traceback of the exception that failed the run; None unless its status is failed."""
        if self.run.status != "failed":
            return None
        return next((event.detail for event in reversed(self.events) if event.kind == "run_failed"), None)

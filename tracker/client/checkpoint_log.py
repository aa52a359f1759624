"""Logs checkpoints: copies their bytes next to the journal, then writes their frames. Nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from tracker.client.clock import now_ms
from tracker.client.folder_archive import files_of
from tracker.client.staging import Staging
from tracker.client.validation import Validation, as_mapping, as_path
from tracker.client.values import checkpoint_format, one_of
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import CheckpointLogged, CheckpointsKept, Frame
from tracker.domain.limits import MOST_KEPT, as_detail, check_step
from tracker.domain.vocabulary import CheckpointRole

Hold = Callable[[Callable[[], None]], None]


class CheckpointLog:
    """Logs a run's checkpoints, from any thread; those that cannot be copied are refused, logged and counted.

    `staging` returns the journal's staging folder, None if nothing is recorded; `moment` the time of an event now.
    """

    def __init__(
        self,
        intake: Validation,
        staging: Callable[[], Staging | None],
        write: Callable[[Frame], None],
        moment: Callable[[], int],
    ) -> None:
        self._intake = intake
        self._staging = staging
        self._write = write
        self._moment = moment

    def add(
        self,
        local_path: str | os.PathLike[str],
        epoch: int,
        step: int | None,
        fit: int,
        *,
        metrics: Mapping[str, Any] | None,
        is_best: bool | None,
        state: Mapping[str, Any] | None,
        role: CheckpointRole,
        ms: int | None,
        hold: Hold | None = None,
    ) -> bool:
        """Copy the file or folder and record it; `epoch` and `step` are the run's. True if it will be published.

        `hold` takes a function that writes the row, to be called later; None: the row is written now.
        """

        def keep() -> bool:
            when = self._moment() if ms is None else ms
            source, part = Path(as_path("local_path", local_path)), one_of("role", role, get_args(CheckpointRole))
            if not source.exists():
                raise InvalidValue("checkpoint", f"{str(source)!r} does not exist")
            if source.is_dir() and not files_of(source):
                raise InvalidValue("checkpoint", f"{str(source)!r} is a folder without files")
            number, steps = check_step("epoch", epoch), None if step is None else check_step("step", step)
            beside, needed = (
                self._intake.other_metrics(metrics or {}),
                as_detail("state", dict(as_mapping("state", state or {}))),
            )
            kind = checkpoint_format(source)
            if (staging := self._staging()) is None:
                return False
            staged = staging.keep_checkpoint(source, f"checkpoints/{{sha256}}{kind}", state=part == "state")
            frame = CheckpointLogged(
                ms=when,
                epoch=number,
                step=steps,
                fit=fit,
                format=kind,
                metrics=beside,
                is_best=None if is_best is None else bool(is_best),
                state=needed,
                file=staged,
                role=part,
            )

            def record() -> None:
                self._write(frame)
                if part == "state":
                    staging.supersede(staged.name)

            if hold is None:
                record()
            else:
                hold(record)
            return True

        return bool(self._intake.checked(keep))

    def bound(self, last: int | None, best: int | None) -> None:
        """Record the retention: how many checkpoints are kept."""

        def say() -> None:
            self._write(CheckpointsKept(ms=now_ms(), last=_count("last", last), best=_count("best", best)))

        self._intake.checked(say)


def _count(field: str, value: object) -> int | None:
    if value is None:
        return None
    limit = f"a whole number from 1 to {MOST_KEPT}, or None"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_KEPT:
        raise InvalidValue(field, f"{value!r} checkpoints cannot be kept", limit=limit)
    return value

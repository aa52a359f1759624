"""Logs checkpoints: copies their bytes next to the journal, then writes their frames. Nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tracker.client.clock import now_ms
from tracker.client.folder_packing import files_of
from tracker.client.staging import Staging
from tracker.client.validation import Validation, as_mapping, as_path
from tracker.client.values import checkpoint_format, one_of
from tracker.domain.checkpoint_ranking import BEST_BY
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import CheckpointLogged, CheckpointsKept, Frame
from tracker.domain.limits import MOST_KEPT, as_detail, check_step
from tracker.domain.vocabulary import CheckpointRole

Hold = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint of a run: `epoch`, `step` and `fit` (0: none) in the run's numbers, `size` in bytes.

    `is_best` is None if the store decides. `state` is what a resume needs besides the file, and what else is known of
    the checkpoint. `ms` is the time at which it was saved, 0 for now. `format` and `size` are those of the copy.
    """

    epoch: int
    step: int | None = None
    fit: int = 0
    format: str = ""
    size: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    is_best: bool | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    role: CheckpointRole = "model"
    ms: int = 0

    @property
    def best_by(self) -> str | None:
        """The metric by which the callback that saved the checkpoint found it the best."""
        return self.state.get(BEST_BY)


class CheckpointLog:
    """Logs a run's checkpoints, from any thread; those that cannot be copied are refused, logged and counted.

    `staging` returns the journal's staging folder, None if nothing is recorded; `moment` the time of an event now.
    """

    def __init__(
        self,
        validation: Validation,
        staging: Callable[[], Staging | None],
        write: Callable[[Frame], None],
        moment: Callable[[], int],
    ) -> None:
        self._validation = validation
        self._staging = staging
        self._write = write
        self._moment = moment

    def add(
        self,
        local_path: str | os.PathLike[str],
        info: CheckpointInfo,
        saved: Callable[[CheckpointInfo], None],
        hold: Hold | None,
    ) -> bool:
        """Copy the file or folder and record it; True if it will be published.

        `saved` is called with the complete `info` when the row is written. `hold` takes a function that writes the
        row, to be called later; None: the row is written now.
        """

        def keep() -> bool:
            known = self._checked(replace(info, ms=info.ms or self._moment()))
            source = Path(as_path("local_path", local_path))
            if not source.exists():
                raise InvalidValue("checkpoint", f"{str(source)!r} does not exist")
            if source.is_dir() and not files_of(source):
                raise InvalidValue("checkpoint", f"{str(source)!r} is a folder without files")
            kind = checkpoint_format(source)
            if (staging := self._staging()) is None:
                return False
            staged = staging.keep_checkpoint(source, f"checkpoints/{{sha256}}{kind}", state=known.role == "state")
            known = replace(known, format=kind, size=staged.size)
            frame = CheckpointLogged(
                ms=known.ms,
                epoch=known.epoch,
                step=known.step,
                fit=known.fit,
                format=kind,
                metrics=dict(known.metrics),
                is_best=known.is_best,
                state=dict(known.state),
                file=staged,
                role=known.role,
            )

            def record() -> None:
                self._write(frame)
                saved(known)
                if known.role == "state":
                    staging.supersede(staged.name)

            if hold is None:
                record()
            else:
                hold(record)
            return True

        return bool(self._validation.checked(keep))

    def bound(self, last: int | None, best: int | None) -> None:
        """Record the retention: how many checkpoints are kept."""

        def say() -> None:
            self._write(CheckpointsKept(ms=now_ms(), last=_count("last", last), best=_count("best", best)))

        self._validation.checked(say)

    def _checked(self, info: CheckpointInfo) -> CheckpointInfo:
        return replace(
            info,
            epoch=check_step("epoch", info.epoch),
            step=None if info.step is None else check_step("step", info.step),
            metrics=self._validation.other_metrics(info.metrics or {}),
            is_best=None if info.is_best is None else bool(info.is_best),
            state=as_detail("state", dict(as_mapping("state", info.state or {}))),
            role=one_of("role", info.role, get_args(CheckpointRole)),
        )


def _count(field: str, value: object) -> int | None:
    if value is None:
        return None
    limit = f"a whole number from 1 to {MOST_KEPT}, or None"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_KEPT:
        raise InvalidValue(field, f"{value!r} checkpoints cannot be kept", limit=limit)
    return value

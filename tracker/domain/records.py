"""Records that a store returns. Times are ms since the Unix epoch, UTC; epochs count from 0.

Records come from databases and servers that others can write to. So a field that becomes part of a path here is checked
when its record is made: InvalidValue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tracker.domain.goals import Goal
from tracker.domain.limits import check_format, check_run_id, check_sha256
from tracker.domain.vocabulary import Axis, CheckpointRole, FitOutcome, RunStatus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A named set of runs; id 0 is `Default`."""

    id: int
    name: str
    created_ms: int
    deleted_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `best_epoch` is that of `best_metric`, the monitored metric; None if there is none yet.

    If a fit ended by restoring the weights of an epoch (EarlyStopping), `best_epoch` is that epoch: the run's result.

    `opened_ms` is when the last process opened the run, None if only the first one did; `spent_ms` is how long earlier
    processes had it open. `took_s` adds up the time in which a process had it open.
    """

    id: str
    name: str
    experiment: str
    status: RunStatus
    started_ms: int
    ended_ms: int | None
    best_epoch: int | None
    artifact_uri: str
    best_metric: str | None = None
    best_value: float | None = None
    alive_ms: int = 0
    deleted_ms: int | None = None
    stop_requested: bool = False
    opened_ms: int | None = None
    spent_ms: int = 0

    def __post_init__(self) -> None:
        check_run_id(self.id)

    def took_s(self, now_ms: int) -> float:
        """Seconds in which a process had the run open, until `now_ms` if one still has. Never negative."""
        opened = self.started_ms if self.opened_ms is None else self.opened_ms
        ended = now_ms if self.ended_ms is None else self.ended_ms
        return (self.spent_ms + max(ended - opened, 0)) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One `model.fit()`. `first_epoch` is numbered as in the run; `epochs` is how many were planned to be reached.

    `outcome` is None while the fit runs. `resumed_from` is the run's epoch that this fit continued after.
    """

    number: int
    outcome: FitOutcome | None
    first_epoch: int
    epochs: int | None
    resumed_from: int | None
    started_ms: int
    ended_ms: int | None
    phase: int = 1
    first_step: int = 0
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of a run, as recorded by the latest fit that trained it."""

    number: int
    fit: int
    seconds: float | None
    metrics: Mapping[str, float]
    ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event on the run's timeline; `detail` is a JSON mapping."""

    kind: str
    epoch: int | None
    step: int | None
    ms: int
    detail: Mapping[str, Any]
    fit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose bytes are in the artifact store; `state` is what a resume needs besides the file.

    `role` is "model", or "state" for the state checkpoint that a training is resumed from. The latest is the newest by
    time. `superseded`: a later fit trained this epoch again; then it is kept, but is not best. Retention never prunes
    one that has a `tag`. A `format` that ends in `.orbax.zip` or `.dir.zip` is an archive of a folder.
    """

    id: int
    epoch: int
    step: int | None
    format: str
    size: int
    sha256: str
    metrics: Mapping[str, float]
    is_best: bool
    state: Mapping[str, Any]
    uri: str
    fit: int = 0
    ms: int = 0
    status: Literal["published", "pruned"] = "published"
    role: CheckpointRole = "model"
    tag: str | None = None
    superseded: bool = False

    def __post_init__(self) -> None:
        check_format("format", self.format)
        if self.sha256:
            check_sha256("sha256", self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """How many files were removed, and how many bytes they had."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder among a run's artifacts; `path` is below the run's root, `size` in bytes, None for a folder."""

    path: str
    is_dir: bool
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """A value of a series, with its step and time."""

    value: float
    step: int
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The summary of one metric of one run, without superseded points.

    NaN is never `min` or `max`; `best` is `min` or `max` by `goal`, None while the goal is unknown.
    """

    key: str
    axis: Axis
    goal: Goal | None
    count: int
    last: Extreme | None
    min: Extreme | None
    max: Extreme | None
    best: Extreme | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The points of a series in step order: steps int64 (n,), ms int64 (n,), values float64 (n,).

    With `raw=True` also each point's fit (int64, 0 outside any, -1 if unnumbered) and whether it is superseded (bool).
    """

    key: str
    axis: Axis
    steps: NDArray[np.int64]
    ms: NDArray[np.int64]
    values: NDArray[np.float64]
    fits: NDArray[np.int64] | None = None
    superseded: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """A distribution at one step: `counts[i]` values lie in [edges[i], edges[i + 1]], the last interval closed."""

    key: str
    axis: Axis
    step: int
    ms: int
    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """One page of a search; pass `next_page_token` to get the next, None after the last.

    `warnings` of a first page name metrics, parameters and tags of the search that no run of its experiments has.
    """

    runs: Sequence[Run]
    next_page_token: str | None
    warnings: Sequence[str] = ()

    def __iter__(self) -> Any:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

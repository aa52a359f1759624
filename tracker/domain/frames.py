"""Frames of a journal, and the batches in which clients send them to a store.

A frame records one log call. Frames of one (run, writer) journal are numbered from 1 without reuse; a number may be
missing, never repeated. The arrays on disk and on the wire follow the order of the fields here, so fields are only ever
added at the end, with a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from tracker.domain.goals import Goal, GoalSource
from tracker.domain.vocabulary import Axis, CheckpointRole, FitOutcome, RunStatus


class Points(Struct, tag="p", array_like=True, frozen=True, gc=False):
    """Metrics at one step. `fit` is 0 outside any fit."""

    ms: int
    axis: Axis
    step: int
    fit: int
    values: dict[str, float]


class EpochEnded(Struct, tag="e", array_like=True, frozen=True, gc=False):
    """An epoch and its metrics, which are points on the axis `epoch`; `step` counts the optimizer's steps so far."""

    ms: int
    epoch: int
    fit: int
    seconds: float | None
    values: dict[str, float]
    step: int | None = None


class RunStarted(Struct, tag="run", array_like=True, frozen=True):
    """A writer opens the run, creating it if it is new; from here on this writer decides its status.

    `script` is what its process runs and `commit` that of the script's Git repository, empty if there is none. If the
    run exists already, they are kept as the event `reopened`.
    """

    ms: int
    experiment: str
    name: str
    artifact_uri: str
    host: str
    pid: int
    script: str = ""
    commit: str = ""


class RunEnded(Struct, tag="end", array_like=True, frozen=True):
    """The run ended; `error` is {type, message, traceback} of the exception that made it fail."""

    ms: int
    status: RunStatus
    error: dict[str, str] | None = None


class Params(Struct, tag="par", array_like=True, frozen=True):
    """Flat parameters of JSON values. A later different value is kept as `fit.<fit>.<key>`."""

    ms: int
    fit: int
    values: dict[str, Any]


class Tags(Struct, tag="tag", array_like=True, frozen=True):
    """Tags to set."""

    ms: int
    values: dict[str, str]


class EventLogged(Struct, tag="ev", array_like=True, frozen=True):
    """An event on the run's timeline."""

    ms: int
    kind: str
    epoch: int | None
    step: int | None
    fit: int
    detail: dict[str, Any]


class FitStarted(Struct, tag="fit", array_like=True, frozen=True):
    """A `model.fit()` begins. Points of earlier fits at or after `first_epoch` / `first_step` are superseded.

    Epochs count from 0; steps are optimizer steps done since the run began, so the first one is 1.
    """

    ms: int
    number: int
    phase: int
    first_epoch: int
    first_step: int
    phase_epoch: int
    phase_step: int
    epochs: int | None
    steps_per_epoch: int | None
    batch_size: int | None
    resumed_from: int | None
    host: str


class FitEnded(Struct, tag="fin", array_like=True, frozen=True):
    """A `model.fit()` ended."""

    ms: int
    number: int
    outcome: FitOutcome


class MetricDefined(Struct, tag="def", array_like=True, frozen=True):
    """Whether small or large values of a metric are better, and the source of this goal."""

    ms: int
    key: str
    goal: Goal
    source: GoalSource


class MetricMonitored(Struct, tag="mon", array_like=True, frozen=True):
    """The metric whose best epoch is the run's; `declared` by the user, or read from a callback (`keras`)."""

    ms: int
    key: str
    source: GoalSource


class HistogramLogged(Struct, tag="his", array_like=True, frozen=True):
    """A distribution at one step: n counts between n + 1 edges."""

    ms: int
    key: str
    axis: Axis
    step: int
    fit: int
    edges: list[float]
    counts: list[int]


class Staged(Struct, array_like=True, frozen=True):
    """A file next to the journal that waits to be stored: `name` there, `path` its target below the run's artifacts.

    `sha256` is that of the waiting bytes, if it was computed.
    """

    name: str
    path: str
    size: int
    sha256: str = ""


class ArtifactLogged(Struct, tag="art", array_like=True, frozen=True):
    """A file to store. It has no row in SQL.

    A second frame of the same `file.name` says that it is stored, at `uri`.
    """

    ms: int
    file: Staged
    uri: str = ""


class CheckpointLogged(Struct, tag="ck", array_like=True, frozen=True):
    """A checkpoint whose bytes wait to be stored.

    A second frame of the same `file.name` says that they are stored: with `sha256` and `uri`, a store records it.
    """

    ms: int
    epoch: int
    step: int | None
    fit: int
    format: str
    metrics: dict[str, float]
    is_best: bool | None
    state: dict[str, Any]
    file: Staged
    sha256: str = ""
    uri: str = ""
    role: CheckpointRole = "model"


class CheckpointsKept(Struct, tag="keep", array_like=True, frozen=True):
    """How many checkpoints of role `model` are kept from here on: the last ones and the best ones; None if unset.

    If both are None, all are kept.
    """

    ms: int
    last: int | None
    best: int | None


class DatasetLogged(Struct, tag="data", array_like=True, frozen=True):
    """Data that the run used; `tags` say what for (`mlflow.data.context`). `schema` and `profile` are JSON texts."""

    ms: int
    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: dict[str, str]


class PointsLogged(Struct, tag="pts", array_like=True, frozen=True):
    """Points of a client without a journal, by column in the client's order: keys, steps, ms, values; equally long.

    A point equal to a stored one (key, step, ms, value) is stored once; different points of one step are all kept.
    """

    keys: Sequence[str]
    steps: Sequence[int]
    ms: Sequence[int]
    values: Sequence[float]


class RunRenamed(Struct, tag="name", array_like=True, frozen=True):
    """The run gets another name. Clients without a journal send it; no journal has it."""

    name: str


class StopRequested(Struct, tag="stop", array_like=True, frozen=True):
    """The run's training shall stop. Clients without a journal send it; no journal has it."""

    ms: int


JournalItem = (
    RunStarted | RunEnded | Params | Tags | EventLogged | FitStarted | FitEnded | MetricDefined
    | MetricMonitored | HistogramLogged | ArtifactLogged | CheckpointLogged | EpochEnded | DatasetLogged
    | CheckpointsKept
)  # fmt: skip
Frame = Points | JournalItem
Item = JournalItem | PointsLogged | RunRenamed | StopRequested


class PointBlock(Struct, frozen=True):
    """Consecutive points of the same keys, by column: row i is step `steps[i]` at `ms[i]` of frame `numbers[i]`.

    `values[k]` is the column of `keys[k]`, as long as `steps`.
    """

    axis: Axis
    fit: int
    keys: tuple[str, ...]
    numbers: list[int]
    steps: list[int]
    ms: list[int]
    values: list[list[float]]


class Batch(Struct, frozen=True):
    """Frames `first` to `last` of one journal, for one transaction. A batch without frames renews the run's lease.

    A batch without a `writer` is a call of a client without a journal (`tracker.domain.calls`): nothing is numbered.

    `items` are (number, frame) in order; `blocks` hold the points, those of `EpochEnded` items included. `after` is the
    last number that the store acknowledged to this writer: a store that has less was restored from a backup.
    """

    run_id: str
    writer: str
    first: int
    last: int
    items: list[tuple[int, Item]] = field(default_factory=list)
    blocks: list[PointBlock] = field(default_factory=list)
    after: int = 0

    @property
    def points(self) -> int:
        """The number of metric points in it."""
        in_blocks = sum(len(block.keys) * len(block.steps) for block in self.blocks)
        return in_blocks + sum(len(item.keys) for _, item in self.items if type(item) is PointsLogged)


class Ack(Struct, frozen=True):
    """A store's answer to a batch: the last frame number of its writer that is committed, and whether to stop.

    `pruned`: there are pruned checkpoints of the run whose files are not removed yet. `over_budget`: the budget in
    bytes for which this batch pruned older versions of checkpoints; None if it pruned none.
    """

    last: int
    stop: bool = False
    pruned: bool = False
    over_budget: int | None = None

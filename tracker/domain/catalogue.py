"""Experiments, data sets and logged models, and the port for clients without a journal.

MLflow's clients use these. They do not number what they send, so their writes are not a journal's batches: each call is
independent, and a repeated one is recognised by its content or changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from msgspec import Struct

from tracker.domain.records import Run, Series
from tracker.domain.vocabulary import RunStatus

Life = Literal["active", "deleted", "all"]
"""Which experiments, runs or models are meant."""

ModelStatus = Literal["pending", "ready", "failed"]


class Logged(Struct, frozen=True):
    """An unnumbered write to one run, stored whole or not at all.

    Metrics are columns of equal length, in the client's order: keys, steps, ms since the Unix epoch, values. A point
    equal to a stored one (key, step, ms, value) is stored once; different points of one step are all kept. A parameter
    that has another value already refuses the whole (ParamConflict). `name` renames the run, `stop` asks its training
    to stop.
    """

    run_id: str
    keys: Sequence[str] = ()
    steps: Sequence[int] = ()
    ms: Sequence[int] = ()
    values: Sequence[float] = ()
    params: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    name: str | None = None
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a run's artifact address is shown: one that equals `kept`, or `begins` with it, is shown as `shown`.

    In both `{experiment}` and `{run}` stand for the ids, but not in a `kept` that others begin with.
    """

    kept: str
    shown: str
    begins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDetail:
    """All details of an experiment; `artifact_location` None means the store's default."""

    id: int
    name: str
    created_ms: int
    updated_ms: int
    deleted_ms: int | None = None
    artifact_location: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Data that runs used; name and digest identify it within an experiment."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUse:
    """A data set, and tags that say what a run used it for."""

    dataset: Dataset
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLink:
    """A logged model that a run used or made; `step` is the run's step at which it was made."""

    model_id: str
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run with all details that a list of runs shows."""

    run: Run
    experiment_id: int
    params: Mapping[str, str]
    """As text: strings as they are, all else as JSON."""
    tags: Mapping[str, str]
    metrics: Mapping[str, Series]
    datasets: Sequence[DatasetUse] = ()
    inputs: Sequence[ModelLink] = ()
    outputs: Sequence[ModelLink] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetric:
    """A metric of a logged model, at a step of the run that measured it, on a data set if one is given."""

    key: str
    value: float
    step: int
    ms: int
    run_id: str
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A logged model; its files are at `artifact_uri`."""

    id: str
    experiment_id: int
    name: str
    artifact_uri: str
    created_ms: int
    updated_ms: int
    status: ModelStatus = "pending"
    status_message: str | None = None
    kind: str | None = None
    run_id: str | None = None
    deleted_ms: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[ModelMetric] = ()


class Catalogue(Protocol):
    """The part of a store for clients without a journal. Usable from many threads at once.

    Every method raises StoreUnavailable while the store does not answer, and each change is one transaction. A missing
    object raises ExperimentNotFound, RunNotFound or ModelNotFound. Changes of a deleted run raise RunDeleted, of a
    deleted experiment ExperimentDeleted.
    """

    # -- experiments ---------------------------------------------------------------------------------------------

    def create_experiment(
        self, name: str, *, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> int:
        """Create an experiment and return its id; ExperimentExists if the name is taken, by a deleted one too."""
        ...

    def experiment(self, id: int) -> ExperimentDetail:
        """The experiment, deleted or not."""
        ...

    def experiment_named(self, name: str) -> ExperimentDetail | None:
        """The experiment of that name, deleted or not."""
        ...

    def list_experiments(self, life: Life = "active") -> Sequence[ExperimentDetail]:
        """All experiments by id."""
        ...

    def rename_experiment(self, id: int, name: str) -> None:
        """Rename it; ExperimentExists if the name is taken."""
        ...

    def delete_experiment(self, id: int) -> None:
        """Hide it and its runs; `Default` (0) can be deleted like any other."""
        ...

    def restore_experiment(self, id: int) -> None:
        """Show it and its runs again."""
        ...

    def hard_delete_experiment(self, id: int) -> None:
        """Remove all its rows for good, but not the row of `Default` itself; files stay."""
        ...

    def set_experiment_tag(self, id: int, key: str, value: str) -> None: ...

    def delete_experiment_tag(self, id: int, key: str) -> None:
        """Remove the tag; KeyNotFound if there is none."""
        ...

    # -- runs ----------------------------------------------------------------------------------------------------

    def create_run(
        self,
        run_id: str,
        experiment_id: int,
        *,
        name: str,
        started_ms: int,
        artifact_uri: str,
        tags: Mapping[str, str],
    ) -> RunDetail:
        """Create a run without a lease: it is running until its status is changed."""
        ...

    def change_run(
        self, run_id: str, *, status: RunStatus | None = None, ended_ms: int | None = None, name: str | None = None
    ) -> Run:
        """Set what is not None. A status given here is final: a journal's later end does not change it."""
        ...

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove the tag; KeyNotFound if there is none."""
        ...

    def log(self, logged: Logged) -> None:
        """Store an unnumbered write; see `Logged`. ParamConflict, RunDeleted, RunNotFound."""
        ...

    def run_detail(self, run_id: str) -> RunDetail: ...

    def search_details(
        self,
        experiment_ids: Iterable[int],
        filter: str = "",
        *,
        life: Life = "active",
        order_by: Iterable[str] = (),
        limit: int = 1000,
        page_token: str | None = None,
        spelling: Spelling | None = None,
    ) -> tuple[Sequence[RunDetail], str | None]:
        """A page of runs of these experiments (unknown ids are ignored), and the token of the next page or None.

        Filter and order mean what MLflow's search means by them; ties go newest start first, then by run id. Conditions
        on `artifact_uri`, not the order, apply to the address that `spelling` shows.
        """
        ...

    def hard_delete_run(self, run_id: str) -> None:
        """Remove the run's rows for good; its files stay."""
        ...

    def deleted_runs(self, before_ms: int) -> Sequence[str]:
        """Ids of runs that were deleted before that time."""
        ...

    # -- data sets and models ------------------------------------------------------------------------------------

    def add_inputs(
        self, run_id: str, *, datasets: Sequence[DatasetUse] = (), models: Sequence[ModelLink] = ()
    ) -> None: ...

    def add_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None: ...

    def dataset_uses(self, experiment_ids: Iterable[int], *, limit: int = 1000) -> Sequence[tuple[int, DatasetUse]]:
        """The data sets that active runs of the experiments used, each with its experiment, once for each context."""
        ...

    def create_model(
        self,
        model_id: str,
        experiment_id: int,
        *,
        name: str,
        artifact_uri: str,
        kind: str | None = None,
        run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel: ...

    def model(self, model_id: str, *, deleted: bool = False) -> LoggedModel:
        """The model; a deleted one only if `deleted`."""
        ...

    def models(self, experiment_ids: Iterable[int]) -> Sequence[LoggedModel]:
        """All models of the experiments that are not deleted, newest first."""
        ...

    def change_model(
        self,
        model_id: str,
        *,
        status: ModelStatus | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        """Set what is not None; other params and tags stay."""
        ...

    def delete_model_tag(self, model_id: str, key: str) -> None:
        """Remove the tag; KeyNotFound if there is none."""
        ...

    def delete_model(self, model_id: str) -> None:
        """Hide it."""
        ...

    def hard_delete_model(self, model_id: str) -> None:
        """Remove the model's rows for good; its files stay."""
        ...

    def deleted_models(self, before_ms: int) -> Sequence[str]:
        """Ids of models that were deleted before that time."""
        ...

    def log_model_metrics(self, model_id: str, metrics: Sequence[ModelMetric]) -> None:
        """Add metrics to a model; one that is stored already is not added again."""
        ...

"""Records of the catalogue: experiments, data sets and logged models, as MLflow's clients use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tracker.domain.records import Run, Series

Lifecycle = Literal["active", "deleted", "all"]
"""Which experiments, runs or models are meant."""

ModelStatus = Literal["pending", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class AddressAlias:
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

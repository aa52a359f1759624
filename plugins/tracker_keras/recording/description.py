"""Records the description of a model and its training, each fact once, however many fits there are."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras

from tracker_keras.recording.best_epochs import improvements_of
from tracker_keras.recording.configurations import configurations
from tracker_keras.recording.goals import batch_twins, metric_goals, monitored
from tracker_keras.recording.guard import Guard
from tracker_keras.recording.hyperparameters import compiled_with, hyperparameters, parameter_counts, summary_text
from tracker_keras.recording.optimizers import named_optimizers

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker.domain.goals import Goal

log = logging.getLogger("tracker")


def describe(run: Run, model: Any) -> None:
    """Record the model of a custom training loop: hyperparameters, sizes, summary, architecture.

    Optimizer and loss are known only if they were passed to `compile()`. A model that is not built yet has no sizes,
    summary and architecture. Nothing is raised: read errors are logged on the logger `tracker`.
    """
    guard = Guard(run)
    with guard("describing the model"):
        description = Description(run, guard)
        description.fit(model, {}, ())
        description.model(model, 1)


class Description:
    """Parameters, goals and the model's files, logged to `run` only if they differ from what was logged last.

    The store keeps a different value under the fit that logged it.
    """

    def __init__(self, run: Run, guard: Guard) -> None:
        self._run = run
        self._guard = guard
        self._params: dict[str, Any] = {}
        self._goals: dict[str, Goal] = {}
        self._monitored: tuple[str, Goal | None] | None = None
        self.improvements = improvements_of(run)
        self._models: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()
        self._has_files = False
        self._is_resumed = False

    def resumed(self) -> None:
        """Leave out the next fit's learning rate: it is restored from a saved state, not a setting."""
        self._is_resumed = True

    def fit(self, model: Any, params: Mapping[str, Any], callbacks: Iterable[Any]) -> None:
        """A fit of `model` begins; `params` are its known arguments, `callbacks` the other callbacks."""
        self._say({key: value for key, value in params.items() if value is not None})
        with self._guard("reading the callbacks' configurations"):
            self._say(configurations(callbacks))
        with _quietly():
            given = hyperparameters(model, self._guard)
            if self._is_resumed:
                given = {key: value for key, value in given.items() if not key.endswith(".learning_rate")}
            self._is_resumed = False
            self._say(given)

    def model(self, model: Any, fit: int) -> bool:
        """Record a model's sizes, summary and architecture, if they changed since its last fit; False if not built.

        The first model's files are `model/…`; those of a later model, or of the same with other sizes, are
        `model/fit.<number>/…`.
        """
        if not getattr(model, "built", False):
            return False
        counts = parameter_counts(model)
        if self._models.get(model) == counts:
            return True
        self._models[model] = counts
        self._say(counts)
        folder = f"model/fit.{fit}" if self._has_files else "model"
        self._has_files = True
        self._keep(model, folder)
        return True

    def _keep(self, model: Any, folder: str) -> None:
        """Log summary and architecture, in the background unless that could interfere with the training.

        Both take longer than small models' epochs. Describing Keras' own layers is safe in the background; other
        classes run their own code, which belongs on the training thread. The architecture includes the optimizer's
        settings, and so variables that JAX removes from the model within an epoch.
        """

        def architecture() -> None:
            try:
                with _unless_loaded("tensorflow"):
                    text = model.to_json(indent=2)
                self._run.log_text(text, f"{folder}/architecture.json")
            except Exception as error:  # a subclassed model need not be serialisable
                log.debug("%s has no architecture to keep as JSON: %s", type(model).__name__, error)

        def summary() -> None:
            self._run.log_text(summary_text(model), f"{folder}/summary.txt")

        is_plain = _is_keras_own(model)
        if is_plain and keras.backend.backend() == "tensorflow" and not _has_lambdas(model):
            self._run.in_background(architecture)
        else:
            with _quietly():
                architecture()
        if is_plain:
            self._run.in_background(summary)
        else:
            summary()

    def goals(
        self, model: Any, keys: Iterable[str], callbacks: Iterable[Any], *, batches: bool, validates: bool
    ) -> tuple[str, Goal | None] | None:
        """Record the goals of the logs' `keys`, and the metric that a callback monitors.

        With `batches` also the goals of the batch logs' keys; with `validates` the fit has validation in some epochs.
        Returns the metric that decides the run's best epoch (the monitored one, else `val_loss`, else `loss`) and its
        goal, if Keras knows it.
        """
        keys = [key for key in keys if isinstance(key, str)]
        goals = metric_goals(model, keys)
        if watched := monitored(callbacks, keys):
            key, goal = watched
            if goal:
                goals[key] = goal
            if self._monitored is None or key != self._monitored[0]:
                self._run.monitor_metric(key, source="keras")
            self._monitored = key, goals.get(key)
        for key, goal in (goals | batch_twins(goals) if batches else goals).items():
            if self._goals.get(key) != goal:
                self._goals[key] = goal
                self._run.define_metric(key, goal=goal, source="keras")
        if self._monitored is not None:
            return self._monitored
        # With validation only every few epochs, epochs without it are not compared.
        usual = "val_loss" if validates or "val_loss" in (*keys, self.improvements.metric) else "loss"
        return (usual, goals.get(usual)) if usual in keys else None

    def _say(self, params: Mapping[str, Any]) -> None:
        new = {key: value for key, value in params.items() if key not in self._params or self._params[key] != value}
        if new:
            self._params.update(new)
            self._run.log_params(new)


def _is_keras_own(model: Any) -> bool:
    """Whether model, layers, optimizer and metrics have Keras' classes, so that describing them runs no user code."""
    things = [*model._flatten_layers(), model.optimizer, *model.metrics]
    return all(type(one).__module__.partition(".")[0] == "keras" for one in things if one is not None)


def _has_lambdas(model: Any) -> bool:
    """Whether Keras would warn when it serialises the model; warnings can only be silenced for all threads at once."""
    owners = [*model._flatten_layers(), *model.metrics, *named_optimizers(model).values()]
    values = [*compiled_with(model).values(), *(value for one in owners for value in vars(one).values())]
    return any(getattr(value, "__name__", None) == "<lambda>" for value in values)


@contextlib.contextmanager
def _unless_loaded(library: str) -> Iterator[None]:
    """Keep Keras from importing `library`, which takes seconds, only to check for its types in a model.

    A model contains no objects of a library that was never imported.
    """
    lazy = getattr(sys.modules.get("keras.src.utils.module_utils"), library, None)
    if library in sys.modules or getattr(lazy, "_available", True) is not None:
        yield
        return
    lazy._available = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        lazy._available = None  # type: ignore[union-attr]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress Keras' warnings about serialised lambdas: the user did not ask for it, and nothing is loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

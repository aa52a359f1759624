"""What a run is told about the model and its training; each thing once, however many fits there are."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tracker_keras.best import improvements_of
from tracker_keras.configurations import configurations
from tracker_keras.goals import batch_twins, metric_goals, monitored
from tracker_keras.hyperparameters import hyperparameters, parameter_counts, summary_text

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker.domain.goals import Goal
    from tracker_keras.guard import Guard

log = logging.getLogger("tracker")


class Description:
    """Parameters, goals and the model's files, sent to `run` only where they differ from what it was told last.

    A difference is a fact of the fit that brings it, and the store keeps it under that fit.
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

    def fit(self, model: Any, params: Mapping[str, Any], callbacks: Iterable[Any]) -> None:
        """A fit of `model` begins; `params` are what is known of its arguments, `callbacks` those beside ours."""
        self._say({key: value for key, value in params.items() if value is not None})
        with self._guard("reading the callbacks' configurations"):
            self._say(configurations(callbacks))
        with _quietly():
            self._say(hyperparameters(model, self._guard))

    def model(self, model: Any, fit: int) -> bool:
        """Sizes, summary and architecture of a model, if they are not those of its last fit; False if it is not built.

        The first model's files are `model/…`; those of a later one, or of the same with other sizes, are
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
        self._run.log_text(summary_text(model), f"{folder}/summary.txt")
        try:
            with _quietly():
                architecture = model.to_json(indent=2)
        except Exception as error:  # a subclassed model need not be able to say what it is made of
            log.debug("%s has no architecture to keep as JSON: %s", type(model).__name__, error)
        else:
            self._run.log_text(architecture, f"{folder}/architecture.json")
        return True

    def goals(
        self, model: Any, keys: Iterable[str], callbacks: Iterable[Any], *, batches: bool
    ) -> tuple[str, Goal | None] | None:
        """Which of the logs' `keys` is better small or large, and which one a callback watches.

        With `batches` the same is said of the batch logs' keys. Returned are the metric that decides the run's best
        epoch (that which is watched, else `val_loss`, else `loss`) and its goal, if Keras knows it.
        """
        keys = list(keys)
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
        return next(((key, goals.get(key)) for key in ("val_loss", "loss") if key in keys), None)

    def _say(self, params: Mapping[str, Any]) -> None:
        new = {key: value for key, value in params.items() if key not in self._params or self._params[key] != value}
        if new:
            self._params.update(new)
            self._run.log_params(new)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Keras' warnings about what it serialises (lambdas): nobody asked for it, and nothing is loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""What a run is told about the model and its training; each thing once, however many fits there are."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras

from tracker_keras.record.best import improvements_of
from tracker_keras.record.configurations import configurations
from tracker_keras.record.goals import batch_twins, metric_goals, monitored
from tracker_keras.record.guard import Guard
from tracker_keras.record.hyperparameters import compiled_with, hyperparameters, parameter_counts, summary_text
from tracker_keras.record.optimizers import named_optimizers

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker.domain.goals import Goal

log = logging.getLogger("tracker")


def describe(run: Run, model: Any) -> None:
    """Record the model of a training loop of your own as a fit's is: hyperparameters, sizes, summary, architecture.

    What `compile()` was not told (optimizer, loss) is not known. A model that is not built yet has no sizes, summary
    and architecture. Nothing is raised: what cannot be read is said on the log `tracker`.
    """
    guard = Guard(run)
    with guard("describing the model"):
        description = Description(run, guard)
        description.fit(model, {}, ())
        description.model(model, 1)


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
        self._is_resumed = False

    def resumed(self) -> None:
        """The next fit's optimizer has the rate that its state was saved with, which nobody chose."""
        self._is_resumed = True

    def fit(self, model: Any, params: Mapping[str, Any], callbacks: Iterable[Any]) -> None:
        """A fit of `model` begins; `params` are what is known of its arguments, `callbacks` those beside ours."""
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
        self._keep(model, folder)
        return True

    def _keep(self, model: Any, folder: str) -> None:
        """Keep summary and architecture, in the background as far as nothing is touched there that training touches.

        Both take longer than small models' epochs. A model of Keras' own layers only says there how it is made; other
        classes run their own code, which is for the training thread. The architecture has the optimizer's settings,
        and with them variables that JAX takes out of the model in the middle of an epoch.
        """

        def architecture() -> None:
            try:
                with _unless_loaded("tensorflow"):
                    text = model.to_json(indent=2)
                self._run.log_text(text, f"{folder}/architecture.json")
            except Exception as error:  # a subclassed model need not be able to say what it is made of
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
        """Which of the logs' `keys` is better small or large, and which one a callback watches.

        With `batches` the same is said of the batch logs' keys; with `validates` the fit holds validation in some
        of its epochs. Returned are the metric that decides the run's best
        epoch (that which is watched, else `val_loss`, else `loss`) and its goal, if Keras knows it.
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
        # Where validation is held every few epochs, those without are no better or worse than others.
        usual = "val_loss" if validates or "val_loss" in (*keys, self.improvements.metric) else "loss"
        return (usual, goals.get(usual)) if usual in keys else None

    def _say(self, params: Mapping[str, Any]) -> None:
        new = {key: value for key, value in params.items() if key not in self._params or self._params[key] != value}
        if new:
            self._params.update(new)
            self._run.log_params(new)


def _is_keras_own(model: Any) -> bool:
    """Whether model, layers, optimizer and metrics are of Keras' classes: no code of the user's describes it then."""
    things = [*model._flatten_layers(), model.optimizer, *model.metrics]
    return all(type(one).__module__.partition(".")[0] == "keras" for one in things if one is not None)


def _has_lambdas(model: Any) -> bool:
    """Whether Keras would warn as it serialises the model; warnings can only be silenced for all threads at once."""
    owners = [*model._flatten_layers(), *model.metrics, *named_optimizers(model).values()]
    values = [*compiled_with(model).values(), *(value for one in owners for value in vars(one).values())]
    return any(getattr(value, "__name__", None) == "<lambda>" for value in values)


@contextlib.contextmanager
def _unless_loaded(library: str) -> Iterator[None]:
    """Keep Keras from importing `library`, which takes seconds, to ask whether something in a model is of its types.

    Of a library that nobody has imported there is nothing in the model.
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
    """Without Keras' warnings about what it serialises (lambdas): nobody asked for it, and nothing is loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""Records `model.evaluate()`: metrics at the epoch of the model's weights, and an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tracker.client.clock import now_ms
from tracker.client.run import recorder_of
from tracker_keras.recording.goals import metric_goals

if TYPE_CHECKING:
    from tracker.client.run import Run

Place = tuple[int, int]
"""The run's number of an epoch, and the number of the fit that trained it (0: none in this process)."""

_places: WeakKeyDictionary[Run, WeakKeyDictionary[Any, Place]] = WeakKeyDictionary()


def model_is_at(run: Run, model: Any, epoch: int, fit: int) -> None:
    """Note that `model` has the weights of this epoch of the run, trained or restored."""
    _places.setdefault(run, WeakKeyDictionary())[model] = epoch, fit


def log_evaluation(run: Run, model: Any, logs: Mapping[str, Any]) -> None:
    """Record the result of `model.evaluate()` as `evaluate/<name>`, with the goals of the metrics.

    A model that was not trained in this process is assumed to be at the run's last epoch.
    """
    epoch, fit = _places.get(run, {}).get(model) or (max(run.next_epoch - 1, 0), 0)
    metrics = {f"evaluate/{key}": value for key, value in logs.items()}
    for key, goal in metric_goals(model, [key for key in logs if isinstance(key, str)]).items():
        run.define_metric(f"evaluate/{key}", goal=goal, source="keras")
    recorder_of(run).points("epoch", epoch, metrics, fit=fit, ms=now_ms())
    run.log_event("evaluated", epoch=epoch, metrics=dict(logs))

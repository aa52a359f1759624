"""Callbacks that record Keras' `fit()`, and corrected versions of some of Keras' own callbacks.

Modules are imported when a name is first used, so that `python -m tracker_keras.demo` can still choose the backend.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker_keras.autologging import autolog
    from tracker_keras.callback import TrackerCallback
    from tracker_keras.early_stopping import EarlyStopping
    from tracker_keras.inputs.data import log_data
    from tracker_keras.learning_rate import LearningRateScheduler
    from tracker_keras.model_checkpoint import ModelCheckpoint
    from tracker_keras.recording.chief import is_chief
    from tracker_keras.recording.description import describe
    from tracker_tensorboard.callback import TensorBoard

__all__ = [
    "EarlyStopping",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "TensorBoard",
    "TrackerCallback",
    "autolog",
    "describe",
    "is_chief",
    "log_data",
]

_HOMES = {
    "EarlyStopping": "tracker_keras.early_stopping",
    "LearningRateScheduler": "tracker_keras.learning_rate",
    "ModelCheckpoint": "tracker_keras.model_checkpoint",
    "TensorBoard": "tracker_tensorboard.callback",
    "TrackerCallback": "tracker_keras.callback",
    "autolog": "tracker_keras.autologging",
    "describe": "tracker_keras.recording.description",
    "is_chief": "tracker_keras.recording.chief",
    "log_data": "tracker_keras.inputs.data",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name in ("keras", "tensorflow", "jax", "torch"):
            from tracker.domain.extras import how_to_install

            raise ImportError(
                f"tracker_keras.{name} needs {error.name}, which is not installed here; "
                f"install Keras with a backend, for one: {how_to_install('keras')}",
                name=error.name,
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The plugin `tensorboard`: records what TensorBoard callbacks write during a Keras `fit()`.

Nothing of Keras or TensorBoard is imported before a fit has such a callback.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tracker.domain.extras import how_to_install
from tracker.hooks import Unavailable, hookimpl

if TYPE_CHECKING:
    from tracker_keras.recording.fit import ObservedFit
    from tracker_keras.recording.fit_observers import FitObserver

if find_spec("keras") is None:
    raise Unavailable(f"it needs Keras, which is not installed: {how_to_install('keras')}")


@hookimpl
def fit_observers(fit: ObservedFit) -> Iterable[FitObserver]:
    """The observer of the fit's TensorBoard callbacks, if it has any."""
    import keras

    callbacks = [one for one in fit.callbacks if isinstance(one, keras.callbacks.TensorBoard)]
    if not callbacks:
        return
    if find_spec("tensorboard") is None:
        how = how_to_install("tensorboard")
        fit.run.report("tensorboard", f"what TensorBoard's callback writes is not recorded without TensorBoard: {how}")
        return
    from tracker_tensorboard.fit_events import FitEvents

    yield FitEvents(fit, callbacks)

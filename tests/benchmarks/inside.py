"""Our code that runs during `fit()`: our hooks, our wrappers of other callbacks' hooks, and our threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

Spent = dict[str, list[int]]
"""Nanoseconds of each call, by hook."""


class Inside:
    """Times every hook of TrackerCallback, and those that it puts around other callbacks' hooks, from now on."""

    def __init__(self) -> None:
        from tracker_keras import TrackerCallback
        from tracker_keras.recording.method_wrapper import MethodWrapper

        self.spent: Spent = {}
        for name in [name for name in vars(TrackerCallback) if name.startswith(("on_", "set_"))] + ["_log_batch"]:
            shown = "on_train_batch_end" if name == "_log_batch" else name
            setattr(TrackerCallback, name, self._timed(shown, vars(TrackerCallback)[name]))
        plain = MethodWrapper.__init__

        def around(hook: Any, owner: Any, name: str, **looks: Any) -> None:
            label = f"{type(owner).__name__}.{name}"
            plain(hook, owner, name, **{key: look and self._timed(label, look) for key, look in looks.items()})

        MethodWrapper.__init__ = around  # type: ignore[method-assign]

    def take(self) -> Spent:
        """What was spent since it was taken last."""
        taken, self.spent = self.spent, {}
        return taken

    def _timed(self, name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.perf_counter_ns

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return hook(*args, **kwargs)
            finally:
                self.spent.setdefault(name, []).append(clock() - start)

        return timed


def background_s() -> dict[int, float]:
    """Seconds of CPU that each of our threads has had, by its identity."""
    taken: dict[int, float] = {}
    for thread in threading.enumerate():
        if thread.name.startswith("tracker-") and thread.ident is not None:
            taken[thread.ident] = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return taken


def background_since(before: dict[int, float]) -> float:
    """Seconds of CPU that our threads had since then, those that ended meanwhile left out."""
    return sum(seconds - before.get(thread, 0.0) for thread, seconds in background_s().items())

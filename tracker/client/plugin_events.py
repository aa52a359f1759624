"""Notifies plugins of a run's events, in order, on a background thread that delays only the run's end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from tracker.client.background import Background

PATIENCE_S = 5.0
"""Seconds that the end of a run waits for hooks of plugins."""
MOST = 10_000
"""Events that may wait for a plugin that is slower than the training; further ones are dropped."""


class Observer(Protocol):
    """Receiver of a run's events, called on the run's thread for plugins. Its exceptions are reported."""

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Handle the event `hook`."""

    def wanted(self) -> Collection[str]:
        """The hooks that have a receiver; called once, on the same thread, before the first event."""
        ...


class PluginEvents:
    """Queue of a run's events for its plugins. Without an observer, an event costs one lookup in an empty set."""

    def __init__(self, report: Callable[[str, object], None]) -> None:
        self._report = report
        self._background = Background(report, name="tracker-plugins")
        self._observer: Observer | None = None
        self._has_begun = False
        self._wanted: Collection[str] | None = ()
        """None until the observer is found; meanwhile every event is queued."""
        self._is_over = False
        self._put = 0
        self._done = 0
        self._shared: Mapping[str, Any] = {}

    def begin(self, find: Callable[[], Observer], **shared: Any) -> None:
        """Notify the observer that `find` returns, from now on; `find` is called on the thread for plugins.

        `shared` are arguments of each event.
        """

        def look() -> None:
            wanted: Collection[str] = ()
            try:
                self._observer = observer = find()
                wanted = observer.wanted()
            finally:
                self._wanted = wanted

        self._has_begun, self._wanted, self._shared = True, None, shared
        self._background.do(look)

    def put(self, hook: str, **arguments: Any) -> None:
        """Queue the event `hook`."""
        wanted = self._wanted
        if wanted is not None and hook not in wanted:
            return
        if self._put - self._done >= MOST:
            self._report("plugins", f"plugins are slower than the training: {MOST} events wait, later ones are dropped")
            return
        self._put += 1
        self._background.do(lambda: self._notify(hook, arguments))

    def close(self, timeout: float) -> float:
        """Wait for queued events, half of `timeout` and PATIENCE_S at most, drop later ones; return the time left."""
        if not self._has_begun:
            return timeout
        patience = min(timeout / 2, PATIENCE_S)
        left = self._background.close(patience)
        self._is_over = True
        return timeout - (patience - left)

    def disown(self) -> None:
        """In a forked child: drop all events."""
        self._is_over, self._wanted = True, ()
        self._background.disown()

    def _notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self._done += 1
        if not self._is_over and self._observer is not None and hook in (self._wanted or ()):
            self._observer(hook, {**self._shared, **arguments})

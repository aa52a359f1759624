"""Periodic work on a background thread of the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tracker.domain.errors import TrackerError

log = logging.getLogger("tracker.server")


class Periodic:
    """Calls `what` every `every_s` seconds on a thread of its own, from entering to leaving the `with` block.

    An error is logged once for as long as the same one repeats; the call is tried again.
    """

    def __init__(self, name: str, every_s: float, what: Callable[[], object]) -> None:
        self._name = name
        self._every_s = every_s
        self._what = what
        self._said = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)

    def __enter__(self) -> Periodic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(self._every_s + 1)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._what()
            except Exception as error:
                if str(error) != self._said:
                    log.warning("%s: %s", self._name, error, exc_info=not isinstance(error, TrackerError))
                self._said = str(error)
            else:
                self._said = ""

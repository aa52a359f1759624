"""Wraps methods of the other callbacks for the duration of one fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracker_keras.record.hook_wrappers import Failed, Heard, Hook, Look

if TYPE_CHECKING:
    from tracker_keras.record.fit_call import FitCall
    from tracker_keras.record.guard import Guard


class Watch:
    """Wrappers around methods of other callbacks, which raise nothing, until `leave` removes them.

    They do nothing if a callback is used by another fit inside this one, or in another thread.
    """

    def __init__(self, call: FitCall, guard: Guard) -> None:
        self._call = call
        self._guard = guard
        self._hooks: list[Hook] = []

    def around(
        self,
        callback: Any,
        name: str,
        before: Look | None = None,
        after: Look | None = None,
        failed: Failed | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Wrap the method `name` of `callback` with these functions; avoid hooks that run for each batch."""

        def ours(function: Callable[..., None] | None) -> Callable[..., None] | None:
            def safe(*given: Any, **named: Any) -> None:
                if function is not None and self._call.is_current:
                    with self._guard(f"watching {type(callback).__name__}"):
                        function(*given, **named)

            return safe if function is not None else None

        self._hooks.append(
            Hook(callback, name, before=ours(before), after=ours(after), failed=ours(failed), heard=ours(heard))
        )

    def hear(self, callback: Any, name: str, heard: Heard) -> None:
        """Call `heard(returned, *args, **kwargs)` after each call of the method `name` of `callback`."""
        self.around(callback, name, heard=heard)

    def leave(self) -> None:
        """Remove the wrappers."""
        for hook in self._hooks:
            hook.take_off()
        self._hooks.clear()

"""Wraps methods of the other callbacks for the duration of one fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracker_keras.recording.method_wrapper import HookFunction, MethodWrapper, OnError, OnResult

if TYPE_CHECKING:
    from tracker_keras.recording.fit_call import FitCall
    from tracker_keras.recording.guard import Guard


class GuardedWrappers:
    """Wrappers around methods of other callbacks, which raise nothing, until `leave` removes them.

    They do nothing if a callback is used by another fit inside this one, or in another thread.
    """

    def __init__(self, call: FitCall, guard: Guard) -> None:
        self._call = call
        self._guard = guard
        self._hooks: list[MethodWrapper] = []

    def around(
        self,
        callback: Any,
        name: str,
        before: HookFunction | None = None,
        after: HookFunction | None = None,
        on_error: OnError | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        """Wrap the method `name` of `callback` with these functions; avoid hooks that run for each batch."""

        def ours(function: Callable[..., None] | None) -> Callable[..., None] | None:
            def safe(*given: Any, **named: Any) -> None:
                if function is not None and self._call.is_current:
                    with self._guard(f"watching {type(callback).__name__}"):
                        function(*given, **named)

            return safe if function is not None else None

        self._hooks.append(
            MethodWrapper(
                callback,
                name,
                before=ours(before),
                after=ours(after),
                on_error=ours(on_error),
                on_result=ours(on_result),
            )
        )

    def after_call(self, callback: Any, name: str, on_result: OnResult) -> None:
        """Call `on_result(returned, *args, **kwargs)` after each call of the method `name` of `callback`."""
        self.around(callback, name, on_result=on_result)

    def leave(self) -> None:
        """Remove the wrappers."""
        for hook in self._hooks:
            hook.take_off()
        self._hooks.clear()

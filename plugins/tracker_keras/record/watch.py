"""The callbacks beside ours, watched for the length of one fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracker_keras.record.hooks import Failed, Heard, Hook, Look

if TYPE_CHECKING:
    from tracker_keras.record.guard import Guard


def is_of(callback: Any, params: Any) -> bool:
    """Whether `callback` is used by the list of callbacks with these `params`; some (Keras' progress bar) keep none."""
    found = getattr(callback, "params", None)
    return found is None or found is params


class Watch:
    """Hooks of ours around hooks of other callbacks, which raise nothing and are silent in fits that are not ours.

    A fit that died leaves them on the callbacks. They stay silent when another list of callbacks, which has other
    `params`, uses these objects, until `leave` takes them off. `settled` is called whenever one of those that were
    waited for has done its last thing.
    """

    def __init__(self, params: Any, guard: Guard, settled: Callable[[], None]) -> None:
        self._params = params
        self._guard = guard
        self._settled = settled
        self._hooks: list[Hook] = []
        self._unsettled: list[Any] = []
        self._passed: list[Any] = []
        self.is_over = False
        """Whether our own callback was told that the fit returns."""

    @property
    def is_settled(self) -> bool:
        """Whether nobody who is watched still has something to do as the fit returns."""
        return all(one in self._passed for one in self._unsettled)

    def around(
        self,
        callback: Any,
        name: str,
        before: Look | None = None,
        after: Look | None = None,
        failed: Failed | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Put these around the hook `name` of `callback`; hooks that run for each batch are better left alone."""

        def ours(function: Callable[..., None] | None) -> Callable[..., None] | None:
            def safe(*given: Any, **named: Any) -> None:
                if function is not None and (self.is_over or is_of(callback, self._params)):
                    with self._guard(f"watching {type(callback).__name__}"):
                        function(*given, **named)

            return safe if function is not None else None

        self._hooks.append(
            Hook(callback, name, before=ours(before), after=ours(after), failed=ours(failed), heard=ours(heard))
        )

    def hear(self, callback: Any, name: str, heard: Heard) -> None:
        """Have `heard(returned, *args, **kwargs)` called after each call of the method `name` of `callback`."""
        self.around(callback, name, heard=heard)

    def until_end(self, callback: Any, after: Callable[[], None]) -> None:
        """The fit is not over before the `on_train_end` of `callback` is, and `after` that."""

        def ended(*_: Any) -> None:
            try:
                after()
            finally:
                self._unsettled = [one for one in self._unsettled if one is not entry]
                self._settled()

        entry = object()
        self._unsettled.append(entry)
        self.around(callback, "on_train_end", None, ended)
        # Who was handed to an `evaluate()` meanwhile has other `params`, and ended in silence if he stands before us.
        self._hooks.append(Hook(callback, "on_train_end", after=lambda *_: self._passed.append(entry)))

    def leave(self) -> None:
        """Take our hooks off the callbacks."""
        for hook in self._hooks:
            hook.take_off()
        self._hooks.clear()

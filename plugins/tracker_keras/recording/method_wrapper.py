"""Wrappers around the hooks of other callbacks, for the duration of a fit.

What our own callback sees depends on its position in the list: before EarlyStopping it does not know of the stop, after
it the training is already stopped. A wrapper of the hook itself does not have this problem. It is set on the object,
never on its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

HookFunction = Callable[[int, Mapping[str, Any]], None]
"""Called with the hook's arguments: Keras' epoch (0 if it has none) and the logs."""
OnError = Callable[[Exception], None]
OnResult = Callable[..., None]
"""Called with the method's result, followed by its arguments."""


class MethodWrapper:
    """Wraps the method `name` of the callback `owner` with `before`, `after` and `on_result` until `take_off`.

    An exception of the hook is passed to `on_error` and raised again. Copies of the owner have the plain hook.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        *,
        before: HookFunction | None = None,
        after: HookFunction | None = None,
        on_error: OnError | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        self._owner = owner
        self._name = name
        self._inner = getattr(owner, name)
        self._previous = vars(owner).get(name)
        self._before = before
        self._after = after
        self._on_error = on_error
        self._on_result = on_result
        vars(owner)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        after, on_error, on_result = self._after, self._on_error, self._on_result
        epoch = next((given for given in (*args, kwargs.get("epoch")) if isinstance(given, int)), 0)
        logs = next((given for given in (*args, kwargs.get("logs")) if isinstance(given, Mapping)), {})
        if self._before is not None:
            self._before(epoch, logs)
        try:
            result = self._inner(*args, **kwargs)
        except Exception as error:
            if on_error is not None:
                on_error(error)
            raise
        if after is not None:
            after(epoch, logs)
        if on_result is not None:
            on_result(result, *args, **kwargs)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._name)  # in a copy this gives its class's plain hook

    def take_off(self) -> None:
        """Restore the original hook, even if another wrapper was put over this one meanwhile."""
        self._before = self._after = self._on_error = self._on_result = None
        on_object = vars(self._owner)
        while isinstance(top := on_object.get(self._name), MethodWrapper) and top._is_idle:
            if top._previous is None:
                del on_object[self._name]
            else:
                on_object[self._name] = top._previous

    @property
    def _is_idle(self) -> bool:
        return not any((self._before, self._after, self._on_error, self._on_result))

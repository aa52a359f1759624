"""Validates what training code logs and converts it for frames: each invalid value is refused alone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from tracker.domain.errors import InvalidValue, TrackerError
from tracker.domain.limits import (
    PARAM_BYTES,
    as_json,
    as_number,
    as_tag,
    check_key,
    check_step,
    flatten,
    json_size,
)

_T = TypeVar("_T")
SYSTEM = "system/"


class Validation:
    """Validates what is logged to one run. Nothing here raises: `report(kind, problem, mistake)` is called for each
    refusal; equal mistakes need not be logged again.

    A metric's key is one series, of steps or of epochs: `step_keys` and `epoch_keys` are the keys known so far.
    """

    def __init__(self, report: Callable[[str, object, str], None]) -> None:
        self._report = report
        self.step_keys: set[str] = set()
        self.epoch_keys: set[str] = set()
        self._time_keys: set[str] = set()

    def at_step(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of a step, as floats."""
        return self._numbers(metrics, self.step_keys, self.epoch_keys)

    def at_epoch(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of an epoch, as floats."""
        return self._numbers(metrics, self.epoch_keys, self.step_keys)

    def at_time(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of a time, as floats, under keys that begin with `system/`."""
        numbers = self._numbers(metrics, self._time_keys, ())
        return {key if key.startswith(SYSTEM) else SYSTEM + key: value for key, value in numbers.items()}

    def other_metrics(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Metrics that belong to another record and are not points, as floats."""
        return self._numbers(metrics, self.epoch_keys | self.step_keys, ())

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters, flat and as JSON."""

        def stored(key: str, value: Any) -> Any:
            json = as_json(value)
            if (size := json_size(json)) > PARAM_BYTES:
                raise InvalidValue(f"parameter {key!r}", f"{size} bytes", limit=f"{PARAM_BYTES} bytes of JSON")
            check_key("parameter", key)
            return json

        return self._each("params", params, stored, flat=True)

    def tags(self, tags: Mapping[str, Any]) -> dict[str, str]:
        """Tags, as strings."""
        return self._each("tags", tags, lambda key, value: as_tag(check_key("tag", key), value))

    def whole(self, field: str, value: object) -> int | None:
        """A whole number, or None."""
        return None if value is None else self.checked(lambda: check_step(field, value))

    def checked(self, check: Callable[[], _T]) -> _T | None:
        """What `check` returns; None if it was refused."""
        try:
            return check()
        except Exception as error:
            self.refuse(error)
            return None

    def refuse(self, error: Exception) -> None:
        """Report what cannot be recorded, with the log method that was called; each method and mistake counts alone."""
        kind = error.field if isinstance(error, InvalidValue) else type(error).__name__
        problem = str(error) if isinstance(error, TrackerError) else f"{type(error).__name__}: {error}"
        call = _call()
        # A kind with a quote contains a key: its values may be wrong in a different way at each step.
        mistake = kind if "'" in kind else f"{kind} {re.sub('[0-9]+', '0', problem)}"
        self._report(kind, f"{call}: {problem}" if call else problem, f"{call} {mistake}")

    def _numbers(self, metrics: Mapping[str, Any], known: set[str], elsewhere: Collection[str]) -> dict[str, float]:
        def number(key: str, value: Any) -> float:
            if key not in known:
                if check_key("metric", key) in elsewhere:
                    limit = "one axis for each key; usual are batch/loss for steps and loss for epochs"
                    raise InvalidValue(f"metric {key!r}", "is logged both at steps and at epochs", limit=limit)
                known.add(key)
            return value if type(value) is float else as_number(key, value)

        return self._each("metrics", metrics, number)

    def _each(self, what: str, mapping: Any, take: Callable[[str, Any], _T], *, flat: bool = False) -> dict[str, _T]:
        good: dict[str, _T] = {}
        try:
            items = list((flatten(mapping) if flat else mapping).items())
        except Exception:
            self.refuse(InvalidValue(what, f"a {type(mapping).__name__} is not a mapping of names to values"))
            return good
        for key, value in items:
            try:
                good[key] = take(key, value)
            except Exception as error:
                self.refuse(error)
        return good


def as_text(field: str, value: object) -> str:
    """`value` if it is a string, else InvalidValue."""
    if not isinstance(value, str):
        limit = "a str; json.dumps(…) makes one of data"
        raise InvalidValue(field, f"{shown(value)} is of type {type(value).__name__}, not a string", limit=limit)
    return value


def as_mapping(field: str, value: object) -> Mapping[str, Any]:
    """`value` if it is a mapping, else InvalidValue."""
    if not isinstance(value, Mapping):
        raise InvalidValue(field, f"{shown(value)} is of type {type(value).__name__}, not a mapping of names to values")
    return value


def as_path(field: str, value: object) -> str | os.PathLike[str]:
    """`value` if it is a local path, else InvalidValue."""
    if not isinstance(value, str | os.PathLike):
        limit = "a str or a pathlib.Path"
        raise InvalidValue(field, f"{shown(value)} is of type {type(value).__name__}, not a path", limit=limit)
    return value


def shown(value: object) -> str:
    """`value` for a message, even if its `__repr__` fails."""
    try:
        text = repr(value)
    except Exception:
        return f"an object of {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _call() -> str:
    """The method of a run or fit that the user's code called, "" if none. Slow, so only used for errors."""
    frame, name = sys._getframe(1), ""
    while frame is not None:
        owner, _, method = frame.f_code.co_qualname.rpartition(".")
        if owner in ("Run", "FitRecorder") and not method.startswith("_"):
            name = method
        frame = frame.f_back  # type: ignore[assignment]
    return name

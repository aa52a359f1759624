"""What a run left in the store, as a flat mapping that can be compared: `epochs.3.loss`, `events.2.early_stopped` …

What differs from run to run by nature is left out: ids, times, durations, addresses, digests and sizes of files.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tracker.domain.ports import RunStore

REL, ABS = 1e-4, 1e-6
"""As far as floating point may differ where the order of the same operations is another."""

_VARIES = re.compile(r"[0-9a-f]{32}|/\S*/")


def record(store: RunStore, told: Mapping[str, Any]) -> dict[str, Any]:
    """The run that `told` names, with what was said on the log, and counted, while it trained."""
    run = store.get_run(told["run"])
    found: dict[str, Any] = {
        "run.status": run.status,
        "run.best": [run.best_metric, run.best_epoch, run.best_value],
        "run.problems": told["problems"],
        "guard.errors": told["errors"],
        "log": [_VARIES.sub("…", line) for line in told["said"]],
    }
    for fit in store.fits(run.id):
        for name in ("outcome", "first_epoch", "epochs", "phase", "first_step", "steps_per_epoch", "batch_size"):
            found[f"fits.{fit.number}.{name}"] = getattr(fit, name)
    for epoch in store.epochs(run.id):
        found |= {f"epochs.{epoch.number}.{key}": value for key, value in epoch.metrics.items()}
    for key, series in store.metrics(run.id).items():
        if not key.startswith("system/"):
            best = None if series.best is None else [series.best.value, series.best.step]
            history = store.history(run.id, key)
            found[f"series.{key}"] = [series.axis, series.goal, series.count, best]
            found[f"points.{key}"] = [[int(step) for step in history.steps], [float(one) for one in history.values]]
    counted: Counter[str] = Counter()
    for event in store.events(run.id):
        place = f"events.{event.epoch}.{event.kind}"
        if (of := event.detail.get("metric") or event.detail.get("format")) is not None:
            place += f".{of}"
        found[f"{place}.{counted[place]}"] = [event.step, _detail(event.detail)]
        counted[place] += 1
    checkpoints = store.checkpoints(run.id)
    states = [one for one in checkpoints if one.role == "state" and one.status == "published"]
    for one in [*(one for one in checkpoints if one.role == "model"), *states]:
        place = f"checkpoints.{one.role}.{one.epoch}.{_of(one.state)}"
        found[f"{place}.{counted[place]}"] = [
            one.step, one.format, one.is_best, one.status, one.superseded, dict(one.metrics),
        ]  # fmt: skip
        counted[place] += 1
    found |= {f"params.{key}": value for key, value in store.params(run.id).items()}
    for one in store.histograms(run.id):
        # A weight's path begins with the models that it is in.
        found[f"histograms.{'/'.join(one.key.split('/')[-2:])}.{one.step}"] = [list(one.edges), list(one.counts)]
    return found


def differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], may: Iterable[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Where two records differ, but for the paths that match a pattern of `may`: {path: (expected, found)}."""
    patterns = list(may)
    return {
        path: (expected.get(path, "nothing"), found.get(path, "nothing"))
        for path in sorted(expected.keys() | found.keys())
        if not any(fnmatchcase(path, pattern) for pattern in patterns)
        and not same(expected.get(path, "nothing"), found.get(path, "nothing"))
    }


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, floats as far as floating point allows; NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=REL, abs_tol=ABS) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def shown(differ: Mapping[str, tuple[Any, Any]]) -> str:
    """The differences, a line each."""
    return "\n".join(f"{path}:\n    expected {one}\n    found    {other}" for path, (one, other) in differ.items())


def _detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """An event's detail without what names its file or its row."""
    left_out = ("checkpoint", "sha256", "size", "uri", "id")
    return {key: value for key, value in detail.items() if key not in left_out}


def _of(state: Mapping[str, Any]) -> str:
    """Who saved a checkpoint, and where."""
    return f"{state.get('by', 'TrackerCallback')}:{str(state.get('file', '')).rpartition('/')[2]}"

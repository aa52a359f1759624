"""The record against what others say of the same training: Keras' History, its optimizer, the files on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2e.field.record import same

from tracker.domain.ports import RunStore

FILES = ("*.keras", "*.weights.h5")
"""What the ModelCheckpoints of the reference write."""


def untrue(store: RunStore, told: Mapping[str, Any]) -> Iterator[str]:
    """What the record of the run that `told` names says otherwise, a sentence each."""
    run = told["run"]
    recorded = {epoch.number: epoch.metrics for epoch in store.epochs(run)}
    yield from _history(recorded, told)
    yield from _rates(recorded, told)
    catalogue = store.checkpoints(run)
    kept = {one.sha256 for one in catalogue if one.status == "published"}
    for pattern in FILES:
        for file in sorted(Path(told["folder"]).rglob(pattern)):
            if hashlib.sha256(file.read_bytes()).hexdigest() not in kept:
                yield f"{file.name} is not in the catalogue as it lies on disk"
    if told["saves"]:
        newest = max(
            (one.epoch for one in catalogue if one.role == "state" and one.status == "published"), default=None
        )
        last = max(recorded, default=None)
        # A training that dies as an epoch ends has no state of that one.
        if newest != last and not (told["error"] and last is not None and newest == last - 1):
            yield f"the newest state is that of epoch {newest}, the last epoch is {last}"


def _history(recorded: Mapping[int, Mapping[str, float]], told: Mapping[str, Any]) -> Iterator[str]:
    """Every value that Keras returns is on record, and every epoch."""
    if told["history"] is None:
        return
    for epoch in told["epochs"]:
        if epoch not in recorded:
            yield f"epoch {epoch} is in Keras' History and not on record"
    for key, values in told["history"].items():
        there = [epoch for epoch in told["epochs"] if len(values) == len(told["epochs"])] or [
            epoch for epoch in told["epochs"] if key in recorded.get(epoch, {})
        ]
        found = [recorded.get(epoch, {}).get(key) for epoch in there]
        # Keras notes the rate at the epoch's end, which another may have set since; the rate is held against `rates`.
        if key != "learning_rate" and not same(found, list(map(float, values))):
            yield f"{key} is {found}, and in Keras' History {values}"


def _rates(recorded: Mapping[int, Mapping[str, float]], told: Mapping[str, Any]) -> Iterator[str]:
    """An epoch's rate is the one that its first batch was trained with; a schedule's is that of its last."""
    if told["schedule"]:
        return
    for epoch, rate in told["rates"] or ():
        if epoch in recorded and not same(recorded[epoch].get("learning_rate"), rate):
            yield f"the rate of epoch {epoch} is {recorded[epoch].get('learning_rate')}, and was {rate} at its first batch"

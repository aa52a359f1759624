"""Checks of what clients write: lengths, alphabets and ranges. The types are checked by the frames' own classes.

Each way in calls them once: the server for requests, the embedded store's transport for journals. Both may come from
anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

import msgspec

from tracker.domain.datasets import check_dataset
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import (
    ArtifactLogged,
    Batch,
    CheckpointLogged,
    CheckpointsKept,
    DatasetLogged,
    EpochEnded,
    EventLogged,
    FitEnded,
    FitStarted,
    Frame,
    HistogramLogged,
    MetricDefined,
    MetricMonitored,
    Params,
    PointBlock,
    Points,
    PointsLogged,
    RunEnded,
    RunRenamed,
    RunStarted,
    Staged,
    StopRequested,
    Tags,
)
from tracker.domain.limits import (
    DETAIL_BYTES,
    KEY_LENGTH,
    MOST_KEPT,
    MS_MAX,
    NAME_LENGTH,
    PARAM_BYTES,
    SCRIPT_LENGTH,
    STEP_MAX,
    as_json,
    as_tag,
    check_experiment,
    check_format,
    check_key,
    check_name,
    check_run_id,
    check_safe_path,
    check_seconds,
    check_sha256,
    check_text,
    check_uri,
    check_writer,
    json_size,
)

INT_MAX = 2**31 - 1
"""Maximum of numbers of fits, phases and steps an epoch, which databases keep in 32 bits."""
MOST_BINS = 100_000


def check_batch(batch: Batch) -> None:
    """InvalidValue names the first field that breaks a limit. Parameters and details are made storable in place."""
    check_run_id(batch.run_id)
    check_writer(batch.writer)
    _check_range("first", batch.first, 0, STEP_MAX)
    _check_range("last", batch.last, batch.first, STEP_MAX)
    _check_range("after", batch.after, 0, STEP_MAX)
    _check_numbers("items", [number for number, _ in batch.items], batch)
    for index, block in enumerate(batch.blocks):
        _check_block(f"blocks[{index}]", block, batch)
    for index, (_, item) in enumerate(batch.items):
        assert not isinstance(item, PointsLogged | RunRenamed | StopRequested)
        check_item(f"items[{index}]", item)


def check_item(field: str, item: Frame) -> None:
    """`check_batch` for one item, whose path is `field`."""
    _check_range(f"{field}.ms", item.ms, -MS_MAX, MS_MAX)
    match item:
        case RunStarted():
            check_experiment(item.experiment)
            check_name(item.name)
            check_uri(f"{field}.artifact_uri", item.artifact_uri or "-")
            check_text(f"{field}.host", item.host or "-", NAME_LENGTH)
            check_text(f"{field}.script", item.script or "-", SCRIPT_LENGTH)
            check_text(f"{field}.commit", item.commit or "-", NAME_LENGTH)
            _check_range(f"{field}.pid", item.pid, 0, STEP_MAX)
        case RunEnded(error=error) if error is not None:
            _make_storable(f"{field}.error", error, DETAIL_BYTES)
        case Points():
            _check_keys(field, item.values)
            _check_range(f"{field}.step", item.step, 0, STEP_MAX)
            _check_range(f"{field}.fit", item.fit, 0, INT_MAX)
        case EpochEnded():
            _check_keys(field, item.values)
            _check_range(f"{field}.epoch", item.epoch, 0, STEP_MAX)
            _check_range(f"{field}.fit", item.fit, 0, INT_MAX)
            _check_optional(f"{field}.step", item.step, STEP_MAX)
            if item.seconds is not None:
                check_seconds(f"{field}.seconds", item.seconds)
        case Params(values=values):
            _check_keys(field, values)
            _check_range(f"{field}.fit", item.fit, 0, INT_MAX)
            for key in values:
                values[key] = _storable(f"parameter {key!r}", values[key], PARAM_BYTES)
        case Tags(values=values):
            _check_keys(field, values)
            values.update({key: as_tag(key, value) for key, value in values.items()})
        case EventLogged(detail=detail):
            check_text(f"{field}.kind", item.kind, KEY_LENGTH)
            _check_place(field, item.epoch, item.step, item.fit)
            _make_storable(f"{field}.detail", detail, DETAIL_BYTES)
        case FitStarted():
            check_text(f"{field}.host", item.host or "-", NAME_LENGTH)
            for name in ("number", "phase"):
                _check_range(f"{field}.{name}", getattr(item, name), 0, INT_MAX)
            for name in ("first_epoch", "first_step", "phase_epoch", "phase_step"):
                _check_range(f"{field}.{name}", getattr(item, name), 0, STEP_MAX)
            for name in ("epochs", "steps_per_epoch", "batch_size"):
                _check_optional(f"{field}.{name}", getattr(item, name), INT_MAX)
            _check_optional(f"{field}.resumed_from", item.resumed_from, STEP_MAX)
        case FitEnded():
            _check_range(f"{field}.number", item.number, 0, INT_MAX)
        case ArtifactLogged(file=file):
            _check_file(f"{field}.file", file)
        case CheckpointLogged():
            _check_checkpoint(field, item)
        case CheckpointsKept(last=last, best=best):
            for name, count in (("last", last), ("best", best)):
                if count is not None:
                    _check_range(f"{field}.{name}", count, 1, MOST_KEPT)
        case DatasetLogged():
            check_dataset(item)
        case HistogramLogged(key=key):
            _check_keys(field, (key,))
            _check_range(f"{field}.step", item.step, 0, STEP_MAX)
            _check_range(f"{field}.fit", item.fit, 0, INT_MAX)
            _check_histogram(field, item)
        case MetricDefined(key=key) | MetricMonitored(key=key):
            _check_keys(field, (key,))


def _check_checkpoint(field: str, item: CheckpointLogged) -> None:
    _check_place(field, item.epoch, item.step, item.fit)
    _check_keys(field, item.metrics)
    check_format(f"{field}.format", item.format)
    _check_file(f"{field}.file", item.file)
    if item.sha256:
        check_sha256(f"{field}.sha256", item.sha256)
    if item.uri:
        check_uri(f"{field}.uri", item.uri)
    if (size := json_size(item.metrics)) > DETAIL_BYTES:
        raise InvalidValue(f"{field}.metrics", f"{size} bytes of JSON", limit=f"{DETAIL_BYTES} bytes")
    _make_storable(f"{field}.state", item.state, DETAIL_BYTES)


def _check_file(field: str, file: Staged) -> None:
    """Checks a file next to a journal: its name there is one name, its path is below a run's artifacts."""
    check_safe_path(file.path.replace("{sha256}", "0" * 64))
    if "/" in check_safe_path(file.name):
        raise InvalidValue(f"{field}.name", f"{file.name[:80]!r} is a path", limit="one name, no '/'")
    _check_range(f"{field}.size", file.size, 0, STEP_MAX)
    if file.sha256:
        check_sha256(f"{field}.sha256", file.sha256)


def _check_place(field: str, epoch: int | None, step: int | None, fit: int) -> None:
    _check_optional(f"{field}.epoch", epoch, STEP_MAX)
    _check_optional(f"{field}.step", step, STEP_MAX)
    _check_range(f"{field}.fit", fit, 0, INT_MAX)


def _check_optional(field: str, value: int | None, high: int) -> None:
    if value is not None:
        _check_range(field, value, 0, high)


def _check_block(field: str, block: PointBlock, batch: Batch) -> None:
    rows = len(block.steps)
    if not rows or not block.keys:
        raise InvalidValue(field, "no points", limit="at least one")
    _check_keys(field, block.keys)
    if len(set(block.keys)) != len(block.keys):
        raise InvalidValue(f"{field}.keys", "a key is there twice", limit="each once")
    if len(block.values) != len(block.keys):
        raise InvalidValue(f"{field}.values", f"{len(block.values)} columns", limit=f"one a key: {len(block.keys)}")
    columns: list[tuple[str, Sequence[float]]] = [("numbers", block.numbers), ("ms", block.ms)]
    columns += [(f"values[{index}]", column) for index, column in enumerate(block.values)]
    for name, column in columns:
        if len(column) != rows:
            raise InvalidValue(f"{field}.{name}", f"{len(column)} values", limit=f"as many as steps: {rows}")
    _check_numbers(f"{field}.numbers", block.numbers, batch)
    _check_range(f"{field}.fit", block.fit, 0, INT_MAX)
    for name, whole, low, high in (("steps", block.steps, 0, STEP_MAX), ("ms", block.ms, -MS_MAX, MS_MAX)):
        _check_range(f"{field}.{name}", min(whole), low, high)
        _check_range(f"{field}.{name}", max(whole), low, high)


def _check_numbers(field: str, numbers: Sequence[int], batch: Batch) -> None:
    """Frame numbers must rise, and belong to the batch."""
    if not numbers:
        return
    _check_range(field, numbers[0], max(batch.first, 1), batch.last)
    _check_range(field, numbers[-1], max(batch.first, 1), batch.last)
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise InvalidValue(field, "frame numbers out of order", limit="each larger than the one before")


def _check_histogram(field: str, item: HistogramLogged) -> None:
    if len(item.counts) > MOST_BINS:
        raise InvalidValue(f"{field}.counts", f"{len(item.counts)} intervals", limit=f"{MOST_BINS}")
    if len(item.edges) != len(item.counts) + 1 or not all(isfinite(edge) for edge in item.edges):
        raise InvalidValue(
            f"{field}.edges",
            f"{len(item.edges)} edges of {len(item.counts)} intervals",
            limit="one more than counts, all finite",
        )


def _storable(field: str, value: Any, most: int) -> Any:
    """`value` as JSON of at most `most` bytes. MessagePack can carry what JSON has no form for: bytes, times.

    Its size as MessagePack is checked first, since converting many small objects takes much time and memory.
    """
    if (size := len(msgspec.msgpack.encode(value))) <= 2 * most:
        value = as_json(value)
        size = json_size(value)
    if size > most:
        raise InvalidValue(field, f"{size} bytes of JSON", limit=f"{most} bytes")
    return value


def _make_storable(field: str, values: dict[str, Any], most: int) -> None:
    same = _storable(field, values, most)
    values.clear()
    values.update(same)


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidValue(field, f"{value} is out of range", limit=f"{low} to {high}")


def _check_keys(field: str, keys: Iterable[str]) -> None:
    for key in keys:
        check_key(field, key)

"""Batches ↔ bytes: MessagePack, points by column as `Batch` has them.

What is read is checked as the client checks what it writes: it may come from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from math import isfinite
from typing import Any

import msgspec

from tracker.domain.datasets import check_dataset
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import (
    Batch,
    CheckpointLogged,
    CheckpointsKept,
    DatasetLogged,
    EpochEnded,
    EventLogged,
    HistogramLogged,
    MetricDefined,
    MetricMonitored,
    Params,
    PointBlock,
    RunStarted,
    Tags,
)
from tracker.domain.limits import (
    MOST_KEPT,
    STEP_MAX,
    as_json,
    as_tag,
    check_experiment,
    check_key,
    check_name,
    check_run_id,
)

WRITER_LENGTH = 64
_WHERE = re.compile(r" - at `(?:key in )?\$\.?(?P<path>.*)`\Z")
_encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder() -> Callable[[bytes], Batch]:
    return msgspec.msgpack.Decoder(Batch).decode  # takes its time to make, and only servers need it


def encode_batch(batch: Batch) -> bytes:
    """`batch` as MessagePack. InvalidValue if it holds what that has no form for, like integers beyond 64 bits."""
    try:
        return _encode(batch)
    except (OverflowError, UnicodeError, TypeError) as error:
        raise InvalidValue(f"frames {batch.first} to {batch.last}", f"cannot be sent: {error}") from error


def decode_batch(data: bytes) -> Batch:
    """The batch that `data` is. InvalidValue names the field (`blocks[0].steps[2]`) that is not as it must be."""
    try:
        batch = _decoder()(data)
        _check(batch)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue("batch", f"{len(data)} bytes that are no batch: {error}", limit="MessagePack") from error
    return batch


def invalid(error: msgspec.ValidationError, whole: str = "batch") -> InvalidValue:
    """The InvalidValue that names the field of which `error` speaks; `whole` if it is none."""
    text = str(error)
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    return InvalidValue(path or whole, text[: where.start()] if where else text)


def _check(batch: Batch) -> None:
    check_run_id(batch.run_id)
    if not 1 <= len(batch.writer) <= WRITER_LENGTH or not batch.writer.isprintable():
        raise InvalidValue("writer", f"{batch.writer[:80]!r}", limit=f"1 to {WRITER_LENGTH} printable characters")
    _check_range("first", batch.first, 0, STEP_MAX)
    _check_range("last", batch.last, batch.first, STEP_MAX)
    _check_numbers("items", [number for number, _ in batch.items], batch)
    for index, block in enumerate(batch.blocks):
        _check_block(f"blocks[{index}]", block, batch)
    for index, (_, item) in enumerate(batch.items):
        match item:
            case RunStarted(experiment=experiment, name=name):
                check_experiment(experiment)
                check_name(name)
            case EpochEnded(values=values):
                _check_keys(f"items[{index}]", values)
            case Params(values=values):
                _check_keys(f"items[{index}]", values)
                _make_storable(values)
            case Tags(values=values):
                _check_keys(f"items[{index}]", values)
                values.update({key: as_tag(key, value) for key, value in values.items()})
            case EventLogged(detail=detail):
                _make_storable(detail)
            case CheckpointLogged(state=state):
                _make_storable(state)
            case CheckpointsKept(last=last, best=best):
                for name, count in (("last", last), ("best", best)):
                    if count is not None:
                        _check_range(f"items[{index}].{name}", count, 1, MOST_KEPT)
            case DatasetLogged():
                check_dataset(item)
            case HistogramLogged(key=key):
                _check_keys(f"items[{index}]", (key,))
                _check_histogram(f"items[{index}]", item)
            case MetricDefined(key=key) | MetricMonitored(key=key):
                _check_keys(f"items[{index}]", (key,))


def _check_block(field: str, block: PointBlock, batch: Batch) -> None:
    rows = len(block.steps)
    if not rows or not block.keys:
        raise InvalidValue(field, "no points", limit="at least one")
    _check_keys(field, block.keys)
    if len(set(block.keys)) != len(block.keys):
        raise InvalidValue(f"{field}.keys", "a key stands there twice", limit="each once")
    if len(block.values) != len(block.keys):
        raise InvalidValue(f"{field}.values", f"{len(block.values)} columns", limit=f"one a key: {len(block.keys)}")
    columns: list[tuple[str, Sequence[float]]] = [("numbers", block.numbers), ("ms", block.ms)]
    columns += [(f"values[{index}]", column) for index, column in enumerate(block.values)]
    for name, column in columns:
        if len(column) != rows:
            raise InvalidValue(f"{field}.{name}", f"{len(column)} values", limit=f"as many as steps: {rows}")
    _check_numbers(f"{field}.numbers", block.numbers, batch)
    for name, whole in (("steps", block.steps), ("ms", block.ms)):
        _check_range(f"{field}.{name}", min(whole), 0 if name == "steps" else -STEP_MAX, STEP_MAX)
        _check_range(f"{field}.{name}", max(whole), 0 if name == "steps" else -STEP_MAX, STEP_MAX)


def _check_numbers(field: str, numbers: Sequence[int], batch: Batch) -> None:
    """Frame numbers rise, and are the batch's."""
    if not numbers:
        return
    _check_range(field, numbers[0], max(batch.first, 1), batch.last)
    _check_range(field, numbers[-1], max(batch.first, 1), batch.last)
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise InvalidValue(field, "frame numbers out of order", limit="each larger than the one before")


def _check_histogram(field: str, item: HistogramLogged) -> None:
    if len(item.edges) != len(item.counts) + 1 or not all(isfinite(edge) for edge in item.edges):
        raise InvalidValue(
            f"{field}.edges",
            f"{len(item.edges)} edges of {len(item.counts)} intervals",
            limit="one more than counts, all finite",
        )


def _make_storable(values: dict[str, Any]) -> None:
    """MessagePack can carry more than JSON has a form for: bytes, times, extensions."""
    same = as_json(values)
    values.clear()
    values.update(same)


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidValue(field, f"{value} is out of range", limit=f"{low} to {high}")


def _check_keys(field: str, keys: Iterable[str]) -> None:
    for key in keys:
        check_key(field, key)

"""MLflow's limits on names and values, with MLflow 3.17's messages: clients match on them (mlflow/utils/validation.py).

Values are checked against Tracker's limits, which are wider: a long value that MLflow silently truncates is kept whole.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, NoReturn

from msgspec import UNSET

from tracker.domain.limits import EXPERIMENT_LENGTH, KEY_LENGTH, MS_MAX, NAME_LENGTH, PARAM_BYTES, TAG_BYTES
from tracker.mlflow_bridge.bridge_entities import BridgeError, DatasetInput, Metric, Text

MOST_METRICS = 1000
MOST_PARAMS = 100
MOST_TAGS = 100
MOST_RESULTS = 50_000
_MOST_OF_ALL = 1000
_INT64 = 2**63
_NAME = re.compile(r"[/\w.\- :]*\Z")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}\Z")
_MODEL_CHARACTERS = ("/", ":", ".", "%", '"', "'")
_EXPERIMENT_TAG = 20_000
_DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_LENGTHS = {
    "model_id": 64, "model_name": 500, "model_type": 500, "user_id": 256,
    # of the model registry
    "name": 256, "new_name": 256, "description": 5000, "source": 500, "run_id": 64, "run_link": 500,
}  # fmt: skip
_INPUT_TAG = {"key": 255, "value": 500}
_WORDS_OF_NUMBERS = ("NaN", "Infinity", "-Infinity")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def refuse(message: str) -> NoReturn:
    """Raise the BridgeError for an invalid parameter."""
    raise BridgeError("INVALID_PARAMETER_VALUE", message)


def _invalid(path: str, value: Any, hint: str = "") -> NoReturn:
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    refuse(f"Invalid value {shown} for parameter '{path}' supplied{f': {hint}' if hint else '.'}")


def _too_long(what: str, limit: int, unit: str = "characters") -> NoReturn:
    refuse(f"'{what}' exceeds the maximum length of {limit} {unit}")


def _name(path: str, name: Any, entity: str) -> None:
    """Check a key of a metric, parameter or tag: MLflow may use it as a file name, so it must be a clean relative
    path."""
    if name is None:
        hint = "A key name must be provided."
        if entity == "Metric name":
            _invalid(path, name, f"Metric name cannot be None. {hint}")
        _invalid(path, "", hint)
    if not isinstance(name, str) or not _NAME.match(name):
        _invalid(
            path,
            name,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) "
            "and slashes (/).",
        )
    clean = posixpath.normpath(name)
    if clean != name or clean == "." or clean.startswith(("..", "/")):
        _invalid(
            path,
            name,
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as "
            f"such. This name would resolve to {clean!r}",
        )
    if len(name) > KEY_LENGTH:
        _too_long(entity, KEY_LENGTH)


def _storable(path: str, value: str, most: int) -> str:
    if bad := _UNSTORABLE.search(value):
        _invalid(path, value[:100], f"character {bad.start()} cannot be stored as text")
    if len(value) > most // 4 and len(value.encode()) > most:
        _too_long(path, most, "bytes")
    return value


def check_run_id(run_id: Any) -> str:
    """`run_id` if it is well-formed."""
    if not isinstance(run_id, str) or not _RUN_ID.match(run_id):
        _invalid("run_id", run_id)
    return run_id


def check_batch(metrics: Sequence[Metric], params: Sequence[Text], tags: Sequence[Text]) -> None:
    """Check how much one call logs, and that it logs each parameter once. Raises BridgeError."""
    for count, what, most in (
        (len(metrics), "metrics", MOST_METRICS),
        (len(params), "params", MOST_PARAMS),
        (len(tags), "tags", MOST_TAGS),
        (len(metrics) + len(params) + len(tags), "metrics, params, and tags", _MOST_OF_ALL),
    ):
        if count > most:
            refuse(
                f"A batch logging request can contain at most {most} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )
    seen: set[str] = set()
    again = [param.key for param in params if param.key in seen or seen.add(param.key)]  # type: ignore[func-returns-value]
    if again:
        refuse(
            f"Duplicate parameter keys have been submitted: {again}. Please ensure the request contains only one "
            "param value per param key."
        )


def columns_of(metrics: Sequence[Metric]) -> tuple[list[str], list[int], list[int], list[float]]:
    """Keys, steps, ms and values of the metrics, each checked. Called for every point, so valid ones are cheap."""
    keys: list[str] = []
    steps: list[int] = []
    times: list[int] = []
    values: list[float] = []
    for index, metric in enumerate(metrics):
        key, value, ms, step = metric.key, metric.value, metric.timestamp, metric.step
        right = type(value) is float and type(ms) is int and type(step) is int and 0 <= ms < _INT64
        if not (right and -_INT64 <= step < _INT64 and type(key) is str and len(key) <= KEY_LENGTH and _is_name(key)):
            value = _checked(metric, "" if len(metrics) == 1 else f"metrics[{index}].")
            ms, step = int(ms), int(step)
        if metric.dataset_name is not metric.dataset_digest and is_set(metric.dataset_name) != is_set(
            metric.dataset_digest
        ):
            refuse("Both dataset_name and dataset_digest must be provided if one is provided")
        keys.append(key)
        steps.append(step)
        times.append(ms)
        values.append(value)  # type: ignore[arg-type]
    return keys, steps, times, values


@lru_cache(maxsize=20_000)
def _is_name(key: str) -> bool:
    try:
        _name("", key, "")
    except BridgeError:
        return False
    return True


def _checked(metric: Metric, path: str) -> float:
    """The metric's value as a float; BridgeError for an invalid metric."""
    _name(f"{path}name", metric.key, "Metric name")
    value = metric.value
    if value is None:
        refuse(f"Missing value for required parameter '{path}value'.")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if value not in _WORDS_OF_NUMBERS:
            hint = "Please specify value as a valid double (64-bit floating point)"
            _invalid(f"{path}value", value, f"(timestamp={metric.timestamp}). {hint}")
        value = float(value)
    about = f"metric '{metric.key}' (value={value})."
    if not _whole(metric.timestamp) or metric.timestamp < 0:
        _invalid(
            f"{path}timestamp", metric.timestamp, f"{about} Timestamp must be a nonnegative long (64-bit integer) "
        )
    if not _whole(metric.step):
        _invalid(f"{path}step", metric.step, f"{about} Step must be a valid long (64-bit integer).")
    try:
        return float(value)
    except OverflowError:
        _invalid(f"{path}value", value, "Please specify value as a valid double (64-bit floating point)")


def _whole(value: Any) -> bool:
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    return isinstance(value, float) and isfinite(value) and -_INT64 <= value < _INT64


def check_param(param: Text, path: str) -> None:
    """Check a parameter's key and value."""
    _name(f"{path}key", param.key, "Param key")
    _storable(f"{path}value", param.value, PARAM_BYTES)


def check_tag(tag: Text, path: str) -> None:
    """Check a run's tag."""
    if tag.key is None:
        refuse(f"Missing value for required parameter '{path}key'.")
    _name(f"{path}key", tag.key, f"{path}key")
    _storable(f"{path}value", tag.value, TAG_BYTES)


def check_experiment_tag(key: str, value: str) -> None:
    """Check an experiment's tag."""
    if key is None:
        refuse("Missing value for required parameter 'key'.")
    _name("key", key, "key")
    if len(value) > _EXPERIMENT_TAG:
        _too_long("value", _EXPERIMENT_TAG)
    _storable("value", value, TAG_BYTES)


def check_experiment_name(name: Any) -> str:
    """`name` if it is a valid name of an experiment."""
    if not name:
        refuse(f"Invalid experiment name: '{name}'")
    if not isinstance(name, str):
        refuse(f"Invalid experiment name: {name}. Expects a string.")
    if len(name) > EXPERIMENT_LENGTH:
        _too_long("name", EXPERIMENT_LENGTH)
    return _storable("name", name, TAG_BYTES)


def check_run_name(name: str) -> str:
    """`name` if it is a valid name of a run."""
    if len(name) > NAME_LENGTH:
        _too_long("run_name", NAME_LENGTH)
    return _storable("run_name", name, TAG_BYTES)


def check_lengths(**values: object) -> None:
    """Check texts against MLflow's lengths of the fields that they are named by; other values and None are ignored."""
    for field, value in values.items():
        if isinstance(value, str) and len(value) > (limit := _LENGTHS.get(field, len(value))):
            _too_long(field, limit)


def check_times(**values: int | None) -> None:
    """Check ms since the Unix epoch, by the names of their fields."""
    for field, value in values.items():
        if value is not None and not -MS_MAX <= value <= MS_MAX:
            _invalid(field, value, f"It must be within {MS_MAX} ms of the Unix epoch.")


def check_model_name(name: str | None) -> None:
    """Check a logged model's name; None lets the store choose."""
    if name is not None and (not name or any(one in name for one in _MODEL_CHARACTERS)):
        refuse(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {_MODEL_CHARACTERS}"
        )


def check_dataset(use: DatasetInput) -> None:
    """Check a data set and its tags."""
    for field in ("name", "digest", "source_type", "source", "schema", "profile"):
        value = getattr(use.dataset, field)
        if value is None and field not in ("schema", "profile"):
            refuse(f"Dataset {field} cannot be None")
        if isinstance(value, str):
            if len(value) > (limit := _DATASET.get(field, 64)):
                _too_long(field, limit)
            _storable(field, value, 4 * _DATASET.get(field, 64))
    for tag in use.tags:
        for field, limit in _INPUT_TAG.items():
            value = getattr(tag, field)
            if value is None:
                refuse(f"InputTag {field} cannot be None")
            if len(value) > limit:
                _too_long(field, limit)


def experiment_key(experiment_id: str | int | None) -> int:
    """The number of an experiment; empty means the default one."""
    if experiment_id is None or experiment_id == "":
        return 0
    try:
        return int(experiment_id)
    except (ValueError, TypeError):
        refuse(f"Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer.")


def check_max_results(max_results: int | None, *, most: int = MOST_RESULTS) -> int:
    """The maximum number of a page's results; None is the largest allowed."""
    if max_results is None:
        return most
    if isinstance(max_results, bool) or not isinstance(max_results, int) or max_results < 1:
        refuse(f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a positive integer")
    if max_results > most:
        refuse(f"Invalid value {max_results} for parameter 'max_results' supplied. It must be at most {most}")
    return max_results


def is_set(value: object) -> bool:
    """Whether an optional field of a message was given."""
    return value is not None and value is not UNSET

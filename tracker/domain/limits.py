"""Limits on what may be recorded, and checks whose errors name field, value and limit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tracker.domain.errors import InvalidValue

BLOCK_POINTS = 4096
"""Points of a compressed block, unless TRACKER_BLOCK_POINTS says otherwise."""
KEY_LENGTH = 250
EXPERIMENT_LENGTH = 500
SCRIPT_LENGTH = 1000
"""How many characters of a script's path are kept: its end."""
NAME_LENGTH = 250
WRITER_LENGTH = 64
PARAM_BYTES = 64 * 1024
TAG_BYTES = 1024 * 1024
PATH_LENGTH = 500
DETAIL_BYTES = 1024 * 1024
"""Maximum bytes of JSON in an event's detail or a checkpoint's state."""
URI_LENGTH = 4096
FORMAT_LENGTH = 32
STEP_MAX = 2**63 - 1
MS_MAX = 2**53
"""Maximum of times: so that differences of two are in 64 bits, and JavaScript reads them exactly."""
MOST_KEPT = 1_000_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_FORMAT = re.compile(r"(?:\.[A-Za-z0-9_-]+)*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def excerpt(value: object, width: int = 60) -> str:
    """`value` in a message, cut to `width` characters."""
    return shortened(repr(value), width)


def shortened(text: str, width: int = 200) -> str:
    """`text` in a message, cut to `width` characters."""
    return text if len(text) <= width else f"{text[:width]}… ({len(text)} characters)"


def check_text(field: str, value: object, longest: int) -> str:
    """`value` if it is a text of 1 to `longest` characters without control characters, else InvalidValue."""
    limit = f"1 to {longest} characters, no control characters"
    if not isinstance(value, str):
        raise InvalidValue(field, f"{excerpt(value)} is of type {type(value).__name__}, not a string", limit=limit)
    if not 1 <= len(value) <= longest:
        raise InvalidValue(field, f"{excerpt(value)} has {len(value)} characters", limit=limit)
    if bad := _CONTROL.search(value):
        raise InvalidValue(field, f"{excerpt(value)} has a control character at {bad.start()}", limit=limit)
    return value


def check_key(field: str, key: object) -> str:
    """`key` if it can name a metric, parameter or tag, else InvalidValue."""
    return check_text(f"{field} key", key, KEY_LENGTH)


def check_experiment(name: object) -> str:
    """`name` if it can name an experiment, else InvalidValue."""
    return check_text("experiment", name, EXPERIMENT_LENGTH)


def check_name(name: object) -> str:
    """`name` if it can name a run, else InvalidValue."""
    return check_text("name", name, NAME_LENGTH)


def check_run_id(run_id: object) -> str:
    """`run_id` if it can be one, else InvalidValue."""
    if isinstance(run_id, str) and _RUN_ID.match(run_id):
        return run_id
    raise InvalidValue(
        "run_id",
        f"{excerpt(run_id)} cannot be a run id",
        limit="1 to 64 of letters, digits, '_' and '-', the first a letter or digit",
    )


def check_writer(writer: object) -> str:
    """`writer` if it can name the writer of a journal, else InvalidValue. It is part of file names."""
    if isinstance(writer, str) and 1 <= len(writer) <= WRITER_LENGTH and writer.isprintable() and "/" not in writer:
        return writer
    limit = f"1 to {WRITER_LENGTH} printable characters, no '/'"
    raise InvalidValue("writer", f"{excerpt(writer)} cannot name a writer", limit=limit)


def check_format(field: str, format: object) -> str:
    """`format` if it can be the extension of a file (`.weights.h5`; empty for none), else InvalidValue.

    It becomes part of file names on the machine that loads the checkpoint.
    """
    if isinstance(format, str) and len(format) <= FORMAT_LENGTH and _FORMAT.match(format):
        return format
    limit = f"endings like '.weights.h5', at most {FORMAT_LENGTH} letters, digits, '.', '_' and '-'"
    raise InvalidValue(field, f"{excerpt(format)} is not how a file ends", limit=limit)


def check_sha256(field: str, digest: object) -> str:
    """`digest` if it is a SHA-256 in 64 lower-case hexadecimal digits, else InvalidValue."""
    if isinstance(digest, str) and _SHA256.match(digest):
        return digest
    raise InvalidValue(field, f"{excerpt(digest)} is not a SHA-256", limit="64 hexadecimal digits in lower case")


def check_uri(field: str, uri: object) -> str:
    """`uri` if it can be an address, else InvalidValue; the address is not opened."""
    return check_text(field, uri, URI_LENGTH)


def check_step(field: str, step: object) -> int:
    """`step` as an int if it is a whole number from 0 to 2**63 - 1, else InvalidValue."""
    limit = f"a whole number from 0 to {STEP_MAX}"
    try:
        whole = int(step)  # type: ignore[call-overload]
        same = not isinstance(step, (str, bytes, bool)) and whole == step
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise InvalidValue(field, f"{excerpt(step)} is not a whole number", limit=limit)
    if not 0 <= whole <= STEP_MAX:
        raise InvalidValue(field, f"{whole} is out of range", limit=limit)
    return int(whole)


def as_number(key: str, value: object) -> float:
    """`value` as a float; arrays and tensors of exactly one element are fine, NaN and infinities are kept."""
    if isinstance(value, (str, bytes)) or value is None:
        raise InvalidValue(f"metric {key!r}", f"{excerpt(value)} is not a number")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise InvalidValue(f"metric {key!r}", f"{excerpt(value)} does not fit a 64-bit float") from None
    except Exception:  # NumPy, JAX, torch and TensorFlow each raise their own
        pass
    try:
        return float(value.reshape(-1)[0]) if math.prod(value.shape) == 1 else _not_one(key, value)  # type: ignore[attr-defined]
    except InvalidValue:
        raise
    except Exception:
        raise InvalidValue(f"metric {key!r}", f"{excerpt(value)} ({type(value).__name__}) is not a number") from None


def as_seconds(value: object) -> float:
    """`value`, as for `as_number`, as a duration in seconds, else InvalidValue."""
    return check_seconds("seconds", as_number("seconds", value))


def check_seconds(field: str, value: float) -> float:
    """`value` if it can be a duration in seconds, else InvalidValue."""
    if not (math.isfinite(value) and value >= 0):
        raise InvalidValue(field, f"{value} is not a duration", limit="finite, not negative")
    return value


def _not_one(key: str, value: Any) -> float:
    raise InvalidValue(
        f"metric {key!r}",
        f"an array of shape {tuple(value.shape)} is not one number",
        limit="one element; log_histogram records a distribution",
    )


def as_tag(key: str, value: object) -> str:
    """`value` as the string that a tag keeps, at most 1 MiB of UTF-8."""
    text = value if isinstance(value, str) else str(value)
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TAG_BYTES:
        raise InvalidValue(f"tag {key!r}", f"{size} bytes", limit=f"{TAG_BYTES} bytes")
    return _storable(text)


def as_json(value: Any) -> Any:
    """`value` as JSON that every database keeps: numbers stay numbers, NaN and infinities become strings.

    What JSON has no form for becomes its `str()`; NumPy scalars become Python's, arrays become lists.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _storable(str(value))
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else number_text(value)
    if isinstance(value, Mapping):
        return {_storable(str(k)): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((as_json(v) for v in value), key=str)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, and what follows their protocol
        return as_json(value.tolist())
    return _storable(str(value))


def json_size(value: Any) -> int:
    """How many bytes of JSON `value`, made by `as_json`, takes."""
    return len(msgspec.json.encode(value))


def as_detail(field: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as JSON of at most 1 MiB, as an event's detail or a checkpoint's state; else InvalidValue."""
    detail: dict[str, Any] = as_json(value)
    if (size := json_size(detail)) > DETAIL_BYTES:
        raise InvalidValue(field, f"{size} bytes of JSON", limit=f"{DETAIL_BYTES} bytes; log_artifact keeps files")
    return detail


def check_safe_path(path: object) -> str:
    """`path` if it stays below the folder it is joined to: relative, `/`-separated, without `.` and `..`."""
    limit = (
        f"relative names joined by '/', at most {PATH_LENGTH} bytes and 255 each, no '..', '\\', drive or control "
        "characters"
    )
    if not isinstance(path, str) or not path:
        raise InvalidValue("path", f"{excerpt(path)} is not a path", limit=limit)
    parts = path.split("/")
    too_long = len(path.encode("utf-8", "surrogatepass")) > PATH_LENGTH or any(
        len(p.encode("utf-8", "surrogatepass")) > 255 for p in parts
    )
    elsewhere = "\\" in path or _DRIVE.match(path) or any(part in ("", ".", "..") for part in parts)
    if too_long or elsewhere or _CONTROL.search(path):
        raise InvalidValue("path", f"{excerpt(path)} is not allowed", limit=limit)
    return path


_UNREADABLE = (
    (re.compile(r"[#?]"), "has {!r}, at which the path of an address ends"),
    (re.compile(r"%[0-9A-Fa-f]{2}"), "has {!r}, which stands for another character in an address"),
    (re.compile(r"(?:\A|(?<=/)) "), "has a name that begins with a space"),
    (re.compile(r";(?=/|\Z)"), "has a name that ends with ';'"),
    (re.compile(r"(?:\A|(?<=/))[A-Za-z][A-Za-z0-9+.-]*:"), "has a name that begins with {!r}, as addresses do"),
    (
        re.compile(r"(?:\A|(?<=/))\.(?:part-|artifact\.uploading\.)"),
        "has a name that begins with {!r}, as unfinished files do",
    ),
    (re.compile(r"\A[^/]*'(?=[^/]*/)"), "has an apostrophe in its first folder"),
)
"""Names that MLflow's clients misread or cannot list: their checks and requests treat names as URLs."""


def check_artifact_path(path: object) -> str:
    """`path` if a file can be stored and read back under it by all clients, MLflow's too, else InvalidValue."""
    for pattern, problem in _UNREADABLE:
        if found := pattern.search(checked := check_safe_path(path)):
            limit = "names that MLflow's clients give back unchanged; log it under another name"
            raise InvalidValue("path", f"{excerpt(checked)} {problem.format(found[0])}", limit=limit)
    return checked


def is_artifact_path(path: str) -> bool:
    """Whether `check_artifact_path` accepts the path."""
    try:
        check_artifact_path(path)
    except InvalidValue:
        return False
    return True


def flatten(mapping: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, their keys joined by dots; an empty mapping stays as a value."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def number_text(value: float) -> str:
    """The text by which JSON represents a float that it has no number for."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _storable(text: str) -> str:
    """`text` without what no SQL text column takes: NUL becomes U+FFFD, lone surrogates are escaped."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def step_bound(name: str, step: int | None) -> int | None:
    """A bound of steps, clamped to 64 bits."""
    if step is None:
        return None
    if not isinstance(step, int):
        raise InvalidValue(name, f"{step!r} is of type {type(step).__name__}", limit="a whole number")
    return max(-(2**63), min(step, 2**63 - 1))

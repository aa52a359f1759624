"""Conversions of callers' values for frames, in addition to those of `tracker.domain.limits`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from traceback import format_exception
from typing import TypeVar, cast

from tracker.client.folder_packing import archive_format
from tracker.domain.errors import InvalidValue
from tracker.domain.limits import as_json, check_format, json_size

TRACEBACK_LENGTH = 20_000
"""Characters that are kept of a traceback (its end, where the error is) and of a message (its beginning)."""

FRAME_BYTES = 1024 * 1024
"""Bytes in one frame of parameters or tags; servers accept items of up to 4 MiB."""

_T = TypeVar("_T")


def one_of(field: str, value: _T, choices: tuple[object, ...]) -> _T:
    """`value` if it is among `choices`, else InvalidValue."""
    if value not in choices:
        raise InvalidValue(field, f"{value!r} is none", limit=", ".join(map(repr, choices)))
    return value


def checkpoint_format(path: Path) -> str:
    """`.keras`, `.weights.h5`, `.h5`, or another suffix of the file's name; for a folder the suffix of its archive.

    Empty if the suffix is not allowed in artifact names.
    """
    if path.is_dir():
        return archive_format(path)
    for suffix in (".weights.h5", ".keras", ".h5"):
        if path.name.endswith(suffix):
            return suffix
    try:
        return check_format("format", PurePosixPath(path.name).suffix)
    except InvalidValue:
        return ""


def in_frames(values: dict[str, _T]) -> Iterator[dict[str, _T]]:
    """`values` in parts that fit into a frame: about 1 MiB of JSON each, or one value that is larger."""
    part: dict[str, _T] = {}
    total = 0
    for key, value in values.items():
        size = len(key) + json_size(value)
        if part and total + size > FRAME_BYTES:
            yield part
            part, total = {}, 0
        part[key] = value
        total += size
    if part:
        yield part


def described(error: BaseException | None) -> dict[str, str] | None:
    """The record of the exception that failed a run: its type, message and traceback."""
    if error is None:
        return None
    try:
        message = str(error)
    except Exception:  # a user's `__str__` failed
        message = "(its message cannot be shown)"
    if len(message) > TRACEBACK_LENGTH:
        message = f"{message[:TRACEBACK_LENGTH]}… ({len(message)} characters)"
    trace = "".join(format_exception(error))[-TRACEBACK_LENGTH:]
    return cast(dict[str, str], as_json({"type": type(error).__name__, "message": message, "traceback": trace}))

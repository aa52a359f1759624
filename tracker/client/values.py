"""What callers give, as frames carry it, where the limits of the domain do not already say how."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from traceback import format_exception
from typing import TypeVar, cast

from tracker.client.archive import archive_format
from tracker.domain.errors import InvalidValue
from tracker.domain.limits import as_json

TRACEBACK_LENGTH = 20_000
"""How many characters of a traceback are kept: its end, where the error is."""

_T = TypeVar("_T")


def one_of(field: str, value: _T, choices: tuple[object, ...]) -> _T:
    """`value` if it is among `choices`, else InvalidValue."""
    if value not in choices:
        raise InvalidValue(field, f"{value!r} is none", limit=", ".join(map(repr, choices)))
    return value


def checkpoint_format(path: Path) -> str:
    """`.keras`, `.weights.h5`, `.h5`, or whatever the file's name ends in; for a folder that of its archive."""
    if path.is_dir():
        return archive_format(path)
    for suffix in (".weights.h5", ".keras", ".h5"):
        if path.name.endswith(suffix):
            return suffix
    return PurePosixPath(path.name).suffix


def described(error: BaseException | None) -> dict[str, str] | None:
    """What is kept of the exception that failed a run: its type, message and traceback."""
    if error is None:
        return None
    try:
        message = str(error)
    except Exception:  # somebody's own `__str__`
        message = "(its message cannot be shown)"
    trace = "".join(format_exception(error))[-TRACEBACK_LENGTH:]
    return cast(dict[str, str], as_json({"type": type(error).__name__, "message": message, "traceback": trace}))

"""Validation of artifact paths that clients give."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import check_artifact_path, check_safe_path
from tracker.mlflow_bridge.bridge_entities import BridgeError

_LAYERS = 8
"""Maximum number of percent-encodings of a name; more are an attack."""
_DRIVE = re.compile(r"[A-Za-z]:")


def checked(path: str, *, new: bool = False) -> str:
    """`path`, decoded once, if it stays below the folder it is joined to ("" is the folder itself); else BridgeError.

    It must be safe after further decoding too. MLflow's clients must return the name of a `new` file unchanged.
    """
    plain = path.strip("/") if not path.startswith("/") else path
    seen = plain
    for _ in range(_LAYERS):
        if seen.startswith("/") or _DRIVE.match(seen) or "\\" in seen or "\x00" in seen or ".." in seen.split("/"):
            raise _invalid(path)
        decoded = unquote(seen)
        if decoded == seen:
            break
        seen = decoded
    else:
        raise _invalid(path)
    try:
        return (check_artifact_path if new else check_safe_path)(plain) if plain else ""
    except InvalidValue as error:
        raise BridgeError("INVALID_PARAMETER_VALUE", f"Invalid path: {error}") from error


def _invalid(path: str) -> BridgeError:
    return BridgeError("INVALID_PARAMETER_VALUE", f"Invalid path: {path[:200]!r} leads elsewhere")

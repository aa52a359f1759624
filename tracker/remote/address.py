"""Paths of a tracking server's resources, below its address."""

from __future__ import annotations

from urllib.parse import quote

from tracker.domain.limits import check_artifact_path, check_run_id, check_safe_path

API = "/api/v1"


def run_path(run_id: str, *more: str) -> str:
    """The path of a run's resource, below the server's address; any text is escaped."""
    return "/".join([f"{API}/runs/{_segment(run_id)}", *more])


def artifact_path(run_id: str, path: str, *, new: bool = False) -> str:
    """The path of a run's file, below the server's address. InvalidValue for an invalid path, or an invalid path of a
    `new` file."""
    (check_artifact_path if new else check_safe_path)(path.replace("{sha256}", "0" * 64))
    return run_path(check_run_id(run_id), "artifacts", quote(path))


def _segment(text: str) -> str:
    """`text` as one path segment; proxies would resolve `.` and `..`, so their dots are escaped too."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")

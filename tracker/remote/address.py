"""Where a tracking server is: `http(s)://[user:password@]host[:port][/prefix]`."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from tracker.domain.errors import InvalidStoreUrl
from tracker.domain.limits import check_artifact_path, check_run_id

SCHEMES = ("http", "https")
API = "/api/v1"


def normal(url: str) -> str:
    """`url` as it is written down: lower case where case does not matter, no slash at the end. InvalidStoreUrl."""
    parts = urlsplit(url)
    shown = identity(url)
    try:
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:  # a UnicodeError is one too
        raise InvalidStoreUrl(shown, str(error)) from error
    if not parts.hostname or any(character.isspace() for character in url):
        raise InvalidStoreUrl(shown, "a host belongs behind the two slashes")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InvalidStoreUrl(shown, "nothing belongs behind the server's address, no '?' and no '#'")
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{host}:{port}" if port is not None else host
    return f"{parts.scheme}://{user}{at}{place}{quote(parts.path.rstrip('/'), safe='/%')}"


def identity(url: str) -> str:
    """The address without the user and the password, which say who asks and not where."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def run_path(run_id: str, *more: str) -> str:
    """The path of a run's resource, below the server's address; any text is safe in it."""
    return "/".join([f"{API}/runs/{_segment(run_id)}", *more])


def artifact_path(run_id: str, path: str) -> str:
    """The path of a run's file, below the server's address. InvalidValue for what cannot be one."""
    check_artifact_path(path.replace("{sha256}", "0" * 64))
    return run_path(check_run_id(run_id), "artifacts", quote(path))


def _segment(text: str) -> str:
    """`text` as one segment; `.` and `..` would be resolved on the way, so their dots are escaped too."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")

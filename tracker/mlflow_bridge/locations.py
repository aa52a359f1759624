"""Artifact locations: translates between stored URIs and the URIs that MLflow's clients see."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tracker.domain.catalogue import AddressAlias, ExperimentDetail
from tracker.domain.errors import InvalidValue
from tracker.domain.limits import check_safe_path
from tracker.mlflow_bridge.mlflow_limits import refuse

PROXY = "mlflow-artifacts"
_LENGTH = 2048
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_MODELS = "models"
_NAMES = ("models", "runs")
"""Schemes of URIs that name a store's entities, not locations."""
_ARTIFACTS = "artifacts"
_LAID_OUT = re.compile(r"/(?://)?[0-9]+/(?:models/)?([A-Za-z0-9][A-Za-z0-9_-]{0,63})/artifacts((?:/.*)?)", re.DOTALL)
_AT_HOME = re.compile(r"/([A-Za-z0-9][A-Za-z0-9_-]{0,63})((?:/.*)?)", re.DOTALL)


class Locations:
    """Artifact locations in the store's own artifact home and elsewhere.

    The home at `root` (a URI) keeps the files of an owner, a run or a logged model, in `<root>/<owner's id>`. With
    `proxied` clients reach it through a server, as `mlflow-artifacts:/…`; without it they access it directly. `allowed`
    are the URIs below which a client may place an experiment's files, None for anywhere.
    """

    def __init__(self, root: str, *, proxied: bool, allowed: Sequence[str] | None = ()) -> None:
        self.root = root.rstrip("/")
        self.proxied = proxied
        self.allowed = None if allowed is None else tuple(resolved(one) for one in (root, *allowed))

    # -- where new files go --------------------------------------------------------------------------------------

    def of_run(self, experiment: ExperimentDetail, run_id: str) -> str:
        """The URI for the files of a new run."""
        if experiment.artifact_location is None:
            return self._home_of_run(experiment.id, run_id)
        return f"{experiment.artifact_location.rstrip('/')}/{run_id}/{_ARTIFACTS}"

    def of_model(self, experiment: ExperimentDetail, model_id: str) -> str:
        """The URI for the files of a new logged model."""
        if experiment.artifact_location is None:
            return self._home_of_model(experiment.id, model_id)
        return f"{experiment.artifact_location.rstrip('/')}/{_MODELS}/{model_id}/{_ARTIFACTS}"

    def _home_of_run(self, experiment_id: int, run_id: str) -> str:
        return f"{self.root}/{run_id}"

    def _home_of_model(self, experiment_id: int, model_id: str) -> str:
        return f"{self.root}/{model_id}"

    # -- what clients see ----------------------------------------------------------------------------------------

    def run_shown(self, uri: str, experiment_id: int, run_id: str) -> str:
        """The location of a run's files, stored at `uri`, as clients see it."""
        if self.proxied and uri == f"{self.root}/{run_id}":
            return f"{PROXY}:/{experiment_id}/{run_id}/{_ARTIFACTS}"
        return uri

    def model_shown(self, uri: str, experiment_id: int, model_id: str) -> str:
        """The location of a logged model's files, stored at `uri`, as clients see it."""
        if self.proxied and uri == f"{self.root}/{model_id}":
            return f"{PROXY}:/{experiment_id}/{_MODELS}/{model_id}/{_ARTIFACTS}"
        return uri

    def experiment_shown(self, experiment: ExperimentDetail) -> str:
        """The place of an experiment's files as clients see it."""
        if experiment.artifact_location is not None:
            return experiment.artifact_location
        return f"{PROXY}:/{experiment.id}" if self.proxied else self.root

    @property
    def alias(self) -> AddressAlias | None:
        """How the shown locations of runs differ from the stored ones; None if they do not."""
        shown = f"{PROXY}:/{{experiment}}/{{run}}/{_ARTIFACTS}"
        return AddressAlias(self._kept_as, shown) if self.proxied else None

    @property
    def _kept_as(self) -> str:
        return f"{self.root}/{{run}}"

    # -- what clients say ----------------------------------------------------------------------------------------

    def owner_in(self, uri: str) -> tuple[str, str] | None:
        """The owner's id and the rest after the location of its files ("" or "/…"), of a URI as stored or as shown.

        None for other locations. Neither `uri` nor the rest is decoded.
        """
        if uri.startswith(f"{PROXY}:/"):
            found = _LAID_OUT.fullmatch(uri.removeprefix(f"{PROXY}:"))
        else:
            found = self._kept_by(uri)
        return None if found is None or ".." in unquote(found[2]).split("/") else (found[1], found[2])

    def _kept_by(self, uri: str) -> re.Match[str] | None:
        return _AT_HOME.fullmatch(uri.removeprefix(self.root)) if _below(uri, self.root) else None

    def owner_of(self, path: str) -> tuple[str, str]:
        """The owner's id and the path below its files, "" for all of them, of a path below `mlflow-artifacts:/`.

        Valid paths are `<experiment>/<run>/artifacts/…` and `<experiment>/models/<model>/artifacts/…`; BridgeError for
        any other. `path` is decoded already: a `%` in it is a `%`.
        """
        names = path.strip("/").split("/")
        if len(names) > 1 and names[1] == _MODELS:
            del names[1]
        if len(names) < 3 or not names[0].isdecimal() or not _OWNER.match(names[1]) or names[2] != _ARTIFACTS:
            refuse(f"Invalid path: {path[:200]!r}; expected <experiment>/<run>/artifacts/…")
        rest = "/".join(names[3:])
        try:
            return names[1], check_safe_path(rest) if rest else ""
        except InvalidValue as error:
            refuse(f"Invalid path: {error}")

    def check(self, location: str | None) -> str | None:
        """The URI for an experiment's files, from a location that a client names; None for the store's own home.

        Raises BridgeError for a location that is not allowed.
        """
        if not location:
            return None
        if len(location) > _LENGTH:
            refuse(
                "Invalid artifact path length. The length of the artifact path cannot be "
                f"greater than {_LENGTH} characters."
            )
        parts = _split(location)
        if parts.scheme == PROXY:
            if parts.netloc or parts.query or parts.fragment or ".." in unquote(parts.path).split("/"):
                refuse(f"Invalid artifact_location: {location[:200]!r} is not a place on this server")
            return None
        found = resolved(location)
        if not self._is_allowed(found):
            refuse(
                f"Invalid artifact_location: {location[:200]!r} is not allowed here; leave it out, or ask who runs the "
                "server to allow it"
            )
        return None if found == self.root else found

    def check_source(self, source: str) -> None:
        """Refuse a source of a model version that is neither an owner's nor allowed: the server would read it.

        `models:` and `runs:` name a store's entities, not locations. Raises BridgeError.
        """
        if _split(source).scheme not in _NAMES and not self._is_readable(source):
            refuse(
                f"Invalid model version source: {source[:200]!r} is not allowed here; give a place of a run's or a "
                "logged model's files, or ask who runs the server to allow it (--allow-artifacts)"
            )

    def check_read(self, location: str) -> None:
        """Refuse to read files at a stored location that is neither an owner's nor allowed. Raises BridgeError."""
        if not self._is_readable(location):
            refuse(
                f"The files at {location[:200]!r} are not read here: who runs the server has not allowed this place "
                "(--allow-artifacts)"
            )

    def _is_readable(self, location: str) -> bool:
        return self.allowed is None or self.owner_in(location) is not None or self._is_allowed(resolved(location))

    def _is_allowed(self, place: str) -> bool:
        return self.allowed is None or any(_below(place, one) for one in self.allowed)


class MlflowServerLocations(Locations):
    """Locations for MLflow's own server on Tracker's store: new files are below `destination`, in MLflow's layout.

    With `proxied` the server serves them, and its clients reach them through it. Other files of the store keep their
    location.
    """

    def __init__(self, root: str, destination: str, *, proxied: bool) -> None:
        super().__init__(root, proxied=proxied, allowed=(destination,))
        self.destination = resolved(destination)

    def experiment_shown(self, experiment: ExperimentDetail) -> str:
        """The place of an experiment's files as clients see it."""
        if experiment.artifact_location is not None:
            return experiment.artifact_location
        return f"{PROXY}:/{experiment.id}" if self.proxied else f"{self.destination}/{experiment.id}"

    def check_source(self, source: str) -> None:
        """Accept any source, as MLflow's own store does."""

    def run_shown(self, uri: str, experiment_id: int, run_id: str) -> str:
        """Below the destination as the server serves it, else as it is."""
        return self._shown(uri)

    def model_shown(self, uri: str, experiment_id: int, model_id: str) -> str:
        """Below the destination as the server serves it, else as it is."""
        return self._shown(uri)

    @property
    def _kept_as(self) -> str:
        return f"{self.destination}/{{experiment}}/{{run}}/{_ARTIFACTS}"

    def _kept_by(self, uri: str) -> re.Match[str] | None:
        if _below(uri, self.destination):
            return _LAID_OUT.fullmatch(uri.removeprefix(self.destination))
        return super()._kept_by(uri)

    def _home_of_run(self, experiment_id: int, run_id: str) -> str:
        return f"{self.destination}/{experiment_id}/{run_id}/{_ARTIFACTS}"

    def _home_of_model(self, experiment_id: int, model_id: str) -> str:
        return f"{self.destination}/{experiment_id}/{_MODELS}/{model_id}/{_ARTIFACTS}"

    def _shown(self, uri: str) -> str:
        served = self.proxied and _below(uri, self.destination)
        return f"{PROXY}:{uri.removeprefix(self.destination)}" if served else uri


def resolved(location: str) -> str:
    """`location` as a URI without a slash at its end: a local path becomes an absolute `file:` URI."""
    parts = _split(location)
    if parts.scheme in ("", "file"):
        path = unquote(parts.path) if parts.scheme else location
        if parts.scheme and parts.netloc not in ("", "localhost"):
            refuse(
                f"{location[:200]!r} is not a valid remote uri. For remote access on windows, please consider "
                "mounting it"
            )
        if "\x00" in path:
            refuse(f"Invalid artifact_location: {location[:200]!r}")
        return "file://" + quote(posixpath.normpath(os.path.abspath(path)))
    if parts.query or parts.fragment or ".." in unquote(parts.path).split("/"):
        refuse(f"Invalid artifact_location: {location[:200]!r} has '..', a query or a fragment")
    return location.rstrip("/")


def _below(uri: str, place: str) -> bool:
    return uri == place or uri.startswith(f"{place.rstrip('/')}/")


def _split(location: str) -> SplitResult:
    try:
        return urlsplit(location)
    except ValueError:
        refuse(f"Invalid artifact_location: {location[:200]!r}")

"""Translates URIs of runs' and logged models' files between stored and shown form, for the model registry."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

from tracker.mlflow_bridge.base import BridgeBase
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors

Answer = TypeVar("Answer")

_MODEL = re.compile(r"models:/+(m-[0-9a-f]{32})/?")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


class ArtifactSource(NamedTuple):
    """The stored URI of files, and the run that made them if the given URI names a logged model."""

    uri: str
    run_id: str | None = None


class ArtifactSources(BridgeBase):
    """The part of the bridge about locations of files; a URI of other files is returned unchanged."""

    def shown(self, uri: str) -> str:
        """`uri`, in stored form or in any shown form, in the form that clients of this store see."""
        return self._places(uri)[1]

    def source(self, uri: str) -> ArtifactSource:
        """The source to store for a location that a client names: the real URI, also of `models:/<a logged model's
        id>`."""
        named = _MODEL.fullmatch(uri)
        if named is None:
            return ArtifactSource(self._places(uri)[0])
        try:
            with as_bridge_errors():
                model = self.catalogue.models.get(named[1])
        except BridgeError as error:
            return _unless_missing(error, ArtifactSource(uri))
        return ArtifactSource(model.artifact_uri, model.run_id)

    def _places(self, uri: str) -> tuple[str, str]:
        """The URI as it is stored and as clients see it."""
        owned = self.locations.owner_in(uri)
        if owned is None:
            return uri, uri
        owner, rest = owned
        try:
            kept, shown = self._model_places(owner) if _MODEL_ID.fullmatch(owner) else self._run_places(owner)
        except BridgeError as error:
            return _unless_missing(error, (uri, uri))
        return kept + rest, shown + rest

    def _run_places(self, run_id: str) -> tuple[str, str]:
        with as_bridge_errors():
            detail = self.catalogue.runs.detail(run_id)
        uri = detail.run.artifact_uri
        return uri, self.locations.run_shown(uri, detail.experiment_id, run_id)

    def _model_places(self, model_id: str) -> tuple[str, str]:
        with as_bridge_errors():
            model = self.catalogue.models.get(model_id, deleted=True)
        return model.artifact_uri, self.locations.model_shown(model.artifact_uri, model.experiment_id, model_id)


def _unless_missing(error: BridgeError, answer: Answer) -> Answer:
    if error.code != "RESOURCE_DOES_NOT_EXIST":
        raise error
    return answer

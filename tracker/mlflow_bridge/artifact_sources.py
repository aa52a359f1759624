"""Where the files of runs and logged models are, for those who name them in a URI: the model registry."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

from tracker.mlflow_bridge.base import BridgeBase
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.bridge_errors import spoken

Answer = TypeVar("Answer")

_MODEL = re.compile(r"models:/+(m-[0-9a-f]{32})/?")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


class ArtifactSource(NamedTuple):
    """Where a URI's files are kept, and, where it names a logged model, the run that made it."""

    uri: str
    run_id: str | None = None


class ArtifactSources(BridgeBase):
    """The part of the bridge about places; a URI of what is not ours is answered as it is."""

    def shown(self, uri: str) -> str:
        """`uri`, as it is stored or as anybody was ever told it, as clients of this store are told it."""
        return self._places(uri)[1]

    def source(self, uri: str) -> ArtifactSource:
        """What to store of a place that a client names: the real URI, also of `models:/<a logged model's id>`."""
        named = _MODEL.fullmatch(uri)
        if named is None:
            return ArtifactSource(self._places(uri)[0])
        try:
            with spoken():
                model = self.catalogue.model(named[1])
        except BridgeError as error:
            return _unless_missing(error, ArtifactSource(uri))
        return ArtifactSource(model.artifact_uri, model.run_id)

    def _places(self, uri: str) -> tuple[str, str]:
        """The URI as it is stored and as clients are told it."""
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
        with spoken():
            detail = self.catalogue.run_detail(run_id)
        uri = detail.run.artifact_uri
        return uri, self.locations.run_shown(uri, detail.experiment_id, run_id)

    def _model_places(self, model_id: str) -> tuple[str, str]:
        with spoken():
            model = self.catalogue.model(model_id, deleted=True)
        return model.artifact_uri, self.locations.model_shown(model.artifact_uri, model.experiment_id, model_id)


def _unless_missing(error: BridgeError, answer: Answer) -> Answer:
    if error.code != "RESOURCE_DOES_NOT_EXIST":
        raise error
    return answer

"""Base class of the bridge's parts, with their dependencies and common methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tracker.domain.catalogue import ExperimentDetail, Lifecycle
from tracker.domain.errors import ExperimentNotFound
from tracker.domain.frames import Batch
from tracker.domain.identity import now_ms
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.locations import Locations
from tracker.mlflow_bridge.mlflow_limits import experiment_key, refuse

if TYPE_CHECKING:
    from tracker.store.store import SqlRunStore

_LIFECYCLES: dict[str, Lifecycle] = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted", "ALL": "all"}
_MOST_IDS = 2**31


class BridgeBase:
    """Holds a store, its artifact locations, and the function that writes what MLflow's clients log."""

    def __init__(
        self,
        store: SqlRunStore,
        *,
        locations: Locations,
        log: Callable[[Batch], object] | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.store = store
        self.locations = locations
        self.catalogue = store.catalogue
        self._log = store.append if log is None else log
        self._clock = clock

    def _experiment(self, experiment_id: str | int | None, lifecycle: Lifecycle = "all") -> ExperimentDetail:
        """The experiment; BridgeError if there is none, or none in the lifecycle stage `lifecycle`."""
        key = experiment_key(experiment_id)
        found = None
        if 0 <= key < _MOST_IDS:
            try:
                with as_bridge_errors():
                    found = self.catalogue.experiments.get(key)
            except BridgeError as error:
                if not isinstance(error.__cause__, ExperimentNotFound):
                    raise
        if found is None or (lifecycle != "all" and (lifecycle == "deleted") != (found.deleted_ms is not None)):
            raise BridgeError("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={key} exists")
        return found

    def _active_experiment(self, experiment_id: str | int | None) -> ExperimentDetail:
        """The experiment, which must not be deleted."""
        found = self._experiment(experiment_id)
        if found.deleted_ms is not None:
            refuse(f"The experiment {found.id} must be in the 'active' state. Current state is deleted.")
        return found


def lifecycle_of(view_type: str) -> Lifecycle:
    """The lifecycle stage of MLflow's view type."""
    try:
        return _LIFECYCLES[view_type]
    except KeyError:
        refuse(f"Invalid view type: {view_type!r}. Expected one of {list(_LIFECYCLES)}")

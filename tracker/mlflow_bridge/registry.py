"""MLflow's own model registry beside our store, made when something is registered."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore

from tracker.mlflow_bridge.convert import told
from tracker.store.beside import Beside

NAME = "registry"

_MAKING = frozenset({"create_registered_model", "create_prompt", "create_webhook"})
_PAGED = frozenset(
    """search_registered_models search_model_versions search_prompts search_prompt_versions list_webhooks
    list_webhooks_by_event""".split()
)
_LISTED = frozenset({"get_latest_versions"})
_NOTHING = frozenset({"get_prompt", "get_prompt_version", "get_prompt_version_by_alias"})


class RegistryStore(AbstractStore):  # type: ignore[misc]
    """Hands every call to MLflow's SQL registry store; while there is none, reads find nothing.

    Its migrations take seconds, so it is made by the first call that registers something (`Beside` makes that safe for
    processes that do so at once).
    """

    def __init__(self, url: str) -> None:
        super().__init__(store_uri=url, tracking_uri=None)
        self._beside = Beside(url, NAME)
        self._lock = threading.Lock()
        self._real: Any = None

    def real(self, *, make: bool) -> Any:
        """MLflow's store; None while there is none and `make` does not ask for one."""
        if self._real is None:
            with self._lock, told():
                if self._real is None and (make or self._beside.exists()):
                    if make:
                        self._beside.make(_fill)
                    self._real = _open(self._beside.url)
                    self._beside.close()
        return self._real


def _open(url: str) -> Any:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(url)


# Alembic, which fills it, knows one migration in a process at a time.
_filling = threading.Lock()


def _fill(url: str) -> None:
    with _filling:
        store = _open(url)
    store.engine.dispose()
    # MLflow keeps the engine of every URL it ever opened; this one is never asked for again.
    type(store)._engine_map.pop(url, None)


def _forwarded(name: str) -> Callable[..., Any]:
    def call(self: RegistryStore, *args: Any, **kwargs: Any) -> Any:
        store = self.real(make=name in _MAKING)
        return _without(name, args, kwargs) if store is None else getattr(store, name)(*args, **kwargs)

    call.__name__ = name
    return call


def _without(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The answer of a registry that has nothing."""
    if name in _PAGED:
        return PagedList([], None)
    if name in _LISTED:
        return []
    if name in _NOTHING:
        return None
    what = "Webhook" if "webhook" in name else "Registered Model"
    asked = args[0] if args else next(iter(kwargs.values()), "")
    raise MlflowException(
        f"{what} with name={getattr(asked, 'name', asked)} not found", error_code=RESOURCE_DOES_NOT_EXIST
    )


for _name, _value in inspect.getmembers_static(AbstractStore):
    if not _name.startswith("_") and inspect.isfunction(_value):
        setattr(RegistryStore, _name, _forwarded(_name))

"""MLflow's own model registry next to the store, created when something is first registered."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore

from tracker.domain.deadlines import current_deadline
from tracker.mlflow_bridge.convert import mlflow_exceptions
from tracker.mlflow_bridge.mlflow_limits import check_lengths
from tracker.store.database.time_limits import limit_queries
from tracker.store.side_database import REGISTRY, SideDatabase

if TYPE_CHECKING:
    from tracker.mlflow_bridge.bridge import Bridge
    from tracker.store.addresses import Addresses

_MAKING = frozenset({"create_registered_model", "create_prompt", "create_webhook"})
_PAGED = frozenset(
    """search_registered_models search_model_versions search_prompts search_prompt_versions list_webhooks
    list_webhooks_by_event""".split()
)
_LISTED = frozenset({"get_latest_versions"})
_TOLD = re.compile(r"(?<=['\"])(?:mlflow-artifacts|file):/[^'\"]*(?=['\"])")
_NOTHING = frozenset({"get_prompt", "get_prompt_version", "get_prompt_version_by_alias"})


class RegistryStore(AbstractStore):  # type: ignore[misc]
    """Forwards every call to MLflow's SQL registry store; while there is none, reads find nothing.

    Its migrations take seconds, so the first call that registers something creates it (`SideDatabase` makes this safe
    for concurrent processes).

    MLflow stores a version's source as the registering client sees it: through a server `mlflow-artifacts:/…`, which
    cannot be read without one. Here the real location of the store's files is stored, and clients see it in the form in
    which the store of `bridge()` shows the locations of runs and logged models.
    """

    def __init__(self, url: str, bridge: Callable[[], Bridge]) -> None:
        super().__init__(store_uri=url, tracking_uri=None)
        self._bridge = bridge
        self._beside = SideDatabase(url, REGISTRY)
        self._lock = threading.Lock()
        self._real: Any = None

    def real(self, *, make: bool) -> Any:
        """MLflow's store; None while there is none and `make` is false."""
        if self._real is None:
            with self._lock, mlflow_exceptions():
                if self._real is None and (make or self._beside.exists()):
                    if make:
                        self._beside.make(_fill)
                    self._real = _open(self._beside.url)
                    self._beside.close()
        return self._real

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        store = self.real(make=False)
        if store is None:
            return _without("create_model_version", (name,), {})
        with mlflow_exceptions():
            check_lengths(
                name=name, source=source, run_id=run_id, run_link=run_link, description=description, model_id=model_id
            )
            place = self._bridge().source(source)
            self._bridge().locations.check_source(place.uri)
        # MLflow would look for a logged model at its global tracking URI, which need not be this store.
        known = place.uri != source and source.startswith("models:")
        made = store.create_model_version(
            name,
            self._addresses.stored(place.uri),
            run_id or place.run_id,
            tags,
            run_link,
            description,
            local_model_path,
            None if known else model_id,
        )
        if known:
            _name_source(store, made, source)
        return self._as_shown(made)

    def get_model_version_download_uri(self, name: str, version: Any) -> str:
        store = self.real(make=False)
        if store is None:
            return str(_without("get_model_version_download_uri", (name, version), {}))
        with _translated():
            return self._shown(store.get_model_version_download_uri(name, version))

    def search_model_versions(self, filter_string: str | None = None, *args: Any, **kwargs: Any) -> Any:
        store = self.real(make=False)
        if store is None:
            return PagedList([], None)
        with mlflow_exceptions():
            kept = _TOLD.sub(lambda one: self._addresses.stored(self._bridge().source(one[0]).uri), filter_string or "")
        with _translated():
            return self._as_shown(store.search_model_versions(kept or filter_string, *args, **kwargs))

    def _as_shown(self, answer: Any) -> Any:
        """MLflow's result, with the sources of its versions as clients see them."""
        if isinstance(answer, ModelVersion):
            answer._source = self._shown(answer.source or "") or None
        elif isinstance(answer, RegisteredModel):
            self._as_shown(answer.latest_versions)
        elif isinstance(answer, list):
            for one in answer:
                self._as_shown(one)
        return answer

    def _shown(self, uri: str) -> str:
        # Other URIs are returned without opening the store, which a registry alone does not need.
        if not uri or uri.startswith(("models:", "runs:")):
            return uri
        with mlflow_exceptions():
            return self._bridge().shown(self._addresses.shown(uri))

    @property
    def _addresses(self) -> Addresses:
        """Translates addresses of files next to the database, which are stored relative here too."""
        return self._bridge().store.addresses


def _name_source(store: Any, version: Any, source: str) -> None:
    """Store the source from which a version was registered, in addition to the location of its files."""
    with store.ManagedSessionMaker(read_only=False) as session:
        store._get_sql_model_version(session, version.name, version.version).source = source
    version._source = source


def _open(url: str) -> Any:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(url)
    if store.engine.dialect.name == "sqlite":  # PostgreSQL's is one of ours
        limit_queries(store.engine)
    return store


@contextmanager
def _translated() -> Iterator[None]:
    """Replace MLflow's INTERNAL_ERROR by what it stands for: a deadline that passed, or a value of a wrong type."""
    try:
        yield
    except MlflowException as error:
        deadline = current_deadline()
        if deadline is not None and deadline.left_s <= 0:
            raise MlflowException(str(deadline.error()), error_code=TEMPORARILY_UNAVAILABLE) from error
        if error.error_code == "INTERNAL_ERROR" and isinstance(error.__context__, (TypeError, ValueError)):
            message = f"the request has a value of a wrong type or form: {error.__context__}"
            raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE) from error
        raise


# Alembic, which fills it, knows one migration in a process at a time.
_filling = threading.Lock()


def _fill(url: str) -> None:
    with _filling:
        store = _open(url)
    store.engine.dispose()
    # MLflow keeps the engine of every URL that it ever opened; this one is never used again.
    type(store)._engine_map.pop(url, None)


def _forwarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    fields = list(inspect.signature(function).parameters)[1:]
    changes = name.startswith(("create_", "rename_", "set_", "update_"))

    def call(self: RegistryStore, *args: Any, **kwargs: Any) -> Any:
        if changes:
            with mlflow_exceptions():
                check_lengths(**dict(zip(fields, args, strict=False)), **kwargs)
        store = self.real(make=name in _MAKING)
        if store is None:
            return _without(name, args, kwargs)
        with _translated():
            return self._as_shown(getattr(store, name)(*args, **kwargs))

    call.__name__ = name
    return call


def _without(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an empty registry."""
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
    if not _name.startswith("_") and inspect.isfunction(_value) and _name not in vars(RegistryStore):
        setattr(RegistryStore, _name, _forwarded(_name, _value))

"""PostgreSQL engines: connections that also work behind a pooler (PgBouncer in transaction mode).

A pooler gives each transaction whichever server connection is free. So nothing may outlive a transaction: settings are
SET LOCAL, advisory locks belong to the transaction, and statements are prepared only on a direct connection.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import URL, Connection, CreateEnginePlugin, Engine, ExceptionContext, create_engine, event
from sqlalchemy.dialects import plugins

from tracker.domain.errors import StoreError
from tracker.domain.extras import how_to_install
from tracker.domain.store_url import StoreUrl, connection_options
from tracker.store.database.driver_cursor import is_farewell
from tracker.store.database.time_limits import DIRECT, LOCK_SECONDS, limit_queries

_DRIVER = "postgresql+psycopg"
MORE_CONNECTIONS = 35
"""Connections beyond the five that are kept: a server runs 28 reads at once, and its writer must not wait for them."""
PREPARE_THRESHOLD = 5
"""After how many executions a statement is prepared, on a direct connection; psycopg's own default."""

# A server that stops answering is noticed within a minute, not after the kernel's default of hours.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


def make_postgres_engine(url: StoreUrl) -> Engine:
    """An engine for the database at `url`. StoreError if psycopg is not installed."""
    try:
        engine = create_engine(
            URL.create(_DRIVER), pool_pre_ping=True, max_overflow=MORE_CONNECTIONS, connect_args=_connect_args(url)
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{url.shown} needs {error.name}, which is not installed: {how_to_install('postgres')}"
        ) from None
    _listen(engine, url)
    return engine


def url_in_schema(url: StoreUrl, schema: str) -> str:
    """A URL for SQLAlchemy, valid in this process, whose engines find and create their tables in `schema`.

    It holds no secret. A plugin of SQLAlchemy (`_InSchema`) gives the engine our connection settings and sets
    `search_path` for each transaction: behind a pooler, a session's setting would soon apply to another client.
    """
    key = _keys.setdefault((url, schema), uuid4().hex)
    _known[key] = (url, schema)
    return URL.create(_DRIVER, query={"plugin": _PLUGIN, _PLUGIN: key}).render_as_string()


def _connect_args(url: StoreUrl) -> dict[str, Any]:
    return {**_DEFAULTS, **connection_options(url), "prepare_threshold": None}


def _listen(engine: Engine, url: StoreUrl) -> None:
    given = url.options.get("prepare_threshold")
    engine.update_execution_options(tracker_shown=url.shown)
    event.listen(engine, "handle_error", _on_error)
    event.listen(engine, "connect", lambda connection, record: _prepare(connection, record.info, given))
    limit_queries(engine)


def _prepare(connection: Any, info: dict[str, Any], given: str | None) -> None:
    """Enable prepared statements and the session's lock timeout, if the connection has its own server process."""
    connection.autocommit = True  # one round trip instead of three
    process, waits = connection.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')").fetchone()
    # A pooler tells its clients an invented process id, since several server processes serve each of them.
    info[DIRECT] = process == connection.info.backend_pid
    if info[DIRECT] and waits == "0":
        connection.execute(f"SET lock_timeout = {LOCK_SECONDS * 1000:.0f}")
    connection.autocommit = False
    if given is not None:
        connection.prepare_threshold = int(given) or None
    else:
        connection.prepare_threshold = PREPARE_THRESHOLD if info[DIRECT] else None


def _on_error(context: ExceptionContext) -> None:
    if is_farewell(context.original_exception):
        context.is_disconnect = True


_PLUGIN = "tracker_schema"
_keys: dict[tuple[StoreUrl, str], str] = {}
_known: dict[str, tuple[StoreUrl, str]] = {}
"""The store URL and the schema that a key in a URL stands for."""


class _InSchema(CreateEnginePlugin):
    """Sets up the engine of a URL that `url_in_schema` returned, whoever calls `create_engine`."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        self._url, self._schema = _known[str(url.query[_PLUGIN])]
        kwargs["connect_args"] = {**kwargs.get("connect_args", {}), **_connect_args(self._url)}

    def update_url(self, url: URL) -> URL:
        return url.difference_update_query([_PLUGIN])

    def engine_created(self, engine: Engine) -> None:
        _listen(engine, self._url)
        event.listen(engine, "begin", self._on_begin)

    def _on_begin(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT set_config('search_path', %s, true)", (self._schema,))


plugins.register(_PLUGIN, __name__, _InSchema.__name__)

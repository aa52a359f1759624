"""RunStore over HTTP: the client of a tracking server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tracker.domain.errors import InvalidValue, NotFound, RunNotFound, StoreError, StoreUnavailable, TrackerError
from tracker.domain.frames import Ack, Batch
from tracker.domain.records import Checkpoint, Epoch, Event, Experiment, Fit, Histogram, History, Run, RunPage, Series
from tracker.domain.run_progress import Progress
from tracker.remote.address import API, run_path
from tracker.remote.answers import RECORDS, SERIES
from tracker.remote.connection import Query, Server
from tracker.wire.batch_codec import encode_batch
from tracker.wire.record_codec import from_msgpack

if TYPE_CHECKING:
    from tracker.remote.artifacts import HttpArtifacts

T = TypeVar("T")

PACK_BYTES = 16 * 1024
"""Batches from this size on are sent compressed, if the module zstandard is installed."""


class HttpRunStore:
    """RunStore (see `tracker.domain.ports`) over HTTP; thread-safe."""

    def __init__(self, url: str) -> None:
        """Sends no request yet."""
        self._full_url = url
        self._server = Server(url)
        self.url = self._server.url
        self._pack = True

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `url`, whose server answers. StoreUnavailable, or StoreError if no tracking server is there."""
        store = cls(url)
        try:
            store._ask("GET", "/healthz")  # not whether it is ready to write: whoever opens it may only read
        except BaseException:
            store.close()
            raise
        return store

    def ready(self) -> None:
        """Return if the server and its store accept writes; see `open` for what is raised."""
        self._ask("GET", "/readyz")

    def close(self) -> None:
        self._server.close()

    def files(self) -> HttpArtifacts:
        """The files of the server's runs, with the same credentials."""
        from tracker.remote.artifacts import HttpArtifacts

        return HttpArtifacts(self._full_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the one way in ------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> Ack:
        body = encode_batch(batch)
        packed = _packed(body) if self._pack and len(body) >= PACK_BYTES else None
        if packed is not None:
            try:
                return self._append(packed, {"Content-Encoding": "zstd"})
            except StoreUnavailable:
                raise
            except TrackerError:
                # An older server, or a proxy, may not read zstd; else the response to the plain body has the reason.
                ack = self._append(body, {})
                self._pack = False
                return ack
        return self._append(body, {})

    def _append(self, body: bytes, more: Mapping[str, str]) -> Ack:
        headers = {"Content-Type": "application/msgpack", **more}
        return self._read(self._ask("POST", f"{API}/batches", body=body, headers=headers), Ack)

    def request_stop(self, run_id: str) -> None:
        self._ask("POST", _path(run_id, "stop"), twice=False)  # each request is an event of its own

    def delete_run(self, run_id: str) -> None:
        self._ask("DELETE", _path(run_id))

    def restore_run(self, run_id: str) -> None:
        self._ask("POST", _path(run_id, "restore"))

    def tag_checkpoint(self, run_id: str, checkpoint_id: int, tag: str | None) -> None:
        path = _path(run_id, "checkpoints", str(checkpoint_id), "tag")
        self._ask("DELETE" if tag is None else "PUT", path, query=_query(tag=tag))

    # -- reads ---------------------------------------------------------------------------------------------------

    def experiments(self) -> Sequence[Experiment]:
        return self._get(f"{API}/experiments", list[Experiment])

    def search_runs(
        self,
        filter: str = "",
        *,
        experiments: Iterable[str] | None = None,
        order_by: Iterable[str] = (),
        limit: int = 100,
        page_token: str | None = None,
    ) -> RunPage:
        named = None if experiments is None else _texts(experiments)
        query = _query(filter=filter, experiment=named, order_by=_texts(order_by), limit=limit, page_token=page_token)
        page = self._get(f"{API}/runs", RunPage, query)
        return RunPage(runs=[], next_page_token=None) if named == [] else page  # a query cannot say "of none"

    def get_run(self, run_id: str) -> Run:
        return self._get(_path(run_id), Run)

    def find_runs(self, text: str, *, limit: int = 10, deleted: bool = False) -> Sequence[Run]:
        return self._get(f"{API}/runs:find", list[Run], _query(text=text, limit=limit, deleted=deleted))

    def progress(self, run_id: str) -> Progress:
        return self._get(_path(run_id, "progress"), Progress)

    def params(self, run_id: str) -> Mapping[str, Any]:
        return self._get(_path(run_id, "params"), dict[str, Any])

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._get(_path(run_id, "tags"), dict[str, str])

    def metrics(self, run_id: str) -> Mapping[str, Series]:
        return self._get(_path(run_id, "metrics"), dict[str, Series])

    def history(
        self,
        run_id: str,
        key: str,
        *,
        max_points: int | None = None,
        raw: bool = False,
        first_step: int | None = None,
        last_step: int | None = None,
    ) -> History:
        query = _query(key=key, max_points=max_points, raw=raw, first_step=first_step, last_step=last_step)
        return self._get(_path(run_id, "history"), History, query, most=SERIES)

    def fits(self, run_id: str) -> Sequence[Fit]:
        return self._get(_path(run_id, "fits"), list[Fit])

    def epochs(self, run_id: str) -> Sequence[Epoch]:
        return self._get(_path(run_id, "epochs"), list[Epoch])

    def events(self, run_id: str) -> Sequence[Event]:
        return self._get(_path(run_id, "events"), list[Event])

    def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        return self._get(_path(run_id, "checkpoints"), list[Checkpoint])

    def histograms(self, run_id: str, key: str | None = None) -> Sequence[Histogram]:
        return self._get(_path(run_id, "histograms"), list[Histogram], _query(key=key), most=SERIES)

    def sweep(self) -> None:
        """Mark runs whose lease expired as `lost`: the server does so when it reads runs. See `SqlRunStore.sweep`."""
        self.search_runs(limit=1)

    def _ask(self, method: str, path: str, **more: Any) -> bytes:
        try:
            return self._server.ask(method, path, **more)
        except NotFound as error:
            if type(error) is not NotFound:
                raise
            # The route is missing, not the run: nothing is known about the run.
            raise StoreError(f"{self.url} is not a tracking server of this version: {error}") from error

    def _get(self, path: str, type: type[T], query: Query | None = None, *, most: int = RECORDS) -> T:
        return self._read(self._ask("GET", path, query=query, most=most), type)

    def _read(self, answer: bytes, type: type[T]) -> T:
        try:
            return from_msgpack(answer, type)
        except InvalidValue as error:
            raise StoreUnavailable(f"{self.url} gave an answer that cannot be read: {error}") from error


def _packed(body: bytes) -> bytes | None:
    """`body` as a zstd frame, compressed at hundreds of megabytes a second; None if no module for it is installed."""
    try:
        from zstandard import ZstdCompressor
    except ModuleNotFoundError:
        return None
    return ZstdCompressor(level=1).compress(body)


def _texts(values: Iterable[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _path(run_id: str, *more: str) -> str:
    """The path of a run's resource; RunNotFound for an id that no path can have."""
    if not run_id or not _is_text(run_id):
        raise RunNotFound(run_id)
    return run_path(run_id, *more)


def _query(**values: str | int | bool | list[str] | None) -> Query:
    """The given values as query parameters."""
    query: dict[str, list[str]] = {}
    for key, value in values.items():
        if value is not None:
            texts = value if isinstance(value, list) else [value if isinstance(value, str) else str(value).lower()]
            query[key] = texts
            if not all(map(_is_text, texts)):
                raise InvalidValue(key, f"{value!r} is not a text that can be sent", limit="no lone surrogates")
    return query


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

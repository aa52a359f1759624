"""Routes that read runs, and request the few changes of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from tracker.domain.errors import CheckpointNotFound
from tracker.domain.ports import RunStore
from tracker.domain.records import Checkpoint, Epoch, Event, Experiment, Fit, Histogram, History, Run, RunPage, Series
from tracker.domain.run_progress import Progress
from tracker.query.comparison import Comparison, compare_facts, facts_of
from tracker.server.fair_lock import FairLock
from tracker.server.long_answers import Pieces
from tracker.server.operations import (
    HEADERS,
    MSGPACK,
    SHORT_PAGE,
    SHORT_ROWS,
    Operation,
    Services,
    asked,
    encoder,
    payload,
    query,
    run_id,
)
from tracker.server.own_addresses import OwnAddresses
from tracker.wire.streams import history_as_json, history_as_msgpack

_RUN = "/api/v1/runs/{run_id}"


class SearchQuery(Struct, frozen=True):
    """Parameters of `RunReader.search_runs`."""

    filter: str = ""
    experiment: list[str] | None = None
    order_by: list[str] = []
    limit: Annotated[int, Meta(ge=1, le=50_000)] = 100
    page_token: str | None = None


class FindQuery(Struct, frozen=True):
    """Parameters of `RunReader.find_runs`."""

    text: str
    limit: Annotated[int, Meta(ge=1, le=50_000)] = 10
    deleted: bool = False


class CompareQuery(Struct, frozen=True):
    """The ids of the runs to compare, in the order of the answer."""

    run_id: Annotated[list[str], Meta(min_length=1, max_length=100)]


class HistoryQuery(Struct, frozen=True):
    """Parameters of `RunReader.history`."""

    key: str
    max_points: Annotated[int, Meta(ge=4, le=2**53)] | None = None
    raw: bool = False
    first_step: int | None = None
    last_step: int | None = None


class TagQuery(Struct, frozen=True):
    """The tag of a checkpoint."""

    tag: str


class HistogramsQuery(Struct, frozen=True):
    """Parameters of `RunReader.histograms`."""

    key: str | None = None


async def list_experiments(services: Services, request: Request) -> Response:
    """List all experiments that are not deleted."""
    return await asked(services, request, services.store.experiments)


async def search_runs(services: Services, request: Request) -> Response:
    """Return a page of the matching runs."""
    wanted = query(request, SearchQuery)
    return await asked(
        services,
        request,
        lambda: services.store.search_runs(
            wanted.filter,
            experiments=wanted.experiment,
            order_by=wanted.order_by,
            limit=wanted.limit,
            page_token=wanted.page_token,
            alias=OwnAddresses.of(request).alias,
        ),
        long=wanted.limit > SHORT_PAGE,
    )


async def find_runs(services: Services, request: Request) -> Response:
    """Find runs by id, prefix of an id, or name."""
    wanted = query(request, FindQuery)
    return await asked(
        services,
        request,
        lambda: services.store.find_runs(wanted.text, limit=wanted.limit, deleted=wanted.deleted),
    )


async def compare_runs(services: Services, request: Request) -> Response:
    """Compare runs."""
    wanted = query(request, CompareQuery)
    store = services.store
    return await asked(
        services,
        request,
        lambda: compare_facts([facts_of(store, store.get_run(run)) for run in wanted.run_id]),
        long=len(wanted.run_id) > 10,
    )


async def history(services: Services, request: Request) -> Response:
    """Return the points of one series. Long ones are read into a temporary file first, and sent from there."""
    wanted, run = query(request, HistoryQuery), run_id(request)
    store = services.store
    media_type, encode = encoder(request)
    part: dict[str, Any] = {"raw": wanted.raw, "first_step": wanted.first_step, "last_step": wanted.last_step}

    def short() -> bytes | None:
        found = store.short_history(run, wanted.key, SHORT_ROWS, max_points=wanted.max_points, **part)
        return None if found is None else encode(found)

    def long(turns: FairLock) -> Pieces:
        spooled = store.spool_history(run, wanted.key, turn=turns, **part)
        return Pieces((history_as_msgpack if media_type == MSGPACK else history_as_json)(spooled), spooled.close)

    if (body := await services.ask(short)) is not None:
        return payload(body, media_type)
    if wanted.max_points is not None:
        few = partial(store.history, run, wanted.key, max_points=wanted.max_points, **part)
        return await asked(services, request, few, long=True)
    return await services.stream(long, media_type, HEADERS)


async def histograms(services: Services, request: Request) -> Response:
    """Return the histograms of one key or of all keys."""
    wanted, run = query(request, HistogramsQuery), run_id(request)
    return await asked(services, request, lambda: services.store.histograms(run, wanted.key), long=True)


async def tag_checkpoint(services: Services, request: Request) -> Response:
    """Tag a checkpoint, so that it is never pruned."""
    wanted, run, number = query(request, TagQuery), run_id(request), _checkpoint_id(request)
    await services.ask(lambda: services.store.tag_checkpoint(run, number, wanted.tag))
    return Response(status_code=204)


async def untag_checkpoint(services: Services, request: Request) -> Response:
    """Remove a checkpoint's tag; it may be pruned at once."""
    query(request, _Nothing)
    run, number = run_id(request), _checkpoint_id(request)
    await services.ask(lambda: services.store.tag_checkpoint(run, number, None))
    return Response(status_code=204)


def _checkpoint_id(request: Request) -> int:
    given: str = request.path_params["checkpoint_id"]
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise CheckpointNotFound(run_id(request), given)
    return int(given)


def _read(
    path: str, summary: str, answers: Any, read: Callable[[RunStore, str], Any], *, long: bool = False
) -> Operation:
    async def handle(services: Services, request: Request) -> Response:
        query(request, _Nothing)
        run = run_id(request)
        return await asked(services, request, lambda: read(services.store, run), long=long)

    return Operation(method="GET", path=_RUN + path, summary=summary, handle=handle, answers=answers, failures=(404,))


def _change(method: str, path: str, summary: str, change: Callable[[RunStore, str], None]) -> Operation:
    async def handle(services: Services, request: Request) -> Response:
        query(request, _Nothing)
        run = run_id(request)
        await services.ask(lambda: change(services.store, run))
        return Response(status_code=204)

    return Operation(method=method, path=_RUN + path, summary=summary, handle=handle, status=204, failures=(404,))


class _Nothing(Struct):
    """No parameters."""


OPERATIONS = [
    Operation(
        method="GET",
        path="/api/v1/experiments",
        summary="All experiments that are not deleted",
        handle=list_experiments,
        answers=list[Experiment],
    ),
    Operation(
        method="GET",
        path="/api/v1/runs",
        summary="Search runs, a page at a time",
        handle=search_runs,
        answers=RunPage,
        query=SearchQuery,
        failures=(404,),
    ),
    Operation(
        method="GET",
        path="/api/v1/runs:find",
        summary="Runs by a prefix of their id, or by name",
        handle=find_runs,
        answers=list[Run],
        query=FindQuery,
    ),
    Operation(
        method="GET",
        path="/api/v1/runs:compare",
        summary="Runs side by side: parameters that differ, metrics at each run's best epoch",
        handle=compare_runs,
        answers=Comparison,
        query=CompareQuery,
        failures=(404,),
    ),
    Operation(
        method="GET",
        path=f"{_RUN}/history",
        summary="The points of one series; in MessagePack the arrays are little-endian bytes",
        handle=history,
        answers=History,
        query=HistoryQuery,
        failures=(404,),
    ),
    Operation(
        method="GET",
        path=f"{_RUN}/histograms",
        summary="Histograms in order of key and step",
        handle=histograms,
        answers=list[Histogram],
        query=HistogramsQuery,
        failures=(404,),
    ),
    _read("", "One run, deleted or not", Run, lambda store, run: store.get_run(run)),
    _read("/progress", "The run's progress: epochs and steps so far", Progress, lambda store, run: store.progress(run)),
    _read("/params", "Parameters by key", dict[str, Any], lambda store, run: store.params(run)),
    _read("/tags", "Tags by key", dict[str, str], lambda store, run: store.tags(run)),
    _read("/metrics", "Summaries of the run's series by key", dict[str, Series], lambda store, run: store.metrics(run)),
    _read("/fits", "Fits by number", list[Fit], lambda store, run: store.fits(run)),
    _read(
        "/epochs", "Epochs by number, with their metrics", list[Epoch], lambda store, run: store.epochs(run), long=True
    ),
    _read("/events", "Events by time", list[Event], lambda store, run: store.events(run)),
    _read("/checkpoints", "Checkpoints, oldest first", list[Checkpoint], lambda store, run: store.checkpoints(run)),
    Operation(
        method="PUT",
        path=f"{_RUN}/checkpoints/{{checkpoint_id}}/tag",
        summary="Tag a checkpoint, so that retention keeps it",
        handle=tag_checkpoint,
        status=204,
        query=TagQuery,
        failures=(404,),
    ),
    Operation(
        method="DELETE",
        path=f"{_RUN}/checkpoints/{{checkpoint_id}}/tag",
        summary="Remove a checkpoint's tag; retention may prune it at once",
        handle=untag_checkpoint,
        status=204,
        failures=(404,),
    ),
    _change("POST", "/stop", "Ask the run to stop", lambda store, run: store.request_stop(run)),
    _change("DELETE", "", "Hide the run from every list", lambda store, run: store.delete_run(run)),
    _change("POST", "/restore", "Show a deleted run again", lambda store, run: store.restore_run(run)),
]

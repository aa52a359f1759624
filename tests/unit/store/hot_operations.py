"""A session of all hot operations on a store with thousands of runs, while the statements that run are recorded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Pool, event

import tracker
from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import Dataset, DatasetUse, Lifecycle
from tracker.domain.frames import FitStarted, RunStarted, Tags
from tracker.domain.identity import now_ms
from tracker.domain.vocabulary import LEASE_MS
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore

Statement = tuple[str, Any]
"""Text and values; SQLite's are written out in the text."""

RUNS = 3_000
MORE_ROWS = (
    "INSERT INTO tags (run_id, key, value) SELECT id, 'team', 'blue' FROM runs",
    "INSERT INTO events (run_id, ms, kind, fit, detail) SELECT id, started_ms, 'note', 0, '{}' FROM runs",
    "INSERT INTO epochs (run_id, number, fit, ms) SELECT id, 0, 1, started_ms FROM runs",
    "INSERT INTO fits (run_id, number, phase, first_epoch, first_step, phase_epoch, phase_step, host, writer,"
    " started_ms) SELECT id, 1, 0, 0, 0, 0, 0, '', 'bench', started_ms FROM runs",
    "INSERT INTO checkpoints (run_id, fit, epoch, ms, format, size, sha256, metrics, is_best, state, uri, status)"
    " SELECT id, 1, 0, started_ms, 'file', 1, uid, '{}', false, '{}', uid, 'published' FROM runs",
    "INSERT INTO histograms (run_id, key, axis, step, fit, ms, edges, counts)"
    " SELECT id, 'kernel', 'step', 0, 1, started_ms, '[0, 1]', '[1]' FROM runs",
    "INSERT INTO metric_blocks (series_id, first_step, first_take, last_step, last_take, min_offset_ms, max_offset_ms,"
    " count, codec, extremes, data) SELECT id, -9, 0, -8, 0, 0, 0, 2, 1, '', '' FROM series WHERE run_id % 2 = 0",
)
"""A row for each run in the tables that the loader leaves empty."""
WIDE = f"UPDATE runs SET artifact_uri = 'file:///{'x' * 1500}'"
"""So that PostgreSQL finds it dear to read all of the table, as it is with more runs."""


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """All statements of connections that are made in the `with` block, whichever cursor runs them."""
    found: list[Statement] = []

    class Recorder(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            found.append((_text(query), params))
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
            rows = list(params_seq)
            found.append((_text(query), rows[0] if rows else None))
            super().executemany(query, rows, **options)

    def connected(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(lambda text: found.append((text, ())))
        else:
            connection.cursor_factory = Recorder

    event.listen(Pool, "connect", connected)
    try:
        yield found
    finally:
        event.remove(Pool, "connect", connected)


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)


def run_all(url: str, folder: Path) -> None:
    """Everything that trainings, MLflow's clients, and pages ask of a store all the time."""
    train(url, folder)
    be_lost(url)
    with SqlRunStore.open(url, block_points=8) as store:
        call_like_mlflow(store)
        search(store)
        show(store)


def train(url: str, folder: Path) -> None:
    """A training, one that continues it, and one that saves its state."""
    weights = folder / "m.weights.h5"
    weights.write_bytes(b"not really weights")
    with tracker.start_run("hot", run_id="hot", store=url, tags={"team": "red"}) as run:
        run.log_params({"lr": 0.1})
        fit = run.start_fit(epochs=3, steps_per_epoch=10, batch_size=32)
        for epoch in range(3):
            for step in range(40 * epoch, 40 * epoch + 40):
                run.log({"batch/loss": 1 / (step + 1)}, step=step)
            fit.log_epoch(epoch, {"val_loss": 1 / (epoch + 1)}, seconds=0.5, steps=(epoch + 1) * 10)
        run.log_event("note", epoch=2)
        run.keep_checkpoints(last=1)
        for epoch in range(2):
            weights.write_bytes(f"{epoch}".encode())
            run.log_checkpoint(weights, epoch=epoch, metrics={"val_loss": 0.6})
        run.log_histogram("kernel", [1.0, 2.0, 3.0], step=3)
        fit.end("completed")
        run.finish("failed")
    with tracker.start_run("hot", resume="auto", store=url) as run:
        fit = run.start_fit(initial_epoch=2, epochs=4, steps_per_epoch=10)
        run.log({"batch/loss": 1.0}, step=100)
        fit.log_epoch(2, {"val_loss": 0.1}, steps=30)
    with tracker.start_run("hot", run_id="states", store=url) as run:
        run.log_checkpoint(weights, epoch=0, role="state", state={"wait": 1})


def be_lost(url: str) -> None:
    """A process that gives no sign of life for long, and then one."""
    later = [0]
    with SqlRunStore(make_engine(url), clock=lambda: now_ms() + later[0]) as store:
        begin = RunStarted(now_ms(), "hot", "lost", "file:///x", "host", 1)
        fit = FitStarted(now_ms(), 1, 0, 0, 0, 0, 0, 1, 1, 1, None, "host")
        store.append(make_batch("lost", "w", [(1, begin), (2, fit)]))
        later[0] = 2 * LEASE_MS
        store.sweep()
        store.append(make_batch("lost", "w", [(3, Tags(now_ms(), {"team": "blue"}))]))


def call_like_mlflow(store: SqlRunStore) -> None:
    """What one call each of MLflow's API does, and calls in quick succession, which the write buffer takes."""
    runs = store.catalogue.runs
    experiment = store.catalogue.experiments.named("Default")
    assert experiment is not None
    runs.create("call", experiment.id, name="call", started_ms=1000, artifact_uri="file:///x", tags={"user": "ana"})
    for step, value in enumerate((0.5, 1.0, 0.75)):
        store.append_many([batch_of_call("call", ("m", "n"), (step, step), (1000 + step, 1000), (value, 1.0))])
    data = Dataset(name="digits", digest="abc", source_type="local", source="digits.csv")
    store.catalogue.inputs.add("call", datasets=[DatasetUse(dataset=data, tags={})])
    runs.detail("call")
    store.append_many([batch_of_call("call", params={"depth": "3"}, tags={"team": "red"}, name="called")])
    for step in range(3, 40):
        store.append_soon([batch_of_call("call", ("m",), (step,), (1000 + step,), (0.5,))])
    store.settle()
    store.append_soon([batch_of_call("call", ("m",), (2,), (3000,), (0.25,))])
    store.settle()
    runs.change("call", status="finished", ended_ms=5000)


def search(store: SqlRunStore) -> None:
    """Plain, filtered, ordered, and paged, in all experiments or in one, in our order or in MLflow's."""
    experiment = store.catalogue.experiments.named("Default")
    assert experiment is not None
    searched = [(text, order) for text in FILTERS for order in ORDERS if text in FILTERS[:2] or order in ORDERS[:2]]
    for text, order in searched:
        for experiments in (None, ["Default"]):
            token = None
            for _ in range(2):
                page = store.search_runs(text, experiments=experiments, order_by=order, limit=5, page_token=token)
                token = page.next_page_token
        for lifecycle in LIFECYCLES:
            token = None
            for _ in range(2):
                _, token = store.catalogue.runs.search(
                    [experiment.id], text, lifecycle=lifecycle, order_by=order, limit=5, page_token=token
                )


LIFECYCLES: tuple[Lifecycle, ...] = ("active", "deleted")
FILTERS = (
    "",
    "metrics.metric_1 > 0.5",
    "metrics.metric_1 > 0.999 AND params.param_7 = 'adam'",
    "params.param_5 = 777",
    "tags.team = 'red'",
    "attributes.status = 'running'",
    "attributes.name = 'run-77'",
    "attributes.name LIKE 'run-77%'",
    "metrics.unknown > 1",
)
ORDERS: tuple[list[str], ...] = (
    [],
    ["metrics.metric_1 DESC"],
    ["params.param_2"],
    ["metrics.metric_2", "metrics.metric_3 DESC"],
    ["params.param_7 DESC"],
    ["tags.team"],
    ["attributes.name"],
    ["attributes.run_id DESC"],
    ["attributes.ended_ms DESC"],
    ["attributes.started_ms"],
)


def show(store: SqlRunStore) -> None:
    """One run, and the lists of pages."""
    for text in ("hot", "ho", "run-77", "0000", "nothing"):
        store.find_runs(text)
        store.find_runs(text, deleted=True)
    store.get_run("hot")
    store.catalogue.runs.detail("hot")
    for of_run in (
        store.progress, store.params, store.tags, store.metrics, store.fits, store.epochs, store.events,
        store.checkpoints, store.histograms,
    ):  # fmt: skip
        of_run("hot")
    store.histograms("hot", "kernel")
    store.history("hot", "batch/loss")
    store.history("hot", "batch/loss", raw=True)
    store.history("hot", "batch/loss", max_points=20)
    store.history("hot", "batch/loss", max_points=20, first_step=10, last_step=90)
    store.history("hot", "batch/loss", first_step=20, last_step=30)
    store.spool_history("hot", "batch/loss").close()
    store.experiments()
    store.catalogue.experiments.listed()
    store.compaction.seal_idle(0)

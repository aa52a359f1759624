"""What the server answers is what the store says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from e2e.server_lab import Server, batch, on_server, points, start_of
from e2e.test_server_openapi import ALL_KINDS
from msgspec.structs import replace

from tracker.domain.ports import RunStore
from tracker.query.comparison import compare_facts, facts_of
from tracker.store.store import SqlRunStore
from tracker.wire.record_codec import to_json, to_msgpack

RUN = "/api/v1/runs/r"


@pytest.fixture
def server(store_url: str) -> Iterator[Server]:
    with Server(store_url) as started:
        assert started.post(ALL_KINDS).status == 200
        assert started.post(batch("r2", 1, start_of("other"), points(1, x=0.5))).status == 200
        yield started


READS: dict[str, Callable[[RunStore], Any]] = {
    "/api/v1/experiments": lambda store: store.experiments(),
    "/api/v1/runs": lambda store: store.search_runs(),
    "/api/v1/runs:find?text=name": lambda store: store.find_runs("name"),
    "/api/v1/runs:compare?run_id=r&run_id=r2": lambda store: compare_facts(
        [facts_of(store, store.get_run(run)) for run in ("r", "r2")]
    ),
    RUN: lambda store: store.get_run("r"),
    f"{RUN}/progress": lambda store: store.progress("r"),
    f"{RUN}/params": lambda store: store.params("r"),
    f"{RUN}/tags": lambda store: store.tags("r"),
    f"{RUN}/metrics": lambda store: store.metrics("r"),
    f"{RUN}/fits": lambda store: store.fits("r"),
    f"{RUN}/epochs": lambda store: store.epochs("r"),
    f"{RUN}/events": lambda store: store.events("r"),
    f"{RUN}/checkpoints": lambda store: store.checkpoints("r"),
    f"{RUN}/histograms": lambda store: store.histograms("r"),
    f"{RUN}/histograms?key=none": lambda store: store.histograms("r", "none"),
    f"{RUN}/history?key=x": lambda store: store.history("r", "x"),
    f"{RUN}/history?key=y&max_points=4&raw=true": lambda store: store.history("r", "y", max_points=4, raw=True),
}


def shown(value: Any, url: str) -> Any:
    """A decoded answer with files' addresses as the server shows them."""
    if isinstance(value, dict):
        return {key: shown(one, url) for key, one in value.items()}
    if isinstance(value, list):
        return [shown(one, url) for one in value]
    return on_server(value, url) if isinstance(value, str) else value


def test_reads_are_the_stores(server: Server, store_url: str) -> None:
    """Each read, as JSON and as MessagePack, is what the store itself returns, with files' addresses on the server."""
    with SqlRunStore.open(store_url) as store:
        for path, read in READS.items():
            expected = read(store)
            plain = server.ask("GET", path)
            packed = server.ask("GET", path, headers={"Accept": "application/msgpack"})
            assert (plain.status, packed.status) == (200, 200), path
            assert plain.headers["content-type"] == "application/json"
            assert packed.headers["content-type"] == "application/msgpack"
            assert msgspec.json.decode(plain.body) == shown(msgspec.json.decode(to_json(expected)), server.url), path
            told = msgspec.msgpack.encode(shown(msgspec.msgpack.decode(to_msgpack(expected)), server.url))
            assert msgspec.msgpack.encode(msgspec.msgpack.decode(packed.body)) == told, path
            assert plain.body not in (b"[]", b"{}") or "none" in path


def test_search(server: Server) -> None:
    """Filter, order, experiments and pages are those of the store."""
    server.post(batch("elsewhere", 1, replace(start_of(), experiment="E")))
    for number in range(5):
        server.post(batch(f"run{number}", 1, start_of(), points(1, loss=float(number))))
    wanted = "/api/v1/runs?filter=metrics.loss%20%3C%203&order_by=metrics.loss%20DESC&experiment=Default&experiment=E&limit=2"
    page = server.get(wanted)
    assert [run["id"] for run in page["runs"]] == ["run2", "run1"]
    rest = server.get(f"{wanted}&page_token={page['next_page_token']}")
    assert [run["id"] for run in rest["runs"]] == ["run0"]
    assert rest["next_page_token"] is None
    assert [run["id"] for run in server.get("/api/v1/runs?experiment=E")["runs"]] == ["elsewhere"]


def test_changes(server: Server) -> None:
    """Stop, delete and restore answer 204 and are done."""
    assert server.ask("POST", f"{RUN}/stop").status == 204
    assert server.get(RUN)["stop_requested"] is True
    assert server.ask("DELETE", RUN).status == 204
    assert [run["id"] for run in server.get("/api/v1/runs")["runs"]] == ["r2"]
    assert [run["id"] for run in server.get("/api/v1/runs:find?text=name&deleted=true")] == ["r"]
    assert server.ask("POST", f"{RUN}/restore").status == 204
    assert sorted(run["id"] for run in server.get("/api/v1/runs")["runs"]) == ["r", "r2"]


PROBLEMS = [
    ("GET", "/nothing", 404, "NotFound", None),
    ("GET", "/api/v1/runs/", 404, "NotFound", None),
    ("PATCH", RUN, 405, "InvalidValue", None),
    ("GET", "/api/v1/runs/nobody", 404, "RunNotFound", None),
    ("GET", "/api/v1/runs/%00", 404, "RunNotFound", None),
    ("GET", "/api/v1/runs/a%20b", 404, "RunNotFound", None),
    ("GET", "/api/v1/runs/nobody/metrics", 404, "RunNotFound", None),
    ("POST", "/api/v1/runs/nobody/stop", 404, "RunNotFound", None),
    ("DELETE", "/api/v1/runs/nobody", 404, "RunNotFound", None),
    ("GET", f"{RUN}/history?key=none", 404, "SeriesNotFound", None),
    ("GET", f"{RUN}/history", 400, "InvalidValue", "query"),
    ("GET", f"{RUN}/history?key=x&max_points=3", 400, "InvalidValue", "max_points"),
    ("GET", f"{RUN}/history?key=x&max_points=99999999999999999999", 400, "InvalidValue", "max_points"),
    ("GET", f"{RUN}/history?key=x&max_points=null", 400, "InvalidValue", "max_points"),
    ("GET", f"{RUN}/history?key=x&raw=perhaps", 400, "InvalidValue", "raw"),
    ("GET", f"{RUN}/metrics?a=b", 400, "InvalidValue", "a"),
    ("GET", "/api/v1/runs?filter=what%20is", 400, "InvalidFilter", "filter"),
    ("GET", "/api/v1/runs?order_by=what%20is%20this", 400, "InvalidFilter", "filter"),
    ("GET", "/api/v1/runs?page_token=x", 400, "InvalidPageToken", "page_token"),
    ("GET", "/api/v1/runs?experiment=none", 404, "ExperimentNotFound", None),
    ("GET", "/api/v1/runs?limit=0", 400, "InvalidValue", "limit"),
    ("GET", "/api/v1/runs?limit=1&limit=2", 400, "InvalidValue", "limit"),
    ("GET", "/api/v1/runs?filter=%00", 400, "InvalidValue", "filter"),
]


def test_problems(server: Server) -> None:
    """What cannot be answered is a problem detail that names the error, and the field that is wrong."""
    for method, path, status, error, field in PROBLEMS:
        answer = server.ask(method, path)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), path
        problem = answer.json
        assert (problem["status"], problem["error"], problem.get("field")) == (status, error, field), path
        assert problem["title"]
        assert problem["detail"]


def test_methods_that_a_path_takes(server: Server) -> None:
    """405 names all methods that the path takes."""
    assert set(server.ask("PATCH", RUN).headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}
    assert server.ask("HEAD", RUN).body == b""


def test_health(server: Server) -> None:
    """The process is up, and its store answers."""
    assert server.get("/healthz") == {"status": "ok"}
    assert server.get("/readyz") == {"status": "ready"}

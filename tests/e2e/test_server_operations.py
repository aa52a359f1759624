"""What a server tells about itself, does by itself, and answers in several processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from e2e.children import eventually
from e2e.server_lab import MSGPACK, Server, batch, points, request, start_of

from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import encode_batch

_SAMPLE = re.compile(
    r'(?P<name>[a-z_]+)(?:\{(?P<labels>(?:[a-z]+="[^"\\\n]*",?)*)\})? (?P<value>[-+0-9.e]+|\+Inf|NaN)\Z'
)


def metrics(server: Server) -> dict[str, float]:
    """Every sample of /metrics, each line of which must be one that Prometheus takes."""
    answer = server.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for line in answer.body.decode().splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            sample = _SAMPLE.match(line)
            assert sample, line
            name = sample["name"] + (f"{{{sample['labels']}}}" if sample["labels"] else "")
            assert name not in found
            found[name] = float(sample["value"])
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a store with a run that gave no sign of life for long, and was not looked at since."""
    url = f"sqlite:///{tmp_path_factory.mktemp('operations') / 'tracker.db'}"
    with SqlRunStore.open(url) as store:
        store.append(batch("silent", 1, start_of()))
    with closing(sqlite3.connect(url[10:])) as connection, connection:
        connection.execute("UPDATE runs SET alive_ms = 5000, status = 'running'")
    allowed = tmp_path_factory.mktemp("allowed").as_uri()
    with Server(url, "--max-artifact-bytes", "1000", "--allow-artifacts", allowed, "--log-level", "debug") as started:
        started.allowed = allowed  # type: ignore[attr-defined]
        started.file = url[10:]  # type: ignore[attr-defined]
        yield started


def test_metrics(server: Server) -> None:
    """Requests by route and status, their time, what was committed, the process: each counts what happened."""
    before = metrics(server)
    server.post(batch("counted", 1, start_of(), points(1, x=1.0, y=2.0), points(2, x=1.0)))
    server.ask("GET", "/api/v1/runs/counted/history?key=x")
    server.ask("GET", "/api/v1/runs/other/history?key=secret")
    server.ask("GET", "/nothing/of/mine")
    after = metrics(server)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more('tracker_http_requests_total{method="POST",route="/api/v1/batches",status="200"}') == 1
    assert more('tracker_http_requests_total{method="GET",route="/api/v1/runs/{run_id}/history",status="200"}') == 1
    assert more('tracker_http_requests_total{method="GET",route="/api/v1/runs/{run_id}/history",status="404"}') == 1
    assert not any("mine" in name or "secret" in name for name in after)
    assert more('tracker_http_request_seconds_bucket{route="/api/v1/batches",le="+Inf"}') == 1
    assert more('tracker_http_request_seconds_count{route="/api/v1/batches"}') == 1
    assert more('tracker_http_request_seconds_sum{route="/api/v1/batches"}') > 0
    assert more("tracker_batches_committed_total") == 1
    assert more("tracker_points_committed_total") == 3
    assert more("tracker_commit_seconds_count") >= 1
    assert after["tracker_http_requests_in_progress"] == 1
    assert after["tracker_writer_waiting"] == 0
    assert abs(after["process_resident_memory_bytes"] - server.memory_kib * 1024) < 30e6
    assert after["process_cpu_seconds_total"] > 0
    assert 0 < time.time() - after["process_start_time_seconds"] < 600
    assert any(name.startswith("tracker_build_info{version=") for name in after)


def test_request_ids(server: Server) -> None:
    """A request's id is the client's if that is sane, else made; it is in the answer, in a problem and on the log."""
    own = server.ask("GET", "/api/v1/runs/none", headers={"X-Request-ID": "my-request.1"})
    assert own.headers["x-request-id"] == own.json["request_id"] == "my-request.1"
    eventually(lambda: " id=my-request.1 " in server.errors)
    (line,) = [line for line in server.errors.splitlines() if " id=my-request.1 " in line]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info event=request method=GET path=/api/v1/runs/none status=404 "
        r"ms=\d+\.\d\d bytes=\d+ id=my-request\.1 from=127\.0\.0\.1 error=RunNotFound",
        line,
    )
    made = {server.ask("GET", "/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for bad in ('x" level=error', "a b", "x" * 200, "\t", "é"):
        given = server.ask("GET", "/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", given)
    refused = server.ask("GET", "/healthz", headers={"Host": "evil.example", "X-Request-ID": "refused"})
    assert (refused.status, refused.json["request_id"]) == (403, "refused")


def test_paths_cannot_forge_lines(server: Server) -> None:
    """Whatever is in a path, its line stays one line."""
    server.ask("GET", "/a%0alevel=error%20b%1b[31m%22")
    eventually(lambda: "/a%0Alevel" in server.errors)
    assert "\x1b" not in server.errors
    assert "\nlevel=error" not in server.errors


def test_large_files(server: Server) -> None:
    """--max-artifact-bytes bounds files on our route and on MLflow's."""
    server.post(batch("files", 1, start_of()))
    for path in ("/api/v1/runs/files/artifacts/x", "/api/2.0/mlflow-artifacts/artifacts/0/files/artifacts/y"):
        assert server.ask("PUT", path, b"x" * 1001).status == 413, path
        assert server.ask("PUT", path, b"x" * 1000).status in (200, 201), path


def test_places_for_artifacts(server: Server) -> None:
    """--allow-artifacts lets MLflow's clients name a place below it, and no other."""
    for number, (place, status) in enumerate(
        [(f"{server.allowed}/mine", 200), ("file:///etc", 400), (f"{server.allowed}/../x", 400)]
    ):  # type: ignore[attr-defined]
        body = json.dumps({"name": f"e{number}", "artifact_location": place}).encode()
        answer = server.ask("POST", "/api/2.0/mlflow/experiments/create", body, {"Content-Type": "application/json"})
        assert answer.status == status, (place, answer.body)


def test_silent_runs_become_lost_by_themselves(server: Server) -> None:
    """A dead run's status in SQL changes though nobody asks the server anything."""

    def status() -> str:
        with closing(sqlite3.connect(server.file)) as connection:  # type: ignore[attr-defined]
            return str(connection.execute("SELECT status FROM runs WHERE uid = 'silent'").fetchone()[0])

    eventually(lambda: status() == "lost")


def test_json_lines(store_url: str) -> None:
    """With --log-format json every line is a JSON object, also those of an error; --log-level leaves lines out."""
    with Server(store_url, "--log-format", "json") as server:
        server.ask("GET", "/api/v1/runs", headers={"X-Request-ID": "one"})
        server.ask("GET", "/healthz")
        assert server.end() == 0
        lines = [json.loads(line) for line in server.errors.splitlines()]
    assert [line["id"] for line in lines if line.get("event") == "request"] == ["one"]
    (line,) = [line for line in lines if line.get("id") == "one"]
    assert (line["method"], line["path"], line["status"], line["level"]) == ("GET", "/api/v1/runs", 200, "info")
    with Server(store_url, "--log-level", "warning") as server:
        server.ask("GET", "/api/v1/runs")
        assert server.end() == 0
        assert server.errors == "ended; everything that was accepted is committed\n"


_BLOCKED = "import sys; sys.modules['mlflow'] = None; from tracker.cli.main import main; main()"


def test_without_mlflow(store_url: str) -> None:
    """Without MLflow the server starts, says what is missing and how to get it, and answers its own routes."""
    command = [sys.executable, "-c", _BLOCKED, "server", "--port", "0", "--store", store_url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while not (found := re.search(r"at http://127\.0\.0\.1:(\d+)", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        with closing(http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)) as connection:
            assert request(connection, "GET", "/api/v1/runs").status == 200
            assert request(connection, "GET", "/").status < 503
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0
    assert "pip install 'callback-tracker[mlflow]'" in said


# -- several processes ------------------------------------------------------------------------------------------------


class Load(threading.Thread):
    """A client that sends a run's points one batch at a time, and each again until it is acknowledged."""

    def __init__(self, server: Server, run_id: str) -> None:
        super().__init__()
        self._server = server
        self._run_id = run_id
        self.acknowledged = 0
        self.enough = threading.Event()

    def run(self) -> None:
        connection = self._server.connect()
        bodies = (
            encode_batch(batch(self._run_id, step + 1, *([start_of()] if step == 0 else [points(step, x=float(step))])))
            for step in range(100_000)
        )
        for step, body in enumerate(bodies):
            while not self.enough.is_set():
                try:
                    answer = request(connection, "POST", "/api/v1/batches", body, MSGPACK)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    time.sleep(0.02)
                    continue
                if answer.status == 200:
                    self.acknowledged = step
                    break
                assert answer.status == 503, answer.body
            if self.enough.is_set():
                break
        connection.close()


def workers_of(server: Server) -> list[int]:
    return [child.pid for child in psutil.Process(server.pid).children()]


@pytest.mark.timeout(120)
def test_several_processes(any_url: str) -> None:
    """Three processes answer on one port; whichever is killed, nothing acknowledged is lost and nothing stored twice,
    another takes its place, metrics are of all, and SIGTERM ends them all.
    """
    with Server(any_url, "--workers", "3", "--log-level", "warning") as server:
        eventually(lambda: len(workers_of(server)) == 3)
        loads = [Load(server, f"r{number}") for number in range(6)]
        for load in loads:
            load.start()
        try:
            eventually(lambda: all(load.acknowledged > 20 for load in loads))
            for _ in range(2):
                first = workers_of(server)
                os.kill(first[0], signal.SIGKILL)
                eventually(lambda: len(workers_of(server)) == 3 and first[0] not in workers_of(server))  # noqa: B023
                reached = [load.acknowledged for load in loads]
                eventually(lambda: all(load.acknowledged > at + 20 for load, at in zip(loads, reached, strict=True)))  # noqa: B023
        finally:
            for load in loads:
                load.enough.set()
            for load in loads:
                load.join()
        children = workers_of(server)
        committed = sum(load.acknowledged + 1 for load in loads)
        # What a killed process counted in its last second is gone; the rest is there, whoever is asked.
        eventually(lambda: metrics(server)["tracker_batches_committed_total"] > committed / 3)
        assert "another takes its place" in server.errors
        assert server.end() == 0
        assert not any(psutil.pid_exists(pid) for pid in children)
        assert "Traceback" not in server.errors
    with SqlRunStore.open(any_url) as store:
        for number, load in enumerate(loads):
            steps = store.history(f"r{number}", "x", raw=True).steps.tolist()
            assert steps[: load.acknowledged] == list(range(1, load.acknowledged + 1))
            assert len(steps) in (load.acknowledged, load.acknowledged + 1)


def told_by_each(server: Server, name: str) -> list[float]:
    """What each process says of a sample; request ids begin with what is each process' own."""
    told: dict[str, float] = {}
    for _ in range(8):
        answer = server.ask("GET", "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.body.decode(), re.M)
        told[answer.headers["x-request-id"].rpartition("-")[0]] = float(found[1]) if found else 0.0
    return sorted(told.values())


def test_metrics_are_of_all_processes(store_url: str) -> None:
    """Whichever process is asked, it tells what all of them counted, and it never goes down."""
    with Server(store_url, "--workers", "2") as server:
        eventually(lambda: len(workers_of(server)) == 2)
        for _ in range(60):
            assert server.ask("GET", "/api/v1/experiments").status == 200
        name = 'tracker_http_requests_total{method="GET",route="/api/v1/experiments",status="200"}'
        eventually(lambda: told_by_each(server, name) == [60.0, 60.0])
        os.kill(workers_of(server)[0], signal.SIGKILL)
        eventually(lambda: len(workers_of(server)) == 2)
        eventually(lambda: told_by_each(server, name) == [60.0, 60.0])
        sizes = sum(psutil.Process(pid).memory_info().rss for pid in workers_of(server))
        eventually(lambda: abs(metrics(server)["process_resident_memory_bytes"] - sizes) < 30e6)


def test_processes_do_not_outlive_their_parent(store_url: str) -> None:
    """When the parent is killed, the others end by themselves, and the port is free again."""
    with Server(store_url, "--workers", "2") as server:
        eventually(lambda: len(workers_of(server)) == 2)
        children = workers_of(server)
        server.kill()
        eventually(lambda: not any(psutil.pid_exists(pid) for pid in children))
        again = Server(store_url, port=server.port)
        with again:
            assert again.get("/healthz") == {"status": "ok"}


@pytest.mark.parametrize("arguments", [["--store", "sqlite:////proc/tracker.db"], ["--artifacts", "/proc/files"]])
def test_folder_that_cannot_be_written(arguments: list[str], store_url: str, tmp_path: Path) -> None:
    """A folder that cannot be written is one plain sentence and exit code 1, with one process and with several."""
    from e2e.cli_lab import installed

    for more in ([], ["--workers", "2"]):
        done = installed("server", "--port", "0", *arguments, *more)
        assert (done.returncode, done.stdout) == (1, "")
        assert "'/proc' cannot be written" in done.stderr
        assert done.stderr.count("\n") == 1

"""A server of MLflow's own on our store: `mlflow ui --backend-store-uri tracker+sqlite:///tracker.db`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.children import eventually

import tracker

DEADLINE_S = 120
AJAX = "/ajax-api/2.0/mlflow"
AJAX_3 = "/ajax-api/3.0/mlflow"


@dataclass(frozen=True)
class Ui:
    """MLflow's server, and a run of ours in the store behind it."""

    url: str
    folder: Path
    run_id: str
    experiment_id: str

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of one request: JSON where it is JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read())


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """One server for all tests here, with one worker."""
    folder = tmp_path_factory.mktemp("ui")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "MLFLOW_"))}
    environment = {**kept, "TRACKER_HOME": str(folder / "home"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    store = f"sqlite:///{folder / 'tracker.db'}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKER_HOME", environment["TRACKER_HOME"])
        with tracker.start_run("digits", name="native", store=store, params={"rate": 0.1}) as run:
            with run.start_fit(epochs=3) as fit:
                for epoch in range(3):
                    fit.log_epoch(epoch, {"val_loss": 1.0 - 0.1 * epoch})
            run.log({"peak": float("inf"), "low": float("-inf"), "gap": float("nan")}, step=0)
            run.log_text("what it was", "model/summary.txt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "ui.log"
    command = [Path(sys.executable).with_name("mlflow"), "ui", "--backend-store-uri", "tracker+sqlite:///tracker.db"]
    with log.open("w") as said:
        process = subprocess.Popen(
            [*map(str, command), "--port", str(port), "--workers", "1"],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        server = Ui(f"http://127.0.0.1:{port}", folder, run.id, "1")
        eventually(lambda: _answers(server, process, log), within=DEADLINE_S, said=log.read_text)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)


def _answers(server: Ui, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return server.ask("GET", "/health")[0] == 200
    except OSError:
        return False


def test_the_pages_of_the_ui_find_what_they_ask_for(ui: Ui) -> None:
    """Every request that the UI's pages make of a store is answered; what we do not keep is empty."""
    run, experiment = ui.run_id, ui.experiment_id
    gateway = urllib.parse.quote("tags.`mlflow.experiment.isGateway` IS NULL")
    versions = urllib.parse.quote(f"run_id='{run}'")
    of_run = f"run_uuid={run}&run_id={run}"
    graph = "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { apiError { code message } run { info { runId status endTime } data { metrics { key value step } params { key value } tags { key value } } modelVersions { name } experiment { experimentId name } } } }"
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"{AJAX_3}/server-info", None),
        ("GET", f"{AJAX}/experiments/search?max_results=25&order_by=last_update_time%20DESC&filter={gateway}", None),
        ("GET", f"{AJAX}/experiments/get?experiment_id={experiment}", None),
        ("POST", f"{AJAX}/runs/search", {"experiment_ids": [experiment], "max_results": 100, "run_view_type": "ACTIVE_ONLY"}),
        ("POST", f"{AJAX}/runs/search", {"experiment_ids": [experiment], "filter": f"run_id = '{run}'"}),
        ("POST", f"{AJAX}/runs/search", {"experiment_ids": [experiment], "filter": f"tags.mlflow.parentRunId = '{run}'"}),
        ("GET", f"{AJAX}/runs/get?{of_run}", None),
        ("POST", "/graphql", {"operationName": "GetRun", "query": graph, "variables": {"data": {"runId": run}}}),
        ("GET", f"{AJAX}/metrics/get-history-bulk-interval?run_ids={run}&metric_key=val_loss&max_results=320", None),
        ("GET", f"{AJAX}/metrics/get-history-bulk-interval?run_ids={run}&metric_key=tracker.best_epoch&max_results=320&start_step=0&end_step=9", None),
        ("GET", f"{AJAX}/metrics/get-history-bulk?run_id={run}&metric_key=val_loss", None),
        ("GET", f"{AJAX}/metrics/get-history?{of_run}&metric_key=val_loss", None),
        ("GET", f"{AJAX}/artifacts/list?{of_run}", None),
        ("GET", f"{AJAX}/artifacts/list?{of_run}&path=model", None),
        ("POST", f"{AJAX}/experiments/search-datasets", {"experiment_ids": [experiment]}),
        ("POST", f"{AJAX}/logged-models/search", {"experiment_ids": [experiment]}),
        ("GET", f"{AJAX}/model-versions/search?filter={versions}", None),
        ("GET", f"{AJAX}/registered-models/search?max_results=25", None),
        ("POST", f"{AJAX_3}/traces/search", {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}], "max_results": 10}),
        ("POST", f"{AJAX_3}/traces/metrics", {"experiment_ids": [experiment], "view_type": "TRACES", "metric_name": "trace_count", "aggregations": [{"aggregation_type": "COUNT"}]}),
        ("POST", f"{AJAX_3}/datasets/search", {"experiment_ids": [experiment]}),
        ("GET", f"{AJAX_3}/scorers/list?experiment_id={experiment}", None),
        ("GET", f"{AJAX_3}/label-schemas/list?experiment_id={experiment}", None),
        ("GET", f"{AJAX_3}/review-queues/list?experiment_id={experiment}", None),
        ("POST", f"{AJAX_3}/issues/search", {"experiment_id": experiment}),
        ("GET", f"{AJAX_3}/gateway/endpoints/list", None),
        ("GET", f"{AJAX_3}/mcp-servers", None),
        ("GET", "/api/2.0/mlflow/webhooks", None),
    ]  # fmt: skip
    answers: dict[str, list[Any]] = {}
    for method, path, body in requests:
        status, answer = ui.ask(method, path, body)
        assert status == 200, (path, answer)
        answers.setdefault(path.partition("&")[0], []).append(answer)
    (graphed,) = answers["/graphql"]
    assert graphed["errors"] is None
    seen = graphed["data"]["mlflowGetRun"]["run"]
    assert {"key": "tracker.best_epoch", "value": 2.0, "step": "2"} in seen["data"]["metrics"]
    assert {one["key"]: one["value"] for one in seen["data"]["metrics"]}["peak"] == sys.float_info.max
    assert (seen["info"]["status"], seen["experiment"]["name"]) == ("FINISHED", "digits")
    val_loss, best_epoch = answers[f"{AJAX}/metrics/get-history-bulk-interval?run_ids={run}"]
    assert [one["step"] for one in val_loss["metrics"]] == [0, 1, 2]
    assert [(one["step"], one["value"]) for one in best_epoch["metrics"]] == [(2, 2.0)]
    all_of_it, itself, children = answers[f"{AJAX}/runs/search"]
    assert [one["info"]["run_id"] for one in all_of_it["runs"]] == [run]
    assert [one["info"]["run_id"] for one in itself["runs"]] == [run]
    assert children == {}
    root, model = answers[f"{AJAX}/artifacts/list?run_uuid={run}"]
    assert ([one["path"] for one in root["files"]], [one["path"] for one in model["files"]]) == (
        ["model"],
        ["model/summary.txt"],
    )


def test_a_file_of_ours_is_shown_and_one_of_a_client_goes_through_the_server(ui: Ui) -> None:
    """A run of ours keeps its place; a run that a client makes has its files where the server serves them."""
    status, text = ui.ask("GET", f"/get-artifact?run_id={ui.run_id}&path=model/summary.txt")
    assert (status, text) == (200, b"what it was")
    script = (
        "import sys, mlflow\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_text('through the server', 'said.txt')\n"
        "print(run.info.artifact_uri)\n"
        "print(mlflow.artifacts.load_text(f'runs:/{run.info.run_id}/said.txt'))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, ui.url], capture_output=True, text=True, timeout=120, cwd=ui.folder, check=False
    )
    assert told.returncode == 0, told.stderr
    place, text = [line for line in told.stdout.splitlines() if not line.startswith(("🏃", "🧪"))]
    assert text == "through the server"
    assert place.startswith("mlflow-artifacts:/0/")
    assert (ui.folder / "mlartifacts" / place.removeprefix("mlflow-artifacts:/") / "said.txt").is_file()


def test_what_we_do_not_keep_is_refused_and_never_fails(ui: Ui) -> None:
    """What the UI or a client may ask of absent features is answered with 501 in MLflow's error shape, not with 500."""
    for method, path, body in (
        ("POST", "/api/2.0/mlflow/traces", {"experiment_id": "0"}),
        ("GET", f"{AJAX_3}/traces/nowhere", None),
        ("GET", f"{AJAX_3}/datasets/nowhere", None),
        ("POST", f"{AJAX_3}/datasets/create", {"name": "d"}),
        ("POST", f"{AJAX_3}/scorers/register", {"experiment_id": "0", "name": "s", "serialized_scorer": "{}"}),
    ):
        status, answer = ui.ask(method, path, body)
        assert (status, answer["error_code"]) == (501, "NOT_IMPLEMENTED"), (path, answer)
    for path in ("records", "experiment-ids"):
        assert ui.ask("GET", f"{AJAX_3}/datasets/nowhere/{path}")[0] == 200


def test_a_place_for_files_that_a_client_names_is_held_to_the_servers(ui: Ui) -> None:
    """An experiment cannot be given a folder of the server's machine for its files."""
    status, answer = ui.ask(
        "POST", "/api/2.0/mlflow/experiments/create", {"name": "x", "artifact_location": "file:///etc"}
    )
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "file:///etc" in answer["message"]

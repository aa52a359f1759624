"""MLflow's own client against our server, from the first experiment to a registered model: it notices no difference."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from e2e.mlflow_lab import AJAX, API, ask
from e2e.server_lab import Server
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType
from mlflow.exceptions import MlflowException, RestException

import tracker

LIGHT_KIB = 150_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with Server(
        f"sqlite:///{folder / 'tracker.db'}", "--allow-artifacts", (folder / "allowed").as_uri(), cwd=folder
    ) as one:
        yield one


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """The stock client; what fluent calls there are go to the same server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with talking_to(server.url):
        yield MlflowClient()


class talking_to:
    """MLflow's global state set to one server, and put back."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        mlflow.set_tracking_uri(self._url)
        mlflow.set_registry_uri(self._url)

    def __exit__(self, *_: object) -> None:
        while mlflow.active_run() is not None:
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID"):
            os.environ.pop(name, None)


def experiment(name: str) -> str:
    return str(mlflow.set_experiment(name).experiment_id)


def test_logging(client: MlflowClient) -> None:
    """What a script logs is there as it was logged, NaN and infinities included."""
    experiment("logging")
    with mlflow.start_run(run_name="one", tags={"team": "vision"}, description="a note") as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"layers": [1, 2], "long": "x" * 6000})
        for step, value in enumerate([1.0, math.nan, math.inf, -math.inf, 0.5]):
            mlflow.log_metric("loss", value, step=step)
        mlflow.log_metrics({"a": 1.5, "b": 2}, step=7)
        mlflow.set_tags({"x": "1", "gone": "2"})
        mlflow.delete_tag("gone")
    for first in range(0, 2000, 1000):
        points = [Metric("batch", float(n), 1000 + n, n) for n in range(first, first + 1000)]
        client.log_batch(run.info.run_id, metrics=points)
    found = client.get_run(run.info.run_id)
    assert (found.info.run_name, found.info.status, found.info.lifecycle_stage) == ("one", "FINISHED", "active")
    assert found.data.params == {"lr": "0.1", "layers": "[1, 2]", "long": "x" * 6000}
    assert found.data.metrics == {"loss": 0.5, "a": 1.5, "b": 2.0, "batch": 1999.0}
    assert found.data.tags["team"] == "vision"
    assert found.data.tags["mlflow.note.content"] == "a note"
    assert "gone" not in found.data.tags
    values = [point.value for point in client.get_metric_history(run.info.run_id, "loss")]
    assert math.isnan(values[1])
    assert [values[0], *values[2:]] == [1.0, math.inf, -math.inf, 0.5]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "batch")] == list(range(2000))


def test_what_is_refused(client: MlflowClient) -> None:
    """Mistakes raise MLflow's exceptions with its codes, at once."""
    run = client.create_run("0")
    client.log_param(run.info.run_id, "lr", "0.1")
    client.log_param(run.info.run_id, "lr", "0.1")
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as changed:
        client.log_param(run.info.run_id, "lr", "0.2")
    assert changed.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(RestException, match="not found") as missing:
        client.get_run("f" * 32)
    assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException) as elsewhere:
        client.create_experiment("elsewhere", artifact_location="file:///etc")
    assert elsewhere.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException) as bad_filter:
        client.search_runs(["0"], "metrics.loss <")
    assert bad_filter.value.error_code == "INVALID_PARAMETER_VALUE"


def test_experiments(client: MlflowClient) -> None:
    """Experiments are made, found, tagged, renamed, deleted and restored."""
    ids = [client.create_experiment(f"many {n}", tags={"n": str(n)}) for n in range(5)]
    client.set_experiment_tag(ids[0], "more", "yes")
    client.rename_experiment(ids[1], "renamed")
    client.delete_experiment(ids[2])
    named = client.search_experiments(filter_string="name LIKE 'many%'", order_by=["name DESC"])
    assert [one.name for one in named] == ["many 4", "many 3", "many 0"]
    first = client.search_experiments(filter_string="tags.n != 'x'", max_results=2, order_by=["name ASC"])
    second = client.search_experiments(
        filter_string="tags.n != 'x'", max_results=2, order_by=["name ASC"], page_token=first.token
    )
    assert [one.name for one in [*first, *second]] == ["many 0", "many 3", "many 4", "renamed"]
    assert client.get_experiment(ids[2]).lifecycle_stage == "deleted"
    client.restore_experiment(ids[2])
    assert client.get_experiment_by_name("many 2").lifecycle_stage == "active"
    assert client.get_experiment(ids[0]).tags["more"] == "yes"
    assert "Default" in [one.name for one in client.search_experiments(view_type=ViewType.ALL)]


def test_search(client: MlflowClient) -> None:
    """Runs are found by filter, in order, in pages, and as a data frame."""
    where = experiment("search")
    runs = [client.create_run(where, run_name=f"run {n}", start_time=1000 + n) for n in range(25)]
    for n, run in enumerate(runs):
        client.log_metric(run.info.run_id, "loss", (n * 7) % 25)
        client.log_param(run.info.run_id, "even", n % 2 == 0)
    names, token = [], None
    while True:
        page = client.search_runs(
            [where], "params.even = 'True'", order_by=["metrics.loss ASC"], max_results=4, page_token=token
        )
        names += [run.info.run_name for run in page]
        token = page.token
        if not token:
            break
    expected = sorted(range(0, 25, 2), key=lambda n: (n * 7) % 25)
    assert names == [f"run {n}" for n in expected]
    assert [run.info.run_name for run in client.search_runs([where], max_results=2)] == ["run 24", "run 23"]
    client.delete_run(runs[0].info.run_id)
    assert len(client.search_runs([where])) == 24
    assert [run.info.run_id for run in client.search_runs([where], run_view_type=ViewType.DELETED_ONLY)] == [
        runs[0].info.run_id
    ]
    client.restore_run(runs[0].info.run_id)
    frame = mlflow.search_runs(experiment_names=["search"], filter_string="metrics.loss < 3")
    assert sorted(frame["metrics.loss"]) == [0.0, 1.0, 2.0]


def test_artifacts(client: MlflowClient, tmp_path: Path) -> None:
    """Files, folders, texts, pictures, figures and tables come back as they went, and can be deleted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    experiment("artifacts")
    tree = tmp_path / "tree"
    (tree / "in ner" / "ünter").mkdir(parents=True)
    (tree / "top.bin").write_bytes(bytes(range(256)) * 8192)
    (tree / "in ner" / "ünter" / "a %41+b#c.txt").write_text("deep")
    (tree / "empty").write_bytes(b"")
    figure = pyplot.figure()
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tree), "tree")
        mlflow.log_artifact(str(tree / "top.bin"))
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": [1]}, "notes/a.json")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "zero.png")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="seen", step=3)
        mlflow.log_figure(figure, "figure.png")
        mlflow.log_table({"x": [1, 2]}, "table.json")
    pyplot.close(figure)
    run_id = run.info.run_id
    listed = {entry.path: entry for entry in client.list_artifacts(run_id)}
    assert set(listed) == {"tree", "top.bin", "notes", "zero.png", "images", "figure.png", "table.json"}
    assert (listed["top.bin"].file_size, listed["tree"].is_dir) == (256 * 8192, True)
    assert [entry.path for entry in client.list_artifacts(run_id, "notes")] == ["notes/a.json", "notes/hello.txt"]
    assert len(client.list_artifacts(run_id, "images")) == 2
    got = Path(client.download_artifacts(run_id, "tree", str(tmp_path)))
    for file in tree.rglob("*"):
        if file.is_file():
            assert (got / file.relative_to(tree)).read_bytes() == file.read_bytes()
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt") == "hello"
    assert list(mlflow.load_table("table.json", run_ids=[run_id])["x"]) == [1, 2]
    with pytest.raises(MlflowException, match="never.txt"):
        mlflow.artifacts.load_text(f"runs:/{run_id}/never.txt")
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    home = get_artifact_repository(run.info.artifact_uri)
    home.delete_artifacts("tree")
    home.delete_artifacts("top.bin")
    assert {entry.path for entry in client.list_artifacts(run_id)} == set(listed) - {"tree", "top.bin"}
    home.delete_artifacts()
    assert client.list_artifacts(run_id) == []


def test_files_elsewhere(server: Server, client: MlflowClient) -> None:
    """Where the server allows it, an experiment's files lie elsewhere: clients put them there, the pages show them."""
    allowed = (Path(os.readlink(f"/proc/{server.pid}/cwd")) / "allowed").as_uri()
    where = client.create_experiment("elsewhere", artifact_location=f"{allowed}/here")
    run = client.create_run(where)
    assert run.info.artifact_uri.startswith(f"{allowed}/here/")
    client.log_text(run.info.run_id, "far", "deep/far.txt")
    query = {"run_id": run.info.run_id, "path": "deep"}
    listed = ask(server.url, "GET", AJAX + "artifacts/list", query=query)
    assert [file["path"] for file in listed.json["files"]] == ["deep/far.txt"]
    got = ask(server.url, "GET", "/get-artifact", query={**query, "path": "deep/far.txt"})
    assert (got.body, got.headers["x-content-type-options"]) == (b"far", "nosniff")
    assert "attachment" in got.headers["content-disposition"]


def test_inputs(client: MlflowClient) -> None:
    """Data sets that a run used are listed, and runs are found by them."""
    import pandas

    where = experiment("inputs")
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": [1.0]}), name="digits"), context="training")
    (used,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("digits", "training")
    assert [one.info.run_id for one in client.search_runs([where], "dataset.name = 'digits'")] == [run.info.run_id]


def test_light_without_the_rest(store_url: str) -> None:
    """Until something is asked that only MLflow's application knows, it is not loaded: whole trainings do not need it."""
    with Server(store_url) as server, talking_to(server.url):
        experiment("light")
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 1.0)
            mlflow.log_text("text", "a.txt")
            model = mlflow.initialize_logged_model(name="m")
            mlflow.finalize_logged_model(model.model_id, "READY")
        assert len(mlflow.search_runs()) == 1
        assert MlflowClient().list_artifacts(run.info.run_id)[0].path == "a.txt"
        assert server.memory_kib < LIGHT_KIB


def test_models(server: Server, client: MlflowClient) -> None:
    """A model is logged, loaded, registered, given an alias, and loaded by it."""
    from sklearn.linear_model import LinearRegression

    experiment("models")
    fitted = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(
            fitted, name="line", registered_model_name="line", pip_requirements=["scikit-learn"]
        )
    assert mlflow.sklearn.load_model(logged.model_uri).predict([[3.0]]) == pytest.approx([3.0])
    (output,) = client.get_run(run.info.run_id).outputs.model_outputs
    assert output.model_id == logged.model_id
    assert client.get_logged_model(logged.model_id).status == "READY"
    assert [model.model_id for model in client.search_logged_models([run.info.experiment_id])] == [logged.model_id]
    client.set_registered_model_alias("line", "best", "1")
    assert mlflow.pyfunc.load_model("models:/line@best").predict([[4.0]]) == pytest.approx([4.0])
    assert [model.name for model in client.search_registered_models()] == ["line"]
    (version,) = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    assert version.source == f"models:/{logged.model_id}"
    query = {"name": "line", "version": "1", "path": "MLmodel"}
    assert b"flavors" in ask(server.url, "GET", "/model-versions/get-artifact", query=query).body
    assert ask(server.url, "GET", "/model-versions/get-artifact", query={**query, "path": "../x"}).status == 400


def test_autologging(client: MlflowClient) -> None:
    """Autologging of scikit-learn and of Keras records parameters and metrics."""
    import keras
    from sklearn.linear_model import LogisticRegression

    where = experiment("autologging")
    x, y = np.random.default_rng(1).normal(size=(32, 3)), np.arange(32) % 2
    try:
        mlflow.sklearn.autolog(log_models=False)
        LogisticRegression(C=0.5).fit(x, y)
        mlflow.sklearn.autolog(disable=True)
        mlflow.tensorflow.autolog(log_models=False)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, y, epochs=2, validation_data=(x, y))
    finally:
        mlflow.sklearn.autolog(disable=True)
        mlflow.tensorflow.autolog(disable=True)
    of_keras, of_sklearn = client.search_runs([where])
    assert of_sklearn.data.params["C"] == "0.5"
    assert of_sklearn.data.metrics["training_score"] > 0
    assert of_keras.data.params["epochs"] == "2"
    assert len(client.get_metric_history(of_keras.info.run_id, "val_loss")) == 2


def test_our_runs(server: Server, client: MlflowClient, tmp_path: Path) -> None:
    """A run of ours is in MLflow's words what it is in ours."""
    (tmp_path / "file.txt").write_text("of ours")
    with tracker.start_run(
        experiment="ours", name="native", store=server.url, params={"lr": 0.1, "deep": {"n": 2}}
    ) as run:
        for epoch in range(3):
            run.log_epoch(epoch, {"loss": 1.0 / (epoch + 1), "val_loss": abs(epoch - 1) + 0.5})
        run.log_artifact(tmp_path / "file.txt", "kept/file.txt")
        run.set_tags({"team": "vision"})
    (found,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (run.id, "native", "FINISHED")
    assert found.data.params == {"lr": "0.1", "deep.n": "2"}
    assert found.data.metrics["loss"] == pytest.approx(1 / 3)
    assert (found.data.tags["tracker.best_epoch"], found.data.tags["tracker.status"]) == ("1", "finished")
    assert found.data.tags["team"] == "vision"
    assert [(p.step, p.value) for p in client.get_metric_history(run.id, "val_loss")] == [(0, 1.5), (1, 0.5), (2, 1.5)]
    assert mlflow.artifacts.load_text(f"runs:/{run.id}/kept/file.txt") == "of ours"
    with tracker.open_store(server.url) as store:
        assert store.get_run(run.id).best_epoch == 1


def test_search_by_the_place_of_files(server: Server, client: MlflowClient) -> None:
    """Filters compare the URI that the client sees, with every operator, wherever a run's files are."""
    allowed = (Path(os.readlink(f"/proc/{server.pid}/cwd")) / "allowed").as_uri()
    where = client.create_experiment("places")
    elsewhere = client.create_experiment("places elsewhere", artifact_location=f"{allowed}/deep")
    runs = {client.create_run(one).info.run_id: one for one in (where, where, elsewhere)}
    first, second, third = runs
    place = {run: client.get_run(run).info.artifact_uri for run in runs}
    assert place[first] == f"mlflow-artifacts:/{where}/{first}/artifacts"

    def found(condition: str) -> set[str]:
        return {
            run.info.run_id for run in client.search_runs([where, elsewhere], f"attributes.artifact_uri {condition}")
        }

    for run, uri in place.items():
        assert found(f"= '{uri}'") == {run}
        assert found(f"!= '{uri}'") == {*runs} - {run}
    assert found(f"IN ('{place[first]}', '{place[third]}')") == {first, third}
    assert found(f"NOT IN ('{place[first]}', '{place[third]}')") == {second}
    assert found("LIKE '%artifacts'") == {*runs}
    assert found("LIKE 'mlflow-artifacts:/%'") == {first, second}
    assert found(f"ILIKE 'MLFLOW-artifacts:/{where}/{second}%'") == {second}
    assert found("LIKE 'file:%'") == {third}
    with tracker.open_store(server.url) as store:
        kept = store.get_run(first).artifact_uri
    assert found(f"= '{kept}'") == set()


def test_our_reads_of_theirs(server: Server, client: MlflowClient) -> None:
    """What MLflow's client wrote is read through our own interface."""
    run = client.create_run(client.create_experiment("theirs"), run_name="stock").info.run_id
    client.log_metric(run, "loss", 0.5, step=3, timestamp=1_700_000_000_000)
    client.log_param(run, "lr", "0.1")
    client.set_tag(run, "tracker.stop", "true")
    client.set_terminated(run, "FAILED")
    with tracker.open_store(server.url) as store:
        found = store.get_run(run)
        assert (found.name, found.experiment, found.status, found.stop_requested) == ("stock", "theirs", "failed", True)
        assert store.metrics(run)["loss"].last.value == 0.5
        assert store.params(run) == {"lr": "0.1"}


def test_graphql(server: Server, client: MlflowClient) -> None:
    """The run's page gets all that it asks, even where a value is one that JSON has no number for."""
    run = client.create_run("0", run_name="asked").info.run_id
    for key, value in (("nan", math.nan), ("inf", math.inf), ("one", 1.0)):
        client.log_metric(run, key, value)
    query = "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { apiError { message } run { info { runName } data { metrics { key value } } modelVersions { name } } } }"
    reply = ask(server.url, "POST", "/graphql", {"query": query, "variables": {"data": {"runId": run}}})
    told = reply.json["data"]["mlflowGetRun"]
    assert (reply.json["errors"], told["apiError"]) == (None, None)
    assert told["run"]["info"]["runName"] == "asked"
    values = {metric["key"]: metric["value"] for metric in told["run"]["data"]["metrics"]}
    assert (values["nan"], values["one"]) == (None, 1.0)
    assert values["inf"] > 1e300
    missing = ask(server.url, "POST", "/graphql", {"query": query, "variables": {"data": {"runId": "f" * 32}}})
    assert missing.json["errors"][0].endswith("not found")


def test_what_we_do_not_keep(server: Server) -> None:
    """Lists of what is not kept are empty; what would keep it is not implemented, which no client tries again."""
    for path, body in (("traces/search", {"locations": []}), ("datasets/search", {"experiment_ids": ["0"]})):
        reply = ask(server.url, "POST", "/ajax-api/3.0/mlflow/" + path, body)
        assert reply.status == 200, reply.body
    reply = ask(server.url, "POST", "/api/3.0/mlflow/traces", {"trace": {"trace_info": {"trace_id": "tr-1"}}})
    assert (reply.status, reply.json["error_code"]) == (501, "NOT_IMPLEMENTED")


def test_pages(server: Server) -> None:
    """The pages come with headers under which a browser keeps what never changes, and asks again for what may."""
    page = ask(server.url, "GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    script = page.body.decode().partition('src="')[2].partition('"')[0]
    found = ask(server.url, "GET", f"/{script.removeprefix('./')}")
    assert found.status == 200
    assert "immutable" in found.headers["cache-control"]
    assert ask(server.url, "GET", "/static-files/never.js").status == 404
    assert ask(server.url, "GET", "/static-files/..%2f..%2f__init__.py").status == 404
    assert ask(server.url, "GET", "/health").body == b"OK"
    assert ask(server.url, "GET", "/version").body.decode() == mlflow.__version__


def test_postgresql(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL the same: runs, search, files and the registry."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with Server(postgres_url, "--artifacts", str(tmp_path / "files"), cwd=tmp_path) as server, talking_to(server.url):
        client = MlflowClient()
        where = experiment("pg")
        with mlflow.start_run(run_name="pg") as run:
            mlflow.log_metric("loss", math.nan, step=1)
            mlflow.log_metric("loss", 0.5, step=2)
            mlflow.log_params({"lr": 0.1})
            mlflow.log_text("hello", "hello.txt")
        found = client.search_runs([where], "metrics.loss < 1 and params.lr = '0.1'")
        assert [one.info.run_id for one in found] == [run.info.run_id]
        assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/hello.txt") == "hello"
        for path, query in (
            ("metrics/get-history", {"run_id": "r", "metric_key": "a\0"}),
            ("runs/get", {"run_id": "\0"}),
        ):
            assert ask(server.url, "GET", API + path, query=query).status == 400
        client.create_registered_model("pg")
        assert client.get_registered_model("pg").name == "pg"


HIDDEN = """
import importlib.machinery
seen = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] == "mlflow" else seen(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""


def test_without_mlflow(store_url: str, tmp_path: Path) -> None:
    """Where MLflow is not installed the server runs: it says on its page what to install, and keeps what is logged."""
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDDEN)
    with Server(store_url, new=True, PYTHONPATH=str(tmp_path / "hide")) as server:
        page = ask(server.url, "GET", "/")
        assert page.status == 200
        assert b"callback-tracker[mlflow]" in page.body
        made = ask(server.url, "POST", API + "runs/create", {"experiment_id": "0", "start_time": 1})
        run = made.json["run"]["info"]["run_id"]
        assert (
            ask(
                server.url, "POST", API + "runs/log-metric", {"run_id": run, "key": "k", "value": 1, "timestamp": 1}
            ).status
            == 200
        )
        assert server.get(f"/api/v1/runs/{run}/metrics")["k"]["last"]["value"] == 1
        for method, path, body in (
            ("GET", AJAX + "registered-models/search", None),
            ("POST", "/graphql", {"query": "{a}"}),
            ("GET", "/version", None),
        ):
            reply = ask(server.url, method, path, body)
            assert (reply.status, reply.json["error_code"]) == (501, "NOT_IMPLEMENTED")

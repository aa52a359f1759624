"""MLflow's own client on our store, in this process and without a server: `tracker+sqlite://` and the like."""

from __future__ import annotations

import inspect
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from draws import daily
from e2e.cli_lab import installed
from e2e.server_lab import Server

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.tracking._model_registry import utils as registry_utils
from mlflow.tracking._tracking_service import utils as service_utils

import tracker
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.locations import Locations
from tracker.mlflow_bridge.plugin import install, make_registry_store, make_tracking_store
from tracker.mlflow_bridge.registry import RegistryStore
from tracker.mlflow_bridge.tracking_store import TrackingStore
from tracker.mlflow_bridge.unsupported import KEPT, NotKept
from tracker.store.store import SqlRunStore


@pytest.fixture(autouse=True)
def own_mlflow() -> Iterator[None]:
    """Nothing of MLflow's global state goes from one test to another."""
    yield
    mlflow.autolog(disable=True)
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None
    # MLflow keeps a store by its URI, and tracker:// names another one in each test.
    service_utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    registry_utils._get_store_registry()._get_store_with_resolved_uri.cache_clear()
    for name in [name for name in os.environ if name.startswith("MLFLOW_") and name != "MLFLOW_DISABLE_TELEMETRY"]:
        del os.environ[name]


@pytest.fixture
def client(any_url: str) -> MlflowClient:
    """MLflow's client, and its global functions, at an empty store of ours."""
    mlflow.set_tracking_uri(f"tracker+{any_url}")
    return MlflowClient()


def test_a_script_of_mlflow_runs_on_our_store(client: MlflowClient, tmp_path: Path) -> None:
    """Parameters, metrics, tags, data sets and files of a run come back as MLflow's client logged them."""
    import pandas as pd
    from matplotlib.figure import Figure

    mlflow.set_experiment("script")
    (tmp_path / "given.txt").write_text("as given")
    with mlflow.start_run(run_name="first", tags={"team": "vision"}, description="mine") as active:
        mlflow.log_params({"depth": 3, "rate": 0.1})
        mlflow.log_metrics({"loss": 0.5, "accuracy": 0.7}, step=1)
        mlflow.log_metric("loss", float("nan"), step=2)
        mlflow.log_metric("later", 2.0, synchronous=False).wait()
        mlflow.set_tags({"stage": "trial"})
        mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"x": [1.0]}), name="digits"), context="training")
        mlflow.log_artifact(str(tmp_path / "given.txt"), "files")
        mlflow.log_text("said", "notes/said.txt")
        mlflow.log_figure(Figure(), "figure.png")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="picture", step=1)
    run = client.get_run(active.info.run_id)
    assert run.info.run_name == "first"
    assert (run.info.status, run.info.lifecycle_stage) == ("FINISHED", "active")
    assert run.data.params == {"depth": "3", "rate": "0.1"}
    assert (run.data.metrics["accuracy"], run.data.metrics["later"]) == (0.7, 2.0)
    assert np.isnan(run.data.metrics["loss"])
    tags = {"team": "vision", "stage": "trial", "mlflow.note.content": "mine", "tracker.status": "finished"}
    assert tags.items() <= run.data.tags.items()
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("digits", "training")
    assert [one.value for one in client.get_metric_history(active.info.run_id, "accuracy")] == [0.7]
    listed = {one.path for one in client.list_artifacts(active.info.run_id)}
    assert {"files", "notes", "figure.png", "images"} <= listed
    assert mlflow.artifacts.load_text(f"runs:/{active.info.run_id}/files/given.txt") == "as given"
    (found,) = mlflow.search_runs(
        experiment_names=["script"],
        filter_string="metrics.accuracy > 0.6 AND params.depth = '3' AND tags.team LIKE 'vis%'",
        output_format="list",
    )
    assert found.info.run_id == active.info.run_id


def test_a_parameter_keeps_its_first_value(client: MlflowClient) -> None:
    """Another value for a parameter is refused in MLflow's words, the same value is not."""
    with mlflow.start_run():
        mlflow.log_param("depth", 3)
        mlflow.log_param("depth", 3)
        with pytest.raises(MlflowException, match="Changing param values is not allowed. Param with key='depth'"):
            mlflow.log_param("depth", 4)
        with pytest.raises(MlflowException, match="Params were already logged='.*'depth'"):
            mlflow.log_params({"depth": 4, "width": 1})


def test_runs_and_experiments_are_deleted_and_restored(client: MlflowClient) -> None:
    """What is deleted is shown among the deleted alone, until it is restored; an experiment takes its runs with it."""
    experiment = client.create_experiment("gone", tags={"kind": "trial"})
    run = client.create_run(experiment)

    def shown(view: int) -> list[str]:
        return [one.info.run_id for one in client.search_runs([experiment], "", view)]

    client.delete_run(run.info.run_id)
    assert (shown(1), shown(2)) == ([], [run.info.run_id])
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        client.log_metric(run.info.run_id, "m", 1.0)
    client.restore_run(run.info.run_id)
    assert shown(1) == [run.info.run_id]
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert [one.name for one in client.search_experiments()] == ["Default"]
    client.restore_experiment(experiment)
    assert shown(1) == [run.info.run_id]
    assert client.get_experiment_by_name("gone").tags["kind"] == "trial"


def test_the_tag_tracker_stop_asks_the_run_to_stop(client: MlflowClient, any_url: str) -> None:
    """`tracker.stop=true` is the store's stop request, also for a run of ours."""
    with tracker.start_run(store=any_url) as run:
        run.flush()
        assert not run.should_stop
        client.set_tag(run.id, "tracker.stop", "TRUE")
        with tracker.open_store(any_url) as store:
            assert store.get_run(run.id).stop_requested
            assert [event.kind for event in store.events(run.id)] == ["stop_requested"]


def test_mlflow_gc_removes_what_was_deleted(client: MlflowClient, any_url: str, tmp_path: Path) -> None:
    """`mlflow gc` removes deleted runs, models and experiments with their files, and nothing that is not deleted."""
    from click.testing import CliRunner
    from mlflow.cli import gc

    gone = client.create_experiment("gone")
    inside, alone, kept = (client.create_run(experiment).info.run_id for experiment in (gone, "0", "0"))
    for run_id in (inside, alone, kept):
        client.log_metric(run_id, "m", 1.0)
        client.log_text(run_id, "text", "said.txt")
    model = client.create_logged_model("0", "old").model_id
    client.delete_logged_model(model)
    client.delete_run(alone)
    client.delete_experiment(gone)
    told = CliRunner().invoke(gc, ["--backend-store-uri", f"tracker+{any_url}"])
    assert told.exit_code == 0, told.output
    assert [one.info.run_id for one in client.search_runs(["0"], "", 3)] == [kept]
    assert client.get_experiment_by_name("gone") is None
    for run_id in (inside, alone):
        with pytest.raises(MlflowException, match="not found"):
            client.get_run(run_id)
    files = {file.parent.name for file in tmp_path.rglob("said.txt")}
    assert files == {kept}
    with pytest.raises(MlflowException, match="not found"):
        make_tracking_store(f"tracker+{any_url}").get_logged_model(model, allow_deleted=True)


def test_what_is_derived_cannot_be_set(client: MlflowClient) -> None:
    """Setting a derived tag is refused with the reason; copying all tags of a run passes them over."""
    run = client.create_run("0")
    with pytest.raises(MlflowException, match=r"tracker\.status.*derived"):
        client.set_tag(run.info.run_id, "tracker.status", "finished")
    with mlflow.start_run(tags=client.get_run(run.info.run_id).data.tags) as copy:
        mlflow.set_tags({"tracker.status": "lost", "kept": "yes"})
    assert client.get_run(copy.info.run_id).data.tags["kept"] == "yes"
    assert client.get_run(copy.info.run_id).data.tags["tracker.status"] == "finished"


def test_a_model_is_logged_registered_and_loaded(store_url: str, tmp_path: Path) -> None:
    """Autologging of scikit-learn logs a model, which is registered, given an alias and loaded by it."""
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(f"tracker+{store_url}")
    client = MlflowClient()
    registry = tmp_path / "tracker.registry.db"
    assert list(client.search_registered_models()) == []
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model("digits")
    assert not registry.exists()

    mlflow.sklearn.autolog(log_datasets=False, log_input_examples=False)
    x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    with mlflow.start_run() as active:
        LogisticRegression().fit(x, y)
    # What was turned on by the flavor, mlflow.autolog does not turn off.
    mlflow.sklearn.autolog(disable=True)
    run = client.get_run(active.info.run_id)
    (made,) = run.outputs.model_outputs
    model = client.get_logged_model(made.model_id)
    assert (model.status.value, model.source_run_id) == ("READY", active.info.run_id)
    assert run.data.params["fit_intercept"] == "True"
    assert "training_accuracy_score" in run.data.metrics

    version = mlflow.register_model(model.model_uri, "digits")
    client.set_registered_model_alias("digits", "champion", version.version)
    loaded = mlflow.sklearn.load_model("models:/digits@champion")
    assert loaded.predict(x).tolist() == y.tolist()
    assert registry.exists()
    assert installed("db", "check", "--store", store_url).returncode == 0


@pytest.mark.parametrize("through_a_server", daily([True, False], "registered model"))
def test_a_registered_model_is_loaded_by_whoever_reaches_the_store(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through_a_server: bool
) -> None:
    """A version registered through a server loads without one and the other way round; each sees its own addresses."""
    home = (tmp_path / "tracker-artifacts").as_uri()
    x = np.array([[0.0], [1.0]])
    with Server(store_url, "--allow-artifacts", "s3://elsewhere", cwd=tmp_path) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        uris = [server.url, f"tracker+{store_url}", "tracker://"]
        first, *others = uris if through_a_server else [uris[1], uris[0], uris[2]]
        mlflow.set_tracking_uri(first)
        client = MlflowClient()
        run_id = _register(client, x)
        model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
        for uri in (first, *others):
            mlflow.set_tracking_uri(uri)
            client = MlflowClient()
            for name in ("rr@champ", "rr/1", "rr/3", "rr/4", "rr/latest", "copied/1"):
                assert mlflow.sklearn.load_model(f"models:/{name}").predict(x).tolist() == [0, 1], (uri, name)
            direct = uri.startswith("tracker+")
            of_model = f"{home}/{model_id}" if direct else f"mlflow-artifacts:/0/models/{model_id}/artifacts"
            if uri == "tracker://":
                of_model = of_model.replace("mlflow-artifacts:", f"{server.url}/api/2.0/mlflow-artifacts/artifacts")
            assert client.get_model_version_download_uri("rr", "1") == of_model
            assert client.get_model_version_download_uri("copied", "1") == of_model
            assert client.get_model_version("rr", "1").source == f"models:/{model_id}"
            source = f"{home}/{run_id}/copy" if direct else f"mlflow-artifacts:/0/{run_id}/artifacts/copy"
            for version in (
                client.get_model_version("rr", "4"),
                client.get_model_version_by_alias("rr", "of_run"),
                *client.search_model_versions(f"source_path = '{source}'"),
                *client.get_latest_versions("rr", ["None"]),
                *client.search_registered_models("name = 'rr'")[0].latest_versions,
            ):
                assert (int(version.version), version.source) == (4, source)
            assert len(client.search_model_versions(f"source_path = '{source}'")) == 1
            assert client.get_model_version_download_uri("rr", "2") == "s3://elsewhere/model"
    with sqlite3.connect(tmp_path / "tracker.registry.db") as registry:
        kept = registry.execute("SELECT storage_location FROM model_versions WHERE name = 'rr' ORDER BY version")
        assert [place for (place,) in kept] == [
            f"tracker-artifacts/{model_id}", "s3://elsewhere/model", f"runs:/{run_id}/copy", f"tracker-artifacts/{run_id}/copy"
        ]  # fmt: skip


def test_a_moved_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that MLflow's client logged, logged models and registered versions are found where the project is now."""
    project, moved = tmp_path / "project", tmp_path / "moved #1"
    project.mkdir()
    monkeypatch.chdir(project)
    mlflow.set_tracking_uri("tracker+sqlite:///tracker.db")
    client = MlflowClient()
    mlruns = client.create_experiment("beside", artifact_location="mlruns/1")
    runs = [client.create_run(experiment) for experiment in ("0", mlruns)]
    client.create_registered_model("net")
    for run in runs:
        client.log_text(run.info.run_id, "the weights", "model/weights")
        client.create_model_version("net", f"{run.info.artifact_uri}/model", run.info.run_id)
    model = client.create_logged_model(mlruns, "logged")
    client.create_model_version("net", f"models:/{model.model_id}", model_id=model.model_id)
    project.rename(moved)
    monkeypatch.chdir(moved)
    mlflow.set_tracking_uri(f"tracker+sqlite:///{moved}/tracker.db")
    client = MlflowClient()
    places = [(moved / "tracker-artifacts").as_uri(), (moved / "mlruns" / "1").as_uri()]
    assert client.get_experiment(mlruns).artifact_location == places[1]
    for run, place, version in zip(runs, places, ("1", "2"), strict=True):
        run_id = run.info.run_id
        found = client.get_run(run_id).info.artifact_uri
        assert found.startswith(f"{place}/{run_id}")
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/model/weights") == "the weights"
        assert [one.path for one in client.list_artifacts(run_id, "model")] == ["model/weights"]
        assert client.get_model_version("net", version).source == f"{found}/model"
        assert client.get_model_version_download_uri("net", version) == f"{found}/model"
        assert mlflow.artifacts.load_text(f"models:/net/{version}/weights") == "the weights"
        (one,) = client.search_model_versions(f"source_path = '{found}/model'")
        assert one.version == int(version)
    located = client.get_logged_model(model.model_id).artifact_location
    assert located.startswith(places[1])
    assert client.get_model_version_download_uri("net", "3") == located
    third = moved.rename(tmp_path / "third")
    monkeypatch.chdir(third)
    for name in ("tracker-artifacts", "mlruns"):
        (third / name).rename(tmp_path / name)
        assert installed("artifacts", "relocate", name, str(tmp_path / name)).returncode == 0
    assert installed("artifacts", "relocate", name, str(tmp_path / name)).returncode == 2
    mlflow.set_tracking_uri(f"tracker+sqlite:///{third}/tracker.db")
    for version in ("1", "2"):
        assert mlflow.artifacts.load_text(f"models:/net/{version}/weights") == "the weights"


def _register(client: MlflowClient, x: Any) -> str:
    """Versions 1 (of a logged model), 2 (elsewhere), 3 and 4 (of a run's files) of `rr`, and a copy of the first."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=100.0).fit(x, [0, 1])
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(fitted, name="lr", registered_model_name="rr", pip_requirements=["scikit-learn"])
        with tempfile.TemporaryDirectory() as folder:
            mlflow.sklearn.save_model(fitted, f"{folder}/copy", pip_requirements=["scikit-learn"])
            mlflow.log_artifacts(f"{folder}/copy", "copy")
    client.create_model_version("rr", "s3://elsewhere/model")
    client.create_model_version("rr", f"runs:/{run.info.run_id}/copy", run.info.run_id)
    client.create_model_version("rr", f"{run.info.artifact_uri}/copy", run.info.run_id)
    client.set_registered_model_alias("rr", "champ", "1")
    client.set_registered_model_alias("rr", "of_run", "4")
    client.copy_model_version("models:/rr/1", "copied")
    return str(run.info.run_id)


def test_the_registry_has_a_schema_of_its_own(postgres_url: str) -> None:
    """In PostgreSQL the registry is next to our tables, and `tracker db check` finds no problem."""
    uri = f"tracker+{postgres_url}"
    store = make_tracking_store(uri)
    registry = make_registry_store(uri)
    assert list(registry.search_registered_models()) == []
    registry.create_registered_model("digits")
    assert [one.name for one in registry.search_registered_models()] == ["digits"]
    assert make_registry_store(uri) is registry
    assert make_tracking_store(uri) is store
    checked = installed("db", "check", "--store", postgres_url)
    assert checked.returncode == 0, checked.stderr


def test_two_that_make_a_registry_at_once_make_one(any_url: str) -> None:
    """Whoever is later finds the registry that the first one made, whole, with what was registered in it."""
    bridge = make_tracking_store(f"tracker+{any_url}").bridge
    stores = [RegistryStore(any_url, lambda: bridge) for _ in range(2)]
    failed: list[BaseException] = []

    def register(number: int) -> None:
        try:
            stores[number].create_registered_model(f"model {number}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for store in stores:
        assert {one.name for one in store.search_registered_models()} == {"model 0", "model 1"}


def test_a_run_of_keras_is_seen_through_mlflow(store_url: str, tmp_path: Path) -> None:
    """A training recorded by our callback has its facts in MLflow's words, and its files come back byte for byte."""
    import keras

    from tracker_keras import TrackerCallback

    x = np.random.default_rng(0).random((32, 3))
    y = (x.sum(axis=1) > 1.5).astype("float32")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy")
    with tracker.start_run("digits", name="keras") as native:
        model.fit(x, y, validation_data=(x, y), epochs=3, callbacks=[TrackerCallback(native)])
        model.save(tmp_path / "kept.keras")
        native.log_checkpoint(tmp_path / "kept.keras", epoch=2, is_best=True)
        native.log({"system/memory": 5.0}, step=0)
    with tracker.open_store() as store:
        ours, losses, best = store.get_run(native.id), store.history(native.id, "val_loss"), store.get_run(native.id)
    mlflow.set_tracking_uri("tracker://")
    client = MlflowClient()
    run = client.get_run(native.id)
    assert (run.info.run_name, run.info.status, run.info.start_time) == ("keras", "FINISHED", ours.started_ms)
    assert run.data.params["optimizer"] == "Adam"
    assert run.data.metrics["val_loss"] == losses.values[-1]
    assert run.data.metrics["system/memory"] == 5.0
    history = client.get_metric_history(native.id, "val_loss")
    assert [(one.step, one.value) for one in history] == list(zip([0, 1, 2], losses.values.tolist(), strict=True))
    assert run.data.metrics["tracker.best_epoch"] == best.best_epoch
    assert run.data.tags["tracker.best_metric"] == "val_loss"
    assert float(run.data.tags["tracker.best_value"]) == best.best_value
    (point,) = client.get_metric_history(native.id, "tracker.best_value")
    assert (point.step, point.value) == (best.best_epoch, best.best_value)
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**Finished** after 3 epochs")
    assert "fit 1 started, to epoch 2" in note
    client.set_tag(native.id, "mlflow.note.content", "mine")
    assert client.get_run(native.id).data.tags["mlflow.note.content"] == "mine"
    client.delete_tag(native.id, "mlflow.note.content")
    assert client.get_run(native.id).data.tags["mlflow.note.content"] == note
    (file,) = client.list_artifacts(native.id, "checkpoints")
    fetched = client.download_artifacts(native.id, file.path, str(tmp_path))
    assert Path(fetched).read_bytes() == (tmp_path / "kept.keras").read_bytes()
    assert {one.path for one in client.list_artifacts(native.id, "model")} >= {"model/summary.txt"}
    found = client.search_runs(
        [run.info.experiment_id], "metrics.`tracker.best_epoch` >= 0", order_by=["metrics.`tracker.best_value` DESC"]
    )
    assert [one.info.run_id for one in found] == [native.id]


def test_superseded_points_are_not_seen(store_url: str) -> None:
    """Where a training was taken up again MLflow sees each epoch once, as the later fit wrote it."""
    with tracker.start_run() as native:
        with native.start_fit(epochs=3) as fit:
            for epoch in range(3):
                fit.log_epoch(epoch, {"loss": 1.0 + epoch})
        with native.start_fit(initial_epoch=1, epochs=3, resumed_from=0) as fit:
            for epoch in (1, 2):
                fit.log_epoch(epoch, {"loss": 0.1 * epoch})
    store = make_tracking_store("tracker://")
    assert [(one.step, one.value) for one in store.get_metric_history(native.id, "loss")] == [
        (0, 1.0),
        (1, 0.1),
        (2, 0.2),
    ]
    sampled = store.get_metric_history_bulk_interval([native.id], "loss", 320, 1, 2)
    assert [(one.step, one.run_id) for one in sampled] == [(1, native.id), (2, native.id)]
    assert "after epoch 0" in store.get_run(native.id).data.tags["mlflow.note.content"]


def test_samples_keep_what_stands_out(store_url: str) -> None:
    """Of a long series the first, the last and a lone spike are among the samples, and no more than were asked for."""
    with tracker.start_run() as native:
        for step in range(2000):
            native.log({"m": 9.0 if step == 777 else 0.0}, step=step)
    store = make_tracking_store("tracker://")
    sampled = store.get_metric_history_bulk_interval([native.id], "m", 100, None, None)
    assert len(sampled) <= 100
    assert (sampled[0].step, sampled[-1].step) == (0, 1999)
    assert [one.value for one in sampled if one.step == 777] == [9.0]
    assert [one.step for one in store.get_metric_history_bulk_interval([native.id], "m", 1, None, None)] == [1999]


def _methods(of: type[Any]) -> list[str]:
    return [name for name, value in inspect.getmembers(of, callable) if not name.startswith("_")]


@pytest.mark.parametrize("name", _methods(AbstractStore))
def test_every_method_of_mlflows_store_is_answered(name: str, tmp_path: Path, store_url: str) -> None:
    """A method is ours, or a default that calls ours; what we do not keep is empty or refused with NOT_IMPLEMENTED."""
    assert name in vars(TrackingStore) or name in KEPT
    if name in KEPT or getattr(TrackingStore, name).__module__ != "tracker.mlflow_bridge.unsupported":
        return
    answer = _said(getattr(TrackingStore.__new__(TrackingStore), name))
    if isinstance(answer, NotKept):
        assert (answer.error_code, answer.get_http_status_code()) == ("NOT_IMPLEMENTED", 501)
    else:
        assert not (answer[0] if isinstance(answer, tuple) else answer)


def _said(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except NotKept as refused:
        return refused


@pytest.mark.parametrize("name", _methods(AbstractRegistry))
def test_every_method_of_the_registry_is_handed_on(name: str) -> None:
    """No method of MLflow's registry is left to a default that would not reach its SQL store."""
    assert name in vars(RegistryStore)


def test_a_servers_store_is_the_one_that_clients_in_its_process_get(store_url: str) -> None:
    """After `install` every URI of the store means the server's object, with its places for files."""
    with SqlRunStore.open(store_url) as sql:
        places = Locations("file:///srv/artifacts", proxied=True)
        installed_store = install(Bridge(sql, locations=places), store_url)
        assert make_tracking_store(f"tracker+{store_url}") is installed_store
        assert make_tracking_store("tracker://") is installed_store
        assert make_tracking_store("tracker://", "mlflow-artifacts:/") is installed_store
        run = installed_store.create_run("0", "me", 1, [], "r")
        assert run.info.artifact_uri == f"mlflow-artifacts:/0/{run.info.run_id}/artifacts"
        assert sql.get_run(run.info.run_id).artifact_uri == f"file:///srv/artifacts/{run.info.run_id}"


def test_a_server_that_tracker_store_names_is_reached(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TRACKER_STORE at a tracking server `tracker://` is that server, asked with TRACKER_TOKEN, files included."""
    token = installed("token", "create", "ci", "--role", "writer", "--store", store_url).stdout.strip()
    with Server(store_url, "--host", "0.0.0.0") as server:
        monkeypatch.setenv("TRACKER_STORE", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("TRACKER_TOKEN", token)
        mlflow.set_tracking_uri("tracker://")
        with mlflow.start_run() as active:
            mlflow.log_metric("m", 1.0)
            mlflow.log_text("through the server", "said.txt")
        client = MlflowClient()
        assert client.get_run(active.info.run_id).data.metrics == {"m": 1.0}
        assert mlflow.artifacts.load_text(f"runs:/{active.info.run_id}/said.txt") == "through the server"
        (found,) = client.search_runs(["0"])
        assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["said.txt"]
    with SqlRunStore.open(store_url) as store:
        assert store.get_run(active.info.run_id).status == "finished"


def test_a_store_that_is_none_is_refused_with_a_reason(tmp_path: Path) -> None:
    """A URI that names no store is the caller's mistake, said in words, not a failure to be tried again."""
    for uri in ("tracker://elsewhere", "tracker+mysql://h/d", f"tracker+sqlite:///{tmp_path}/no/such/folder.db"):
        with pytest.raises(MlflowException) as refused:
            make_tracking_store(uri)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_mlflow_finds_the_plugin_without_a_warning(store_url: str) -> None:
    """Loading the entry points while MLflow is half imported warns of nothing, and our scheme is known."""
    script = (
        "import warnings; warnings.simplefilter('error', UserWarning); import sys, mlflow; "
        f"mlflow.set_tracking_uri('tracker+{store_url}'); print(mlflow.MlflowClient().get_experiment('0').name)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert told.stdout.strip() == "Default", told.stderr


def test_a_store_that_does_not_answer_is_unavailable(store_url: str, tmp_path: Path) -> None:
    """While the database cannot be read MLflow gets TEMPORARILY_UNAVAILABLE, which its client retries."""
    store = make_tracking_store(f"tracker+{store_url}")
    file = tmp_path / "tracker.db"
    sqlite3.connect(file).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    store.bridge.store.close()
    file.write_bytes(b"no database at all" * 1000)
    with pytest.raises(MlflowException) as refused:
        store.get_run("x")
    assert refused.value.error_code == "TEMPORARILY_UNAVAILABLE"

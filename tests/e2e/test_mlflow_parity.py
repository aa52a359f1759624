"""The same requests to the genuine MLflow server and to ours get the same answers, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from e2e.mlflow_lab import AJAX, API, Genuine, Step, play
from e2e.server_lab import Server
from templates import sqlite_store

Answers = dict[str, tuple[int, Any]]


def told(name: str, path: str, body: Any = None, keep: Any = None, ours: str = "") -> Step:
    return Step(name=name, path=API + path, body=body, keep=keep, ours=ours)


def asked(name: str, path: str, query: Any = None, keep: Any = None, prefix: str = API) -> Step:
    return Step(name=name, method="GET", path=prefix + path, query=query, keep=keep)


def points(key: str, *values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value, "timestamp": 1000 + step, "step": step} for step, value in enumerate(values)]


NAN = "NaN"
STEPS = [
    # experiments
    told(
        "experiment", "experiments/create", {"name": "e", "tags": [{"key": "k", "value": "v"}]}, {"e": "experiment_id"}
    ),
    told("experiment again", "experiments/create", {"name": "e"}, ours="MLflow's tells of its SQL"),
    told("experiment without a name", "experiments/create", {}),
    told("experiment with a number for a name", "experiments/create", {"name": 3}),
    told("another experiment", "experiments/create", {"name": "f"}, {"f": "experiment_id"}),
    asked("experiment by id", "experiments/get", {"experiment_id": "$e"}),
    asked("experiment by name", "experiments/get-by-name", {"experiment_name": "e"}),
    asked("experiment that is not there", "experiments/get", {"experiment_id": "987654"}),
    asked("experiment of no name", "experiments/get-by-name", {"experiment_name": "nobody"}),
    asked("experiment of no id", "experiments/get"),
    told("experiment's tag", "experiments/set-experiment-tag", {"experiment_id": "$e", "key": "t", "value": "1"}),
    told("experiment's tag goes", "experiments/delete-experiment-tag", {"experiment_id": "$e", "key": "t"}),
    told("experiment's tag is not there", "experiments/delete-experiment-tag", {"experiment_id": "$e", "key": "t"}),
    told("experiment renamed", "experiments/update", {"experiment_id": "$f", "new_name": "g"}),
    told("experiment deleted", "experiments/delete", {"experiment_id": "$f"}),
    asked("experiment that is deleted", "experiments/get", {"experiment_id": "$f"}),
    told("run in a deleted experiment", "runs/create", {"experiment_id": "$f", "start_time": 5}),
    told("experiments that are deleted", "experiments/search", {"view_type": "DELETED_ONLY", "max_results": 10}),
    told("experiment restored", "experiments/restore", {"experiment_id": "$f"}),
    told("experiments by name", "experiments/search", {"max_results": 10, "filter": "name LIKE 'g%'"}),
    told("experiments by tag", "experiments/search", {"max_results": 10, "filter": "tags.k = 'v'"}),
    told(
        "experiments without a tag",
        "experiments/search",
        {"max_results": 10, "filter": "tags.k IS NULL AND name = 'g'"},
    ),
    told(
        "experiments in order",
        "experiments/search",
        {"max_results": 10, "filter": "name != 'Default'", "order_by": ["name DESC"]},
    ),
    told(
        "experiments of a wrong filter",
        "experiments/search",
        {"max_results": 10, "filter": "bogus ="},
        ours="a filter's mistake is pointed at",
    ),
    told("no experiments", "experiments/search", {"max_results": 0}),
    # runs
    told(
        "run",
        "runs/create",
        {
            "experiment_id": "$e",
            "user_id": "me",
            "start_time": 1000,
            "run_name": "first",
            "tags": [{"key": "a", "value": "b"}, {"key": "mlflow.user", "value": "me"}],
        },
        {"r": "run.info.run_id"},
    ),
    told(
        "run named by tag",
        "runs/create",
        {"experiment_id": "$e", "start_time": "2000", "tags": [{"key": "mlflow.runName", "value": "second"}]},
        {"s": "run.info.run_id"},
    ),
    told(
        "run of camels",
        "runs/create",
        {"experimentId": "$e", "startTime": 3000, "runName": "third", "unknown": [1]},
        {"t": "run.info.run_id"},
    ),
    told("run of two spellings", "runs/create", {"experimentId": "$e", "experiment_id": "$e"}),
    told(
        "run of two names",
        "runs/create",
        {"experiment_id": "$e", "run_name": "x", "tags": [{"key": "mlflow.runName", "value": "y"}]},
    ),
    told("run in no experiment", "runs/create", {"experiment_id": "987654", "start_time": 1}),
    told("run that started at noon", "runs/create", {"experiment_id": "$e", "start_time": "noon"}),
    asked("run got", "runs/get", {"run_id": "$r"}),
    asked("run got by uuid", "runs/get", {"run_uuid": "$r"}),
    asked("run got by ajax", "runs/get", {"run_id": "$r"}, prefix=AJAX),
    asked("run that is not there", "runs/get", {"run_id": "f" * 32}),
    asked("run of no id", "runs/get"),
    asked("run of an empty id", "runs/get", {"run_id": ""}),
    # logging
    told(
        "metric",
        "runs/log-metric",
        {"run_id": "$r", "run_uuid": "$r", "key": "loss", "value": 0.5, "timestamp": 7, "step": 1},
    ),
    told(
        "metric by uuid", "runs/log-metric", {"run_uuid": "$r", "key": "loss", "value": 0.25, "timestamp": 8, "step": 2}
    ),
    told(
        "metric as text",
        "runs/log-metric",
        {"run_id": "$r", "key": "text", "value": "1.5", "timestamp": "9", "step": "-3"},
    ),
    told("metric that is no number", "runs/log-metric", {"run_id": "$r", "key": "nan", "value": NAN, "timestamp": 9}),
    told("metric above all", "runs/log-metric", {"run_id": "$r", "key": "inf", "value": "Infinity", "timestamp": 9}),
    told("metric below all", "runs/log-metric", {"run_id": "$r", "key": "-inf", "value": "-Infinity", "timestamp": 9}),
    told("metric zero", "runs/log-metric", {"run_id": "$r", "key": "zero", "value": 0.0, "timestamp": 0, "step": 0}),
    told("metric without a run", "runs/log-metric", {"key": "loss", "value": 1, "timestamp": 1}),
    told("metric without a key", "runs/log-metric", {"run_id": "$r", "value": 1, "timestamp": 1}),
    told("metric without a value", "runs/log-metric", {"run_id": "$r", "key": "k", "timestamp": 1}),
    told("metric without a time", "runs/log-metric", {"run_id": "$r", "key": "k", "value": 1}),
    told("metric of a number", "runs/log-metric", {"run_id": "$r", "key": 31, "value": 1, "timestamp": 1}),
    told("metric of words", "runs/log-metric", {"run_id": "$r", "key": "k", "value": "high", "timestamp": 1}),
    told("metric at half past", "runs/log-metric", {"run_id": "$r", "key": "k", "value": 1, "timestamp": "half past"}),
    told("metric of a long key", "runs/log-metric", {"run_id": "$r", "key": "k" * 251, "value": 1, "timestamp": 1}),
    told("metric of a bad key", "runs/log-metric", {"run_id": "$r", "key": "../k", "value": 1, "timestamp": 1}),
    told("metric of a strange key", "runs/log-metric", {"run_id": "$r", "key": "k\u2603!", "value": 1, "timestamp": 1}),
    told("metric of no run", "runs/log-metric", {"run_id": "f" * 32, "key": "k", "value": 1, "timestamp": 1}),
    told("batch of a bad run", "runs/log-batch", {"run_id": "no/run", "metrics": points("k", 1)}),
    told(
        "batch",
        "runs/log-batch",
        {
            "run_id": "$r",
            "metrics": points("acc", 0.1, 0.2, NAN, 0.3),
            "params": [{"key": "lr", "value": "0.1"}, {"key": "empty", "value": ""}],
            "tags": [{"key": "c", "value": "d"}],
        },
    ),
    told(
        "batch again",
        "runs/log-batch",
        {"run_id": "$r", "metrics": points("acc", 0.1, 0.2, NAN, 0.3), "params": [{"key": "lr", "value": "0.1"}]},
    ),
    told("batch of two of one step", "runs/log-batch", {"run_id": "$r", "metrics": points("acc", 0.9)}),
    told("batch of nothing", "runs/log-batch", {"run_id": "$r"}),
    told(
        "batch that changes a parameter",
        "runs/log-batch",
        {
            "run_id": "$r",
            "metrics": points("lost", 1.0),
            "params": [{"key": "lr", "value": "0.2"}, {"key": "new", "value": "1"}],
        },
    ),
    told(
        "batch of one parameter twice",
        "runs/log-batch",
        {"run_id": "$r", "params": [{"key": "p", "value": "1"}, {"key": "p", "value": "2"}]},
    ),
    told(
        "batch of one parameter twice alike",
        "runs/log-batch",
        {"run_id": "$r", "params": [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]},
    ),
    told("batch without a key", "runs/log-batch", {"run_id": "$r", "metrics": [{"value": 1, "timestamp": 1}]}),
    told("batch without a value", "runs/log-batch", {"run_id": "$r", "metrics": [{"key": "k", "timestamp": 1}]}),
    told(
        "batch without a time",
        "runs/log-batch",
        {"run_id": "$r", "metrics": [*points("k", 1), {"key": "k", "value": 1}]},
    ),
    told("batch of a nameless parameter", "runs/log-batch", {"run_id": "$r", "params": [{"value": "1"}]}),
    told("batch of a nameless tag", "runs/log-batch", {"run_id": "$r", "tags": [{"key": "", "value": "1"}]}),
    told("batch without a run", "runs/log-batch", {"metrics": []}),
    told("batch of a mapping", "runs/log-batch", {"run_id": "$r", "metrics": {}}),
    told("batch of too many metrics", "runs/log-batch", {"run_id": "$r", "metrics": points("k", *range(1001))}),
    told(
        "batch of too many parameters",
        "runs/log-batch",
        {"run_id": "$r", "params": [{"key": f"p{n}", "value": "1"} for n in range(101)]},
    ),
    told(
        "batch of too many tags",
        "runs/log-batch",
        {"run_id": "$r", "tags": [{"key": f"p{n}", "value": "1"} for n in range(101)]},
    ),
    told(
        "batch of too much",
        "runs/log-batch",
        {
            "run_id": "$r",
            "metrics": points("k", *range(950)),
            "params": [{"key": f"p{n}", "value": "1"} for n in range(51)],
        },
    ),
    told("batch of a long key", "runs/log-batch", {"run_id": "$r", "metrics": points("k" * 251, 1)}),
    told("parameter", "runs/log-parameter", {"run_id": "$r", "key": "one", "value": "x"}),
    told("parameter again", "runs/log-parameter", {"run_id": "$r", "key": "one", "value": "x"}),
    told("parameter changed", "runs/log-parameter", {"run_id": "$r", "key": "one", "value": "y"}),
    told("parameter without a key", "runs/log-parameter", {"run_id": "$r", "value": "y"}),
    told("parameter of a number", "runs/log-parameter", {"run_id": "$r", "key": "n", "value": 3}),
    told("parameter too long", "runs/log-parameter", {"run_id": "$r", "key": "n" * 251, "value": "1"}),
    told("tag", "runs/set-tag", {"run_id": "$r", "key": "e", "value": "f"}),
    told("tag again", "runs/set-tag", {"run_id": "$r", "key": "e", "value": "g"}),
    told("tag of a number", "runs/set-tag", {"run_id": "$r", "key": "e", "value": 1}),
    told("tag without a key", "runs/set-tag", {"run_id": "$r", "value": "1"}),
    told("tag that renames", "runs/set-tag", {"run_id": "$s", "key": "mlflow.runName", "value": "renamed"}),
    told("tag to go", "runs/set-tag", {"run_id": "$r", "key": "gone", "value": "1"}),
    told("tag goes", "runs/delete-tag", {"run_id": "$r", "key": "gone"}),
    told("tag is not there", "runs/delete-tag", {"run_id": "$r", "key": "gone"}),
    told(
        "inputs",
        "runs/log-inputs",
        {
            "run_id": "$r",
            "datasets": [
                {
                    "dataset": {
                        "name": "d",
                        "digest": "123",
                        "source_type": "local",
                        "source": "s",
                        "schema": "{}",
                        "profile": "p",
                    },
                    "tags": [{"key": "mlflow.data.context", "value": "train"}],
                }
            ],
        },
    ),
    told(
        "inputs again",
        "runs/log-inputs",
        {
            "run_id": "$r",
            "datasets": [{"dataset": {"name": "d", "digest": "123", "source_type": "local", "source": "s"}}],
        },
    ),
    told(
        "inputs without a name",
        "runs/log-inputs",
        {"run_id": "$r", "datasets": [{"dataset": {"digest": "1", "source_type": "local", "source": "s"}}]},
    ),
    Step(name="data sets", path=AJAX + "experiments/search-datasets", body={"experiment_ids": ["$e"]}),
    Step(name="data sets of nothing", path=AJAX + "experiments/search-datasets", body={}),
    asked("run with all of it", "runs/get", {"run_id": "$r"}),
    asked("run that was renamed", "runs/get", {"run_id": "$s"}),
    # history
    asked("history", "metrics/get-history", {"run_id": "$r", "metric_key": "acc"}),
    asked(
        "history in pages",
        "metrics/get-history",
        {"run_id": "$r", "metric_key": "acc", "max_results": 2},
        {"page": "next_page_token"},
    ),
    asked(
        "history's next page",
        "metrics/get-history",
        {"run_id": "$r", "metric_key": "acc", "max_results": 2, "page_token": "$page"},
    ),
    asked("history of nothing", "metrics/get-history", {"run_id": "$r", "metric_key": "never"}),
    asked("history without a key", "metrics/get-history", {"run_id": "$r"}),
    asked("history of no results", "metrics/get-history", {"run_id": "$r", "metric_key": "acc", "max_results": 0}),
    asked("history of infinity", "metrics/get-history", {"run_id": "$r", "metric_key": "inf"}),
    asked(
        "histories sampled",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r", "$s"], "metric_key": "acc", "max_results": 320},
    ),
    asked(
        "histories sampled by ajax",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r"], "metric_key": "loss"},
        prefix=AJAX,
    ),
    asked(
        "histories between steps",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r"], "metric_key": "acc", "start_step": 1, "end_step": 2, "max_results": 10},
    ),
    asked(
        "histories from a step",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r"], "metric_key": "acc", "start_step": 1},
    ),
    asked(
        "histories backwards",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r"], "metric_key": "acc", "start_step": 2, "end_step": 1},
    ),
    asked(
        "histories of too many",
        "metrics/get-history-bulk-interval",
        {"run_ids": [f"{n}" for n in range(101)], "metric_key": "acc"},
    ),
    asked(
        "histories of too few",
        "metrics/get-history-bulk-interval",
        {"run_ids": ["$r"], "metric_key": "acc", "max_results": 0},
    ),
    asked("histories of no run", "metrics/get-history-bulk-interval", {"metric_key": "acc"}),
    asked("histories in bulk", "metrics/get-history-bulk", {"run_id": ["$r", "$s"], "metric_key": "loss"}, prefix=AJAX),
    asked("histories in bulk without a key", "metrics/get-history-bulk", {"run_id": ["$r"]}, prefix=AJAX),
    asked("histories in bulk of no run", "metrics/get-history-bulk", {"metric_key": "acc"}, prefix=AJAX),
    # search
    told("runs", "runs/search", {"experiment_ids": ["$e"]}),
    told("runs in pages", "runs/search", {"experiment_ids": ["$e"], "max_results": 1}, {"runs": "next_page_token"}),
    told("runs' next page", "runs/search", {"experiment_ids": ["$e"], "max_results": 1, "page_token": "$runs"}),
    told("runs by metric", "runs/search", {"experiment_ids": ["$e"], "filter": "metrics.loss < 0.3"}),
    told("runs by no number", "runs/search", {"experiment_ids": ["$e"], "filter": "metrics.nan != 1"}),
    told(
        "runs by parameter", "runs/search", {"experiment_ids": ["$e"], "filter": "params.lr = '0.1' and tags.a = 'b'"}
    ),
    told("runs by name", "runs/search", {"experiment_ids": ["$e"], "filter": "attributes.run_name LIKE 'ren%'"}),
    told("runs by status", "runs/search", {"experiment_ids": ["$e"], "filter": "status = 'FINISHED'"}),
    told(
        "runs in order", "runs/search", {"experiment_ids": ["$e"], "order_by": ["metrics.loss ASC", "start_time ASC"]}
    ),
    told("runs of no experiment", "runs/search", {"experiment_ids": []}),
    told(
        "runs of a wrong filter",
        "runs/search",
        {"experiment_ids": ["$e"], "filter": "metrics.loss <"},
        ours="a filter's mistake is pointed at",
    ),
    told(
        "runs of a wrong entity",
        "runs/search",
        {"experiment_ids": ["$e"], "filter": "bogus.x = 1"},
        ours="a filter's mistake is pointed at",
    ),
    told(
        "runs of a wrong comparison",
        "runs/search",
        {"experiment_ids": ["$e"], "filter": "metrics.loss LIKE 'x'"},
        ours="a filter's mistake is pointed at",
    ),
    told(
        "runs of a wrong order",
        "runs/search",
        {"experiment_ids": ["$e"], "order_by": ["bogus.x"]},
        ours="a filter's mistake is pointed at",
    ),
    told("too many runs", "runs/search", {"experiment_ids": ["$e"], "max_results": 50001}),
    told("runs of one order", "runs/search", {"experiment_ids": ["$e"], "order_by": "start_time"}),
    # the end
    told("run ends", "runs/update", {"run_id": "$r", "status": "FINISHED", "end_time": 9000}),
    told("run is renamed", "runs/update", {"run_id": "$r", "run_name": "last"}),
    told("run fails", "runs/update", {"run_id": "$s", "status": 4, "end_time": "9001"}),
    told("run that is not there ends", "runs/update", {"run_id": "f" * 32, "status": "FINISHED"}),
    told("nothing ends", "runs/update", {"status": "FINISHED"}),
    told("run deleted", "runs/delete", {"run_id": "$t"}),
    told("run deleted again", "runs/delete", {"run_id": "$t"}),
    told("metric of a deleted run", "runs/log-metric", {"run_id": "$t", "key": "k", "value": 1, "timestamp": 1}),
    told("tag of a deleted run", "runs/set-tag", {"run_id": "$t", "key": "k", "value": "1"}),
    told("deleted run ends", "runs/update", {"run_id": "$t", "status": "FINISHED"}),
    asked("deleted run", "runs/get", {"run_id": "$t"}),
    told("runs that are deleted", "runs/search", {"experiment_ids": ["$e"], "run_view_type": "DELETED_ONLY"}),
    told("runs of all", "runs/search", {"experiment_ids": ["$e"], "run_view_type": 3, "order_by": ["start_time"]}),
    told("run restored", "runs/restore", {"run_id": "$t"}),
    told("no run restored", "runs/restore", {"run_id": "f" * 32}),
    # logged models
    told(
        "model",
        "logged-models",
        {
            "experiment_id": "$e",
            "name": "m",
            "source_run_id": "$r",
            "params": [{"key": "p", "value": "1"}],
            "tags": [{"key": "t", "value": "2"}],
        },
        {"m": "model.info.model_id"},
    ),
    told("model without an experiment", "logged-models", {"name": "m"}),
    told("outputs", "runs/outputs", {"run_id": "$r", "models": [{"model_id": "$m", "step": 3}]}),
    told(
        "metric of a model",
        "runs/log-metric",
        {"run_id": "$r", "key": "ml", "value": 2.0, "timestamp": 5, "step": 1, "model_id": "$m"},
    ),
    Step(
        name="model ready",
        method="PATCH",
        path=API + "logged-models/$m",
        body={"model_id": "$m", "status": "LOGGED_MODEL_READY"},
    ),
    Step(
        name="model tagged",
        method="PATCH",
        path=API + "logged-models/$m/tags",
        body={"tags": [{"key": "u", "value": "3"}]},
    ),
    Step(name="model's tag goes", method="DELETE", path=API + "logged-models/$m/tags/u"),
    asked("model got", "logged-models/$m"),
    asked("model that is not there", "logged-models/m-" + "0" * 32),
    told("models", "logged-models/search", {"experiment_ids": ["$e"], "filter": "name = 'm'"}),
    asked("run with a model", "runs/get", {"run_id": "$r"}),
    Step(name="model deleted", method="DELETE", path=API + "logged-models/$m"),
    asked("model that is deleted", "logged-models/$m"),
    told("model of no run", "logged-models", {"experiment_id": "$e", "name": "n"}, {"n": "model.info.model_id"}),
    # artifacts
    Step(
        name="file put",
        method="PUT",
        path="/api/2.0/mlflow-artifacts/artifacts/$e/$r/artifacts/a/b.txt",
        body=b"hello",
        headers={"Content-Type": "text/plain"},
    ),
    Step(
        name="empty file put", method="PUT", path="/api/2.0/mlflow-artifacts/artifacts/$e/$r/artifacts/zero", body=b""
    ),
    Step(name="file got", method="GET", path="/api/2.0/mlflow-artifacts/artifacts/$e/$r/artifacts/a/b.txt"),
    Step(name="file got by run", method="GET", path="/get-artifact", query={"run_id": "$r", "path": "a/b.txt"}),
    Step(name="files", method="GET", path="/api/2.0/mlflow-artifacts/artifacts", query={"path": "$e/$r/artifacts"}),
    Step(
        name="files of a file",
        method="GET",
        path="/api/2.0/mlflow-artifacts/artifacts",
        query={"path": "$e/$r/artifacts/a/b.txt"},
    ),
    asked("files by run", "artifacts/list", {"run_id": "$r"}),
    asked("files of a folder by run", "artifacts/list", {"run_id": "$r", "path": "a"}, prefix=AJAX),
    asked("files of nothing by run", "artifacts/list", {"run_id": "$r", "path": "never"}),
    asked("files of no run", "artifacts/list"),
    Step(name="file deleted", method="DELETE", path="/api/2.0/mlflow-artifacts/artifacts/$e/$r/artifacts/a/b.txt"),
    Step(
        name="no multipart",
        path="/api/2.0/mlflow-artifacts/mpu/create/$e/$r/artifacts",
        body={"path": "x", "num_parts": 1},
    ),
    Step(
        name="file uploaded", path=AJAX + "upload-artifact", query={"run_uuid": "$r", "path": "up/it.json"}, body=b"{}"
    ),
    Step(name="file uploaded nowhere", path=AJAX + "upload-artifact", query={"path": "up/it.json"}, body=b"{}"),
    Step(
        name="nothing uploaded", path=AJAX + "upload-artifact", query={"run_uuid": "$r", "path": "up/it.json"}, body=b""
    ),
    Step(name="uploaded file", method="GET", path="/get-artifact", query={"run_uuid": "$r", "path": "up/it.json"}),
    Step(
        name="folder got",
        method="GET",
        path="/get-artifact",
        query={"run_id": "$r", "path": "up"},
        ours="a folder is no file",
    ),
    Step(name="file of no run", method="GET", path="/get-artifact", query={"run_id": "f" * 32, "path": "x"}),
    Step(
        name="file of a model put",
        method="PUT",
        path="/api/2.0/mlflow-artifacts/artifacts/$e/models/$n/artifacts/d/x",
        body=b"x",
    ),
    asked("files of a model", "logged-models/$n/artifacts/directories", prefix=AJAX),
    asked(
        "files of a model's folder",
        "logged-models/$n/artifacts/directories",
        {"artifact_directory_path": "d"},
        prefix=AJAX,
    ),
    asked("file of a model", "logged-models/$n/artifacts/files", {"artifact_file_path": "d/x"}, prefix=AJAX),
    Step(
        name="no presigned download",
        method="GET",
        path="/api/2.0/mlflow-artifacts/presigned/$e/$r/artifacts/up/it.json",
    ),
    # what is no JSON
    Step(
        name="form",
        path=API + "runs/create",
        body=b"a=b",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Step(name="no JSON", path=API + "runs/log-metric", body=b"{"),
    Step(
        name="JSON in JSON",
        path=API + "runs/create",
        body=b'"{\\"experiment_id\\": \\"0\\", \\"start_time\\": 1, \\"run_name\\": \\"twice\\"}"',
        keep={"u": "run.info.run_id"},
    ),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What the genuine server answered to each step."""
    with Genuine(tmp_path_factory.mktemp("genuine")) as genuine:
        return play(genuine.url, STEPS)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What our server answered, on each database."""
    folder = tmp_path_factory.mktemp("ours")
    url = sqlite_store(folder) if request.param == "sqlite" else request.getfixturevalue("postgres_module_url")
    with Server(url, "--artifacts", str(folder / "files"), cwd=folder) as server:
        return play(server.url, STEPS)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_answer_is_the_same(theirs: Answers, ours: Answers, step: Step) -> None:
    """Status and JSON are those of MLflow's own server, but for messages that are ours on purpose."""
    expected, found = theirs[step.name], ours[step.name]
    if step.ours:
        assert found[1]["message"]
        expected = expected[0], {**expected[1], "message": found[1]["message"]}
    assert found == expected

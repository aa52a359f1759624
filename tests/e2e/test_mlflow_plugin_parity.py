"""Our store for MLflow compared with MLflow's own: the same calls give the same answers, errors included."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow.entities import (
    Dataset,
    DatasetInput,
    ExperimentTag,
    InputTag,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tracker.mlflow_bridge.plugin import make_tracking_store


class Pair(NamedTuple):
    """The two stores; every scenario is played on each."""

    ours: Any
    theirs: Any

    def same(self, play: Callable[[Any], Any]) -> Any:
        """What both stores answer to `play`."""
        ours, theirs = _answer(play, self.ours), _answer(play, self.theirs)
        assert ours == theirs
        return ours


def _answer(play: Callable[[Any], Any], store: Any) -> Any:
    try:
        return play(store)
    except MlflowException as error:
        return error.error_code, error.message


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One store of ours and one of MLflow's, with the same experiments in both."""
    folder: Path = tmp_path_factory.mktemp("parity")
    theirs = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "mlartifacts"))
    pair = Pair(make_tracking_store(f"tracker+sqlite:///{folder / 'tracker.db'}"), theirs)
    for store in pair:
        for name, tags in (
            ("alpha", {"team": "vision", "a b": "1"}),
            ("Beta", {"team": "Vision"}),
            ("beta_2", {}),
            ("gamma%", {"team": "language", "mlflow.experiment.isGateway": "true"}),
        ):
            store.create_experiment(name, None, [ExperimentTag(key, value) for key, value in tags.items()])
        store.delete_experiment(store.get_experiment_by_name("beta_2").experiment_id)
    yield pair
    theirs._dispose_engine()


@pytest.mark.parametrize(
    "filter_string",
    [
        "",
        "name = 'alpha'",
        "attribute.name = 'alpha'",
        "name != 'alpha'",
        "name LIKE 'b%'",
        "name ILIKE 'b%'",
        "tags.team = 'vision'",
        "tag.team ILIKE 'VISION'",
        "tags.team != 'vision'",
        "tags.`a b` = '1'",
        'tags."a b" = "1"',
        "tags.`mlflow.experiment.isGateway` IS NULL",
        "tags.`mlflow.experiment.isGateway` is not null",
        "tags.team = 'vision' AND name = 'alpha'",
        "tags.team LIKE '%i%' and name ILIKE '%a%'",
        "experiment_id IN ('1', '2')",
        "experiment_id NOT IN ('1', '2')",
        "experiment_id = '2'",
        "creation_time > 0 AND last_update_time >= 1",
        "creation_time < 5",
    ],
)
@pytest.mark.parametrize("view", [ViewType.ACTIVE_ONLY, ViewType.ALL, ViewType.DELETED_ONLY])
def test_experiments_are_found_alike(pair: Pair, filter_string: str, view: int) -> None:
    """A search of experiments means the same in both stores."""
    pair.same(lambda store: {one.name for one in store.search_experiments(view, 100, filter_string)})


@pytest.mark.parametrize(
    "filter_string",
    [
        "nonsense",
        "name",
        "name = alpha",
        "size = '3'",
        "metrics.x = '3'",
        "name > 'a'",
        "creation_time LIKE '3'",
        "creation_time = 'x'",
        "creation_time > 1.5",
        "tags.team > 'a'",
        "tags.team = 3",
        "name IS NULL",
        "experiment_id > '1'",
        "experiment_id = 'x'",
        "name = 'a' OR name = 'b'",
        "name IN ('a')",
    ],
)
def test_what_is_no_filter_of_experiments_is_refused_alike(pair: Pair, filter_string: str) -> None:
    """What MLflow refuses as a filter is refused with the same code."""
    codes = []
    for store in pair:
        with pytest.raises(MlflowException) as refused:
            store.search_experiments(ViewType.ALL, 100, filter_string)
        codes.append(refused.value.error_code)
    assert codes == ["INVALID_PARAMETER_VALUE"] * 2


@pytest.mark.parametrize(
    "order_by", [["name"], ["name DESC"], ["experiment_id DESC"], ["attribute.name ASC", "experiment_id"]]
)
def test_experiments_are_ordered_and_paged_alike(pair: Pair, order_by: list[str]) -> None:
    """Pages of two, one after another, are the same in both stores."""

    def walk(store: Any) -> list[str]:
        names: list[str] = []
        token = None
        while True:
            page = store.search_experiments(ViewType.ALL, 2, "name != 'Default'", order_by, token)
            names += [one.name for one in page]
            token = page.token
            if token is None:
                return names

    assert len(pair.same(walk)) == 4


NAN = float("nan")
LONG = "k" * 251


def _metric(key: Any = "m", value: Any = 1.0, timestamp: Any = 1, step: Any = 0) -> Metric:
    return Metric(key, value, timestamp, step)


@pytest.mark.parametrize(
    ("metrics", "params", "tags"),
    [
        ([_metric(key="a" * 251)], [], []),
        ([_metric(key="a#b"), _metric()], [], []),
        ([_metric(), _metric(key="../x")], [], []),
        ([_metric(), _metric(key="a//b")], [], []),
        ([_metric(), _metric(key="/a")], [], []),
        ([_metric(), _metric(key=".")], [], []),
        ([_metric(), _metric(key="")], [], []),
        ([_metric(), _metric(key=None)], [], []),
        ([_metric(), _metric(value=None)], [], []),
        ([_metric(), _metric(value="x")], [], []),
        ([_metric(), _metric(timestamp=-1)], [], []),
        ([_metric(), _metric(timestamp="x")], [], []),
        ([_metric(), _metric(step="x")], [], []),
        ([_metric(step=i) for i in range(1001)], [], []),
        ([_metric(step=i) for i in range(990)], [Param(f"p{i}", "1") for i in range(11)], []),
        ([], [Param(f"p{i}", "1") for i in range(101)], []),
        ([], [], [RunTag(f"t{i}", "1") for i in range(101)]),
        ([], [Param("p", "1"), Param("p", "2"), Param("q", "1")], []),
        ([], [Param("ok", "1"), Param(LONG, "1")], []),
        ([], [Param("ok", "1"), Param("a|b", "1")], []),
        ([], [Param("ok", "1"), Param(None, "1")], []),
        ([], [], [RunTag("ok", "1"), RunTag(LONG, "1")]),
        ([], [], [RunTag("ok", "1"), RunTag("a/../b", "1")]),
        ([], [], [RunTag("ok", "1"), RunTag(None, "1")]),
        ([], [Param("stands", "other"), Param("new", "1")], []),
    ],
)
def test_what_cannot_be_logged_is_refused_in_the_same_words(pair: Pair, metrics: Any, params: Any, tags: Any) -> None:
    """Clients match on MLflow's codes and messages: ours are the same, and nothing of the call is stored."""

    def play(store: Any) -> Any:
        run = store.create_run("0", "me", 1, [], "r")
        store.log_batch(run.info.run_id, [], [Param("stands", "as it is")], [])
        before = store.get_run(run.info.run_id).data
        try:
            store.log_batch(run.info.run_id, metrics, params, tags)
        except MlflowException as error:
            after = store.get_run(run.info.run_id).data
            assert (after.metrics, after.params) == (before.metrics, before.params)
            return error.error_code, error.message.replace(run.info.run_id, "<run>")
        return "stored"

    assert pair.same(play) != "stored"


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_run("nowhere"),
        lambda store: store.get_experiment("4711"),
        lambda store: store.get_experiment("x"),
        lambda store: store.get_experiment_by_name("nowhere"),
        lambda store: store.delete_experiment("4711"),
        lambda store: store.delete_experiment(store.get_experiment_by_name("beta_2").experiment_id),
        lambda store: store.restore_experiment(store.get_experiment_by_name("alpha").experiment_id),
        lambda store: store.create_experiment(""),
        lambda store: store.create_experiment(None),
        lambda store: store.create_experiment(3),
        lambda store: store.create_experiment("x" * 501),
        lambda store: store.rename_experiment("1", ""),
        lambda store: store.set_experiment_tag("1", ExperimentTag("a#", "b")),
        lambda store: store.set_experiment_tag("1", ExperimentTag("a", "b" * 20_001)),
        lambda store: store.delete_experiment_tag("1", "nowhere"),
        lambda store: store.create_run("4711", "me", 1, [], "r"),
        lambda store: store.create_run(store.get_experiment_by_name("beta_2").experiment_id, "me", 1, [], "r"),
        lambda store: store.create_run("0", "me", 1, [RunTag("mlflow.runName", "a")], "b"),
        lambda store: store.delete_run("nowhere"),
        lambda store: store.restore_run("nowhere"),
        lambda store: store.update_run_info("nowhere", RunStatus.FINISHED, 1, None),
        lambda store: store.log_metric("nowhere", _metric()),
        lambda store: store.delete_tag("nowhere", "t"),
        lambda store: store.search_runs(["0"], "", ViewType.ALL, 0),
        lambda store: store.search_runs(["0"], "", ViewType.ALL, 50_001),
        lambda store: store.search_runs(["x"], "", ViewType.ALL, 10),
        lambda store: list(store.search_runs([], "", ViewType.ALL, 10)),
        lambda store: store.search_experiments(ViewType.ALL, 0),
        lambda store: store.search_experiments(ViewType.ALL, 50_001),
        lambda store: list(store.get_metric_history("nowhere", "m")),
        lambda store: list(store.get_metric_history_bulk_interval(["nowhere"], "m", 320, None, None)),
        lambda store: store.get_metric_history_bulk_interval(["nowhere"], "m", 320, 1, None),
        lambda store: store.get_logged_model("m-nowhere"),
        lambda store: store.finalize_logged_model("m-nowhere", LoggedModelStatus.READY),
        lambda store: store.delete_logged_model("m-nowhere"),
        lambda store: store.delete_logged_model_tag("m-nowhere", "t"),
        lambda store: store.create_logged_model("0", "a/b"),
        lambda store: store.create_logged_model("4711", "a"),
        lambda store: store.log_batch("a b", [], [], []),
    ],
)
def test_what_cannot_be_done_is_refused_in_the_same_words(pair: Pair, call: Callable[[Any], Any]) -> None:
    """Codes and messages of what is missing, deleted or out of range are MLflow's."""
    pair.same(call)


def test_metrics_are_kept_as_mlflow_keeps_them(pair: Pair) -> None:
    """Equal points once, points of one step side by side, NaN kept, the last by step, time and value; and their order."""
    points = [
        _metric("m", 1.0, 10, 0), _metric("m", 1.0, 10, 0), _metric("m", 2.0, 10, 0), _metric("m", NAN, 11, 1),
        _metric("m", NAN, 11, 1), _metric("m", -3.0, 11, 1), _metric("m", 5.0, 9, -2), _metric("n", 1.0, 5, 7), _metric("n", 2.0, 4, 7),
    ]  # fmt: skip

    def play(store: Any) -> Any:
        run_id = store.create_run("0", "me", 1, [], "r").info.run_id
        store.log_batch(run_id, points, [], [])
        for point in points:
            store.log_metric(run_id, point)
        history, token = [], None
        while True:
            page = store.get_metric_history(run_id, "m", max_results=2, page_token=token)
            history += [(one.timestamp, one.step, _shown(one.value)) for one in page]
            token = page.token
            if token is None:
                break
        last = {key: _shown(value) for key, value in store.get_run(run_id).data.metrics.items()}
        sampled = store.get_metric_history_bulk_interval([run_id], "m", 320, None, None)
        part = store.get_metric_history_bulk_interval([run_id], "m", 320, 0, 0)
        return history, last, sorted((one.step, one.timestamp, _shown(one.value)) for one in sampled), len(part)

    pair.same(play)


def _shown(value: float) -> str:
    return "nan" if math.isnan(value) else repr(value)


def test_a_deleted_run_takes_nothing(pair: Pair) -> None:
    """Until it is restored, changes of a deleted run are refused in MLflow's words."""

    def play(store: Any) -> Any:
        run_id = store.create_run("0", "me", 1, [], "r").info.run_id
        store.delete_run(run_id)
        said = [
            _answer(call, store)
            for call in (
                lambda s: s.log_metric(run_id, _metric()),
                lambda s: s.log_param(run_id, Param("p", "1")),
                lambda s: s.set_tag(run_id, RunTag("t", "1")),
                lambda s: s.delete_tag(run_id, "t"),
                lambda s: s.update_run_info(run_id, RunStatus.FINISHED, 2, None),
                lambda s: s.log_inputs(run_id, [], []),
            )
        ]
        store.restore_run(run_id)
        store.log_metric(run_id, _metric())
        return [(code, message.replace(run_id, "<run>")) for code, message in said]

    pair.same(play)


def test_logged_models_are_found_alike(pair: Pair) -> None:
    """Filters and orders of logged models mean the same in both stores, with data sets too."""

    def play(store: Any) -> Any:
        experiment = store.create_experiment("models")
        run_id = store.create_run(experiment, "me", 1, [], "r").info.run_id
        ids = {}
        for number, name in enumerate(("one", "two", "three")):
            made = store.create_logged_model(
                experiment, name, run_id, [LoggedModelTag("t", name)], [LoggedModelParameter("p", str(number))], "kind"
            )
            ids[name] = made.model_id
            dataset = {"dataset_name": "d", "dataset_digest": str(number % 2)}
            store.log_batch(
                run_id,
                [
                    Metric("acc", value, 10 + step, step, model_id=made.model_id, **dataset)
                    for step, value in enumerate((1.0 - 0.1 * number, 0.1 * number))
                ],
                [],
                [],
            )
        store.delete_logged_model(store.create_logged_model(experiment, "gone").model_id)
        store.finalize_logged_model(ids["two"], LoggedModelStatus.READY)

        def names(**search: Any) -> list[str]:
            return [one.name for one in store.search_logged_models([experiment], **search)]

        return [
            sorted(names()),
            names(filter_string="name = 'one'"),
            sorted(names(filter_string="name LIKE 't%'")),
            sorted(names(filter_string="metrics.acc >= 0.1 AND params.p != '2'")),
            sorted(names(filter_string="tags.t IN ('one', 'two')")),
            sorted(names(filter_string="model_type = 'kind' AND creation_timestamp > 5")),
            names(order_by=[{"field_name": "metrics.acc", "ascending": False}]),
            names(order_by=[{"field_name": "metrics.acc", "dataset_name": "d", "dataset_digest": "1"}])[:1],
            names(order_by=[{"field_name": "name"}]),
            sorted(names(datasets=[{"dataset_name": "d", "dataset_digest": "0"}])),
            names(filter_string="metrics.acc > 0.15", datasets=[{"dataset_name": "d"}]),
            store.get_logged_model(ids["two"]).status,
            store.get_logged_model(ids["one"]).params,
            _answer(lambda s: names(filter_string="nonsense"), store)[0],
            _answer(lambda s: names(order_by=[{"field_name": "tags.t"}]), store)[0],
        ]

    pair.same(play)


def test_inputs_are_kept_alike(pair: Pair) -> None:
    """A data set is one by name and digest, and keeps the tags of its first use by the run."""

    def play(store: Any) -> Any:
        run_id = store.create_run("0", "me", 1, [], "r").info.run_id
        first = DatasetInput(Dataset("d", "1", "local", "{}", "{}", None), [InputTag("mlflow.data.context", "train")])
        again = DatasetInput(Dataset("d", "1", "local", "{}", "{}", None), [InputTag("mlflow.data.context", "eval")])
        other = DatasetInput(Dataset("d", "2", "local", "{}"), [])
        store.log_inputs(run_id, [first, again, other])
        store.log_inputs(run_id, [again])
        used = store.get_run(run_id).inputs.dataset_inputs
        summaries = store._search_datasets([store.get_run(run_id).info.experiment_id])
        return (
            sorted(
                (one.dataset.name, one.dataset.digest, tuple((tag.key, tag.value) for tag in one.tags)) for one in used
            ),
            {(one.name, one.digest, one.context) for one in summaries},
        )

    pair.same(play)

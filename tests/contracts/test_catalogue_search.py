"""The catalogue's search, held against MLflow's own store: the same runs, the same questions, the same answers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from draws import SEED, examples
from small_blocks import POINTS, open_small
from sqlalchemy import event
from templates import sqlite_store

from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import AddressAlias, Dataset, DatasetUse, Lifecycle, RunDetail
from tracker.domain.errors import InvalidPageToken, InvalidValue
from tracker.domain.frames import EpochEnded, Frame, RunStarted
from tracker.domain.vocabulary import RunStatus
from tracker.store.engine import make_engine
from tracker.store.search.scope import MAX_EXPERIMENTS
from tracker.store.store import SqlRunStore

RUNS = 80
QUESTIONS = examples(160)
LOSSES = [0.5, 0.25, 0.25, 1.0, -1.0, 0.0, 1e300, math.inf, -math.inf, math.nan]
TEXTS = ["adam", "Adam", "sgd", "10", "9", "1e-3", "0.001", "", "a_c", "abc", "100%", "it's", "x y", "日本", "[a]*?"]
DATASETS = [("mnist", "d1"), ("mnist", "d2"), ("cifar", "d1"), ("Digits", "d3")]
CONTEXTS = [None, "train", "eval", "Eval"]
STATUSES: dict[str, list[RunStatus]] = {
    "RUNNING": ["running"],
    "FINISHED": ["finished"],
    "FAILED": ["failed"],
    "KILLED": ["interrupted", "preempted", "lost"],
}
LIFECYCLES: dict[Lifecycle, str] = {"active": "ACTIVE_ONLY", "deleted": "DELETED_ONLY", "all": "ALL"}


@dataclass(frozen=True)
class Made:
    """A run as MLflow made it."""

    id: str
    experiment: int
    name: str
    user: str
    started_ms: int
    artifact_uri: str
    points: Sequence[tuple[str, int, int, float]]
    params: dict[str, str]
    tags: dict[str, str]
    status: str
    ended_ms: int | None
    datasets: Sequence[tuple[str, str, str | None]]
    deleted: bool


@dataclass(frozen=True)
class Question:
    experiments: Sequence[int]
    filter: str
    lifecycle: Lifecycle
    order_by: Sequence[str]


def _made(dice: random.Random, experiment: int) -> Made:
    points = []
    if dice.random() < 0.8:
        points += [
            ("loss", step, dice.randrange(3), dice.choice(LOSSES)) for step in (0, 0, 1, 2)[: dice.randint(1, 4)]
        ]
    if dice.random() < 0.5:
        points.append(("val/acc x", 0, 0, dice.choice([0.5, 0.75, math.nan])))
    params = {key: dice.choice(TEXTS) for key in ("lr", "optimizer") if dice.random() < 0.8}
    tags = {"team": dice.choice(TEXTS)} if dice.random() < 0.7 else {}
    status = dice.choice(["RUNNING", "FINISHED", "FINISHED", "FAILED", "KILLED", "KILLED"])
    started = 1000 + dice.randrange(12)
    used = dice.sample(DATASETS, dice.choice([0, 0, 1, 2]))
    return Made(
        id="",
        experiment=experiment,
        name=f"run {dice.randrange(9)}",
        user=dice.choice(["ann", "bob"]),
        started_ms=started,
        artifact_uri="",
        points=list(dict.fromkeys(points)),
        params=params,
        tags=tags,
        status=status,
        ended_ms=None if status == "RUNNING" else started + dice.randrange(5),
        datasets=[(*dataset, dice.choice(CONTEXTS)) for dataset in used],
        deleted=dice.random() < 0.2,
    )


def _quoted(text: str) -> str:
    return f'"{text}"' if "'" in text else f"'{text}'"


def _leaf(dice: random.Random) -> str:
    text = _quoted(dice.choice([*TEXTS, "A%", "a%", "%d%", "1%", "a_c", "_", "%"]))
    equal, like = dice.choice(["=", "!="]), dice.choice(["LIKE", "ILIKE"])
    compare = dice.choice(["=", "!=", "<", "<=", ">", ">="])
    number = dice.choice(["0.5", "0.25", "1", "-1.0", "0", "1e300", "1e308"])
    when = dice.choice(["1002", "1004", "1005.5", "1008"])
    status = dice.choice(["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"])
    name, digest = dice.choice(DATASETS)
    context = dice.choice(["train", "eval", "none"])
    return dice.choice(
        [
            f"metrics.loss {compare} {number}",
            f"metric.`val/acc x` {compare} {number}",
            f"metrics.nothing {compare} {number}",
            f"params.{dice.choice(['lr', 'optimizer'])} {equal} {text}",
            f"params.{dice.choice(['lr', 'optimizer'])} {like} {text}",
            f"params.lr IS {dice.choice(['', 'NOT '])}NULL",
            f"tags.team {equal} {text}",
            f"tags.team {like} {text}",
            f"tag.team IS {dice.choice(['', 'NOT '])}NULL",
            f"tags.`mlflow.runName` {equal} 'run {dice.randrange(9)}'",
            f"attributes.run_name {equal} 'run {dice.randrange(9)}'",
            f"run_name {like} '{dice.choice(['RUN', 'run'])} %'",
            f"attributes.status {equal} '{status}'",
            f"status {like} '{status[0]}%'",
            f"attributes.start_time {compare} {when}",
            f"end_time {compare} {when}",
            f"user_id {equal} 'ann'",
            f"attributes.artifact_uri {like} '%a/artifacts'",
            f"dataset.name {equal} '{name}'",
            f"datasets.name {like} '{name[:2]}%'",
            f"dataset.digest {equal} '{digest}'",
            f"dataset.name {dice.choice(['', 'NOT '])}IN ('{name}', 'other')",
            f"dataset.context {equal} '{context}'",
            f"dataset.context {like} 'e%'",
            f"dataset.context {dice.choice(['', 'NOT '])}IN ('{context}', 'x')",
        ]
    )


_KEYS = [
    "metrics.loss", "metrics.`val/acc x`", "metrics.nothing", "params.lr", "params.optimizer", "tags.team",
    "attributes.start_time", "start_time", "end_time", "attributes.status", "run_name", "user_id", "artifact_uri",
    "run_id", "attributes.Created", "tags.`mlflow.runName`",
]  # fmt: skip


def _question(dice: random.Random, experiments: Sequence[int]) -> Question:
    keys = dice.sample(_KEYS, dice.choice([0, 1, 1, 1, 2, 3]))
    if sum("start_time" in key or "Created" in key for key in keys) > 1:
        keys = keys[:1]  # MLflow refuses a field that comes twice
    return Question(
        experiments=dice.choice(
            [experiments, experiments[:1], experiments[1:2], experiments[-1:], [experiments[0], 99]]
        ),
        filter=" AND ".join(_leaf(dice) for _ in range(dice.choice([0, 0, 1, 1, 2, 3]))),
        lifecycle=dice.choice(["active", "active", "deleted", "all"]),
        order_by=[key + dice.choice(["", " ASC", " DESC"]) for key in keys],
    )


@dataclass(frozen=True)
class Oracle:
    """What MLflow holds, and what it answered."""

    runs: Sequence[Made]
    answers: Sequence[tuple[Question, list[str]]]
    shown: dict[str, Any]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """MLflow's store with random runs in four experiments, of which the last is deleted."""
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, ViewType
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("mlflow")
    store = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"))
    # Its many small commits need not survive a power cut.
    event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    store.engine.dispose()
    dice = random.Random(11)
    experiments = [0, *(int(store.create_experiment(name)) for name in ("digits", "faces", "gone"))]
    runs = []
    for _ in range(RUNS):
        made = _made(dice, dice.choice(experiments))
        info = store.create_run(
            str(made.experiment), made.user, made.started_ms, [RunTag("mlflow.user", made.user)], made.name
        ).info
        store.log_batch(
            info.run_id,
            [Metric(key, value, ms, step) for key, step, ms, value in made.points],
            [Param(key, value) for key, value in made.params.items()],
            [RunTag(key, value) for key, value in made.tags.items()],
        )
        if made.datasets:
            inputs = [
                DatasetInput(
                    MlflowDataset(name, digest, "code", "{}"),
                    [] if context is None else [InputTag("mlflow.data.context", context)],
                )
                for name, digest, context in made.datasets
            ]
            store.log_inputs(info.run_id, inputs)
        if made.status != "RUNNING":
            store.update_run_info(info.run_id, RunStatus.from_string(made.status), made.ended_ms, None)
        if made.deleted:
            store.delete_run(info.run_id)
        runs.append(replace(made, id=info.run_id, artifact_uri=info.artifact_uri))
    store.delete_experiment(str(experiments[-1]))

    def answer(question: Question) -> list[str]:
        found = store.search_runs(
            list(map(str, question.experiments)),
            question.filter,
            ViewType.from_string(LIFECYCLES[question.lifecycle].lower()),
            1000,
            list(question.order_by),
        )
        return [run.info.run_id for run in found]

    dice = random.Random(SEED)
    questions = [_question(dice, experiments) for _ in range(QUESTIONS)]
    shown = {made.id: store.get_run(made.id) for made in runs}
    return Oracle(runs, [(question, answer(question)) for question in questions], shown)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, oracle: Oracle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqlRunStore]:
    """Our store with the same runs."""
    if request.param == "sqlite":
        url = sqlite_store(tmp_path_factory.mktemp("catalogue"))
    else:
        url = request.getfixturevalue("postgres_module_url")
    dice = random.Random(3)
    with SqlRunStore(make_engine(url), clock=lambda: 5000, block_points=POINTS) as store:
        catalogue = store.catalogue
        gone = [catalogue.experiments.create(name) for name in ("digits", "faces", "gone")][-1]
        for made in oracle.runs:
            _copy(store, made, dice)
        catalogue.experiments.delete(gone)
        yield store


def _copy(store: SqlRunStore, made: Made, dice: random.Random) -> None:
    catalogue = store.catalogue
    catalogue.runs.create(
        made.id,
        made.experiment,
        name=made.name,
        started_ms=made.started_ms,
        artifact_uri=made.artifact_uri,
        tags={"mlflow.user": made.user},
    )
    keys, steps, ms, values = zip(*made.points, strict=True) if made.points else ((), (), (), ())
    store.append(
        batch_of_call(run_id=made.id, keys=keys, steps=steps, ms=ms, values=values, params=made.params, tags=made.tags)
    )
    uses = [
        DatasetUse(
            dataset=Dataset(name=name, digest=digest, source_type="code", source="{}"),
            tags={} if context is None else {"mlflow.data.context": context},
        )
        for name, digest, context in made.datasets
    ]
    if uses:
        catalogue.inputs.add(made.id, datasets=uses)
    if made.status != "RUNNING":
        catalogue.runs.change(made.id, status=dice.choice(STATUSES[made.status]), ended_ms=made.ended_ms)
    if made.deleted:
        store.delete_run(made.id)


def found(store: SqlRunStore, question: Question, limit: int) -> list[str]:
    """The ids of all pages together."""
    ids: list[str] = []
    token = None
    while True:
        page, token = store.catalogue.runs.search(
            question.experiments,
            question.filter,
            lifecycle=question.lifecycle,
            order_by=question.order_by,
            limit=limit,
            page_token=token,
        )
        ids += [detail.run.id for detail in page]
        if token is None:
            return ids
        assert len(page) == limit


def test_every_search_finds_what_mlflow_finds_in_its_order(store: SqlRunStore, oracle: Oracle) -> None:
    """Random filters, orders and lives give MLflow's ids in MLflow's order, in one page or in many."""
    assert sum(len(ids) > 3 for _, ids in oracle.answers) > QUESTIONS / 5
    for number, (question, expected) in enumerate(oracle.answers):
        assert found(store, question, 1000) == expected, question
        assert found(store, question, 1 + number % 9) == expected, question


def test_details_show_what_mlflow_shows(store: SqlRunStore, oracle: Oracle) -> None:
    """Last values of metrics, parameters, tags, data sets and times are those of MLflow's runs."""
    details, _ = store.catalogue.runs.search(range(5), lifecycle="all")
    assert len(details) == RUNS
    for detail in details:
        theirs = oracle.shown[detail.run.id]
        assert _last_values(detail) == {key: _unclipped(value) for key, value in theirs.data.metrics.items()}
        assert detail.params == theirs.data.params
        assert {**detail.tags, "mlflow.runName": detail.run.name} == theirs.data.tags
        assert (detail.run.started_ms, detail.run.ended_ms) == (theirs.info.start_time, theirs.info.end_time)
        assert (detail.run.deleted_ms is not None) == (theirs.info.lifecycle_stage == "deleted")
        assert str(detail.experiment_id) == theirs.info.experiment_id
        assert {(use.dataset.name, use.dataset.digest, tuple(use.tags.items())) for use in detail.datasets} == {
            (one.dataset.name, one.dataset.digest, tuple((tag.key, tag.value) for tag in one.tags))
            for one in theirs.inputs.dataset_inputs
        }


def _last_values(detail: RunDetail) -> dict[str, Any]:
    return {key: str(one.last.value) for key, one in detail.metrics.items() if one.last is not None}


def _unclipped(value: float) -> str:
    """MLflow keeps infinities as the largest float."""
    return str(math.copysign(math.inf, value) if abs(value) > 1.7e308 else value)


def test_a_token_holds_for_its_own_search_only(store: SqlRunStore) -> None:
    """A token of other experiments, another lifecycle, filter or order is refused; ids in any order are the same search."""
    search = store.catalogue.runs.search
    page, token = search([0, 1], "metrics.loss > -2", lifecycle="all", order_by=["run_name"], limit=3)
    assert token is not None
    again, _ = search([1, 0, 1], "metrics.loss > -2", lifecycle="all", order_by=["run_name"], limit=3, page_token=token)
    assert not {one.run.id for one in page} & {one.run.id for one in again}
    others: list[dict[str, Any]] = [
        {"experiment_ids": [0, 1, 2]},
        {"lifecycle": "active"},
        {"filter": ""},
        {"order_by": ["run_name DESC"]},
        {"page_token": "x"},
    ]
    for other in others:
        same: dict[str, Any] = {"experiment_ids": [0, 1], "filter": "metrics.loss > -2", "order_by": ["run_name"]}
        with pytest.raises(InvalidPageToken):
            search(**{**same, "lifecycle": "all", "page_token": token, **other})
    with pytest.raises(InvalidPageToken):
        store.search_runs("metrics.loss > -2", order_by=["run_name"], page_token=token)


def test_a_page_keeps_its_place_while_experiments_come_and_go(any_url: str) -> None:
    """A token holds after an experiment of the search was deleted; its runs are gone from the rest."""
    with open_small(any_url) as store:
        catalogue = store.catalogue
        gone = catalogue.experiments.create("gone")
        for number in range(6):
            catalogue.runs.create(
                f"r{number}", gone if number % 2 else 0, name="n", started_ms=number, artifact_uri="", tags={}
            )
        page, token = catalogue.runs.search([0, gone], limit=2)
        catalogue.experiments.delete(gone)
        rest, end = catalogue.runs.search([0, gone], limit=2, page_token=token)
    assert ([one.run.id for one in page], [one.run.id for one in rest], end) == (["r5", "r4"], ["r2", "r0"], None)


@pytest.mark.parametrize(
    "bad", [{"limit": 0}, {"limit": 50_001}, {"limit": True}, {"experiment_ids": range(MAX_EXPERIMENTS + 1)}]
)
def test_a_search_beyond_the_limits_is_refused(store: SqlRunStore, bad: dict[str, Any]) -> None:
    """Limits of a page, and of how many experiments may be named."""
    with pytest.raises(InvalidValue):
        store.catalogue.runs.search(**{"experiment_ids": [0], **bad})
    assert store.catalogue.runs.search([]) == ([], None)


def test_our_facts_are_found_under_the_names_that_mlflow_shows(any_url: str) -> None:
    """The best epoch and value order and filter as the metrics and tags `tracker.…` that clients see."""
    with open_small(any_url) as store:
        for run_id, losses in {"a": [0.5, 0.3, 0.4], "b": [0.6, 0.1], "c": [0.2], "none": []}.items():
            frames: list[Frame] = [RunStarted(1, "Default", run_id, "file:///", "host", 1)]
            frames += [EpochEnded(2, epoch, 0, 0.1, {"val_loss": loss}) for epoch, loss in enumerate(losses)]
            store.append(make_batch(run_id, "w", list(enumerate(frames, 1))))

        def ids(filter: str = "", *order_by: str) -> list[str]:
            return [one.run.id for one in store.catalogue.runs.search([0], filter, order_by=order_by)[0]]

        assert ids("", "metrics.`tracker.best_value` ASC") == ["b", "c", "a", "none"]
        assert ids("", "metrics.`tracker.best_value` DESC") == ["a", "c", "b", "none"]
        assert ids("", "tags.`tracker.best_epoch` DESC") == ["a", "b", "c", "none"]
        assert ids("metrics.`tracker.best_value` < 0.25") == ["b", "c"]
        assert ids("tags.tracker.best_epoch = '1'") == ["a", "b"]
        assert ids("tags.`tracker.best_metric` LIKE 'val%' AND metrics.tracker.best_epoch != 0") == ["a", "b"]


def test_conditions_on_places_are_about_what_clients_are_told(any_url: str) -> None:
    """With an alias each operator compares the address that is shown, for runs that the alias covers."""
    alias = AddressAlias("file:///home/{run}", "shown:/{experiment}/{run}/files")
    with open_small(any_url) as store:
        for run_id, place in {"a": "file:///home/a", "b": "file:///home/b", "c": "s3://c"}.items():
            frames: list[Frame] = [RunStarted(1, "Default", run_id, place, "host", 1)]
            store.append(make_batch(run_id, "w", list(enumerate(frames, 1))))

        def ids(filter: str) -> set[str]:
            page, _ = store.catalogue.runs.search([0], f"artifact_uri {filter}", alias=alias)
            return {one.run.id for one in page}

        assert ids("= 'shown:/0/a/files'") == ids("LIKE 'shown:/0/a%'") == ids("ILIKE '%/A/FILES'") == {"a"}
        assert ids("= 'file:///home/a'") == ids("= 'shown:/1/a/files'") == set()
        assert ids("!= 'shown:/0/a/files'") == ids("NOT IN ('shown:/0/a/files')") == {"b", "c"}
        assert ids("IN ('shown:/0/b/files', 's3://c')") == {"b", "c"}

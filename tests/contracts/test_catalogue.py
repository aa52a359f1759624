"""What the catalogue promises of experiments and of runs without a journal, over every database that we support."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import pytest
from small_blocks import POINTS, open_small
from sqlalchemy import event, func, select

from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink, ModelMetric, RunDetail
from tracker.domain.errors import (
    ExperimentDeleted,
    ExperimentExists,
    ExperimentNotFound,
    InvalidValue,
    KeyNotFound,
    ModelNotFound,
    ParamConflict,
    RunDeleted,
    RunExists,
    RunNotFound,
)
from tracker.domain.frames import EpochEnded, Frame, Params, RunEnded, RunStarted, Tags
from tracker.store.catalogue.catalogue import Catalogue
from tracker.store.engine import make_engine, reading
from tracker.store.store import SqlRunStore
from tracker.store.tables import metadata, runs

DATA = DatasetUse(dataset=Dataset(name="mnist", digest="d", source_type="code", source="{}"), tags={"k": "v"})


class Clock:
    """A clock that does not advance until it is set."""

    def __init__(self) -> None:
        self.ms = 10_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(any_url: str, clock: Clock) -> Iterator[SqlRunStore]:
    """An empty store."""
    open_small(any_url).close()
    with SqlRunStore(make_engine(any_url), clock=clock, block_points=POINTS) as opened:
        yield opened


@pytest.fixture
def catalogue(store: SqlRunStore) -> Catalogue:
    return store.catalogue


def start(catalogue: Catalogue, run_id: str = "r", experiment: int = 0, **tags: str) -> RunDetail:
    """A run as MLflow's clients create them."""
    return catalogue.runs.create(
        run_id, experiment, name=f"name of {run_id}", started_ms=5000, artifact_uri=f"file:///{run_id}", tags=tags
    )


def send(store: SqlRunStore, run_id: str, first: int, *frames: Frame) -> None:
    """What a journal of the run holds from number `first` on."""
    store.append(make_batch(run_id, "writer", list(enumerate(frames, first))))


def version(store: SqlRunStore, run_id: str) -> int:
    with reading(store._engine) as connection:
        return int(connection.execute(select(runs.c.version).where(runs.c.uid == run_id)).scalar_one())


# -- experiments -------------------------------------------------------------------------------------------------


def test_an_experiment_is_read_as_it_was_created(catalogue: Catalogue) -> None:
    """By id, by name and in the list, with its tags and place of artifacts; ids rise from above Default's."""
    first = catalogue.experiments.create("faces")
    second = catalogue.experiments.create("digits", artifact_location="s3://bucket/x", tags={"b": "2", "a": "1"})
    assert 0 < first < second
    found = catalogue.experiments.get(second)
    assert (found.id, found.name, found.artifact_location) == (second, "digits", "s3://bucket/x")
    assert found.tags == {"a": "1", "b": "2"}
    assert (found.created_ms, found.updated_ms, found.deleted_ms) == (10_000, 10_000, None)
    assert catalogue.experiments.named("digits") == found
    assert [one.name for one in catalogue.experiments.listed()] == ["Default", "faces", "digits"]
    assert catalogue.experiments.listed()[2] == found
    assert catalogue.experiments.named("nothing") is None


def test_names_are_unique_among_deleted_experiments_too(catalogue: Catalogue) -> None:
    """A name that is taken is refused to a new experiment and to a renamed one, and the error says if it is hidden."""
    taken = catalogue.experiments.create("taken")
    other = catalogue.experiments.create("other")
    for deleted in (False, True):
        with pytest.raises(ExperimentExists) as created:
            catalogue.experiments.create("taken")
        with pytest.raises(ExperimentExists) as renamed:
            catalogue.experiments.rename(other, "taken")
        assert (created.value.deleted, renamed.value.deleted) == (deleted, deleted)
        if not deleted:
            catalogue.experiments.delete(taken)
    catalogue.experiments.rename(other, "other")
    assert catalogue.experiments.get(other).name == "other"


def test_one_of_many_creators_gets_the_name(any_url: str) -> None:
    """Of processes that create one experiment at once, one gets its id, the others ExperimentExists; none is made twice."""
    open_small(any_url).close()
    gate = threading.Barrier(4)
    results: list[object] = []

    def create() -> None:
        with open_small(any_url) as store:
            gate.wait(30)
            for number in range(5):
                try:
                    results.append(store.catalogue.experiments.create(f"new {number}"))
                except ExperimentExists as error:
                    results.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = [result for result in results if isinstance(result, int)]
    assert len(ids) == len(set(ids)) == 5
    assert sum(isinstance(result, ExperimentExists) for result in results) == 15
    with open_small(any_url) as store:
        assert sorted(one.name for one in store.catalogue.experiments.listed())[1:] == [f"new {n}" for n in range(5)]


def test_journals_and_clients_share_experiments(store: SqlRunStore, catalogue: Catalogue) -> None:
    """A run of a journal goes to the experiment of its name, whoever made it."""
    made = catalogue.experiments.create("digits")
    send(store, "a", 1, RunStarted(1, "digits", "a", "file:///a", "host", 1))
    send(store, "b", 1, RunStarted(1, "faces", "b", "file:///b", "host", 1))
    assert catalogue.runs.detail("a").experiment_id == made
    with pytest.raises(ExperimentExists):
        catalogue.experiments.create("faces")
    faces = catalogue.experiments.named("faces")
    assert faces is not None
    start(catalogue, "c", faces.id)
    assert [run.id for run in store.search_runs(experiments=["faces"])] == ["c", "b"]


def test_an_experiment_changes(catalogue: Catalogue, clock: Clock) -> None:
    """Renamed, tagged and untagged; a rename is an update, and a tag that is not there cannot be removed."""
    id = catalogue.experiments.create("old")
    clock.ms = 11_000
    catalogue.experiments.set_tag(id, "k", "1")
    catalogue.experiments.set_tag(id, "k", "2")
    assert catalogue.experiments.get(id).tags == {"k": "2"}
    catalogue.experiments.delete_tag(id, "k")
    with pytest.raises(KeyNotFound):
        catalogue.experiments.delete_tag(id, "k")
    catalogue.experiments.rename(id, "new")
    found = catalogue.experiments.get(id)
    assert (found.name, found.tags, found.created_ms, found.updated_ms) == ("new", {}, 10_000, 11_000)
    assert catalogue.experiments.named("old") is None


def test_a_deleted_experiment_hides_its_runs(store: SqlRunStore, catalogue: Catalogue, clock: Clock) -> None:
    """Lists and searches leave them out and they show as deleted, until it is restored; one's own deletion stays."""
    id = catalogue.experiments.create("gone")
    for run_id in ("r1", "r2"):
        start(catalogue, run_id, id)
    store.delete_run("r2")
    clock.ms = 20_000
    catalogue.experiments.delete(id)
    assert [one.id for one in catalogue.experiments.listed()] == [0]
    assert [one.id for one in catalogue.experiments.listed("deleted")] == [id]
    assert [one.id for one in catalogue.experiments.listed("all")] == [0, id]
    assert [one.id for one in store.experiments()] == [0]
    assert list(store.search_runs()) == []
    assert store.find_runs("name of r1") == []
    assert [run.id for run in store.find_runs("name of r1", deleted=True)] == ["r1"]
    assert [store.get_run(run_id).deleted_ms for run_id in ("r1", "r2")] == [20_000, 10_000]
    assert catalogue.runs.detail("r1").run.deleted_ms == 20_000
    assert catalogue.runs.search([id])[0] == []
    assert [one.run.deleted_ms for one in catalogue.runs.search([id], lifecycle="deleted")[0]] == [20_000, 10_000]
    catalogue.experiments.restore(id)
    catalogue.experiments.restore(id)
    assert [run.id for run in store.search_runs()] == ["r1"]
    assert [one.run.id for one in catalogue.runs.search([id], lifecycle="deleted")[0]] == ["r2"]


def test_a_deleted_experiment_takes_no_changes(catalogue: Catalogue) -> None:
    """Nothing in it is made or changed while it is deleted; Default is deleted and restored like any other."""
    start(catalogue, "r", 0)
    catalogue.experiments.delete(0)
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (ExperimentDeleted, lambda: catalogue.experiments.delete(0)),
        (ExperimentDeleted, lambda: catalogue.experiments.rename(0, "x")),
        (ExperimentDeleted, lambda: catalogue.experiments.set_tag(0, "k", "v")),
        (ExperimentDeleted, lambda: catalogue.experiments.delete_tag(0, "k")),
        (ExperimentDeleted, lambda: start(catalogue, "new", 0)),
        (ExperimentDeleted, lambda: catalogue.models.create("m", 0, name="m", artifact_uri="file:///m")),
        (RunDeleted, lambda: catalogue.runs.change("r", name="x")),
    ]
    for error, change in refused:
        with pytest.raises(error):
            change()
    catalogue.experiments.restore(0)
    assert catalogue.runs.change("r", name="x").name == "x"


@pytest.mark.parametrize("id", [7, -1, 2**31, 2**70])
def test_an_unknown_experiment_is_not_found(catalogue: Catalogue, id: int) -> None:
    """Whatever is asked of an id that no experiment has, or could have."""
    asked: list[Callable[[], object]] = [
        lambda: catalogue.experiments.get(id),
        lambda: catalogue.experiments.rename(id, "x"),
        lambda: catalogue.experiments.delete(id),
        lambda: catalogue.experiments.restore(id),
        lambda: catalogue.experiments.set_tag(id, "k", "v"),
        lambda: catalogue.experiments.delete_tag(id, "k"),
        lambda: start(catalogue, "new", id),
        lambda: catalogue.models.create("m", id, name="m", artifact_uri="file:///m"),
    ]
    for ask in asked:
        with pytest.raises(ExperimentNotFound):
            ask()
    assert catalogue.runs.search([id]) == ([], None)
    assert (catalogue.models.listed([id]), catalogue.inputs.uses([id])) == ([], [])


@pytest.mark.parametrize("name", ["", "x" * 501, "a\x00b", "\ud800"])
def test_a_bad_experiment_name_is_refused(catalogue: Catalogue, name: str) -> None:
    """Empty, too long, or with what no database keeps."""
    with pytest.raises(InvalidValue):
        catalogue.experiments.create(name)


# -- runs --------------------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_created(store: SqlRunStore, catalogue: Catalogue, clock: Clock) -> None:
    """It runs, has its tags, and is never lost: no lease keeps it."""
    id = catalogue.experiments.create("digits")
    made = start(catalogue, "r", id, team="vision")
    assert (made.run.id, made.run.name, made.run.experiment, made.experiment_id) == ("r", "name of r", "digits", id)
    assert (made.run.status, made.run.started_ms, made.run.ended_ms) == ("running", 5000, None)
    assert (made.run.artifact_uri, made.tags, made.params, made.metrics) == ("file:///r", {"team": "vision"}, {}, {})
    clock.ms += 10**9
    assert catalogue.runs.detail("r") == made
    assert store.get_run("r") == made.run
    with pytest.raises(RunExists):
        start(catalogue, "r")
    assert catalogue.runs.detail("r") == made


def test_a_run_is_ended_and_taken_up_again(catalogue: Catalogue) -> None:
    """What is given is set and the rest stays; a run that runs again has no end."""
    start(catalogue)
    ended = catalogue.runs.change("r", status="failed", ended_ms=9000)
    assert (ended.status, ended.ended_ms, ended.name) == ("failed", 9000, "name of r")
    renamed = catalogue.runs.change("r", name="better")
    assert (renamed.status, renamed.ended_ms, renamed.name) == ("failed", 9000, "better")
    again = catalogue.runs.change("r", status="running")
    assert (again.status, again.ended_ms) == ("running", None)
    assert catalogue.runs.detail("r").run == again
    with pytest.raises(InvalidValue):
        catalogue.runs.change("r", name="")


def test_a_status_given_by_hand_is_the_last_word(store: SqlRunStore, catalogue: Catalogue) -> None:
    """The end that a journal tells later changes nothing; without one, the journal's word counts."""
    for run_id in ("by_hand", "by_journal"):
        send(store, run_id, 1, RunStarted(1000, "Default", "n", "file:///", "host", 1))
    catalogue.runs.change("by_hand", status="finished", ended_ms=2000)
    catalogue.runs.change("by_journal", status="running")
    for run_id in ("by_hand", "by_journal"):
        send(store, run_id, 2, Tags(2500, {"k": "v"}), RunEnded(3000, "failed"))
    assert [(store.get_run(id).status, store.get_run(id).ended_ms) for id in ("by_hand", "by_journal")] == [
        ("finished", 2000),
        ("failed", 3000),
    ]
    assert store.tags("by_hand") == {"k": "v"}


def test_a_lost_run_taken_up_by_hand_stays_running(store: SqlRunStore, catalogue: Catalogue, clock: Clock) -> None:
    """A run whose lease ran out is not made lost again when a client without a lease goes on with it."""
    send(store, "r", 1, RunStarted(1000, "Default", "n", "file:///", "host", 1))
    clock.ms = 10**15
    assert catalogue.runs.detail("r").run.status == "lost"
    catalogue.runs.change("r", status="running")
    assert catalogue.runs.detail("r").run.status == "running"


def test_logged_values_are_in_the_detail(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Metrics with their last value and extremes, parameters as text, tags; a conflict of parameters refuses all."""
    start(catalogue)
    store.append(
        batch_of_call(
            "r", ["loss"] * 3, [0, 1, 2], [5, 6, 7], [2.0, 0.5, math.nan], params={"lr": "0.1"}, tags={"t": "1"}
        )
    )
    with pytest.raises(ParamConflict):
        store.append(batch_of_call("r", params={"lr": "0.2"}, tags={"t": "2"}))
    detail = catalogue.runs.detail("r")
    loss = detail.metrics["loss"]
    assert loss.last is not None
    assert loss.min is not None
    assert loss.max is not None
    assert (loss.count, loss.last.step, loss.min.value, loss.max.value) == (3, 2, 0.5, 2.0)
    assert math.isnan(loss.last.value)
    assert loss.best == loss.min
    assert (detail.params, detail.tags) == ({"lr": "0.1"}, {"t": "1"})
    catalogue.runs.delete_tag("r", "t")
    assert catalogue.runs.detail("r").tags == {}
    with pytest.raises(KeyNotFound):
        catalogue.runs.delete_tag("r", "t")


def test_parameters_of_journals_are_shown_as_text(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Strings as they are, all else as JSON."""
    values = {"s": "adam", "n": 0.5, "b": True, "none": None, "list": [1, "x"]}
    send(store, "r", 1, RunStarted(1, "Default", "n", "file:///", "host", 1), Params(1, 0, values))
    shown = {"s": "adam", "n": "0.5", "b": "true", "none": "null", "list": '[1,"x"]'}
    assert catalogue.runs.detail("r").params == shown


def test_a_page_is_read_by_as_many_statements_as_one_run(store_url: str) -> None:
    """However many runs, metrics and data sets it has."""
    statements: list[str] = []
    open_small(store_url).close()
    engine = make_engine(store_url)
    event.listen(engine, "connect", lambda connection, _: connection.set_trace_callback(statements.append))
    with SqlRunStore(engine, block_points=POINTS) as store:
        catalogue = store.catalogue
        for number in range(30):
            start(catalogue, f"r{number}", team="a")
            store.append(batch_of_call(f"r{number}", ["a", "b"], [0, 0], [1, 1], [1.0, 2.0], params={"p": "1"}))
            catalogue.inputs.add(f"r{number}", datasets=[DATA], models=[ModelLink(model_id="m")])
        catalogue.runs.search([0])
        counts = []
        for limit in (1, 30):
            statements.clear()
            page, _ = catalogue.runs.search([0], limit=limit)
            assert [(sorted(detail.metrics), len(detail.datasets)) for detail in page] == [(["a", "b"], 1)] * limit
            counts.append(len(statements))
    assert 6 < counts[0] == counts[1] < 20


CHANGES: dict[str, Callable[[SqlRunStore], object]] = {
    "status": lambda store: store.catalogue.runs.change("r", status="finished"),
    "log": lambda store: store.append(batch_of_call("r", ["m"], [0], [1], [1.0])),
    "delete tag": lambda store: store.catalogue.runs.delete_tag("r", "t"),
    "inputs": lambda store: store.catalogue.inputs.add("r", datasets=[DATA]),
    "outputs": lambda store: store.catalogue.inputs.add_outputs("r", [ModelLink(model_id="m")]),
    "delete": lambda store: store.delete_run("r"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_raises_the_version(store: SqlRunStore, catalogue: Catalogue, change: str) -> None:
    """What was read of a run at one version is valid while the version is unchanged."""
    start(catalogue, "r", t="1")
    before = version(store, "r")
    CHANGES[change](store)
    assert version(store, "r") > before


def test_a_deleted_run_takes_no_changes(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Until it is restored; it can be read."""
    start(catalogue, "r", t="1")
    store.delete_run("r")
    changes: list[Callable[[], object]] = [
        lambda: catalogue.runs.change("r", status="finished"),
        lambda: catalogue.runs.delete_tag("r", "t"),
        lambda: store.append(batch_of_call("r", tags={"k": "v"})),
        lambda: catalogue.inputs.add("r", datasets=[DATA]),
        lambda: catalogue.inputs.add_outputs("r", [ModelLink(model_id="m")]),
    ]
    for change in changes:
        with pytest.raises(RunDeleted):
            change()
    assert catalogue.runs.detail("r").tags == {"t": "1"}
    store.restore_run("r")
    for change in changes:
        change()


def test_an_unknown_run_is_not_found(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Whatever is asked of it."""
    asked: list[Callable[[], object]] = [
        lambda: catalogue.runs.detail("no"),
        lambda: catalogue.runs.change("no", status="finished"),
        lambda: catalogue.runs.delete_tag("no", "t"),
        lambda: store.append(batch_of_call("no", tags={"k": "v"})),
        lambda: catalogue.inputs.add("no", datasets=[DATA]),
        lambda: catalogue.inputs.add_outputs("no", [ModelLink(model_id="m")]),
        lambda: catalogue.runs.remove("no"),
        lambda: catalogue.models.create("m", 0, name="m", artifact_uri="file:///m", run_id="no"),
    ]
    for ask in asked:
        with pytest.raises(RunNotFound):
            ask()
    with pytest.raises(ModelNotFound):
        catalogue.models.get("m")


def fill(store: SqlRunStore, run_id: str, experiment: str) -> None:
    """A run that has something of everything."""
    frames: list[Frame] = [
        RunStarted(1, experiment, "n", "file:///", "h", 1),
        EpochEnded(2, 0, 0, 0.1, {"loss": 1.0}, 5),
    ]
    send(store, run_id, 1, *frames, Params(2, 0, {"p": 1}), Tags(2, {"t": "1"}))
    store.append(batch_of_call(run_id, ["m"] * 50, list(range(50)), [1] * 50, [1.0] * 50))
    store.catalogue.inputs.add(run_id, datasets=[DATA], models=[ModelLink(model_id="m")])
    store.request_stop(run_id)


def rows(store: SqlRunStore) -> dict[str, int]:
    """How many rows each table has."""
    with reading(store._engine) as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }


def test_a_removed_run_leaves_nothing(store: SqlRunStore, catalogue: Catalogue) -> None:
    """No row of it in any table, all rows of others; what was measured of its models goes, the models stay."""

    fill(store, "stays", "Default")
    catalogue.models.create("m", 0, name="m", artifact_uri="file:///m")
    before = rows(store)
    fill(store, "goes", "Default")
    catalogue.models.change("m", tags={})
    catalogue.models.add_metrics("m", [ModelMetric(key="acc", value=1.0, step=0, ms=1, run_id="goes")])
    catalogue.runs.remove("goes")
    assert rows(store) == before
    assert store.history("stays", "m").steps.tolist() == list(range(50))
    with pytest.raises(RunNotFound):
        catalogue.runs.detail("goes")
    start(catalogue, "goes")
    assert catalogue.runs.detail("goes").metrics == {}


def test_a_removed_experiment_leaves_nothing(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Its runs, models, data sets and tags go with it, and nothing else; Default is emptied and stays."""
    fill(store, "stays", "stays")
    before = rows(store)
    gone = catalogue.experiments.create("gone", tags={"k": "v"})
    for experiment, name in ((gone, "gone"), (0, "Default")):
        fill(store, f"in {name}".replace(" ", "_"), name)
        catalogue.models.create(f"m-{name}", experiment, name="m", artifact_uri="", params={"p": "1"}, tags={"t": "1"})
        catalogue.models.add_metrics(f"m-{name}", [ModelMetric(key="a", value=1.0, step=0, ms=1, run_id="stays")])
        catalogue.experiments.delete(experiment)
        catalogue.experiments.remove(experiment)
    assert rows(store) == before
    assert [one.name for one in catalogue.experiments.listed("all")] == ["Default", "stays"]
    with pytest.raises(ExperimentNotFound):
        catalogue.experiments.remove(gone)
    catalogue.experiments.restore(0)
    start(catalogue)


def test_runs_that_were_deleted_long_ago_are_found(store: SqlRunStore, catalogue: Catalogue, clock: Clock) -> None:
    """Their own deletion counts, and their experiment's."""
    gone = catalogue.experiments.create("gone")
    for run_id, experiment in (("a", 0), ("b", 0), ("c", gone), ("lives", 0)):
        start(catalogue, run_id, experiment)
    clock.ms = 20_000
    store.delete_run("b")
    catalogue.experiments.delete(gone)
    clock.ms = 30_000
    store.delete_run("a")
    assert catalogue.runs.deleted_before(20_000) == []
    assert catalogue.runs.deleted_before(20_001) == ["b", "c"]
    assert catalogue.runs.deleted_before(30_001) == ["a", "b", "c"]

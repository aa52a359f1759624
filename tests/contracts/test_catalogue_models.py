"""What the catalogue promises of data sets and logged models, over every database that we support."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from small_blocks import POINTS, open_small

from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink, ModelMetric
from tracker.domain.errors import InvalidValue, KeyNotFound, ModelNotFound, RunNotFound
from tracker.store.catalogue.catalogue import Catalogue
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore

MNIST = Dataset(name="mnist", digest="d1", source_type="code", source="{}", schema="[1]", profile=None)
CIFAR = Dataset(name="cifar", digest="d2", source_type="local", source='{"uri": "x"}')
ACC = ModelMetric(key="acc", value=0.5, step=3, ms=7, run_id="r", dataset_name="mnist", dataset_digest="d1")


def use(dataset: Dataset, context: str | None = None, **tags: str) -> DatasetUse:
    return DatasetUse(dataset=dataset, tags=tags if context is None else {"mlflow.data.context": context, **tags})


class Ticks:
    """A clock that is a millisecond later at every look."""

    def __init__(self) -> None:
        self.ms = 1000

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    """A store with the runs `r` and `s` in Default."""
    open_small(any_url).close()
    with SqlRunStore(make_engine(any_url), clock=Ticks(), block_points=POINTS) as opened:
        for run_id in ("r", "s"):
            opened.catalogue.runs.create(run_id, 0, name="n", started_ms=1, artifact_uri="file:///", tags={})
        yield opened


@pytest.fixture
def catalogue(store: SqlRunStore) -> Catalogue:
    return store.catalogue


def make(catalogue: Catalogue, model_id: str = "m", experiment: int = 0) -> None:
    catalogue.models.create(model_id, experiment, name=f"name of {model_id}", artifact_uri=f"file:///{model_id}")


# -- data sets ---------------------------------------------------------------------------------------------------


def test_a_run_shows_the_data_sets_it_used(catalogue: Catalogue) -> None:
    """With the tags of their use; one that is logged again, in one call or in another, keeps its first tags."""
    catalogue.inputs.add("r", datasets=[use(MNIST, "train", k="v"), use(MNIST, "eval"), use(CIFAR)])
    catalogue.inputs.add("r", datasets=[use(CIFAR, "eval"), use(MNIST)])
    detail = catalogue.runs.detail("r")
    found = {one.dataset.name: one for one in detail.datasets}
    assert found == {"mnist": use(MNIST, "train", k="v"), "cifar": use(CIFAR)}
    assert catalogue.runs.detail("s").datasets == []


def test_runs_of_one_experiment_share_a_data_set(catalogue: Catalogue) -> None:
    """The first description of a name and digest is kept within an experiment; another experiment has its own."""
    other = catalogue.experiments.create("other")
    catalogue.runs.create("o", other, name="n", started_ms=1, artifact_uri="file:///", tags={})
    for run_id, dataset in (("r", MNIST), ("s", replace(MNIST, source="changed")), ("o", replace(MNIST, source="own"))):
        catalogue.inputs.add(run_id, datasets=[use(dataset)])
    sources = [catalogue.runs.detail(run_id).datasets[0].dataset.source for run_id in ("r", "s", "o")]
    assert sources == ["{}", "{}", "own"]


def test_data_sets_of_experiments_are_listed_once_a_context(store: SqlRunStore, catalogue: Catalogue) -> None:
    """Of active runs only, of the experiments asked for, and no more than asked for."""
    other = catalogue.experiments.create("other")
    for run_id in ("o", "t"):
        catalogue.runs.create(run_id, other, name="n", started_ms=1, artifact_uri="file:///", tags={})
    catalogue.inputs.add("r", datasets=[use(MNIST, "train", k="1"), use(CIFAR)])
    catalogue.inputs.add("s", datasets=[use(MNIST, "train", k="2")])
    catalogue.inputs.add("o", datasets=[use(MNIST, "eval")])
    catalogue.inputs.add("t", datasets=[use(CIFAR, "eval")])
    store.delete_run("t")
    both = [(0, use(CIFAR)), (0, use(MNIST, "train")), (other, use(MNIST, "eval"))]
    assert catalogue.inputs.uses([0, other, 99]) == both
    assert catalogue.inputs.uses([0]) == both[:2]
    assert len(catalogue.inputs.uses([0, other], limit=1)) == 1
    catalogue.experiments.delete(other)
    assert catalogue.inputs.uses([other]) == []


def test_processes_may_log_the_same_data_sets_at_once(any_url: str, catalogue: Catalogue) -> None:
    """In whatever order each names them, and both succeed."""
    gate = threading.Barrier(2)
    failures: list[BaseException] = []

    def add(run_id: str, order: int) -> None:
        try:
            with open_small(any_url) as store:
                gate.wait(30)
                for number in range(15):
                    datasets = [replace(MNIST, digest=f"{number}.{part}") for part in range(4)][::order]
                    store.catalogue.inputs.add(run_id, datasets=[use(one) for one in datasets])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=arguments) for arguments in (("r", 1), ("s", -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert [len(catalogue.runs.detail(run_id).datasets) for run_id in ("r", "s")] == [60, 60]


@pytest.mark.parametrize("tags", [{"k": "a\x00b"}, {"k": "\ud800"}])
def test_what_no_database_keeps_is_refused(catalogue: Catalogue, tags: dict[str, str]) -> None:
    """As a value's fault, and nothing of the call is stored."""
    with pytest.raises(InvalidValue):
        catalogue.inputs.add("r", datasets=[use(CIFAR), DatasetUse(dataset=MNIST, tags=tags)])
    assert catalogue.runs.detail("r").datasets == []


# -- models ------------------------------------------------------------------------------------------------------


def test_a_run_links_models_it_used_and_made(catalogue: Catalogue) -> None:
    """Each way by itself; a link that comes again has its last step."""
    catalogue.inputs.add("r", models=[ModelLink(model_id="m-2"), ModelLink(model_id="m-1")])
    catalogue.inputs.add_outputs("r", [ModelLink(model_id="m-1", step=1), ModelLink(model_id="m-1", step=2)])
    catalogue.inputs.add_outputs("r", [ModelLink(model_id="m-3", step=9)])
    detail = catalogue.runs.detail("r")
    assert detail.inputs == [ModelLink(model_id="m-1"), ModelLink(model_id="m-2")]
    assert detail.outputs == [ModelLink(model_id="m-1", step=2), ModelLink(model_id="m-3", step=9)]


def test_a_model_is_read_as_it_was_created(catalogue: Catalogue) -> None:
    """Pending, with its parameters, tags and run; its id is taken."""
    made = catalogue.models.create(
        "m", 0, name="cnn", artifact_uri="file:///m", kind="keras", run_id="r", params={"lr": "1"}, tags={"t": "2"}
    )
    assert (made.id, made.experiment_id, made.name, made.artifact_uri) == ("m", 0, "cnn", "file:///m")
    assert (made.kind, made.run_id, made.status, made.deleted_ms) == ("keras", "r", "pending", None)
    assert (made.params, made.tags, made.metrics) == ({"lr": "1"}, {"t": "2"}, [])
    assert made.created_ms == made.updated_ms
    assert catalogue.models.get("m") == made
    with pytest.raises(InvalidValue):
        make(catalogue)


def test_a_model_changes(catalogue: Catalogue) -> None:
    """Given tags and parameters are added to the existing ones, and every change is an update."""
    make(catalogue)
    first = catalogue.models.get("m")
    ready = catalogue.models.change("m", status="ready", tags={"a": "1", "b": "1"})
    assert (ready.status, ready.tags, ready.params) == ("ready", {"a": "1", "b": "1"}, {})
    changed = catalogue.models.change("m", params={"p": "1"}, tags={"b": "2"})
    assert (changed.status, changed.tags, changed.params) == ("ready", {"a": "1", "b": "2"}, {"p": "1"})
    assert first.updated_ms < ready.updated_ms < changed.updated_ms
    assert catalogue.models.get("m") == changed
    catalogue.models.delete_tag("m", "a")
    assert catalogue.models.get("m").tags == {"b": "2"}
    with pytest.raises(KeyNotFound):
        catalogue.models.delete_tag("m", "p")


def test_models_are_listed_newest_first(catalogue: Catalogue) -> None:
    """Those of the experiments asked for, with what they have, but for deleted ones."""
    other = catalogue.experiments.create("other")
    for model_id, experiment in (("a", 0), ("b", other), ("c", 0), ("d", 0)):
        make(catalogue, model_id, experiment)
    catalogue.models.add_metrics("c", [ACC])
    catalogue.models.delete("d")
    assert [one.id for one in catalogue.models.listed([0])] == ["c", "a"]
    found = catalogue.models.listed([0, other, 99])
    assert [one.id for one in found] == ["c", "b", "a"]
    assert found[0] == catalogue.models.get("c")


def test_a_model_is_measured_once(catalogue: Catalogue) -> None:
    """A metric that is stored already, by this call or an earlier one, is not stored again; NaN equals NaN, infinity is kept."""
    make(catalogue)
    nan, inf = replace(ACC, value=math.nan), replace(ACC, value=math.inf, dataset_name=None, dataset_digest=None)
    catalogue.models.add_metrics("m", [ACC, nan, ACC, nan])
    catalogue.models.add_metrics("m", [inf, ACC, nan, replace(ACC, step=4)])
    catalogue.models.add_metrics("m", [])
    found = catalogue.models.get("m").metrics
    assert [str(one.value) for one in found] == ["0.5", "nan", "inf", "0.5"]
    assert [found[0], found[2], found[3]] == [ACC, inf, replace(ACC, step=4)]
    with pytest.raises(RunNotFound):
        catalogue.models.add_metrics("m", [replace(ACC, run_id="no")])


def test_a_deleted_model_is_hidden(catalogue: Catalogue) -> None:
    """It takes no changes, and is read only where deleted ones are asked for."""
    make(catalogue)
    catalogue.models.delete("m")
    assert catalogue.models.get("m", deleted=True).deleted_ms is not None
    _not_found(catalogue, "m")


def test_an_unknown_model_is_not_found(catalogue: Catalogue) -> None:
    """Whatever is asked of it."""
    _not_found(catalogue, "no")
    with pytest.raises(ModelNotFound):
        catalogue.models.get("no", deleted=True)


def _not_found(catalogue: Catalogue, model_id: str) -> None:
    asked: list[Callable[[], object]] = [
        lambda: catalogue.models.get(model_id),
        lambda: catalogue.models.change(model_id, status="ready"),
        lambda: catalogue.models.delete_tag(model_id, "t"),
        lambda: catalogue.models.delete(model_id),
        lambda: catalogue.models.add_metrics(model_id, [ACC]),
    ]
    for ask in asked:
        with pytest.raises(ModelNotFound):
            ask()


def test_a_model_outlives_its_run(catalogue: Catalogue) -> None:
    """Without its link to it, and without what the run measured."""
    catalogue.models.create("m", 0, name="m", artifact_uri="file:///m", run_id="r")
    catalogue.models.add_metrics("m", [ACC, replace(ACC, run_id="s")])
    catalogue.runs.remove("r")
    found = catalogue.models.get("m")
    assert (found.run_id, [one.run_id for one in found.metrics]) == (None, ["s"])


def test_a_removed_model_leaves_nothing(catalogue: Catalogue) -> None:
    """It is not found, deleted ones included; those deleted before a time are listed until they are removed."""
    for model_id in ("a", "b", "lives"):
        make(catalogue, model_id)
    catalogue.models.add_metrics("a", [ACC])
    for model_id in ("a", "b"):
        catalogue.models.delete(model_id)
    second = catalogue.models.get("b", deleted=True).deleted_ms
    assert second is not None
    assert (catalogue.models.deleted_before(second), catalogue.models.deleted_before(second + 1)) == (["a"], ["a", "b"])
    catalogue.models.remove("a")
    assert catalogue.models.deleted_before(second + 1) == ["b"]
    with pytest.raises(ModelNotFound):
        catalogue.models.get("a", deleted=True)
    with pytest.raises(ModelNotFound):
        catalogue.models.remove("a")


@pytest.mark.parametrize("id", ["nowhere", "a\x00b", "a\udcffb", ""])
def test_ids_that_no_model_has(catalogue: Catalogue, id: str) -> None:
    """Any text in place of an id in a path is not found, in each database."""
    with pytest.raises(ModelNotFound):
        catalogue.models.get(id)

"""A run's version rises with whatever changes of it, so that what was made of it at one version is good at that one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from small_blocks import POINTS, open_small

from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink, RunDetail
from tracker.domain.frames import (
    CheckpointLogged,
    CheckpointsKept,
    DatasetLogged,
    EpochEnded,
    EventLogged,
    FitEnded,
    FitStarted,
    Frame,
    HistogramLogged,
    MetricDefined,
    MetricMonitored,
    Params,
    Points,
    RunEnded,
    RunStarted,
    Staged,
    Tags,
)
from tracker.domain.vocabulary import LEASE_MS
from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.encoded_runs import RunFragments
from tracker.mlflow_bridge.locations import Locations
from tracker.store.engine import make_engine
from tracker.store.read.run_cache import RunVersion
from tracker.store.store import SqlRunStore


@dataclass
class Lab:
    """A run that is written to, another run, and another process that reads both with a cache."""

    store: SqlRunStore
    reader: Bridge
    now: list[int]
    number: int = 0
    versions: list[int] = field(default_factory=list)

    def send(self, *frames: Frame) -> None:
        numbered = list(enumerate(frames, self.number + 1))
        self.number += len(frames)
        self.store.append(make_batch("r", "w", numbered))

    def renew(self) -> None:
        """A sign of life that says nothing else."""
        batch = make_batch("r", "w", [(self.number + 1, Tags(1, {}))])
        self.store.append(type(batch)("r", "w", self.number + 1, self.number))

    def version(self) -> RunVersion:
        found, _ = self.store.catalogue.runs.search_encoded([0], lifecycle="all", encoded=AsTheyStand())
        return next(one for one in found if one.run_id == "r")


class AsTheyStand:
    """Shows how runs stand."""

    def get(self, of: RunVersion) -> RunVersion:
        return of

    def add(self, of: RunVersion, detail: RunDetail) -> RunVersion:
        raise AssertionError(f"asked for the details of {of}, {detail}")


LOCATIONS = Locations("file:///tmp/artifacts", proxied=True, allowed=[])


@pytest.fixture
def lab(any_url: str) -> Iterator[Lab]:
    now = [2_000_000]
    open_small(any_url).close()
    with (
        SqlRunStore(make_engine(any_url), clock=lambda: now[0], block_points=POINTS) as store,
        SqlRunStore(make_engine(any_url), clock=lambda: now[0], block_points=POINTS) as other,
    ):
        lab = Lab(store, Bridge(other, locations=LOCATIONS), now)
        store.append(make_batch("other", "w", [(1, RunStarted(1000, "Default", "other", "file:///o", "host", 1))]))
        lab.send(RunStarted(1000, "Default", "n", "file:///x", "host", 1))
        yield lab


FILE = Staged("f", "checkpoints/1.keras", 3)
DATA = Dataset(name="digits", digest="ab", source_type="local", source="{}")
CHANGES: list[tuple[str, Callable[[Lab], object]]] = [
    ("points", lambda lab: lab.send(Points(2000, "step", 1, 0, {"loss": 0.5, "acc": float("nan")}))),
    ("point of the same step", lambda lab: lab.send(Points(2001, "step", 1, 0, {"loss": 0.25}))),
    ("parameters", lambda lab: lab.send(Params(2000, 0, {"lr": 0.1}))),
    ("tags", lambda lab: lab.send(Tags(2000, {"a": "b"}))),
    ("event", lambda lab: lab.send(EventLogged(2000, "thing", 1, 1, 0, {}))),
    ("fit", lambda lab: lab.send(FitStarted(3000, 1, 1, 0, 1, 0, 0, 3, 10, 32, None, "h"))),
    ("epoch", lambda lab: lab.send(EpochEnded(3000, 0, 1, 0.5, {"val_loss": 0.9}, 10))),
    ("goal", lambda lab: lab.send(MetricDefined(3000, "acc", "max", "declared"))),
    ("monitor", lambda lab: lab.send(MetricMonitored(3000, "val_loss", "declared"))),
    ("histogram", lambda lab: lab.send(HistogramLogged(3000, "w", "epoch", 0, 1, [0.0, 1.0], [2]))),
    ("checkpoint", lambda lab: lab.send(CheckpointLogged(3000, 0, 1, 1, ".keras", {}, None, {}, FILE, "ab" * 32, "file:///c"))),
    ("checkpoints kept", lambda lab: lab.send(CheckpointsKept(3000, 1, None))),
    ("checkpoint tagged", lambda lab: lab.store.tag_checkpoint("r", lab.store.checkpoints("r")[0].id, "release")),
    ("checkpoint untagged", lambda lab: lab.store.tag_checkpoint("r", lab.store.checkpoints("r")[0].id, None)),
    ("data set of a journal", lambda lab: lab.send(DatasetLogged(3000, "train", "cd", "code", "{}", None, None, {}))),
    ("second fit", lambda lab: lab.send(FitStarted(3000, 2, 1, 0, 1, 0, 0, 3, 10, 32, None, "h"))),
    ("end of a fit", lambda lab: lab.send(FitEnded(4000, 2, "completed"))),
    ("logged metric", lambda lab: lab.store.append(batch_of_call("r", ["acc"], [-3], [7000], [0.5]))),
    ("logged parameter", lambda lab: lab.store.append(batch_of_call("r", params={"p": "1"}))),
    ("logged tag", lambda lab: lab.store.append(batch_of_call("r", tags={"a": "c"}))),
    ("logged name", lambda lab: lab.store.append(batch_of_call("r", name="renamed"))),
    ("logged request to stop", lambda lab: lab.store.append(batch_of_call("r", stop_ms=1))),
    ("tag removed", lambda lab: lab.store.catalogue.runs.delete_tag("r", "a")),
    ("request to stop", lambda lab: lab.store.request_stop("r")),
    ("data set", lambda lab: lab.store.catalogue.inputs.add("r", datasets=[DatasetUse(dataset=DATA)])),
    ("model used", lambda lab: lab.store.catalogue.inputs.add("r", models=[ModelLink(model_id="m-1")])),
    ("model made", lambda lab: lab.store.catalogue.inputs.add_outputs("r", [ModelLink(model_id="m-2", step=3)])),
    ("name", lambda lab: lab.store.catalogue.runs.change("r", name="again")),
    ("deleted", lambda lab: lab.store.delete_run("r")),
    ("restored", lambda lab: lab.store.restore_run("r")),
    ("lost", lambda lab: lab.now.__setitem__(0, 10**15)),
    ("alive again", lambda lab: lab.send(Tags(9000, {"alive": "yes"}))),
    ("end", lambda lab: lab.send(RunEnded(9000, "failed", {"type": "E", "message": "m", "traceback": "t"}))),
    ("status", lambda lab: lab.store.catalogue.runs.change("r", status="finished", ended_ms=9999)),
    ("opened again", lambda lab: lab.send(RunStarted(9000, "Default", "n", "file:///x", "host", 1))),
]  # fmt: skip


def shown(bridge: Bridge) -> dict[str, object]:
    """All runs as a search answers, deleted ones too."""
    fragments, _ = bridge.search_fragments(["0"], run_view_type="ALL")
    runs = [json.loads(fragment) for fragment in fragments]
    for run in runs:
        for rows in run["data"].values():
            rows.sort(key=lambda row: row["key"])
    return {run["info"]["run_id"]: run for run in runs}


def test_version_rises_with_every_change(lab: Lab) -> None:
    """Whatever is written, the version is higher, and a process that kept what it made shows the run as it is."""
    assert set(shown(lab.reader)) == {"r", "other"}
    other = lab.reader.store.catalogue.runs.detail("other")
    before = lab.version()
    for name, change in CHANGES:
        change(lab)
        after = lab.version()
        assert after.version > before.version, name
        assert shown(lab.reader) == shown(Bridge(lab.store, locations=LOCATIONS)), name
        before = after
    assert lab.reader.store.catalogue.runs.detail("other").run.name == other.run.name


def test_sign_of_life_is_no_change(lab: Lab) -> None:
    """A lease that is renewed and nothing else leaves the version, so that running runs are not read again for it."""
    before = lab.version()
    lab.renew()
    assert lab.version() == before


def test_lapsed_lease_is_seen_by_the_search_itself(lab: Lab) -> None:
    """A run whose lease ran out since it was kept is shown as lost, though nobody wrote anything."""
    status = shown(lab.reader)["r"]["info"]["status"]  # type: ignore[index]
    lab.now[0] = 10**15 + LEASE_MS
    assert (status, shown(lab.reader)["r"]["info"]["status"]) == ("RUNNING", "KILLED")  # type: ignore[index]


def test_experiment_that_comes_and_goes(lab: Lab) -> None:
    """Deleting an experiment hides its runs, also those that were kept; restoring it shows them."""
    experiment = lab.store.catalogue.experiments.create("vision")
    lab.store.catalogue.runs.create("v", experiment, name="v", started_ms=5, artifact_uri="file:///v", tags={})

    def stage() -> list[str]:
        fragments, _ = lab.reader.search_fragments([str(experiment)], run_view_type="ALL")
        return [json.loads(fragment)["info"]["lifecycle_stage"] for fragment in fragments]

    assert stage() == ["active"]
    lab.store.catalogue.experiments.delete(experiment)
    assert stage() == ["deleted"]
    lab.store.catalogue.experiments.restore(experiment)
    assert stage() == ["active"]


def test_run_removed_for_good_and_made_again(lab: Lab) -> None:
    """A new run of an old id is not taken for the old one."""
    create = lab.store.catalogue.runs.create
    create("again", 0, name="first", started_ms=5, artifact_uri="file:///a", tags={})
    assert shown(lab.reader)["again"]["info"]["run_name"] == "first"  # type: ignore[index]
    lab.store.catalogue.runs.remove("again")
    lab.now[0] += 1
    create("again", 0, name="second", started_ms=5, artifact_uri="file:///a", tags={})
    assert shown(lab.reader)["again"]["info"]["run_name"] == "second"  # type: ignore[index]


def test_search_answers_the_same_from_what_it_kept(lab: Lab) -> None:
    """Filter, order and pages are those of a search that keeps nothing."""
    for place in range(12):
        lab.store.append(batch_of_call("r", ["m"], [place], [place + 1], [place / 2]))
        run = f"many-{place}"
        lab.store.catalogue.runs.create(run, 0, name=run, started_ms=place, artifact_uri="file:///m", tags={})
        lab.store.append(batch_of_call(run, ["m"], [1], [1], [float(place % 5)]))
    for _ in range(2):
        token, pages = None, []
        while True:
            fragments, token = lab.reader.search_fragments(["0"], "metrics.m > 1", "ALL", 3, ["metrics.m DESC"], token)
            pages.append([json.loads(one)["info"]["run_id"] for one in fragments])
            if token is None:
                break
        runs, _ = Bridge(lab.store, locations=LOCATIONS).search_runs(
            ["0"], "metrics.m > 1", "ALL", 99, ["metrics.m DESC"]
        )
        assert [run for page in pages for run in page] == [run.info.run_id for run in runs]
        assert max(map(len, pages)) == 3


def test_cache_keeps_to_its_bound() -> None:
    """The runs asked for longest ago are forgotten first, and a run is kept at one version only."""
    made: list[RunVersion] = []
    cache = RunFragments(lambda detail: b"x" * 1000, most_bytes=13_500)
    detail: RunDetail = None  # type: ignore[assignment]

    def ask(run: str, version: int = 1) -> None:
        of = RunVersion(run, version, False)
        if cache.get(of) is None:
            made.append(of)
            assert cache.add(of, detail) == b"x" * 1000

    for place in range(10):
        ask(f"r{place}")
    ask("r0")  # asked for again: now the newest
    ask("r10")
    ask("r0")
    assert len(made) == 11
    ask("r1")
    assert made[-1].run_id == "r1"
    for version in range(2, 40):
        ask("r0", version)
    made.clear()
    ask("r10")
    assert not made


def test_cache_in_many_threads() -> None:
    """Threads that ask and add at once get what belongs to the version that they ask for."""
    cache = RunFragments(lambda detail: str(detail).encode(), most_bytes=3000)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for place in range(2000):
            version = (place * seed) % 7
            of = RunVersion(f"r{place % 5}", version, False)
            got = cache.get(of) or cache.add(of, (of.run_id, version))  # type: ignore[arg-type]
            if got != str((of.run_id, version)).encode():
                wrong.append((of, got))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

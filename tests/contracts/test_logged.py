"""What clients without a journal log: whole or not at all, each point once, summaries as a plain model has them."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from draws import examples
from e2e.server_lab import batch, points, start_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import POINTS, open_small
from sqlalchemy import create_engine, text

from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidValue, ParamConflict, RunDeleted, RunNotFound, StoreUnavailable
from tracker.domain.frames import Ack, Batch, EpochEnded, FitStarted, MetricDefined, Points
from tracker.domain.records import Extreme, Series
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore

NAN = math.nan
Point = tuple[str, int, int, float]


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    with open_small(any_url) as opened:
        yield opened


def logged(run: str, *rows: Point, **more: Any) -> Batch:
    """A call with metrics of (key, step, ms, value)."""
    keys, steps, ms, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return batch_of_call(run, keys, steps, ms, values, **more)


def rows_of(store: SqlRunStore, run: str, key: str) -> list[tuple[int, int, float | None]]:
    """The visible points; None for NaN."""
    history = store.history(run, key)
    columns = zip(history.steps.tolist(), history.ms.tolist(), history.values.tolist(), strict=True)
    return [(step, ms, None if value != value else value) for step, ms, value in columns]


def version(store_url: str, run: str) -> int:
    return int(_scalar(store_url, "SELECT version FROM runs WHERE uid = :uid", uid=run))


def _scalar(store_url: str, statement: str, **values: object) -> Any:
    engine = create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.connect() as connection:
            return connection.execute(text(statement), values).scalar_one()
    finally:
        engine.dispose()


# -- one at a time ---------------------------------------------------------------------------------------------------


def test_metrics_parameters_tags_name_and_stop(store: SqlRunStore) -> None:
    """One call stores all that it carries; the answer says whether the training is to stop."""
    store.append(batch("r", 1, start_of()))
    first = logged("r", ("loss", 3, 5_000, 0.5), ("system/cpu", 0, 6_000, 9.0), params={"lr": "0.1"}, tags={"a": "1"})
    assert store.append(first) == Ack(last=0)
    assert store.append(batch_of_call("r", tags={"a": "2", "b": "3"}, name="renamed", stop_ms=1)) == Ack(
        last=0, stop=True
    )
    assert store.metrics("r")["loss"] == Series(
        key="loss",
        axis="step",
        goal="min",
        count=1,
        last=Extreme(value=0.5, step=3, ms=5_000),
        min=Extreme(value=0.5, step=3, ms=5_000),
        max=Extreme(value=0.5, step=3, ms=5_000),
        best=Extreme(value=0.5, step=3, ms=5_000),
    )
    assert store.metrics("r")["system/cpu"].axis == "time"
    assert store.params("r") == {"lr": "0.1"}
    assert store.tags("r") == {"a": "2", "b": "3"}
    run = store.get_run("r")
    assert (run.name, run.stop_requested, run.status) == ("renamed", True, "running")
    assert [event.kind for event in store.events("r")] == ["stop_requested"]
    assert store.search_runs("metrics.loss = 0.5 and params.lr = 0.1").runs == [run]


def test_refusals(store: SqlRunStore) -> None:
    """What cannot be stored fails alone, and nothing of it is there, not even what was good in it."""
    store.append(batch("r", 1, start_of()))
    store.append(batch("gone", 1, start_of()))
    store.delete_run("gone")
    store.append(batch_of_call("r", params={"lr": "0.1"}))
    results = store.append_many(
        [
            logged("r", ("x", 1, 1, 1.0), params={"lr": "0.10"}, tags={"bad": "1"}),
            logged("nobody", ("x", 1, 1, 1.0)),
            logged("gone", ("x", 1, 1, 1.0)),
            logged("r", ("x", 1, 1, 1.0), ("x", 2**63, 1, 1.0)),
            logged("r", ("x", 1, 2**63, 1.0)),
            logged("r", ("y", 1, 1, 1.0), tags={"bad": "lone \ud800 surrogate"}),
            logged("r", ("x", 2, 2, 2.0), params={"lr": "0.1", "new": "1"}),
            logged("r", ("x", 3, 3, 3.0), params={"new": "2"}),
            batch_of_call("r", tags={"good": "1"}),
        ]
    )
    expected = [
        ParamConflict,
        RunNotFound,
        RunDeleted,
        InvalidValue,
        InvalidValue,
        InvalidValue,
        Ack,
        ParamConflict,
        Ack,
    ]
    assert [type(result) for result in results] == expected
    assert isinstance(results[0], ParamConflict)
    assert (results[0].key, results[0].old, results[0].new) == (
        "lr",
        "0.1",
        "0.10",
    )
    assert rows_of(store, "r", "x") == [(2, 2, 2.0)]
    assert list(store.metrics("r")) == ["x"]
    assert store.params("r") == {"lr": "0.1", "new": "1"}
    assert store.tags("r") == {"good": "1"}


def test_parameters_are_compared_as_text(store: SqlRunStore) -> None:
    """A parameter that a journal wrote as a number is the same when a client sends its text."""
    from tracker.domain.frames import Params

    store.append(batch("r", 1, start_of(), Params(1, 0, {"lr": 0.1, "layers": [1, 2], "name": "x", "none": ""})))
    again = batch_of_call("r", params={"lr": "0.1", "layers": "[1,2]", "name": "x", "none": ""})
    assert store.append_many([again, again]) == [Ack(last=0)] * 2
    assert store.params("r") == {"lr": 0.1, "layers": [1, 2], "name": "x", "none": ""}
    with pytest.raises(ParamConflict):
        store.append(batch_of_call("r", params={"lr": "0.2"}))


def test_points_of_one_step_stand_side_by_side(store: SqlRunStore) -> None:
    """Nothing is replaced: points that differ in time or value are all there, in the order in which they came."""
    store.append(batch("r", 1, start_of()))
    for row in [("x", 0, 5, 1.0), ("x", 0, 5, 2.0), ("x", 0, 4, 1.0), ("x", -3, 9, NAN), ("x", 0, 6, NAN)]:
        store.append(logged("r", row))
        store.append(logged("r", row, row))
    assert rows_of(store, "r", "x") == [(-3, 9, None), (0, 5, 1.0), (0, 5, 2.0), (0, 4, 1.0), (0, 6, None)]
    series = store.metrics("r")["x"]
    assert (series.count, series.min, series.max) == (
        5,
        Extreme(value=1.0, step=0, ms=5),
        Extreme(value=2.0, step=0, ms=5),
    )
    assert series.last is not None
    assert math.isnan(series.last.value)
    assert (series.last.step, series.last.ms) == (0, 6)
    raw = store.history("r", "x", raw=True)
    assert raw.superseded is not None
    assert not raw.superseded.any()
    assert raw.fits is not None
    assert set(raw.fits.tolist()) == {-1}


def test_beside_a_journal(store: SqlRunStore) -> None:
    """A journal's points of one step replace each other and a resumed fit cuts off earlier ones; a client's stay."""
    store.append(batch("r", 1, start_of(), _fit(1, 0), EpochEnded(1_000, 0, 1, None, {"val_loss": 5.0})))
    store.append(batch("r", 4, EpochEnded(1_000, 1, 1, None, {"val_loss": 4.0})))
    store.append(logged("r", ("val_loss", 1, 7_000, 3.0), ("val_loss", 9, 7_000, 8.0), ("val_loss", 1, 1_000, 4.0)))
    assert rows_of(store, "r", "val_loss") == [(0, 1_000, 5.0), (1, 1_000, 4.0), (1, 7_000, 3.0), (9, 7_000, 8.0)]
    assert (store.get_run("r").best_epoch, store.get_run("r").best_value) == (1, 3.0)
    store.append(batch("r", 5, _fit(2, 1), EpochEnded(8_000, 1, 2, None, {"val_loss": 6.0})))
    assert rows_of(store, "r", "val_loss") == [(0, 1_000, 5.0), (1, 7_000, 3.0), (1, 8_000, 6.0), (9, 7_000, 8.0)]
    store.append(logged("r", ("val_loss", 1, 1_000, 4.0), ("val_loss", 2, 9_000, 1.0), ("val_loss", 1, 8_000, 6.0)))
    store.append(batch("r", 7, Points(9_500, "epoch", 1, 0, {"val_loss": 7.0})))
    assert rows_of(store, "r", "val_loss") == [
        (0, 1_000, 5.0),
        (1, 7_000, 3.0),
        (1, 1_000, 4.0),
        (1, 9_500, 7.0),
        (2, 9_000, 1.0),
        (9, 7_000, 8.0),
    ]
    assert store.metrics("r")["val_loss"].count == 6
    assert (store.get_run("r").best_epoch, store.get_run("r").best_value) == (2, 1.0)
    raw = store.history("r", "val_loss", raw=True)
    assert raw.superseded is not None
    assert raw.superseded.sum() == 2


def test_goal_declared_by_a_journal_holds(store: SqlRunStore) -> None:
    """What a journal says is better also decides the best of what a client logs."""
    store.append(batch("r", 1, start_of(), MetricDefined(1, "x", "max", "declared")))
    store.append(logged("r", ("x", 1, 1, 1.0), ("x", 2, 2, 5.0), ("x", 3, 3, math.inf), ("x", 4, 4, -math.inf)))
    series = store.metrics("r")["x"]
    assert (series.goal, series.best) == ("max", Extreme(value=math.inf, step=3, ms=3))


def test_every_change_raises_the_version(any_url: str) -> None:
    """A run's version rises with whatever changes the run, so that what was read at one version can be kept."""
    with open_small(any_url) as store:
        store.append(batch("r", 1, start_of()))
        seen = [version(any_url, "r")]
        for change in (
            lambda: store.append(batch("r", 2, points(1, x=1.0))),
            lambda: store.append(logged("r", ("x", 1, 1, 1.0))),
            lambda: store.append(batch_of_call("r", params={"a": "1"})),
            lambda: store.append(batch_of_call("r", tags={"a": "1"})),
            lambda: store.append(batch_of_call("r", name="b")),
            lambda: store.request_stop("r"),
            lambda: store.delete_run("r"),
            lambda: store.restore_run("r"),
        ):
            change()
            seen.append(version(any_url, "r"))
        assert all(later > earlier for earlier, later in itertools.pairwise(seen))
        lapsed = SqlRunStore(make_engine(any_url), clock=lambda: 2**50, block_points=POINTS)
        with lapsed:
            assert lapsed.get_run("r").status == "lost"
        assert version(any_url, "r") > seen[-1]


# -- together --------------------------------------------------------------------------------------------------------


def test_two_stores_of_one_database(any_url: str) -> None:
    """What a store remembers of a run is right again after another one wrote to it."""
    with open_small(any_url) as one, open_small(any_url) as two:
        one.append(batch("r", 1, start_of()))
        for number in range(20):
            store = (one, two)[number % 2]
            store.append(logged("r", ("x", number // 2, 1, float(number)), (f"k{number}", 0, 1, 1.0)))
            store.append(logged("r", ("x", number // 2, 1, float(number))))
        assert one.metrics("r") == two.metrics("r")
        assert one.metrics("r")["x"].count == 20
        assert len(one.metrics("r")) == 21


def test_many_writers_of_the_same_runs(any_url: str) -> None:
    """Processes that log to the same runs, in whatever order, get through without a deadlock, and nothing is lost."""
    runs = [f"r{number}" for number in range(4)]
    failures: list[object] = []

    def write(writer: int) -> None:
        names = runs if writer % 2 else runs[::-1]
        with open_small(any_url) as own:
            for number in range(15):
                group: list[Any] = [
                    logged(name, ("x", number, writer, 1.0), (f"w{writer}", 0, number, 1.0)) for name in names
                ]
                group.append(batch(names[number % 4], 2 + number, points(number, n=1.0), writer=f"w{writer}"))
                failures.extend(result for result in own.append_many(group) if isinstance(result, Exception))

    with open_small(any_url) as store:
        store.append_many([batch(name, 1, start_of()) for name in runs])
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for name in runs:
            series = store.metrics(name)
            assert series["x"].count == len(store.history(name, "x")) == 60
            assert all(series[f"w{writer}"].count == 15 for writer in range(4))


def test_more_runs_than_are_remembered(any_url: str) -> None:
    """Runs beyond the bound of the cache are read again, with the same results."""
    with SqlRunStore(make_engine(any_url), cached_series=5, block_points=POINTS) as store:
        store.append_many([batch(f"r{number}", 1, start_of()) for number in range(6)])
        for step in range(3):
            for number in range(6):
                store.append(logged(f"r{number}", ("a", step, 1, 1.0), ("b", 0, step, 1.0)))
        assert [store.metrics(f"r{number}")["b"].count for number in range(6)] == [3] * 6


def test_nothing_is_remembered_of_what_failed(store_url: str) -> None:
    """After a transaction that was not taken, the same call stores what it carries."""
    import sqlite3

    with (
        open_small(f"{store_url}?timeout=0") as store,
        closing(sqlite3.connect(store_url[10:], isolation_level=None)) as other,
    ):
        store.append(batch("r", 1, start_of()))
        store.append(logged("r", ("x", 0, 0, 1.0)))
        other.execute("CREATE TRIGGER full BEFORE INSERT ON metric_points BEGIN SELECT RAISE(ABORT, 'full'); END")
        (refused,) = store.append_many([logged("r", ("x", 1, 1, 2.0), ("new", 1, 1, 2.0))])
        assert isinstance(refused, Exception)
        other.execute("DROP TRIGGER full")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.append(logged("r", ("x", 1, 1, 2.0)))
        other.execute("ROLLBACK")
        store.append(logged("r", ("x", 1, 1, 2.0), ("new", 1, 1, 2.0)))
        assert (store.metrics("r")["x"].count, store.metrics("r")["new"].count) == (2, 1)
        assert rows_of(store, "r", "x") == [(0, 0, 1.0), (1, 1, 2.0)]


# -- under load ------------------------------------------------------------------------------------------------------


def load(store: SqlRunStore, url: str) -> int:
    """Log to a run of its own until a group is committed packed; so are all others until the store settles.

    Returns how many are packed now.
    """
    store.append(batch("busy", 1, start_of()))
    steps = itertools.count(-(2**62))
    while not (found := packed(url)):
        for _ in range(2):
            store.append_soon([logged("busy", ("busy", next(steps), 1, 1.0))])
    return found


def packed(url: str) -> int:
    """How many groups of points wait to be moved."""
    return int(_scalar(url, "SELECT count(*) FROM tails"))


def test_packed_points_are_read_like_all_others(any_url: str) -> None:
    """What is committed under load is there for whoever reads, in this process or another, and is moved only once."""
    with open_small(any_url) as store, open_small(any_url) as other:
        store.append(batch("r", 1, start_of()))
        before = load(store, any_url)
        for number in range(3):
            group = [logged("r", ("x", number, 1, 1.0)), logged("r", ("x", number, 1, 1.0), ("y", 0, number, NAN))]
            assert store.append_soon(group) == [Ack(last=0)] * 2
        assert packed(any_url) == before + 3
        assert rows_of(other, "r", "x") == [(0, 1, 1.0), (1, 1, 1.0), (2, 1, 1.0)]
        assert packed(any_url) == 0
        store.settle()
        assert {key: series.count for key, series in store.metrics("r").items()} == {"x": 3, "y": 3}
        store.append_soon([logged("r", ("x", 3, 1, 1.0))])
        store.settle()
        assert packed(any_url) == 0
        assert store.metrics("r")["x"].count == 4


def test_points_of_a_process_that_was_killed(any_url: str) -> None:
    """Packed points that nobody moved are found by whoever opens the store next."""
    with open_small(any_url) as store:
        store.append(batch("r", 1, start_of()))
        before = load(store, any_url)
        store.append_soon([logged("r", ("x", 1, 1, 1.0))])
        assert packed(any_url) == before + 1
    with open_small(any_url) as later:
        assert rows_of(later, "r", "x") == [(1, 1, 1.0)]
        assert later.search_runs("metrics.x = 1").runs[0].id == "r"


def test_refusals_under_load(any_url: str) -> None:
    """Under load, too, each call gets its own error at once, and only valid calls are stored."""
    with open_small(any_url) as store:
        store.append(batch("r", 1, start_of()))
        store.append(batch("gone", 1, start_of()))
        store.delete_run("gone")
        before = load(store, any_url)
        results = store.append_soon(
            [
                logged("r", ("x", 1, 1, 1.0)),
                logged("nobody", ("x", 1, 1, 1.0)),
                logged("gone", ("x", 1, 1, 1.0)),
                logged("r", ("x", 2**63, 1, 1.0)),
            ]
        )
        assert [type(result) for result in results] == [Ack, RunNotFound, RunDeleted, InvalidValue]
        assert packed(any_url) == before + 1
        results = store.append_soon([logged("r", ("x", 2, 1, 1.0)), logged("r", ("bad \ud800 key", 1, 1, 1.0))])
        assert [type(result) for result in results] == [Ack, InvalidValue]
        store.append_soon([logged("r", ("x", 3, 1, 1.0))])
        store.delete_run("r")
        assert [row[0] for row in rows_of(store, "r", "x")] == [1, 2, 3]


def test_readers_and_writers_at_once(any_url: str) -> None:
    """Many that write under load, settle and read: every acknowledged point is there for the next read, and once."""
    failures: list[object] = []

    def write(writer: int) -> None:
        with open_small(any_url) as own:
            load(own, any_url)
            for number in range(20):
                group = [logged(f"r{run}", (f"k{writer}", number, 1, 1.0)) for run in range(3)]
                failures.extend(result for result in own.append_soon(group) if isinstance(result, Exception))
                if number % 4 == writer:
                    own.settle()
                if number % 3 == writer:
                    found = len(own.history("r1", f"k{writer}"))
                    failures.extend([] if found == number + 1 else [(writer, number, found)])

    with open_small(any_url) as store:
        store.append_many([batch(f"r{run}", 1, start_of()) for run in range(3)])
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for run in range(3):
            assert {key: series.count for key, series in store.metrics(f"r{run}").items()} == {
                "k0": 20,
                "k1": 20,
                "k2": 20,
            }


# -- against a plain model -------------------------------------------------------------------------------------------


@dataclass
class Model:
    """The points of one series as a set; everything else is computed from it."""

    points: dict[tuple[int, int, float | None], None] = field(default_factory=dict)

    def add(self, step: int, ms: int, value: float) -> None:
        self.points.setdefault((step, ms, None if value != value else value))

    @property
    def last(self) -> tuple[int, int, float | None]:
        return max(self.points, key=lambda p: (p[0], p[1], 0.0 if p[2] is None else p[2], p[2] is not None))

    def extreme(self, sign: int) -> tuple[int, float] | None:
        """(step, value) of the smallest or largest number; of equal ones that of the smallest step."""
        numbers = [(step, value) for step, _, value in self.points if value is not None]
        return min(numbers, key=lambda number: (sign * number[1], number[0])) if numbers else None


_rows = st.tuples(
    st.sampled_from(["loss", "accuracy", "other"]),
    st.one_of(st.integers(-2, 4), st.sampled_from([-(2**63), 2**63 - 1])),
    st.integers(0, 3),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, NAN, math.inf, -math.inf]),
)
_calls = st.lists(st.lists(_rows, min_size=1, max_size=6), min_size=1, max_size=6)
_groups = st.lists(_calls, min_size=1, max_size=4)


def _same(found: Extreme | None, step: int, value: float | None) -> bool:
    return (
        found is not None
        and found.step == step
        and (found.value == value or (value is None and found.value != found.value))
    )


def _check_model(store: SqlRunStore, run: str, groups: Sequence[Sequence[Sequence[Point]]], *, soon: bool) -> None:
    models: dict[str, Model] = {}
    append = store.append_soon if soon else store.append_many
    for group in groups:
        assert append([logged(run, *call) for call in group]) == [Ack(last=0)] * len(group)
        for call in group:
            for key, step, ms, value in call:
                models.setdefault(key, Model()).add(step, ms, value)
    summaries = store.metrics(run)
    assert summaries.keys() == models.keys()
    for key, model in models.items():
        found, rows = summaries[key], rows_of(store, run, key)
        assert found.count == len(rows) == len(model.points)
        assert set(rows) == set(model.points)
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        step, ms, value = model.last
        assert _same(found.last, step, value)
        assert found.last is not None
        assert found.last.ms == ms
        for extreme, sign in ((found.min, 1), (found.max, -1)):
            wanted = model.extreme(sign)
            assert extreme is None if wanted is None else _same(extreme, *wanted)
        assert found.best == {"min": found.min, "max": found.max, None: None}[found.goal]


@pytest.fixture(scope="module")
def model_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlRunStore]:
    with open_small(f"sqlite:///{tmp_path_factory.mktemp('model')}/tracker.db") as opened:
        yield opened


_runs = itertools.count(1)


@settings(max_examples=examples(300), deadline=None)
@given(groups=_groups, soon=st.booleans())
def test_summaries_equal_a_plain_model(model_store: SqlRunStore, groups: list[list[list[Point]]], soon: bool) -> None:
    """Whatever comes in whatever order, split up in whatever way: each point once, and the summary is of all of them."""
    run = f"r{next(_runs)}"
    model_store.append(batch(run, 1, start_of()))
    _check_model(model_store, run, groups, soon=soon)


@pytest.mark.parametrize("soon", [False, True])
def test_summaries_equal_a_plain_model_everywhere(store: SqlRunStore, any_url: str, soon: bool) -> None:
    """The same on each database, for one long run of calls."""
    import random

    chance = random.Random(7)
    values = [0.0, -0.0, 1.0, -1.0, 2.5, NAN, math.inf, -math.inf]
    groups = [
        [
            [
                (
                    chance.choice(["loss", "accuracy"]),
                    chance.randint(-3, 9),
                    chance.randint(0, 9),
                    chance.choice(values),
                )
                for _ in range(chance.randint(1, 20))
            ]
            for _ in range(3)
        ]
        for _ in range(25)
    ]
    store.append(batch("r", 1, start_of()))
    if soon:
        load(store, any_url)
    _check_model(store, "r", groups, soon=soon)


def _fit(number: int, first_epoch: int) -> FitStarted:
    return FitStarted(
        ms=1_000,
        number=number,
        phase=1,
        first_epoch=first_epoch,
        first_step=first_epoch * 10,
        phase_epoch=0,
        phase_step=0,
        epochs=None,
        steps_per_epoch=10,
        batch_size=None,
        resumed_from=None,
        host="here",
    )

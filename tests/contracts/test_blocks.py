"""Long series in blocks: every point is there once, bit for bit, and thinned histories show what all points show."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
from draws import examples
from e2e.server_lab import served
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.compose import open_store
from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidRecord, InvalidValue, RunNotFound, SeriesNotFound
from tracker.domain.frames import FitStarted, Frame, Points, RunEnded, RunStarted
from tracker.domain.records import History
from tracker.store.engine import make_engine
from tracker.store.points.block_codec import SeriesRows
from tracker.store.points.blocks import Header, headers
from tracker.store.points.blocks import points as block_points
from tracker.store.points.series_rows import HIGHEST, LOWEST, read_pieces, read_points
from tracker.store.store import SqlRunStore

KEY = "loss"
SERIES = (
    "SELECT s.id, s.count, s.sealed_step, s.sealed_count FROM series s JOIN runs r ON r.id = s.run_id"
    " WHERE r.uid = :uid AND s.key = 'loss'"
)
numbered = st.tuples(st.just("rising"), st.integers(1, 2500), st.integers(1, 3))
again = st.tuples(st.just("again"), st.integers(1, 3000), st.integers(1, 300))
unnumbered = st.tuples(st.just("unnumbered"), st.integers(-3000, 1500), st.integers(1, 2500), st.integers(0, 6))
fit = st.tuples(st.just("fit"), st.integers(0, 2500))
acts = st.lists(numbered | again | unnumbered | fit, min_size=1, max_size=7)


@dataclass
class Trainer:
    """Writes one series of one run, as a journal and as a client without one."""

    store: SqlRunStore
    run_id: str
    number: int = 0
    fits: int = 0
    top: int = 0
    ms: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def send(self, *frames: Frame) -> None:
        batch = make_batch(self.run_id, "w", list(enumerate(frames, self.number + 1)))
        self.number += len(frames)
        self.store.append(batch)

    def start(self) -> None:
        self.send(RunStarted(1000, "Default", "n", "file:///x", "host", 1))

    def end(self) -> None:
        self.send(RunEnded(9000, "finished", None))

    def values(self, count: int) -> list[float]:
        """Numbers, with here and there NaN, and here and there nothing but NaN for a while."""
        values = self.rng.standard_normal(count)
        values[self.rng.random(count) < 0.1] = np.nan
        if count > 1000 and self.rng.random() < 0.5:
            values[100:900] = np.nan
        return [float(value) for value in values]

    def rising(self, count: int, gap: int) -> None:
        steps = range(self.top + 1, self.top + 1 + count * gap, gap)
        self.top = steps[-1]
        self.points(list(steps))

    def again(self, back: int, count: int) -> None:
        first = max(self.top - back, 0)
        self.points([first + int(place) for place in self.rng.permutation(count)])
        self.top = max(self.top, first + count - 1)

    def points(self, steps: list[int]) -> None:
        values = self.values(len(steps))
        frames = [
            Points(2000 + step, "step", step, self.fits, {KEY: value})
            for step, value in zip(steps, values, strict=True)
        ]
        self.send(*frames)

    def unnumbered(self, offset: int, count: int, gap: int) -> None:
        steps = [self.top + offset + place * gap // 3 for place in range(count)]
        self.top = max(self.top, steps[-1])
        self.ms += count
        ms = [self.ms + int(one) for one in self.rng.permutation(count)]
        self.store.append(batch_of_call(self.run_id, [KEY] * count, steps, ms, self.values(count)))

    def fit(self, back: int) -> None:
        self.fits += 1
        first = max(self.top - back, 0)
        self.send(FitStarted(3000, self.fits, 1, 0, first, 0, 0, 10, 10, 32, None, "h"))
        self.top = max(first - 1, 0)


def triples(history: History) -> list[tuple[int, int, float | None]]:
    columns = (history.steps.tolist(), history.ms.tolist(), history.values.tolist())
    return [(step, ms, None if value != value else value) for step, ms, value in zip(*columns, strict=True)]


def assert_shows(shown: History, full: History, most: int) -> None:
    """`shown` is `full` for somebody who looks from afar, in at most `most` points."""
    points, every = triples(shown), triples(full)
    assert len(points) <= most
    assert set(points) <= set(every)
    assert len(set(points)) == len(points) or len(every) <= most
    assert [point[0] for point in points] == sorted(point[0] for point in points)
    if not every:
        assert not points
        return
    if len(every) <= most:
        assert points == every
        return
    assert (points[0], points[-1]) == (every[0], every[-1])
    if not np.isnan(full.values).all():
        assert np.nanmin(shown.values) == np.nanmin(full.values)
        assert np.nanmax(shown.values) == np.nanmax(full.values)


@dataclass(frozen=True)
class Stored:
    """How the points of a series are stored."""

    rows: int
    blocks: list[Header]


def stored(url: str, run_id: str, raw: History) -> Stored:
    """Where the points of a series are. Fails unless each of `raw` is in one place, and the blocks say true things."""
    engine = make_engine(url)
    with engine.connect() as connection:
        one = connection.execute(text(SERIES), {"uid": run_id}).one()
        found = headers(connection, one.id, LOWEST, HIGHEST, extremes=True)
        rows = read_points(connection, one.id, -1, started_ms=1000)
        every = [rows]
        for header in found:
            points = block_points(connection, one.id, header).since(1000)
            every.append(points)
            assert (header.first, header.last) == (places(points)[0], places(points)[-1])
            assert (header.min_offset_ms, header.max_offset_ms) == (points.ms.min() - 1000, points.ms.max() - 1000)
            assert header.fit in {None, *points.fits.tolist()}
            assert one.sealed_step >= header.last_step
    engine.dispose()
    assert len({place for part in every for place in places(part)}) == sum(map(len, every)) == len(raw)
    assert [one.first for one in found] == sorted(one.first for one in found)
    assert one.count - one.sealed_count == len(rows)
    assert (one.sealed_step == -1) == (not found)
    return Stored(len(rows), found)


def places(points: SeriesRows) -> list[tuple[int, int]]:
    return list(zip(points.steps.tolist(), points.takes.tolist(), strict=True))


_runs = iter(range(10**6))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([8, 100, 700]), acts, st.data())
def test_blocks_show_what_the_points_show(
    any_url: str, block: int, wanted: list[tuple[object, ...]], data: st.DataObject
) -> None:
    """Whatever was written in whatever order: each point is there once, and thinned histories have the extremes."""
    with (
        SqlRunStore.open(any_url, block_points=block) as store,
        SqlRunStore.open(any_url, block_points=0) as of_rows,
    ):
        trainer, plain = (Trainer(one, f"r{next(_runs)}") for one in (store, of_rows))
        for one in (trainer, plain):
            one.start()
            for kind, *numbers in wanted:
                getattr(one, str(kind))(*numbers)
        if all(kind == "fit" for kind, *_ in wanted):
            return
        full, raw = store.history(trainer.run_id, KEY), store.history(trainer.run_id, KEY, raw=True)
        note(f"{len(full)} points")
        assert triples(full) == triples(store.history(plain.run_id, KEY))
        assert triples(raw) == triples(store.history(plain.run_id, KEY, raw=True))
        assert repr(store.metrics(trainer.run_id)) == repr(store.metrics(plain.run_id))
        assert not stored(any_url, plain.run_id, raw).blocks
        there = stored(any_url, trainer.run_id, raw)
        for most in (4, data.draw(st.integers(4, 60)), 320):
            assert_shows(store.history(trainer.run_id, KEY, max_points=most), full, most)
        first, last = sorted(data.draw(st.tuples(*[st.integers(-3000, 15_000)] * 2)))
        part = store.history(trainer.run_id, KEY, first_step=first, last_step=last)
        inside = (full.steps >= first) & (full.steps <= last)
        assert triples(part) == [point for point, kept in zip(triples(full), inside, strict=True) if kept]
        for most in (10, 40):
            shown = store.history(trainer.run_id, KEY, max_points=most, first_step=first, last_step=last)
            assert_shows(shown, part, most)
        with store.spool_history(trainer.run_id, KEY, raw=True) as spooled:
            assert spooled.count == len(raw)
            assert [spooled.column(name).tobytes() for name in ("steps", "ms", "values", "fits", "superseded")] == [
                column.tobytes() for column in (raw.steps, raw.ms, raw.values, raw.fits, raw.superseded)
            ]
        trainer.end()
        assert stored(any_url, trainer.run_id, raw).rows <= max(block // 4, 1) or there.rows > 16 * block
        assert triples(store.history(trainer.run_id, KEY, raw=True)) == triples(raw)


def test_long_series_are_sealed_as_they_grow(any_url: str) -> None:
    """Of a long series only the newest points stay rows, however few come at a time; a short one has no block."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "small")
        trainer.start()
        for _ in range(24):
            trainer.rising(50, 1)
        assert not stored(any_url, "small", store.history("small", KEY, raw=True)).blocks
        for _ in range(36):
            trainer.rising(50, 1)
        for _ in range(60):
            trainer.unnumbered(1, 50, 2)
        there = stored(any_url, "small", store.history("small", KEY, raw=True))
        assert there.rows <= 1250
        assert {one.count for one in there.blocks} == {1000}
        trainer.end()
        there = stored(any_url, "small", store.history("small", KEY, raw=True))
        assert (there.rows, sum(one.count for one in there.blocks)) == (0, 6000)


def test_a_backlog_goes_into_blocks_directly(any_url: str) -> None:
    """A batch with the points of half a block or more leaves no rows of a long series."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "backlog")
        trainer.start()
        trainer.rising(9400, 1)
        there = stored(any_url, "backlog", store.history("backlog", KEY, raw=True))
        assert (there.rows, len(there.blocks), sum(one.count for one in there.blocks)) == (0, 9, 9400)
        trainer.rising(100, 1)
        trainer.rising(500, 1)
        there = stored(any_url, "backlog", store.history("backlog", KEY, raw=True))
        assert (there.rows, there.blocks[-1].count) == (0, 600)


def test_two_ends_written_in_turn(any_url: str) -> None:
    """Points far behind the end are stored beside the blocks, and shown with them."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "turns")
        trainer.start()
        trainer.unnumbered(10_000, 5000, 2)
        for turn in range(30):
            trainer.top = 50 * turn
            trainer.unnumbered(0, 50, 2)
        full = store.history("turns", KEY)
        there = stored(any_url, "turns", full)
        assert len(full) == 6500
        assert len(there.blocks) > 4
        assert_shows(store.history("turns", KEY, max_points=10), full, 10)


def test_training_resumed_from_far_back(any_url: str) -> None:
    """The blocks of what a later fit superseded stay as they are, and are left out of what is shown."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "resumed")
        trainer.start()
        trainer.fit(0)
        trainer.rising(80_000, 1)
        trainer.fit(80_000)
        trainer.rising(3, 35_000)
        for _ in range(8):
            trainer.rising(300, 1)
        full = store.history("resumed", KEY)
        assert len(full) == 2403
        there = stored(any_url, "resumed", store.history("resumed", KEY, raw=True))
        assert there.rows <= 1250
        assert sum(one.count for one in there.blocks if one.fit == 1) >= 79_000
        assert_shows(store.history("resumed", KEY, max_points=12), full, 12)


def test_points_of_one_step(any_url: str) -> None:
    """Who logs without steps has all points at one: they are sealed and shown as they came, and none is stored twice."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "flat")
        trainer.start()
        values = trainer.values(6000)
        for start in range(0, 6000, 1500):
            part = slice(start, start + 1500)
            call = batch_of_call("flat", [KEY] * 1500, [0] * 1500, list(range(6000))[part], values[part])
            for _ in range(2):
                store.append(call)
        full = store.history("flat", KEY)
        assert [point[1] for point in triples(full)] == list(range(6000))
        there = stored(any_url, "flat", full)
        assert sum(one.count for one in there.blocks) == 5750
        store.append(batch_of_call("flat", [KEY] * 6000, [0] * 6000, list(range(6000)), values))
        assert triples(store.history("flat", KEY)) == triples(full)
        assert_shows(store.history("flat", KEY, max_points=50), full, 50)


def test_a_store_of_rows_is_sealed_when_it_is_written(any_url: str) -> None:
    """A series of which nothing is sealed reads right, and is sealed by and by when it is written next."""
    with SqlRunStore.open(any_url, block_points=0) as store:
        trainer = Trainer(store, "old")
        trainer.start()
        trainer.rising(40_000, 1)
        assert stored(any_url, "old", store.history("old", KEY)).rows == 40_000
    with SqlRunStore.open(any_url, block_points=1000) as again:
        full = again.history("old", KEY)
        assert_shows(again.history("old", KEY, max_points=60), full, 60)
        trainer.store = again
        for _ in range(3):
            trainer.rising(1, 1)
        full = again.history("old", KEY)
        assert stored(any_url, "old", full).rows <= 1250
        assert_shows(again.history("old", KEY, max_points=60), full, 60)


def test_removed_runs_leave_no_block(any_url: str) -> None:
    """What is removed for good is removed from all tables of points."""
    with SqlRunStore.open(any_url, block_points=8) as store:
        trainer = Trainer(store, "gone")
        trainer.start()
        trainer.rising(100, 1)
        store.delete_run("gone")
        store.catalogue.runs.remove("gone")
    engine = make_engine(any_url)
    with engine.connect() as connection:
        for table in ("metric_points", "metric_blocks"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data", b"nonsense"),
        ("data", b""),
        ("codec", 7),
        ("count", 2**31 - 1),
        ("count", 0),
        ("extremes", b"x"),
        ("fit", "f"),
    ],
)
def test_a_block_that_nobody_of_us_wrote(store_url: str, column: str, value: object) -> None:
    """A damaged block is an error that names its column, for whoever reads it, and no wrong number."""
    with SqlRunStore.open(store_url, block_points=1000) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        trainer.rising(9400, 1)
        with sqlite3.connect(store_url[10:]) as connection:
            connection.execute(f"UPDATE metric_blocks SET {column} = ?", (value,))
        connection.close()
        for asked in ({}, {"max_points": 8}, {"first_step": 3000, "last_step": 3500}):
            if column == "extremes" and "max_points" not in asked:
                continue
            with pytest.raises(InvalidRecord, match=r"metric_blocks\."):
                store.history("r", KEY, **asked)


def write_in_turn(url: str, run_id: str, writer: str, started: Any) -> None:
    """Write a thousand points of a run that another process writes too."""
    with SqlRunStore.open(url, block_points=8) as store:
        started.wait()
        for step in range(0, 1000, 5):
            frames = [
                Points(2000, "step", step + i, 0, {f"{KEY}": float(step + i), f"of-{writer}": 1.0}) for i in range(5)
            ]
            store.append(make_batch(run_id, writer, list(enumerate(frames, step + 1))))


def test_two_processes_seal_one_series(any_url: str) -> None:
    """Nothing is lost, doubled or sealed twice when two processes write the same series at once."""
    with SqlRunStore.open(any_url, block_points=8) as store:
        Trainer(store, "r").start()
        context = preloaded.context()
        started = context.Barrier(2)
        both = [context.Process(target=write_in_turn, args=(any_url, "r", name, started)) for name in ("a", "b")]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        raw = store.history("r", KEY, raw=True)
        assert sorted(raw.values.tolist()) == sorted([float(step) for step in range(1000)] * 2)
        stored(any_url, "r", raw)
        assert store.history("r", KEY).values.tolist() == [float(step) for step in range(1000)]
        assert len(store.history("r", "of-a")) == 1000


def test_history_over_http(any_url: str, tmp_path: Path) -> None:
    """A tracking server answers the same histories, of a part of the steps too."""
    store = SqlRunStore.open(any_url, block_points=700)
    trainer = Trainer(store, "far")
    trainer.start()
    trainer.rising(6000, 1)
    asked: list[dict[str, Any]] = [
        {},
        {"max_points": 20},
        {"first_step": 100, "last_step": 5000},
        {"first_step": 100, "last_step": 5000, "max_points": 10},
        {"first_step": 5990},
        {"last_step": -1},
        {"last_step": 10**30},
    ]
    with (
        closing(store),
        served(store, LocalArtifacts(tmp_path / "artifacts")) as url,
        closing(open_store(url)) as far,
    ):
        for arguments in asked:
            here, there = store.history("far", KEY, **arguments), far.history("far", KEY, **arguments)
            assert triples(here) == triples(there)
        assert len(far.history("far", KEY, first_step=100, last_step=5000)) == 4901
        with pytest.raises(RunNotFound):
            store.history("nobody", KEY)
        with pytest.raises(SeriesNotFound):
            far.history("far", "nothing")
        for wrong in (store, far):
            with pytest.raises(InvalidValue, match="first_step"):
                wrong.history("far", KEY, first_step="a")  # type: ignore[arg-type]


def test_a_damaged_block_hides_no_other_run(store_url: str) -> None:
    """Points that wait in the write buffer for a series that cannot be read keep nobody from reading another."""
    with SqlRunStore.open(store_url, block_points=8) as store:
        for name in ("damaged", "whole"):
            trainer = Trainer(store, name)
            trainer.start()
            trainer.unnumbered(0, 50, 3)
        with closing(sqlite3.connect(store_url[10:])) as connection, connection:
            connection.execute(
                "UPDATE metric_blocks SET data = x'00' WHERE series_id IN (SELECT s.id FROM series s"
                " JOIN runs r ON r.id = s.run_id WHERE r.uid = 'damaged')"
            )
        for _ in range(3):
            store.append_soon([batch_of_call(name, [KEY], [1], [7], [0.5]) for name in ("damaged", "whole")])
        assert len(store.history("whole", KEY)) == 51
        assert store.get_run("damaged").name == "n"
        with pytest.raises(InvalidRecord, match="metric_blocks"):
            store.history("damaged", KEY)


def test_late_points_of_a_series_in_random_order(any_url: str) -> None:
    """Blocks that all overlap are read in pieces: no piece has many more points than are asked for."""
    with SqlRunStore.open(any_url, block_points=64) as store:
        Trainer(store, "r").start()
        steps = np.random.default_rng(5).permutation(6000).tolist()
        for at in range(0, 6000, 300):
            part = steps[at : at + 300]
            store.append(batch_of_call("r", [KEY] * 300, part, part, [step / 7 for step in part]))
        engine = make_engine(any_url)
        with engine.connect() as connection:
            one = connection.execute(text(SERIES), {"uid": "r"}).one().id
            assert len(headers(connection, one, LOWEST, HIGHEST)) > 60
            pieces = [len(piece) for piece in read_pieces(connection, one, 200, started_ms=0)]
        engine.dispose()
        assert sum(pieces) == 6000
        assert max(pieces) <= 600
        assert store.history("r", KEY).steps.tolist() == list(range(6000))


def test_a_point_written_again_across_blocks(any_url: str) -> None:
    """What a later block replaces is not shown, also if blocks of points without numbers lie between the two."""
    with SqlRunStore.open(any_url, block_points=8) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        for steps in (range(1, 91), range(91, 101)):
            trainer.send(*[Points(2000, "step", step, 0, {KEY: 99.0 if step == 100 else 1.0}) for step in steps])
        for first, count in ((0, 20), (20, 1)):
            times = list(range(3000 + first, 3000 + first + count))
            store.append(batch_of_call("r", [KEY] * count, [100] * count, times, [2.0] * count))
        list(store.compaction.compact())
        trainer.send(*[Points(2000, "step", step, 0, {KEY: 3.0}) for step in range(100, 113)])
        full = store.history("r", KEY)
        there = stored(any_url, "r", store.history("r", KEY, raw=True)).blocks
        assert {0, -1} == {one.fit for one in there if one.last_step >= 100}
        assert np.max(full.values) == 3.0
        for most in (4, 8, 20):
            assert_shows(store.history("r", KEY, max_points=most), full, most)


@pytest.mark.parametrize("count", [0, -255])
def test_a_block_that_says_it_is_empty(store_url: str, count: int) -> None:
    """A number of points that no block has is an error, also where only the extremes are read."""
    with SqlRunStore.open(store_url, block_points=1000) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        trainer.rising(9400, 1)
        with closing(sqlite3.connect(store_url[10:])) as connection, connection:
            connection.execute(
                "UPDATE metric_blocks SET count = ?, extremes = x'' WHERE first_step ="
                " (SELECT first_step FROM metric_blocks ORDER BY first_step LIMIT 1 OFFSET 3)",
                (count,),
            )
        for asked in ({}, {"max_points": 8}, {"first_step": 10}):
            with pytest.raises(InvalidRecord, match="metric_blocks.count"):
                store.history("r", KEY, **asked)
        with pytest.raises(InvalidRecord, match="metric_blocks.count"):
            store.spool_history("r", KEY)

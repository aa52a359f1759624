"""Thinned histories of long series: read from rollups, they show what all points show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
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
from tracker.domain.errors import InvalidValue, RunNotFound, SeriesNotFound
from tracker.domain.frames import FitStarted, Frame, Points, RunStarted
from tracker.domain.records import History
from tracker.store.engine import make_engine
from tracker.store.points.rollups import LEAST
from tracker.store.store import SqlRunStore

KEY = "loss"
SERIES = "SELECT s.id, s.rolled_step, s.rolled_count FROM series s JOIN runs r ON r.id = s.run_id WHERE r.uid = :uid"
STRETCHES = "SELECT * FROM metric_rollups WHERE series_id = :id ORDER BY first_step"
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


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    with SqlRunStore.open(any_url) as store:
        yield store


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


def assert_true(url: str, run_id: str, full: History) -> int:
    """What is rolled up is what the visible points are, whole steps at a time, without a gap; how many points that is."""
    engine = make_engine(url)
    with engine.connect() as connection:
        rolled = connection.execute(text(SERIES), {"uid": run_id}).one()
        rows = connection.execute(text(STRETCHES), {"id": rolled.id}).mappings().all()
    engine.dispose()
    assert rolled.rolled_count == sum(row["count"] for row in rows)
    at = 0
    for row in rows:
        inside = slice(at, at + row["count"])
        steps, values = full.steps[inside], full.values[inside]
        assert (row["first_step"], row["last_step"]) == (steps[0], steps[-1])
        assert at == 0 or full.steps[at - 1] < steps[0]
        numbers = values[~np.isnan(values)]
        points = set(
            zip(steps.tolist(), (full.ms[inside] - 1000).tolist(), np.nan_to_num(values, nan=9e9).tolist(), strict=True)
        )
        for name, extreme in (("min", np.min), ("max", np.max)):
            value = row[f"{name}_value"]
            assert value == (extreme(numbers) if len(numbers) else None)
            there = (row[f"{name}_step"], row[f"{name}_offset_ms"], 9e9 if value is None else value)
            assert there in points
        at += row["count"]
    if rows:
        assert rolled.rolled_step == rows[-1]["last_step"] == full.steps[at - 1]
        assert at == len(full) or full.steps[at] > rolled.rolled_step
    return at


_runs = iter(range(10**6))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts, st.data())
def test_rollups_show_what_the_points_show(
    store: SqlRunStore, any_url: str, wanted: list[tuple[object, ...]], data: st.DataObject
) -> None:
    """Whatever was written in whatever order: the thinned history has the ends and the extremes of the whole one."""
    trainer = Trainer(store, f"r{next(_runs)}")
    trainer.start()
    for kind, *numbers in wanted:
        getattr(trainer, str(kind))(*numbers)
    if all(kind == "fit" for kind, *_ in wanted):
        return
    full = store.history(trainer.run_id, KEY)
    note(f"{len(full)} points")
    for most in (4, data.draw(st.integers(4, 60)), 320):
        assert_shows(store.history(trainer.run_id, KEY, max_points=most), full, most)
    first, last = sorted(data.draw(st.tuples(*[st.integers(-3000, 15_000)] * 2)))
    part = store.history(trainer.run_id, KEY, first_step=first, last_step=last)
    inside = (full.steps >= first) & (full.steps <= last)
    assert triples(part) == [point for point, kept in zip(triples(full), inside, strict=True) if kept]
    for most in (10, 40):
        shown = store.history(trainer.run_id, KEY, max_points=most, first_step=first, last_step=last)
        assert_shows(shown, part, most)
    assert_true(any_url, trainer.run_id, full)


def test_long_series_are_rolled_up_as_they_grow(store: SqlRunStore, any_url: str) -> None:
    """Of a long series all but the newest points stand in stretches, however few come at a time."""
    trainer = Trainer(store, "small")
    trainer.start()
    for _ in range(60):
        trainer.rising(50, 1)
    for _ in range(60):
        trainer.unnumbered(1, 50, 2)
    assert assert_true(any_url, "small", store.history("small", KEY)) >= 6000 - LEAST - 50


def test_two_ends_written_in_turn(store: SqlRunStore, any_url: str) -> None:
    """Points far behind the end are added to the stretches that stand; the others stay."""
    trainer = Trainer(store, "turns")
    trainer.start()
    trainer.unnumbered(10_000, 5000, 2)
    before = assert_true(any_url, "turns", store.history("turns", KEY))
    for turn in range(20):
        trainer.top = 50 * turn
        trainer.unnumbered(0, 50, 2)
    full = store.history("turns", KEY)
    assert assert_true(any_url, "turns", full) == before + 1000
    assert_shows(store.history("turns", KEY, max_points=10), full, 10)


def test_training_taken_up_from_far_back(store: SqlRunStore, any_url: str) -> None:
    """What supersedes tens of thousands of points with few is rolled up all the same."""
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
    assert assert_true(any_url, "resumed", full) > 1000
    assert_shows(store.history("resumed", KEY, max_points=12), full, 12)


def test_points_of_one_step(store: SqlRunStore, any_url: str) -> None:
    """Who logs without steps has all points at one: they are shown as they came, and no stretch parts them."""
    trainer = Trainer(store, "flat")
    trainer.start()
    for _ in range(4):
        trainer.unnumbered(0, 1500, 0)
    full = store.history("flat", KEY)
    assert len(full) == 6000
    assert assert_true(any_url, "flat", full) == 0
    assert_shows(store.history("flat", KEY, max_points=50), full, 50)


def test_store_from_before_there_were_rollups(store: SqlRunStore, any_url: str) -> None:
    """A series of which nothing is rolled up reads right, and is rolled up when it is written next."""
    trainer = Trainer(store, "old")
    trainer.start()
    trainer.rising(40_000, 1)
    full = store.history("old", KEY)
    engine = make_engine(any_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM metric_rollups"))
        connection.execute(text("UPDATE series SET rolled_step = -1, rolled_count = 0"))
    engine.dispose()
    with SqlRunStore.open(any_url) as again:
        assert triples(again.history("old", KEY)) == triples(full)
        assert_shows(again.history("old", KEY, max_points=60), full, 60)
        trainer.store = again
        trainer.rising(1, 1)
        trainer.rising(1, 1)
        full = again.history("old", KEY)
        assert assert_true(any_url, "old", full) > 39_000
        assert_shows(again.history("old", KEY, max_points=60), full, 60)


def test_history_over_http(store: SqlRunStore, tmp_path: Path) -> None:
    """A tracking server answers the same histories, of a part of the steps too."""
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
    with served(store, LocalArtifacts(tmp_path / "artifacts")) as url, closing(open_store(url)) as far:
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

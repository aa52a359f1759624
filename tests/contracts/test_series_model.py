"""Random sequences of everything that writes, seals or moves points, against a plain list that knows the rules."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from contracts.test_blocks import KEY, assert_shows, stored, triples
from draws import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import Batch, EventLogged, FitStarted, Frame, Points, RunEnded, RunStarted
from tracker.domain.records import History
from tracker.store.store import SqlRunStore

UNNUMBERED = -1
ODD_VALUES = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, -1.7e308)
LOWEST, HIGHEST = -(2**63), 2**63 - 1
Point = tuple[int, int, float | None]
"""Step, time and value (None: NaN)."""


@dataclass
class PlainList:
    """The points of one series in the order in which they were stored, and the rules of what is shown."""

    points: list[tuple[Point, int]] = field(default_factory=list)
    """Each with its fit."""
    starts: dict[int, int] = field(default_factory=dict)
    """Where each fit begins."""

    def _is_superseded(self, point: Point, fit: int) -> bool:
        return fit > 0 and any(fit < later and point[0] >= begin for later, begin in self.starts.items())

    def shown(self) -> list[Point]:
        """All points that clients without a journal logged; of others those that no fit and no later one replaced."""
        last: dict[int, Point] = {}
        for point, fit in self.points:
            if fit != UNNUMBERED and not self._is_superseded(point, fit):
                last[point[0]] = point
        return [point for point, fit in self.points if fit == UNNUMBERED] + list(last.values())

    def log(self, points: list[Point]) -> None:
        """What a client without a journal logs: stored once."""
        there = set(self.shown())
        for point in points:
            if point not in there:
                there.add(point)
                self.points.append((point, UNNUMBERED))


@dataclass
class Writers:
    """Writes one series in many ways, to a store and to the plain list."""

    url: str
    run_id: str
    stores: list[SqlRunStore]
    random: random.Random
    plain: PlainList = field(default_factory=PlainList)
    numbers: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, list[Frame]]] = field(default_factory=list)
    """Journals that have not arrived yet."""
    fits: int = 0
    top: int = 0

    @property
    def store(self) -> SqlRunStore:
        return self.random.choice(self.stores)

    def batch(self, writer: str, frames: list[Frame]) -> Batch:
        # Calls that wait in the write buffer may be stored after a journal that comes later: here they are first.
        self.store.get_run(self.run_id)
        first = self.numbers.get(writer, 0) + 1
        self.numbers[writer] = first + len(frames) - 1
        return make_batch(self.run_id, writer, list(enumerate(frames, first)))

    def value(self) -> float:
        return self.random.choice(ODD_VALUES) if self.random.random() < 0.1 else self.random.choice([1, 2, 3]) / 7

    def frames(self, fit: int, first: int, count: int, gap: int, in_order: bool) -> list[Frame]:
        steps = [max(first + place * gap, 0) for place in range(count)]
        if not in_order:
            self.random.shuffle(steps)
        times = [self.random.choice([2000 + step, self.random.randrange(9000)]) for step in steps]
        return [Points(ms, "step", step, fit, {KEY: self.value()}) for ms, step in zip(times, steps, strict=True)]

    def arrived(self, frames: list[Frame]) -> None:
        for one in frames:
            if isinstance(one, Points):
                self.plain.points.append((point(one.step, one.ms, one.values[KEY]), one.fit))
                self.top = max(self.top, one.step)
            elif isinstance(one, FitStarted):
                self.plain.starts[one.number] = one.first_step

    def journal(self, back: int, count: int, gap: int, in_order: bool) -> None:
        """Points of the newest fit; those of an earlier one, or outside any, now and then."""
        fit = self.fits if self.random.random() < 0.8 else self.random.randint(0, self.fits)
        frames = self.frames(fit, self.top + 1 - back, count, gap, in_order)
        self.store.append(self.batch(f"w{fit}", frames))
        self.arrived(frames)

    def late(self, back: int, count: int, gap: int, in_order: bool) -> None:
        """Points that arrive later, with `arrive`, when other fits may have begun."""
        self.waiting.append((f"w{self.fits}", self.frames(self.fits, self.top + 1 - back, count, gap, in_order)))

    def arrive(self) -> None:
        for writer, frames in self.waiting:
            self.store.append(self.batch(writer, frames))
            self.arrived(frames)
        self.waiting.clear()

    def resume(self, back: int) -> None:
        """A new fit from an earlier step on; with a batch that has points of the fit before it, and of its own."""
        before = self.frames(self.fits, self.top + 1, self.random.choice([0, 0, 20]), 1, True)
        top = self.top + len(before)
        self.fits += 1
        begin = max(top + 1 - back, 0)
        started = FitStarted(3000, self.fits, 1, 0, begin, 0, 0, 10, 10, 32, None, "h")
        after = self.frames(self.fits, begin, self.random.choice([0, 1, 30]), 1, True)
        frames = [*before, started, *after]
        self.store.append(self.batch(f"w{self.fits - 1}", frames))
        self.arrived(frames)
        self.top = begin + len(after)

    def call_points(self, back: int, count: int, gap: int, in_order: bool) -> list[tuple[int, int, float]]:
        step = self.top + 1 - back
        points = [(step + place * gap // 2, 1000 + step + place // 3, self.value()) for place in range(count)]
        known = [(*one[:2], float("nan") if one[2] is None else one[2]) for one in self.plain.shown()]
        if known and self.random.random() < 0.5:
            points += self.random.choices(known, k=min(len(known), count))
        if self.random.random() < 0.1:
            points.append((self.random.choice([LOWEST, -1, HIGHEST]), self.random.choice([-(2**62), 2**62 - 1]), 0.5))
        if not in_order:
            self.random.shuffle(points)
        return points

    def call(self, back: int, count: int, gap: int, in_order: bool) -> None:
        """Points of a client without a journal, some of them a second time."""
        self.calls([self.call_points(back, count, gap, in_order)], soon=False)

    def soon(self, back: int, count: int, gap: int, in_order: bool) -> None:
        """Many calls in quick succession, which may wait in the write buffer."""
        points = self.call_points(back, count, gap, in_order)
        self.calls([points[at : at + 3] for at in range(0, len(points), 3)], soon=True)

    def calls(self, calls: list[list[tuple[int, int, float]]], *, soon: bool) -> None:
        store = self.store
        for points in calls:
            steps, ms, values = zip(*points, strict=True)
            batch = batch_of_call(self.run_id, [KEY] * len(points), steps, ms, values)
            (answer,) = store.append_soon([batch]) if soon else store.append_many([batch])
            assert not isinstance(answer, Exception)
        if soon and self.random.random() < 0.5:
            store.settle()
        # The store keeps no order among calls that wait; nor does a list that keeps each once.
        self.plain.log([point(*one) for points in calls for one in points])
        self.top = max(self.top, *(step for points in calls for step, _, _ in points if abs(step) < 2**62), 0)

    def refused(self, count: int) -> None:
        """A group in which the database refuses one batch, after it has stored points of it."""
        fit = self.fits
        good, bad = (self.frames(fit, self.top + 1, count, 1, True) for _ in range(2))
        refused = [*bad, EventLogged(1, "event", 2**70, None, 0, {})]
        first = self.batch(f"w{fit}", good)
        number = self.numbers[f"w{fit}"] + 1
        group = [first, make_batch(self.run_id, f"w{fit}", list(enumerate(refused, number)))]
        answers = self.store.append_many(group)
        assert not isinstance(answers[0], Exception)
        assert isinstance(answers[1], InvalidValue)
        self.arrived(good)

    def compact(self) -> None:
        list(self.store.compaction.compact())

    def end(self) -> None:
        """The run ends; whoever writes more opens it again."""
        frames: list[Frame] = [RunEnded(9000, "finished", None)]
        self.store.append(self.batch("w0", frames))
        started = RunStarted(1000, "Default", "n", "file:///x", "host", 1)
        self.store.append(self.batch("w0", [started]))

    def reopen(self, block: int) -> None:
        """One of the processes starts again, with another size of blocks."""
        at = self.random.randrange(len(self.stores))
        self.stores[at].close()
        self.stores[at] = SqlRunStore.open(self.url, block_points=block)

    def check(self) -> None:
        store, shown = self.store, sorted(self.plain.shown(), key=order)
        if not self.plain.points:
            return
        full, raw = store.history(self.run_id, KEY), store.history(self.run_id, KEY, raw=True)
        assert sorted(triples(full), key=order) == shown
        assert full.steps.tolist() == sorted(full.steps.tolist())
        fits = raw.fits
        assert fits is not None
        every = sorted(zip(triples(raw), fits.tolist(), strict=True), key=lambda one: (order(one[0]), one[1]))
        assert every == sorted(self.plain.points, key=lambda one: (order(one[0]), one[1]))
        stored(self.url, self.run_id, raw)
        self.check_parts(store, full, raw)
        self.check_summary(store, shown)

    def check_parts(self, store: SqlRunStore, full: History, raw: History) -> None:
        for most in (4, 9, 40, 320):
            assert_shows(store.history(self.run_id, KEY, max_points=most), full, most)
        first, last = sorted(self.random.choice([LOWEST, HIGHEST, *range(-9, self.top + 9)]) for _ in range(2))
        bounds = {"first_step": first, "last_step": last}
        for whole, is_raw in ((full, False), (raw, True)):
            inside = [one for one in triples(whole) if first <= one[0] <= last]
            assert triples(store.history(self.run_id, KEY, raw=is_raw, **bounds)) == inside
            with store.spool_history(self.run_id, KEY, raw=is_raw, **bounds) as spooled:
                assert [spooled.column(name).tolist() for name in ("steps", "ms")] == [
                    [one[place] for one in inside] for place in (0, 1)
                ]
                values = spooled.column("values").tolist()
                assert [None if value != value else value for value in values] == [one[2] for one in inside]
        part = store.history(self.run_id, KEY, **bounds)
        assert_shows(store.history(self.run_id, KEY, max_points=8, **bounds), part, 8)

    def check_summary(self, store: SqlRunStore, shown: list[Point]) -> None:
        if not shown:
            assert KEY not in store.metrics(self.run_id)
            return
        one = store.metrics(self.run_id)[KEY]
        assert one.count == len(shown)
        last = max(shown, key=lambda point: (point[0], point[1], point[2] or 0.0, point[2] is not None))
        assert one.last is not None
        assert (one.last.step, one.last.ms, none_for_nan(one.last.value)) == last
        numbers = [(point[2], point[0]) for point in shown if point[2] is not None]
        low = min(numbers, default=None)
        high = min(numbers, key=lambda pair: (-pair[0], pair[1]), default=None)
        assert (one.min and (one.min.value, one.min.step)) == low
        assert (one.max and (one.max.value, one.max.step)) == high
        assert one.best == one.min


def none_for_nan(value: float | None) -> float | None:
    return None if value is None or value != value else value


def point(step: int, ms: int, value: float) -> Point:
    return step, ms, none_for_nan(value)


def order(point: Point) -> tuple[int, int, bool, float]:
    return point[0], point[1], point[2] is None, point[2] or 0.0


_runs = iter(range(10**6))
places = (st.sampled_from([0, 0, 1, 5, 30, 300]), st.integers(1, 60), st.integers(0, 3), st.booleans())
points_of = [st.tuples(st.just(kind), *places) for kind in ("journal", "journal", "late", "call", "call", "soon")]
acts = st.lists(
    st.one_of(
        *points_of,
        st.tuples(st.just("resume"), st.integers(0, 150)),
        st.tuples(st.just("refused"), st.integers(1, 40)),
        st.tuples(st.just("reopen"), st.sampled_from([0, 8, 16, 64])),
        *[st.tuples(st.just(kind)) for kind in ("arrive", "compact", "end", "check")],
    ),
    min_size=3,
    max_size=25,
)


@contextmanager
def writers(url: str, seed: int) -> Iterator[Writers]:
    one = Writers(url, f"r{next(_runs)}", [], random.Random(seed))
    try:
        one.stores += [SqlRunStore.open(url, block_points=block) for block in (8, 16)]
        started = RunStarted(1000, "Default", "n", "file:///x", "host", 1)
        one.stores[0].append(make_batch(one.run_id, "w0", [(1, started)]))
        one.numbers["w0"] = 1
        yield one
    finally:
        for store in one.stores:
            store.close()


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts, st.integers(0, 2**32))
def test_any_sequence_of_writes(any_url: str, wanted: list[tuple[object, ...]], seed: int) -> None:
    """Whoever writes, seals, compacts, resumes or comes late: histories and summaries are those of the plain list."""
    with writers(any_url, seed) as one:
        for kind, *arguments in wanted:
            getattr(one, str(kind))(*arguments)
        one.check()
        one.arrive()
        one.compact()
        one.check()

"""What RunStore promises, over every database that we support, and over HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
from contracts.writer import Writer, points, write_interleaved
from e2e.server_lab import served
from msgspec.structs import replace
from small_blocks import POINTS, open_small

from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.compose import open_store
from tracker.domain.errors import InvalidValue, NotFound, RunNotFound, SeriesNotFound
from tracker.domain.frames import (
    Batch,
    CheckpointLogged,
    EpochEnded,
    EventLogged,
    FitEnded,
    FitStarted,
    HistogramLogged,
    MetricDefined,
    MetricMonitored,
    Params,
    RunEnded,
    RunStarted,
    Staged,
    Tags,
)
from tracker.domain.identity import now_ms
from tracker.domain.ports import RunStore
from tracker.domain.vocabulary import LEASE_MS
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore


def epoch(number: int, *, fit: int = 1, **values: float) -> EpochEnded:
    return EpochEnded(3000 + number, number, fit, 0.5, values, (number + 1) * 10)


def fit(number: int, first: int, *, phase: int = 1, phase_epoch: int = 0) -> FitStarted:
    return FitStarted(3000, number, phase, first, first * 10 + 1, phase_epoch, phase_epoch * 10, 10, 10, 32, None, "h")


class StoreContract:
    """The contract of RunStore; heirs have the fixtures `store` and `url`, where other processes find it."""

    @pytest.fixture
    def now(self) -> list[int]:
        """The store's clock, in a list to move it."""
        return [1_000_000]

    @pytest.fixture
    def run(self, store: RunStore) -> Writer:
        return Writer(store).start()

    def test_new_store_has_the_default_experiment(self, store: RunStore) -> None:
        """Experiment 0 is Default, from the first moment."""
        assert [(e.id, e.name) for e in store.experiments()] == [(0, "Default")]

    def test_run_is_made_by_its_first_batch(self, store: RunStore) -> None:
        """RunStarted makes the run and, if need be, its experiment."""
        Writer(store, "a").start(ms=5, experiment="digits")
        run = store.get_run("a")
        assert (run.id, run.name, run.experiment, run.status) == ("a", "name-a", "digits", "running")
        assert (run.started_ms, run.ended_ms, run.best_epoch) == (5, None, None)
        assert [e.name for e in store.experiments()] == ["Default", "digits"]

    def test_batch_of_an_unknown_run_is_refused(self, store: RunStore) -> None:
        """A batch that does not start its run needs the run to be there."""
        with pytest.raises(RunNotFound, match="'gone' not found"):
            store.append(Writer(store, "gone").batch(points(0, loss=1.0)))

    @pytest.mark.parametrize("read", ["get_run", "progress", "params", "tags", "metrics", "fits", "epochs", "events",
                                      "checkpoints", "histograms", "request_stop", "delete_run", "restore_run"])  # fmt: skip
    def test_unknown_run(self, store: RunStore, read: str) -> None:
        """Whatever is asked of a run that is not there is RunNotFound."""
        with pytest.raises(RunNotFound):
            getattr(store, read)("nobody")

    def test_same_batch_twice_is_stored_once(self, store: RunStore, run: Writer) -> None:
        """Frames that were seen are skipped, whatever batch they come in."""
        batch = run.send(points(0, loss=1.0), EventLogged(1, "thing", None, None, 0, {}))
        assert store.append(batch).last == 3
        recut = make_batch("r", "w", [(2, points(0, loss=1.0)), (4, points(1, loss=2.0))])
        assert store.append(recut).last == 4
        assert store.history("r", "loss", raw=True).values.tolist() == [1.0, 2.0]
        assert len(store.events("r")) == 1

    def test_writers_of_a_run_are_numbered_apart(self, store: RunStore, run: Writer) -> None:
        """The last number is remembered for each writer."""
        other = Writer(store, "r", "other")
        other.send(points(0, a=1.0))
        assert store.append(Batch(run_id="r", writer="w", first=0, last=0)).last == 1
        assert store.append(Batch(run_id="r", writer="other", first=0, last=0)).last == 1

    def test_bad_batch_changes_nothing(self, store: RunStore, run: Writer) -> None:
        """A batch that cannot be stored is refused whole, with its numbers still free."""
        with pytest.raises(InvalidValue):
            store.append(run.batch(points(0, loss=1.0), EventLogged(1, "x", 2**70, None, 0, {})))
        run.number -= 2
        run.send(points(0, loss=2.0))
        assert store.history("r", "loss").values.tolist() == [2.0]

    # -- series ----------------------------------------------------------------------------------------------------

    def test_summary_follows_the_points(self, store: RunStore, run: Writer) -> None:
        """Count, last, min, max and best are those of the points, each with its step and time."""
        run.send(points(0, val_loss=3.0), points(1, val_loss=1.0))
        run.send(points(2, val_loss=2.0))
        one = store.metrics("r")["val_loss"]
        assert one.goal == "min"
        assert (one.axis, one.count) == ("step", 3)
        assert [(e.value, e.step, e.ms) for e in (one.last, one.min, one.max, one.best) if e] == [
            (2.0, 2, 2002), (1.0, 1, 2001), (3.0, 0, 2000), (1.0, 1, 2001)]  # fmt: skip

    def test_nan_and_infinities_come_back(self, store: RunStore, run: Writer) -> None:
        """Values are IEEE doubles: NaN and infinities are kept, and NaN is never an extreme."""
        values = [math.nan, 1.0, -math.inf, math.inf, 5e-324, 1.7976931348623157e308, math.nan]
        run.send(*[points(i, x=v) for i, v in enumerate(values)])
        np.testing.assert_array_equal(store.history("r", "x").values, np.array(values))
        one = store.metrics("r")["x"]
        assert one.last is not None
        assert math.isnan(one.last.value)
        assert one.min is not None
        assert one.max is not None
        assert (one.min.value, one.max.value, one.best) == (-math.inf, math.inf, None)

    def test_series_of_nan_only_has_no_extreme(self, store: RunStore, run: Writer) -> None:
        """Without a number there is neither min, max nor best."""
        run.send(points(0, loss=math.nan))
        one = store.metrics("r")["loss"]
        assert (one.count, one.min, one.max, one.best) == (1, None, None, None)

    @pytest.mark.parametrize("as_one", [True, False])
    def test_step_written_again_counts_once(self, store: RunStore, run: Writer, as_one: bool) -> None:
        """The last value written at a step is shown; the summary forgets the others; raw history has all."""
        frames = [points(0, x=9.0), points(1, x=1.0), points(1, x=5.0), points(0, x=4.0), points(2, x=6.0)]
        if as_one:
            run.send(*frames)
        else:
            for frame in frames:
                run.send(frame)
        history = store.history("r", "x")
        assert (history.steps.tolist(), history.values.tolist()) == ([0, 1, 2], [4.0, 5.0, 6.0])
        one = store.metrics("r")["x"]
        assert one.count == 3
        assert one.min is not None
        assert (one.min.value, one.min.step) == (4.0, 0)
        assert one.max is not None
        assert (one.max.value, one.max.step) == (6.0, 2)
        raw = store.history("r", "x", raw=True)
        assert raw.values.tolist() == [9.0, 4.0, 1.0, 5.0, 6.0]
        assert raw.superseded is not None
        assert raw.superseded.tolist() == [True, False, True, False, False]

    def test_infinities_beside_nan(self, store: RunStore, run: Writer) -> None:
        """NaN is no extreme, also among infinities, in a summary that is computed from all points."""
        run.send(points(1, x=math.inf), points(0, x=math.nan), points(3, y=-math.inf), points(2, y=math.nan))
        x, y = store.metrics("r")["x"], store.metrics("r")["y"]
        assert [e and (e.value, e.step) for e in (x.min, x.max)] == [(math.inf, 1)] * 2
        assert [e and (e.value, e.step) for e in (y.min, y.max)] == [(-math.inf, 3)] * 2

    def test_points_may_come_in_any_order(self, store: RunStore, run: Writer) -> None:
        """History is in step order, whatever the order of arrival, and the summary's last is the last step's."""
        order = np.random.default_rng(0).permutation(50).tolist()
        for step in order:
            run.send(points(step, x=float(step)))
        assert store.history("r", "x").steps.tolist() == list(range(50))
        last = store.metrics("r")["x"].last
        assert last is not None
        assert last.step == 49

    def test_keys_may_come_and_go(self, store: RunStore, run: Writer) -> None:
        """Frames of different keys, and of the same in another order, do not get mixed up."""
        run.send(points(0, a=1.0, b=2.0), points(1, b=3.0, a=4.0), points(2, a=5.0), points(3, b=6.0), points(4))
        assert store.history("r", "a").values.tolist() == [1.0, 4.0, 5.0]
        assert store.history("r", "b").values.tolist() == [2.0, 3.0, 6.0]

    def test_history_of_an_unknown_key(self, store: RunStore, run: Writer) -> None:
        """A metric that is not there is an error that says so."""
        with pytest.raises(SeriesNotFound, match="no metric 'nope'"):
            store.history("r", "nope")
        assert issubclass(SeriesNotFound, NotFound)

    def test_thinned_history_keeps_the_spike(self, store: RunStore, run: Writer) -> None:
        """Down-sampling keeps the first, the last and the extremes."""
        run.send(*[points(i, x=1e6 if i == 777 else float(i % 7)) for i in range(2000)])
        thinned = store.history("r", "x", max_points=40)
        assert len(thinned) <= 40
        assert {0, 777, 1999} <= set(thinned.steps.tolist())
        with pytest.raises(InvalidValue, match="max_points"):
            store.history("r", "x", max_points=3)

    def test_goal_of_higher_rank_wins(self, store: RunStore, run: Writer) -> None:
        """A declared goal beats Keras', which beats the name's; the best value follows at once."""
        run.send(points(0, loss=1.0), points(1, loss=2.0))
        run.send(MetricDefined(1, "loss", "max", "declared"))
        run.send(MetricDefined(1, "loss", "min", "keras"))
        best = store.metrics("r")["loss"].best
        assert best is not None
        assert best.value == 2.0

    def test_goal_may_be_said_first(self, store: RunStore, run: Writer) -> None:
        """A goal defined before any point holds for the points to come, and shows no empty metric."""
        run.send(MetricDefined(1, "gap", "min", "declared"))
        assert store.metrics("r") == {}
        run.send(points(5, gap=2.0), points(6, gap=3.0))
        one = store.metrics("r")["gap"]
        assert (one.axis, one.goal) == ("step", "min")
        assert one.best is not None
        assert one.best.step == 5

    # -- fits ------------------------------------------------------------------------------------------------------

    def test_fit_and_epochs(self, store: RunStore, run: Writer) -> None:
        """A fit's row, its epochs and their metrics."""
        run.send(fit(1, 0), epoch(0, loss=2.0, val_loss=3.0), epoch(1, loss=1.0, val_loss=2.5))
        run.send(FitEnded(4000, 1, "completed"))
        (one,) = store.fits("r")
        assert (one.number, one.outcome, one.first_epoch, one.epochs, one.ended_ms) == (1, "completed", 0, 10, 4000)
        assert [(e.number, e.fit, e.seconds, dict(e.metrics)) for e in store.epochs("r")] == [
            (0, 1, 0.5, {"loss": 2.0, "val_loss": 3.0}),
            (1, 1, 0.5, {"loss": 1.0, "val_loss": 2.5}),
        ]
        assert store.metrics("r")["loss"].axis == "epoch"

    @pytest.mark.parametrize("as_one", [True, False])
    def test_continued_fit_supersedes(self, store: RunStore, run: Writer, as_one: bool) -> None:
        """A fit that starts at a later epoch replaces what earlier ones wrote from there on, in all views."""
        first = [fit(1, 0), *[epoch(i, val_loss=[5.0, 4.0, 0.1, 9.0][i]) for i in range(4)],
                 *[points(s, fit=1, batch=float(s)) for s in range(1, 41)]]  # fmt: skip
        second = [fit(2, 2), epoch(2, fit=2, val_loss=3.0), points(21, fit=2, batch=-1.0)]
        if as_one:
            run.send(*first, *second)
        else:
            run.send(*first)
            run.send(*second)
        assert [(e.number, e.fit) for e in store.epochs("r")] == [(0, 1), (1, 1), (2, 2)]
        assert store.history("r", "val_loss").values.tolist() == [5.0, 4.0, 3.0]
        assert store.history("r", "batch").steps.tolist() == list(range(1, 22))
        one = store.metrics("r")["val_loss"]
        assert one.count == 3
        assert one.best is not None
        assert (one.best.value, one.best.step) == (3.0, 2)
        assert one.last is not None
        assert one.last.step == 2
        assert store.get_run("r").best_epoch == 2
        raw = store.history("r", "val_loss", raw=True)
        assert raw.fits is not None
        assert raw.superseded is not None
        assert list(zip(raw.steps.tolist(), raw.fits.tolist(), raw.superseded.tolist(), strict=True)) == [
            (0, 1, False), (1, 1, False), (2, 1, True), (2, 2, False), (3, 1, True)]  # fmt: skip

    def test_superseded_thrice(self, store: RunStore, run: Writer) -> None:
        """However often a training is taken up again, each step is shown once and the summaries agree."""
        for number in range(1, 5):
            begin = max(0, 10 - 3 * number) if number > 1 else 0
            run.send(fit(number, begin))
            for step in range(begin, 12):
                run.send(epoch(step, fit=number, val_loss=float(number * 100 + step)))
        history = store.history("r", "val_loss")
        assert history.steps.tolist() == list(range(12))
        one = store.metrics("r")["val_loss"]
        assert one.count == 12
        assert one.min is not None
        assert one.min.value == history.values.min()
        assert one.max is not None
        assert one.max.value == history.values.max()
        assert len(store.history("r", "val_loss", raw=True)) == 12 + 8 + 11 + 12

    def test_points_outside_fits_are_not_superseded(self, store: RunStore, run: Writer) -> None:
        """A fit supersedes nothing that the user logged outside of fits."""
        run.send(points(500, note=1.0), fit(1, 0), epoch(0, loss=1.0), fit(2, 1), epoch(1, fit=2, loss=0.5))
        assert store.history("r", "note").steps.tolist() == [500]

    def test_progress(self, store: RunStore, run: Writer) -> None:
        """The progress is what a client needs to continue the numbers."""
        assert store.progress("r").next_epoch == 0
        run.send(fit(1, 0), epoch(0, loss=1.0), epoch(1, loss=1.0), points(15, fit=1, x=1.0))
        run.send(fit(2, 2, phase=2, phase_epoch=2), epoch(2, fit=2, loss=1.0))
        progress = store.progress("r")
        assert (progress.fits, progress.phase, progress.next_epoch, progress.phase_epoch) == (2, 2, 3, 2)
        assert (progress.steps, progress.next_step) == (30, 16)

    # -- best epoch ------------------------------------------------------------------------------------------------

    def test_best_epoch_is_of_val_loss(self, store: RunStore, run: Writer) -> None:
        """val_loss decides, else loss."""
        run.send(fit(1, 0), epoch(0, loss=1.0), epoch(1, loss=0.5))
        assert (store.get_run("r").best_metric, store.get_run("r").best_epoch) == ("loss", 1)
        run.send(epoch(2, loss=0.9, val_loss=3.0), epoch(3, loss=0.1, val_loss=4.0))
        got = store.get_run("r")
        assert (got.best_metric, got.best_epoch, got.best_value) == ("val_loss", 2, 3.0)

    def test_monitored_metric_decides(self, store: RunStore, run: Writer) -> None:
        """A declared metric beats a callback's, which beats val_loss."""
        run.send(
            fit(1, 0), epoch(0, val_loss=1.0, auc=0.5), epoch(1, val_loss=2.0, auc=0.9), epoch(2, val_loss=3.0, auc=0.7)
        )
        run.send(MetricMonitored(1, "auc", "keras"))
        assert (store.get_run("r").best_metric, store.get_run("r").best_epoch) == ("auc", 1)
        run.send(MetricMonitored(1, "val_loss", "declared"))
        run.send(MetricMonitored(1, "auc", "keras"))
        assert store.get_run("r").best_epoch == 0

    @pytest.mark.parametrize("together", [True, False])
    def test_restored_weights_decide(self, store: RunStore, run: Writer, together: bool) -> None:
        """The epoch whose weights were put back is the run's result, until its metric goes on in another fit."""
        trained = (fit(1, 0), epoch(0, val_loss=1.0), epoch(1, val_loss=0.999), epoch(2, val_loss=2.0))
        detail = {"epoch": 0, "metrics": {"val_loss": 1.0, "loss": 3.0}}
        restored = EventLogged(9, "weights_restored", 0, 10, 1, detail)
        if together:
            run.send(*trained, restored, points(40, other=1.0))
        else:
            run.send(*trained)
            assert store.get_run("r").best_epoch == 1
            run.send(restored)
        run.send(points(41, other=1.0))
        got = store.get_run("r")
        assert (got.best_metric, got.best_epoch, got.best_value) == ("val_loss", 0, 1.0)
        run.send(fit(2, 3, phase=2, phase_epoch=3), epoch(3, fit=2, val_loss=1.5))
        got = store.get_run("r")
        assert (got.best_metric, got.best_epoch, got.best_value) == ("val_loss", 1, 0.999)

    # -- parameters, tags, events, files -----------------------------------------------------------------------------

    def test_params_keep_their_types(self, store: RunStore, run: Writer) -> None:
        """Numbers stay numbers, strings strings, and structures structures."""
        values = {
            "i": 3,
            "f": 0.001,
            "b": True,
            "n": None,
            "s": "0.001",
            "l": [1, "a"],
            "u": "ü😀",
            "long": "x" * 60_000,
        }
        run.send(Params(1, 0, values))
        assert store.params("r") == values
        assert [type(store.params("r")[k]) for k in ("i", "f", "b", "s")] == [int, float, bool, str]

    def test_first_value_of_a_param_stays(self, store: RunStore, run: Writer) -> None:
        """A later different value is kept under its fit and costs nothing else of the batch."""
        run.send(Params(1, 1, {"lr": 0.1, "same": 1}))
        run.send(Params(2, 2, {"lr": 0.2, "same": 1, "new": 3}))
        run.send(Params(3, 2, {"lr": 0.3}))
        assert store.params("r") == {"lr": 0.1, "same": 1, "new": 3, "fit.2.lr": 0.3}

    def test_tags_are_mutable(self, store: RunStore, run: Writer) -> None:
        """The last value of a tag stays."""
        run.send(Tags(1, {"a": "1", "b": "x" * 10_000}))
        run.send(Tags(2, {"a": "2"}))
        assert store.tags("r") == {"a": "2", "b": "x" * 10_000}

    def test_events_in_order(self, store: RunStore, run: Writer) -> None:
        """Events come back by time, with their JSON."""
        run.send(EventLogged(9, "late", 1, 2, 0, {"k": [1]}), EventLogged(5, "early", None, None, 0, {}))
        assert [(e.kind, e.epoch, e.step, e.detail) for e in store.events("r")] == [
            ("early", None, None, {}), ("late", 1, 2, {"k": [1]})]  # fmt: skip

    def test_checkpoints(self, store: RunStore, run: Writer) -> None:
        """A checkpoint's row says what it is, and whether it was the best so far when nobody said."""
        staged = Staged("1", "p", 10)
        uri = store.get_run("r").artifact_uri + "/c"
        ck = CheckpointLogged(
            1, 0, 10, 1, ".keras", {"val_loss": 1.0, "x": math.inf}, None, {"wait": 1}, staged, "ab" * 32, uri
        )
        run.send(fit(1, 0), epoch(0, val_loss=1.0), ck, epoch(1, val_loss=2.0), replace(ck, epoch=1))
        first, second = store.checkpoints("r")
        assert (first.epoch, first.step, first.format, first.size, first.sha256) == (0, 10, ".keras", 10, "ab" * 32)
        assert (first.metrics, first.state, first.uri, first.status) == (
            {"val_loss": 1.0, "x": math.inf}, {"wait": 1}, uri, "published")  # fmt: skip
        assert (first.is_best, second.is_best) == (True, False)

    def test_histograms(self, store: RunStore, run: Writer) -> None:
        """Histograms come back by key and step; a step written again counts once."""
        run.send(HistogramLogged(1, "w", "step", 0, 0, [0.0, 1.0, 2.0], [3, 4]))
        run.send(
            HistogramLogged(2, "w", "step", 0, 0, [0.0, 1.0], [9]),
            HistogramLogged(2, "v", "step", 5, 0, [0.0, 1.0], [1]),
        )
        assert [(h.key, h.step, list(h.counts)) for h in store.histograms("r")] == [("v", 5, [1]), ("w", 0, [9])]
        assert [h.key for h in store.histograms("r", "w")] == ["w"]

    # -- status ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("status", "outcome"), [("finished", "failed"), ("failed", "failed"), ("interrupted", "interrupted"),
                                                     ("preempted", "preempted"), ("lost", "lost")])  # fmt: skip
    def test_end_closes_open_fits(self, store: RunStore, run: Writer, status: Any, outcome: str) -> None:
        """A run's end is its status, and that of a fit nobody closed."""
        run.send(fit(1, 0), RunEnded(7000, status, {"type": "E", "message": "m", "traceback": "t"}))
        got = store.get_run("r")
        assert (got.status, got.ended_ms) == (status, 7000)
        assert store.fits("r")[0].outcome == outcome
        assert store.events("r")[-1].detail == {"type": "E", "message": "m", "traceback": "t"}

    def test_ended_run_stays_ended(self, store: RunStore, run: Writer) -> None:
        """Frames that come again, or late, do not bring a run back to life that its own writer ended."""
        batch = run.send(RunEnded(7000, "lost"))
        store.append(batch)
        store.append(Batch(run_id="r", writer="w", first=0, last=0))
        run.send(points(0, x=1.0))
        assert store.get_run("r").status == "lost"

    def test_only_the_last_writer_ends_the_run(self, store: RunStore, run: Writer) -> None:
        """The late word of a dead process does not end a run that another continues."""
        again = Writer(store, "r", "again").start(ms=8000)
        run.send(RunEnded(7000, "lost"))
        assert store.get_run("r").status == "running"
        again.send(RunEnded(9000, "finished"))
        assert store.get_run("r").status == "finished"

    def test_lease(self, store: RunStore, run: Writer, now: list[int]) -> None:
        """A run without a sign of life is lost as of the last one; one that comes back is running again."""
        run.send(fit(1, 0))
        alive = store.get_run("r").alive_ms
        now[0] = alive + LEASE_MS
        assert store.get_run("r").status == "running"
        now[0] = alive + LEASE_MS + 1
        lost = store.get_run("r")
        assert (lost.status, lost.ended_ms) == ("lost", alive)
        assert store.fits("r")[0].outcome == "lost"
        store.append(Batch(run_id="r", writer="w", first=0, last=0))
        back = store.get_run("r")
        now[0] = back.alive_ms
        assert (back.status, back.ended_ms) == ("running", None)
        assert store.fits("r")[0].outcome is None

    def test_a_run_that_is_opened_again_took_the_time_in_which_it_was_open(self, store: RunStore, run: Writer) -> None:
        """Pauses between processes do not count, and each later process is an event with its script and commit."""
        uri = store.get_run("r").artifact_uri
        run.send(RunEnded(3000, "failed"))
        Writer(store, writer="second").send(
            RunStarted(100_000, "Default", "other", "file:///tmp/y", "away", 2, script="/b.py", commit="c0ffee"),
            RunEnded(101_500, "lost"),
        )
        third = Writer(store, writer="third")
        third.start(500_000)
        assert store.get_run("r").took_s(501_000) == 2.0 + 1.5 + 1.0
        third.send(RunEnded(500_250, "finished"))
        again = store.get_run("r")
        assert again.took_s(10**9) == 2.0 + 1.5 + 0.25
        assert (again.name, again.artifact_uri, again.started_ms) == ("name-r", uri, 1000)
        assert [(e.ms, e.kind, e.detail) for e in store.events("r") if e.kind == "reopened"] == [
            (100_000, "reopened", {"script": "/b.py", "commit": "c0ffee", "host": "away", "was": "failed"}),
            (500_000, "reopened", {"host": "host", "was": "lost"}),
        ]

    def test_no_end_is_before_its_start(self, store: RunStore, now: list[int]) -> None:
        """Not when a clock went back, nor when a client's clock is ahead of the store's that finds the run lost."""
        run = Writer(store).start(5000)
        run.send(fit(1, 0), FitEnded(2000, 1, "completed"), RunEnded(4000, "finished"))
        ended, [trained] = store.get_run("r"), store.fits("r")
        assert (ended.ended_ms, ended.took_s(0), trained.ended_ms) == (5000, 0.0, trained.started_ms)
        ahead = now_ms() + 10_000_000
        Writer(store, "ahead").start(ahead).send(replace(fit(1, 0), ms=ahead + 1))
        now[0] = store.get_run("ahead").alive_ms + LEASE_MS + 20_000
        lost, [trained] = store.get_run("ahead"), store.fits("ahead")
        assert (lost.status, lost.ended_ms, trained.outcome, trained.ended_ms) == ("lost", ahead, "lost", ahead + 1)

    def test_a_clock_set_back_delays_no_lapsed_lease(self, store: RunStore, run: Writer, now: list[int]) -> None:
        """What was known to be calm until a moment is asked again when the clock says an earlier one."""
        alive = store.get_run("r").alive_ms
        now[0] = alive + LEASE_MS + 1
        assert store.get_run("r").status == "lost"
        now[0] = alive + 10**9
        assert len(store.search_runs()) == 1  # calm until long after what comes now
        now[0] = alive
        Writer(store, "other").start()
        now[0] = store.get_run("other").alive_ms + LEASE_MS + 1
        assert store.get_run("other").status == "lost"

    def test_every_read_of_a_status_knows_of_lapsed_leases(self, store: RunStore, run: Writer, now: list[int]) -> None:
        """Search and find say `lost` as get_run does."""
        now[0] = store.get_run("r").alive_ms + LEASE_MS + 1
        assert [r.status for r in store.search_runs("status = 'lost'")] == ["lost"]

    def test_stop_request(self, store: RunStore, run: Writer) -> None:
        """A request to stop is an event, and the answer to the next batch; a new start forgets it."""
        assert not store.append(Batch(run_id="r", writer="w", first=0, last=0)).stop
        store.request_stop("r")
        assert store.append(Batch(run_id="r", writer="w", first=0, last=0)).stop
        assert store.get_run("r").stop_requested
        assert [e.kind for e in store.events("r")] == ["stop_requested"]
        again = Writer(store, "r", "again")
        assert not store.append(again.batch(RunStarted(9, "Default", "name", "file:///tmp/x", "host", 1))).stop
        assert not store.append(Batch(run_id="r", writer="again", first=0, last=0)).stop

    def test_delete_and_restore(self, store: RunStore, run: Writer) -> None:
        """A deleted run is in no list, and can be had back."""
        store.delete_run("r")
        assert store.search_runs().runs == []
        assert store.get_run("r").deleted_ms is not None
        store.restore_run("r")
        assert [r.id for r in store.search_runs()] == ["r"]

    def test_find_runs(self, store: RunStore, run: Writer) -> None:
        """People type ids, beginnings of ids, and names."""
        for id in ("abc1", "abc2"):
            Writer(store, id).start()
        assert {r.id for r in store.find_runs("abc")} == {"abc1", "abc2"}
        assert [r.id for r in store.find_runs("abc1")] == ["abc1"]
        assert [r.id for r in store.find_runs("name-abc2")] == ["abc2"]
        assert [r.id for r in store.find_runs("%")] == []
        store.delete_run("abc1")
        assert [r.id for r in store.find_runs("name-abc1")] == []
        assert [r.id for r in store.find_runs("name-abc1", deleted=True)] == ["abc1"]
        assert [r.id for r in store.find_runs("abc1")] == ["abc1"]

    # -- many at once ------------------------------------------------------------------------------------------------

    def test_threads_share_a_store(self, store: RunStore) -> None:
        """Many threads ask one store at once, and each gets its own answers."""
        names = [f"t{number}" for number in range(8)]
        for name in names:
            Writer(store, name).start()
        with ThreadPoolExecutor(8) as pool:
            assert [run.id for run in pool.map(store.get_run, names * 20)] == names * 20

    def test_eight_processes_write_at_once(self, store: RunStore, url: str) -> None:
        """Eight writers, two to a run, all succeed and nothing is lost."""
        context = preloaded.context()
        workers = [
            context.Process(target=write_interleaved, args=(url, f"run{i // 2}", f"w{i}", i % 2)) for i in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 8
        for i in range(4):
            one = store.metrics(f"run{i}")["x"]
            assert one.count == 2000
            assert store.history(f"run{i}", "x").steps.tolist() == list(range(2000))
            assert one.min is not None
            assert one.max is not None
            assert (one.min.value, one.max.value) == (0.0, 1999.0)


class TestSqlRunStore(StoreContract):
    """SQLite and PostgreSQL."""

    @pytest.fixture
    def url(self, any_url: str) -> str:
        return any_url

    @pytest.fixture
    def store(self, url: str, now: list[int]) -> Iterator[RunStore]:
        open_small(url).close()
        with SqlRunStore(make_engine(url), clock=lambda: now[0], block_points=POINTS) as store:
            yield store


class TestHttpRunStore(StoreContract):
    """A tracking server over SQLite."""

    @pytest.fixture
    def url(self, store_url: str, now: list[int], tmp_path: Path) -> Iterator[str]:
        open_small(store_url).close()
        with SqlRunStore(make_engine(store_url), clock=lambda: now[0], block_points=POINTS) as store:
            with served(store, LocalArtifacts(tmp_path / "artifacts")) as url:
                yield url

    @pytest.fixture
    def store(self, url: str) -> Iterator[RunStore]:
        with closing(open_store(url)) as store:
            yield store

"""A run has one fit at a time: fits in parallel, inside it or after a failed one do not damage its record."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab


def fits(keras: Lab, name: str) -> list[tuple[int, int, str | None]]:
    """Number, first epoch and outcome of the fits of a run."""
    return [(fit.number, fit.first_epoch, fit.outcome) for fit in keras.store.fits(keras.run(name).id)]


@pytest.mark.parametrize("kind", ["two", "same"])
def test_two_callbacks_in_a_list_are_one_fit(keras: Lab, kind: str) -> None:
    """Two callbacks of one run in a list, or one that is there twice, record one fit, once."""
    name = f"twice_in_a_list.{kind}"
    assert fits(keras, name) == [(1, 0, "completed")]
    assert keras.values(keras.run(name).id, "loss") == pytest.approx(keras.said("twice_in_a_list")[kind])
    said, *_ = keras.said("twice_in_a_list")["said"]
    assert "two TrackerCallbacks" in said


@pytest.mark.parametrize("kind", ["same", "own"])
def test_a_fit_inside_a_fit_costs_the_outer_one_nothing(keras: Lab, kind: str) -> None:
    """The outer fit is recorded whole; the inner ones, of the same run, are not, which is said once."""
    name, facts = f"inside_a_fit.{kind}", keras.said("inside_a_fit")
    run = keras.run(name).id
    assert fits(keras, name) == [(1, 0, "completed")]
    assert keras.values(run, "loss") == pytest.approx(facts[kind])
    assert keras.steps(run, "batch/loss") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "evaluated" not in {event.kind for event in keras.store.events(run)}
    (said,) = [line for line in facts[f"{kind} said"] if "in the middle of a fit()" in line]
    assert "logged once, then counted" in said


def test_a_fit_in_another_thread_costs_the_first_one_nothing(keras: Lab) -> None:
    """Of two threads that train for one run with one callback object the first one's fit is recorded, whole."""
    run = keras.run("in_two_threads").id
    assert fits(keras, "in_two_threads") == [(1, 0, "completed")]
    assert keras.values(run, "loss") == pytest.approx(keras.said("in_two_threads")["loss"])
    assert keras.steps(run, "batch/loss") == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_fit_that_was_broken_off_in_a_notebook_was_interrupted(keras: Lab) -> None:
    """A Ctrl-C that ends a fit and not the session is the fit's outcome, whatever callback the next fit has."""
    keras.said("broken_off_in_a_notebook")
    outcomes = [outcome for _, _, outcome in fits(keras, "broken_off_in_a_notebook")]
    assert outcomes == ["interrupted", "interrupted", "completed"]


def test_a_fit_that_died_last_has_its_end_on_the_timeline(keras: Lab) -> None:
    """A fit that no other one follows has its `fit_ended` too."""
    keras.said("died_last")
    events = [event for event in keras.store.events(keras.run("died_last").id) if event.kind == "fit_ended"]
    assert [event.detail for event in events] == [{"fit": 1, "outcome": "failed"}]


def test_an_epoch_without_validation_improves_nothing(keras: Lab) -> None:
    """Where validation is held every second epoch, those without it are not reported as the best by their `loss`."""
    facts = keras.said("validated_now_and_then")
    improved = [
        (event.epoch, event.detail["metric"])
        for event in keras.store.events(keras.run("validated_now_and_then").id)
        if event.kind == "best_improved"
    ]
    assert improved == [(1, "val_loss"), (3, "val_loss")]
    assert not any("Traceback" in said for said in facts["said"])


def test_a_resume_that_can_find_nothing_is_said(keras: Lab) -> None:
    """`TrackerCallback(resume=True)` opens a new run in each process: the log says what would find the last one."""
    (said,) = keras.said("resumed_without_a_run")["said"]
    assert 'start_run(…, resume="auto")' in said


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of fits that a run is not alone with: inside another, in two threads, twice in a list, broken off."""
    import contextlib
    import sys
    import threading
    from collections.abc import Callable
    from typing import Any

    import keras
    from keras_bench import Facts, X, Y, fit, linear, log_lines, scenario

    import tracker
    from tracker_keras import TrackerCallback

    class AtEpochEnd(keras.callbacks.Callback):
        """Does something as each epoch ends."""

        def __init__(self, work: Callable[[], Any]) -> None:
            super().__init__()
            self.work = work

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.work()

    @scenario
    def twice_in_a_list() -> Facts:
        """Two callbacks of one run, and one callback that is in the list twice."""
        with log_lines() as said, tracker.start_run(name="twice_in_a_list.two") as run:
            two = fit(linear(), TrackerCallback(run, log_batches=1), TrackerCallback(run))
        with tracker.start_run(name="twice_in_a_list.same") as run:
            callback = TrackerCallback(run)
            same = fit(linear(), callback, callback)
        return {"two": two.history["loss"], "same": same.history["loss"], "said": said}

    @scenario
    def inside_a_fit() -> Facts:
        """A fit of the same run inside another one's callback: with the same callback object, and with its own."""
        facts: Facts = {}
        for kind in ("same", "own"):
            with log_lines() as said, tracker.start_run(name=f"inside_a_fit.{kind}") as run:
                outer = TrackerCallback(run, log_batches=1)

                def inner(run: Any = run, outer: Any = outer, kind: str = kind) -> None:
                    fit(linear(), outer if kind == "same" else TrackerCallback(run), validation_data=(X, Y))

                facts[kind] = fit(linear(), outer, AtEpochEnd(inner)).history["loss"]
            facts[f"{kind} said"] = said
        return facts

    @scenario
    def resumed_without_a_run() -> Facts:
        """`resume=True`, but each process opens a run of its own."""
        with log_lines() as said:
            callback = TrackerCallback(resume=True)
            fit(linear(), callback, epochs=1)
            assert callback.run is not None
            callback.run.finish()
        return {"said": said}

    @scenario
    def in_two_threads() -> Facts:
        """Two threads train for one run at the same time, with one callback object; the second begins inside the first."""
        with tracker.start_run(name="in_two_threads") as run:
            callback = TrackerCallback(run, log_batches=1)
            begun, over = threading.Event(), threading.Event()

            def other() -> None:
                begun.wait(60)
                fit(linear(), callback, epochs=3)
                over.set()

            def meet() -> None:
                begun.set()
                over.wait(60)

            thread = threading.Thread(target=other)
            thread.start()
            history = fit(linear(), callback, AtEpochEnd(meet))
            thread.join()
        return {"loss": history.history["loss"]}

    @scenario
    def broken_off_in_a_notebook() -> Facts:
        """Ctrl-C in a cell: a session that goes on keeps the error as its last one; the next cell trains again."""

        class Interrupted(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                raise KeyboardInterrupt

        with tracker.start_run(name="broken_off_in_a_notebook") as run:
            for _ in range(2):
                try:
                    fit(linear(), TrackerCallback(run), Interrupted())
                except KeyboardInterrupt as error:
                    sys.last_value = error
            fit(linear(), TrackerCallback(run))
            sys.last_value = None
        return {}

    @scenario
    def died_last() -> Facts:
        """The script goes on after its last fit died, and its run ends."""
        with tracker.start_run(name="died_last") as run:
            with contextlib.suppress(ZeroDivisionError):
                fit(linear(), TrackerCallback(run), AtEpochEnd(lambda: 1 / 0))
        return {}

    @scenario
    def validated_now_and_then() -> Facts:
        """Validation in every second epoch, and once a metric whose name is no string."""

        class Odd(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                logs[3] = 4.0

        with log_lines() as said, tracker.start_run(name="validated_now_and_then") as run:
            fit(linear(), TrackerCallback(run), Odd(), epochs=4, validation_data=(X, Y), validation_freq=2)
        return {"said": said}

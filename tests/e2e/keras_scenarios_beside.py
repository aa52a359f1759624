"""Scenarios of fits that a run is not alone with: inside another, in two threads, twice in a list, broken off."""

from __future__ import annotations

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
    """Two callbacks of one run, and one callback that stands there twice."""
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

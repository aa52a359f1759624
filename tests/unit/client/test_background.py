"""Work beside the training."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracker
from tracker import compose
from tracker.client.run import Run
from tracker.domain.ports import RunStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    monkeypatch.setenv("TRACKER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRACKER_STORE", f"sqlite:///{tmp_path}/tracker.db")
    store = compose.open_store(f"sqlite:///{tmp_path}/tracker.db")
    yield store
    store.close()


@pytest.fixture
def run(store: RunStore) -> Iterator[Run]:
    with tracker.start_run() as run:
        yield run


def test_the_end_waits_for_it_and_order_is_kept(store: RunStore, run: Run) -> None:
    """What is logged beside the training is in the store when `finish` returns, in the order in which it was given."""
    gate = threading.Event()
    run.in_background(lambda: gate.wait() and None)
    done = [run.in_background(lambda n=n: run.log_event("later", number=n)) for n in range(3)]
    assert not any(one.done() for one in done)
    gate.set()
    run.finish()
    assert [event.detail["number"] for event in store.events(run.id)] == [0, 1, 2]
    assert store.get_run(run.id).status == "finished"


def test_what_may_wait_does_so_only_while_nobody_is_kept_waiting(store: RunStore, run: Run) -> None:
    """A pause before work ends with the next work, with a `flush`, and with the run; the order stays."""
    first = run.in_background(lambda: run.log_event("first"), pause=600)
    run.in_background(lambda: run.log_event("second")).result(20)
    assert first.done()
    third = run.in_background(lambda: run.log_event("third"), pause=600)
    assert not third.done()
    run.flush(20)
    assert third.done()
    run.in_background(lambda: run.log_event("fourth"), pause=600)
    run.finish()
    assert [event.kind for event in store.events(run.id)] == ["first", "second", "third", "fourth"]


def test_a_pause_ends_by_itself(run: Run) -> None:
    """Work that may wait is done without anybody asking."""
    run.in_background(lambda: None, pause=0.01).result(20)


def test_flush_waits_no_longer_than_it_may(store: RunStore, run: Run) -> None:
    """Work that does not come to its end holds `flush` and `finish` for the time given, and is said."""
    gate = threading.Event()
    run.in_background(lambda: gate.wait() and None)
    run.flush(0.1)
    run.finish(timeout=0.1)
    assert run.problems["background"] == 1
    gate.set()


def test_the_end_is_patient_while_there_is_progress(store: RunStore, run: Run) -> None:
    """Much work that takes longer in all than the end may wait is done all the same: what is not done is lost."""
    gate = threading.Event()
    for number in range(8):
        run.in_background(lambda: gate.wait(0.2) and None)
        run.in_background(lambda n=number: run.log_event("later", number=n))
    run.finish(timeout=1.0)
    assert run.problems == {}
    assert [event.detail["number"] for event in store.events(run.id)] == list(range(8))


def test_a_failure_costs_only_itself(store: RunStore, run: Run) -> None:
    """What raises is counted; what comes after it is done."""

    def fails() -> None:
        raise ZeroDivisionError

    run.in_background(fails)
    run.in_background(lambda: run.log_event("after"))
    run.finish()
    assert run.problems["ZeroDivisionError"] == 1
    assert [event.kind for event in store.events(run.id)] == ["after"]


def test_work_may_end_the_run(store: RunStore, run: Run) -> None:
    """A run that is ended by its own background work does not wait for itself."""
    run.in_background(lambda: run.finish() and None).result(20)
    assert store.get_run(run.id).status == "finished"


def test_after_the_end_it_is_cancelled(run: Run) -> None:
    """What is given to a run that ended is not done."""
    run.finish()
    assert run.in_background(lambda: None).cancelled()


def test_a_forked_child_does_nothing(store: RunStore, run: Run) -> None:
    """A child has not got the thread, and does not wait for it."""
    run.in_background(lambda: None).result(20)
    child = os.fork()
    if child == 0:
        cancelled = run.in_background(lambda: None).cancelled()
        os._exit(0 if cancelled else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_thread_is_left(run: Run) -> None:
    """The thread ends with its run, so that a process may have very many runs."""

    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "tracker-background"]

    before = len(threads())
    run.in_background(lambda: None).result(20)
    (*_, own) = threads()
    run.finish()
    own.join(20)
    assert not own.is_alive()
    assert len(threads()) == before

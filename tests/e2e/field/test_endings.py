"""However a training ends, whatever opened its run and wherever it runs: the record says how, and has all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from draws import EVERYTHING, SEED
from e2e.field.endings import Trial, drawn, heavy, light

from tracker.api import open_store, sync_journals
from tracker.domain.ports import RunStore

pytestmark = pytest.mark.timeout(300)

ALWAYS = [
    Trial("return", "without", "Process by fork"),
    Trial("return", "without", "Pool by fork"),
    Trial("return", "without", "Pool by spawn"),
    Trial("return", "without", "executor by fork"),
    Trial("exception", "without", "executor by fork"),
    Trial("exception", "without", "thread"),
    Trial("exit 1 after an exception", "without", "script"),
    Trial("sys.exit(0)", "without", "script"),
    Trial("a caught sys.exit", "without", "script"),
    Trial("SIGHUP", "without", "script"),
    Trial("SIGTERM", "without", "Pool by fork"),
    Trial("Ctrl-C often", "with", "script"),
    Trial("sys.exit(3)", "callback", "script"),
]
TRIALS = [*light(), *heavy()] if EVERYTHING else list(dict.fromkeys([*ALWAYS, *drawn(SEED, light(), 3)]))


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(open_store(store_url)) as opened:
        yield opened


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_the_record_of_every_ending(store: RunStore, home: Path, tmp_path: Path, trial: Trial) -> None:
    """The run's status, its fit's outcome and every point, after the process has ended and one `sync`."""
    trial.run(tmp_path)
    assert [synced.error for synced in sync_journals() if synced.error is not None] == []
    [run] = store.search_runs()
    [fit] = store.fits(run.id)
    assert (run.status, fit.outcome) == trial.expected
    assert list(store.history(run.id, "loss").steps if trial.epochs else ()) == list(range(trial.epochs))
    assert run.ended_ms is not None
    assert fit.ended_ms is not None
    assert run.started_ms <= fit.started_ms <= fit.ended_ms <= run.ended_ms
    failures = [event.detail for event in store.events(run.id) if event.kind == "run_failed"]
    assert len(failures) == (run.status == "failed")
    assert list((home / "journals").iterdir()) == []

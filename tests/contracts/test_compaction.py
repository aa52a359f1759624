"""Compaction: what older releases, lost runs and late points left is compressed, and reads as before."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from contracts.test_blocks import KEY, Stored, Trainer, assert_shows, stored, triples
from e2e.cli_lab import invoke
from sqlalchemy import text

from tracker.domain.calls import batch_of_call
from tracker.domain.frames import HistogramLogged
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore

DATABASES = Path(__file__).parent.parent / "migrations" / "databases"


def layout(url: str, store: SqlRunStore, run_id: str) -> Stored:
    return stored(url, run_id, store.history(run_id, KEY, raw=True))


def test_rows_of_an_older_release_are_sealed(any_url: str) -> None:
    """All rows of long series, of running runs too; short series stay rows. A second time there is nothing to do."""
    with SqlRunStore.open(any_url, block_points=0) as store:
        for name, count in (("long", 40_000), ("short", 200)):
            trainer = Trainer(store, name)
            trainer.start()
            trainer.rising(count, 1)
        before = [triples(store.history(name, KEY)) for name in ("long", "short")]
    with SqlRunStore.open(any_url, block_points=1000) as store:
        steps = list(store.compaction.compact())
        assert [(one.done, one.runs) for one in steps] == [(0, 1), (1, 1)]
        assert steps[-1].points == 40_000
        assert layout(any_url, store, "long").rows == 0
        assert not layout(any_url, store, "short").blocks
        assert [triples(store.history(name, KEY)) for name in ("long", "short")] == before
        assert [(one.runs, one.points) for one in store.compaction.compact()] == [(0, 0)]
        trainer = Trainer(store, "long", number=40_001, top=40_000)
        trainer.rising(10, 1)
        assert len(store.history("long", KEY)) == 40_010


def test_blocks_that_overlap_are_merged(any_url: str) -> None:
    """Points that came in any order are in order after it; blocks of a later fit stay apart from those it superseded."""
    with SqlRunStore.open(any_url, block_points=100) as store:
        trainer = Trainer(store, "mixed")
        trainer.start()
        for start in np.random.default_rng(3).permutation(40):
            trainer.top = 100 * int(start)
            trainer.unnumbered(0, 100, 3)
        trainer.fit(0)
        trainer.top = 5000
        trainer.rising(1000, 1)
        trainer.fit(500)
        trainer.rising(1000, 1)
        full, raw = store.history("mixed", KEY), store.history("mixed", KEY, raw=True)
        list(store.compaction.compact())
        assert triples(store.history("mixed", KEY, raw=True)) == triples(raw)
        assert triples(store.history("mixed", KEY)) == triples(full)
        blocks = layout(any_url, store, "mixed").blocks
        for fit in {one.fit for one in blocks}:
            of_fit = [one for one in blocks if one.fit == fit]
            assert all(one.last < other.first for one, other in pairwise(of_fit))
        assert_shows(store.history("mixed", KEY, max_points=20), full, 20)
        assert [one.runs for one in store.compaction.compact()] == [0]


def test_a_run_that_nobody_writes_any_more(any_url: str) -> None:
    """What a writer left when it died is sealed by the server after a while; a run that is written is left alone."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "died")
        trainer.start()
        trainer.rising(900, 1)
        version = store.catalogue.runs.detail("died").run
        store.compaction.seal_idle()
        assert layout(any_url, store, "died").rows == 900
        store.compaction.seal_idle(idle_s=0)
        assert layout(any_url, store, "died").rows == 0
        assert store.catalogue.runs.detail("died").run == version
        trainer.rising(900, 1)
        assert len(store.history("died", KEY)) == 1800
        assert store.metrics("died")[KEY].count == 1800


def test_a_run_that_mlflow_ends(any_url: str) -> None:
    """The rows of a long series are sealed when a client without a journal ends the run; those of a short one stay."""
    with SqlRunStore.open(any_url, block_points=1000) as store:
        trainer = Trainer(store, "ended")
        trainer.start()
        trainer.unnumbered(1, 600, 3)
        store.append(batch_of_call("ended", ["short"], [1], [1], [1.0]))
        store.catalogue.runs.change("ended", status="finished", ended_ms=9000)
        assert layout(any_url, store, "ended").rows == 0
        assert len(store.history("ended", KEY)) == 600
        assert len(store.history("ended", "short")) == 1
        trainer.unnumbered(1, 10, 3)
        assert len(store.history("ended", KEY)) == 610


def test_histograms_of_an_older_release_are_packed(any_url: str) -> None:
    """JSON becomes bytes, and reads the same."""
    with SqlRunStore.open(any_url) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        trainer.send(HistogramLogged(2000, "kernel", "epoch", 1, 0, [0.0, 0.1, 0.7], [3, 2**40]))
        before = store.histograms("r")
        engine = make_engine(any_url)
        old = "UPDATE histograms SET data = NULL, edges = '[0.0,0.1,0.7]', counts = '[3,1099511627776]'"
        with engine.begin() as connection:
            connection.execute(text(old))
        assert store.histograms("r") == before
        assert [one.histograms for one in store.compaction.compact()] == [0, 1]
        assert store.histograms("r") == before
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM histograms WHERE data IS NULL")).scalar() == 0
        engine.dispose()


@pytest.mark.parametrize("revision", ["0003", "0004"])
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    """`tracker db compact` asks for the upgrade first, then says what it did; the old store reads as before."""
    shutil.copy(DATABASES / f"{revision}.db", tmp_path / "old.db")
    url = f"sqlite:///{tmp_path / 'old.db'}"
    monkeypatch.setenv("TRACKER_BLOCK_POINTS", "8")
    refused = invoke("db", "compact", "--store", url)
    assert refused.exit_code == 1
    assert "tracker db upgrade" in refused.stderr
    assert invoke("db", "upgrade", "--store", url).exit_code == 0
    with SqlRunStore.open(url) as store:
        before = [store.history("kept", "val_loss", raw=True).values.tolist(), store.histograms("kept")]
    assert invoke("db", "compact", "--store", url).stderr.endswith("points and 1 histograms are compressed now\n")
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        ((left,),) = connection.execute("SELECT count(*) FROM histograms WHERE data IS NULL")
    assert left == 0
    with SqlRunStore.open(url) as store:
        assert [store.history("kept", "val_loss", raw=True).values.tolist(), store.histograms("kept")] == before


def test_blocks_are_never_made_smaller_than_asked(any_url: str) -> None:
    """With TRACKER_BLOCK_POINTS=0, which makes no blocks, those that overlap stay as they are."""
    with SqlRunStore.open(any_url, block_points=8) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        for _ in range(6):
            trainer.top = 0
            trainer.unnumbered(0, 20, 3)
        before = layout(any_url, store, "r")
    with SqlRunStore.open(any_url, block_points=0) as store:
        list(store.compaction.compact())
        assert layout(any_url, store, "r") == before


def test_superseded_rows_of_an_older_release_are_sealed(any_url: str) -> None:
    """All of them, although such a store counts only those that are shown."""
    with SqlRunStore.open(any_url, block_points=0) as store:
        trainer = Trainer(store, "r")
        trainer.start()
        trainer.fit(0)
        trainer.rising(3000, 1)
        trainer.fit(2950)
        trainer.rising(100, 1)
        full = triples(store.history("r", KEY))
    engine = make_engine(any_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE series SET sealed_count = 0"))
    engine.dispose()
    with SqlRunStore.open(any_url, block_points=16) as store:
        steps = list(store.compaction.compact())
        assert steps[-1].points == 3100
        assert layout(any_url, store, "r").rows == 0
        assert triples(store.history("r", KEY)) == full

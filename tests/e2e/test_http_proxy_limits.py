"""A proxy before the server that takes no large bodies: smaller batches, waiting for the rest, and nothing lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from e2e.children import eventually
from e2e.proxy_lab import Proxy, proxied
from e2e.server_lab import Server
from templates import sqlite_store

from tracker.api import open_store, start_run, sync_journals
from tracker.client.journal import folder

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy before a server."""
    store = sqlite_store(tmp_path_factory.mktemp("store"))
    with Server(store) as server, proxied(server) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The same without a limit yet; it is TRACKER_STORE."""
    running.most, running.refused = 10**9, 0
    monkeypatch.setenv("TRACKER_STORE", running.url)
    return running


def incompressible(size: int) -> str:
    return Random(1).randbytes(size // 2).hex()


def test_smaller_batches_get_through(proxy: Proxy, home: Path) -> None:
    """Batches become as small as what is on the way takes, after a few attempts; all points are there, once."""
    proxy.most = 8_000
    with start_run("E") as run:
        for step in range(5_000):
            run.log({"loss": step + 0.123456789}, step=step)
        assert run.flush(60) == 0
        refused = proxy.refused
        assert 0 < refused < 40
        assert run.problems == {}
    with closing(open_store(proxy.url)) as store:
        assert store.history(run.id, "loss", raw=True).steps.tolist() == list(range(5_000))
    assert list(folder(home).iterdir()) == []


def test_what_is_too_large_alone_waits_for_a_larger_limit(
    proxy: Proxy, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept, said once with what to change, and asked for rarely; once the limit is raised everything comes."""
    proxy.most = 20_000
    text = incompressible(60_000)
    with start_run("E") as run:
        run.log_params({"lr": 0.1})
        assert run.flush() == 0
        run.log_params({"large": text})
        for step in range(700):
            run.log_params({f"p{step}": step})
        run.log({"loss": 1.0}, step=0)
        with caplog.at_level(logging.WARNING, "tracker"):
            assert run.flush(3) > 0
            before = proxy.refused
            assert run.flush(3) > 0
        assert before < 20
        assert proxy.refused - before < 6
        said = [one.getMessage() for one in caplog.records if "does not take" in one.getMessage()]
        assert len(said) == 1
        assert "answered 413 to a request of" in said[0]
        assert "client_max_body_size" in said[0]
        proxy.most = 10**9
        eventually(lambda: run.flush(5) == 0)
        assert run.problems == {}
    with closing(open_store(proxy.url)) as store:
        params = store.params(run.id)
        assert params == {"lr": 0.1, "large": text} | {f"p{step}": step for step in range(700)}
        assert store.get_run(run.id).status == "finished"
    assert list(folder(home).iterdir()) == []


def test_a_file_that_is_too_large_waits_for_a_larger_limit(
    proxy: Proxy, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the numbers nor smaller files wait for it; many of them are asked for as rarely as one."""
    proxy.most = 20_000
    with start_run("E") as run:
        for number in range(20):
            run.log_text(incompressible(60_000), f"large/{number}.txt")
        run.log_text("small", "small.txt")
        run.log({"loss": 1.0}, step=0)
        eventually(lambda: proxy.refused > 0)
        with closing(open_store(proxy.url)) as store:
            eventually(lambda: "loss" in store.metrics(run.id))
            eventually(lambda: store.files().list(run.id) == ["small.txt"])  # type: ignore[attr-defined]
        assert proxy.refused < 6
        [said] = [one.getMessage() for one in caplog.records if "413" in one.getMessage()]
        assert "is not stored yet" in said
        assert "client_max_body_size" in said
        proxy.most = 10**9
        eventually(lambda: run.flush(5) == 0)
    with closing(open_store(proxy.url)) as store:
        assert len(store.files().list(run.id)) == 21  # type: ignore[attr-defined]
    assert list(folder(home).iterdir()) == []


def test_a_journal_waits_for_a_larger_limit(proxy: Proxy, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tracker sync` leaves what does not get through where it is, says why, and delivers it later."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with start_run("E") as run:
        run.log_params({"large": incompressible(60_000)})
        run.log_text(incompressible(60_000), "large.txt")
    monkeypatch.delenv("TRACKER_MODE")
    proxy.most = 20_000
    [synced] = sync_journals()
    assert "answered 413" in str(synced.error)
    assert synced.refused == 0
    proxy.most = 10**9
    [synced] = sync_journals()
    assert (synced.error, synced.refused) == (None, 0)
    with closing(open_store(proxy.url)) as store:
        assert list(store.params(run.id)) == ["large"]
    assert list(folder(home).iterdir()) == []

"""Endings of trainings in the cells of a Jupyter kernel, which outlives errors, interrupts and `sys.exit`."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from e2e.field.endings import ENDINGS, HEAD, train
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from tracker.api import open_store, sync_journals
from tracker.domain.ports import RunStore

pytestmark = pytest.mark.timeout(300)
PATIENCE_S = 120


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(open_store(store_url)) as opened:
        yield opened


@contextmanager
def kernel(folder: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel, shut down at the end as a notebook's page does."""
    manager, client = start_new_kernel(startup_timeout=PATIENCE_S, kernel_name="python3", cwd=str(folder))
    try:
        run(manager, client, HEAD)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def run(manager: KernelManager, client: BlockingKernelClient, cell: str, number: signal.Signals | None = None) -> None:
    """Run a cell to its end; when it is ready the kernel gets the signal."""
    sent = client.execute(cell)
    while True:
        try:
            heard = client.get_iopub_msg(timeout=PATIENCE_S)
        except queue.Empty as error:
            raise AssertionError(f"nothing came of {cell}") from error
        if heard["parent_header"].get("msg_id") != sent:
            continue
        if number is not None and "ready" in heard["content"].get("text", ""):
            manager.signal_kernel(number)
            if number is not signal.SIGINT:
                return
        if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
            return


IN_WITH = ("return", "exception", "sys.exit(3)", "sys.exit(0)", "Ctrl-C")


def test_cells_end_their_runs_and_the_kernel_ends_the_rest(store: RunStore, tmp_path: Path) -> None:
    """A block ends as its cell does; a run that is left open ends with the kernel, and as its last fit."""
    with kernel(tmp_path) as (manager, client):
        for name in IN_WITH:
            ending = ENDINGS[name]
            cell = f"{train('with', ending.code, name)}\ntrain()"
            run(manager, client, cell, *ending.signals)
        for name in ("return", "Ctrl-C"):
            ending = ENDINGS[name]
            run(manager, client, f"{train('without', ending.code, f'{name} without')}\ntrain()", *ending.signals)
    assert [synced.error for synced in sync_journals() if synced.error is not None] == []
    found = {one.name: (one.status, store.fits(one.id)[0].outcome) for one in store.search_runs()}
    for name in IN_WITH:
        assert found[name] == (ENDINGS[name].status, ENDINGS[name].outcome), name
    assert found["return without"] == ("finished", "completed")
    assert found["Ctrl-C without"] == ("interrupted", "interrupted")


def test_a_kernel_that_gets_sigterm_preempts_its_runs(store: RunStore, tmp_path: Path) -> None:
    """A cluster that ends a notebook's kernel."""
    with kernel(tmp_path) as (manager, client):
        run(manager, client, f"{train('without', ENDINGS['SIGTERM'].code)}\ntrain()", signal.SIGTERM)
    assert [synced.error for synced in sync_journals() if synced.error is not None] == []
    [one] = store.search_runs()
    assert (one.status, store.fits(one.id)[0].outcome) == ("preempted", "preempted")

"""A store's connections suffice for all that a server does at once."""

from __future__ import annotations

import threading

from contracts.writer import Writer

from tracker.store.engine import reading
from tracker.store.store import SqlRunStore

READERS = 30


def test_readers_leave_a_connection_to_the_writer(any_url: str) -> None:
    """While as many read as a server has places for, a batch is committed."""
    with SqlRunStore.open(any_url) as store:
        all_read, done = threading.Barrier(READERS + 1), threading.Event()

        def read() -> None:
            with reading(store._engine):
                all_read.wait(20)
                done.wait(60)

        threads = [threading.Thread(target=read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            all_read.wait(20)
            Writer(store).start()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert store.get_run("r").status == "running"

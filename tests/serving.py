"""Tracking servers for tests: in a thread over parts that the test made, and as the process that people start."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Self

import uvicorn
from e2e.server_lab import Server

from tracker.domain.ports import ArtifactHome
from tracker.server.access import Hosts
from tracker.server.app import create_app
from tracker.server.serve import address_of, listen
from tracker.server.writer import Writer
from tracker.store.store import SqlRunStore


@contextmanager
def served(store: SqlRunStore, artifacts: ArtifactHome) -> Iterator[str]:
    """The address of a server in this process; when the block ends it has ended."""
    answers = threading.Event()
    with listen("127.0.0.1", 0) as opened, Writer(store.append_many) as writer:
        app = create_app(store, writer, artifacts, hosts=Hosts(), started=answers.set)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            assert answers.wait(30)
            yield address_of(opened)
        finally:
            server.should_exit = True
            thread.join()


class ServerProcess(Server):
    """`tracker server` at an address that is known before it starts; `start` it again after `kill` or `end`."""

    def __init__(self, store_url: str) -> None:
        super().__init__(store_url, port=free_port())
        self.host = "127.0.0.1"
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._started:
            super().__exit__(*raised)

    def start(self) -> Self:
        """Start it, and return once it answers."""
        super().start()
        self._started = True
        return self


def free_port() -> int:
    """A port on which nobody listens."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port

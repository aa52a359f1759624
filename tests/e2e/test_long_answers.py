"""What readers can cost a server: memory and places are bounded, shared fairly, and given back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from e2e.children import eventually
from e2e.long_lab import add_history
from e2e.mlflow_lab import API
from e2e.server_lab import Server, request

from tracker.compose import open_sql_store

pytestmark = pytest.mark.timeout(240)
LONG, SHORT = 200_000, 100_000
"""Points of histories that are streamed, and of one that is put together in memory."""
NATIVE = "/api/v1/runs/long/history?key=loss"
MLFLOW = f"{API}metrics/get-history?run_id=long&metric_key=loss"
IN_MEMORY = f"{API}metrics/get-history?run_id=short&metric_key=loss"
GROWTH_KIB = 80 * 1024
"""How much a server may grow while eight clients read long histories, however long they are."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store with the two histories."""
    url = f"sqlite:///{tmp_path_factory.mktemp('long') / 'tracker.db'}"
    with open_sql_store(url) as store:
        add_history(store, "long", LONG)
        add_history(store, "short", SHORT)
    return url


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Server]]:
    """Starts servers over the store, in which `before` was run first."""
    with ExitStack() as stack:
        yield lambda before="": stack.enter_context(Server(url, before=before))


def steps_of(body: bytes) -> list[int]:
    """The steps in an answer of either API."""
    answer = json.loads(body)
    return answer["steps"] if "steps" in answer else [point["step"] for point in answer["metrics"]]


def test_eight_readers_at_once(start: Callable[..., Server]) -> None:
    """Each gets all points; the server grows by a bounded amount, answers others meanwhile, and gives memory back."""
    server = start()
    for path in (f"{NATIVE}&last_step=9", f"{MLFLOW}&max_results=10"):
        server.get(path)
    before = server.memory_kib
    bodies: list[bytes] = []

    def read(path: str) -> None:
        while (answer := server.ask("GET", path)).status == 503:
            assert int(answer.headers["retry-after"]) >= 1
        assert answer.status == 200, answer.body
        bodies.append(answer.body)

    threads = [threading.Thread(target=read, args=[path]) for path in (NATIVE, MLFLOW) * 4]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert server.ask("GET", "/healthz").status == 200
        slowest = max(slowest, time.monotonic() - began)
        assert server.ask("GET", "/api/v1/experiments").status == 200
    assert len(bodies) == 8
    assert len(set(bodies)) == 2
    assert all(steps_of(body) == list(range(LONG)) for body in set(bodies))
    assert slowest < 1
    assert server.most_memory_kib - before < GROWTH_KIB
    eventually(lambda: server.memory_kib < 1.5 * before)


def begin(server: Server, path: str, address: str, stack: ExitStack) -> HTTPConnection:
    """Ask, from an address of this machine, and read nothing."""
    connection = HTTPConnection(server.host, server.port, timeout=60, source_address=(address, 0))
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stack.callback(connection.close)
    connection.request("GET", path)
    return connection


def test_who_does_not_read_keeps_nobody_out(start: Callable[..., Server]) -> None:
    """A client has three of four places for long answers; its fourth waits until one is dropped that does not read."""
    server = start("import tracker.server.connections as limits; limits.WRITE_S = 6.0")
    with ExitStack() as stack:
        silent = [begin(server, MLFLOW, "127.0.0.2", stack) for _ in range(3)]
        for connection in silent:
            assert connection.getresponse().status == 200
        assert steps_of(server.ask("GET", NATIVE).body) == list(range(LONG)), "another client has a place"
        assert server.ask("GET", "/api/v1/runs").status == 200
        fourth = HTTPConnection(server.host, server.port, timeout=60, source_address=("127.0.0.2", 0))
        assert steps_of(request(fourth, "GET", NATIVE).body) == list(range(LONG))
        fourth.close()
    assert "Traceback" not in server.errors


def test_who_waits_too_long_comes_again(start: Callable[..., Server]) -> None:
    """The refusal is an outage with Retry-After, in the words of each API."""
    server = start(
        "import tracker.server.read_concurrency as reads; reads.ReadSlots.__init__.__kwdefaults__['patience_s'] = 0.5"
    )
    with ExitStack() as stack:
        for connection in [begin(server, MLFLOW, "127.0.0.1", stack) for _ in range(3)]:
            assert connection.getresponse().status == 200
        native, mlflow = server.ask("GET", NATIVE), server.ask("GET", MLFLOW)
        assert (native.status, native.json["error"]) == (503, "StoreUnavailable")
        assert (mlflow.status, mlflow.json["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        for answer in (native, mlflow):
            assert int(answer.headers["retry-after"]) >= 1
            assert "one client has at most 3 at once" in answer.body.decode()
    eventually(lambda: server.ask("GET", f"{MLFLOW}&max_results=10").status == 200)


def test_answers_that_nobody_reads_are_dropped(start: Callable[..., Server]) -> None:
    """Answers in memory that wait for clients are bounded in all: beyond, those who read nothing are dropped."""
    limits = "limits.UNREAD_BYTES, limits.STALLED_S = 20_000_000, 1.0"
    server = start(f"import tracker.server.connections as limits; {limits}")
    with ExitStack() as stack:
        silent = [begin(server, IN_MEMORY, "127.0.0.2", stack) for _ in range(6)]
        for connection in silent:
            assert connection.getresponse().status == 200
        eventually(lambda: "reads nothing of its answer" in server.errors)
        assert steps_of(server.ask("GET", IN_MEMORY).body) == list(range(SHORT))


def test_pieces_lie_where_temporary_files_do(url: str, tmp_path: Path) -> None:
    """Without room for them a long history is refused as an outage, short ones are not."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    with Server(url, before=limit) as server:
        answer = server.ask("GET", NATIVE)
        assert (answer.status, answer.json["error"]) == (503, "StoreUnavailable")
        assert "no room in the folder for temporary files" in answer.json["detail"]
        assert server.ask("GET", f"{NATIVE}&last_step=100").status == 200

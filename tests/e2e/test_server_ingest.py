"""What the server takes in: each acknowledged batch is there once, whatever is thrown at it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import msgspec
import pytest
from e2e.children import eventually
from e2e.server_lab import MSGPACK, Answer, Server, batch, points, start_of

from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import encode_batch

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def server(store_url: str) -> Iterator[Server]:
    with Server(store_url) as started:
        yield started


def test_answer_means_committed(any_url: str) -> None:
    """When the server answers, another process finds the frames; sent again they are stored once."""
    with Server(any_url) as server, SqlRunStore.open(any_url) as store:
        for _ in range(2):
            answer = server.post(batch("r", 1, start_of(), points(1, x=1.0)))
            assert (answer.status, answer.json) == (
                200,
                {"last": 2, "stop": False, "pruned": False, "over_budget": None},
            )
        assert store.history("r", "x", raw=True).steps.tolist() == [1]


def test_answer_in_messagepack(server: Server) -> None:
    """A client that names MessagePack gets it."""
    answer = server.ask(
        "POST", "/api/v1/batches", encode_batch(batch("r", 1, start_of())), {**MSGPACK, "Accept": "application/msgpack"}
    )
    assert answer.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(answer.body) == {"last": 1, "stop": False, "pruned": False, "over_budget": None}


def test_stop_request_reaches_the_writer(server: Server) -> None:
    """Whoever writes to a run that was asked to stop is told so."""
    server.post(batch("r", 1, start_of()))
    assert server.ask("POST", "/api/v1/runs/r/stop").status == 204
    assert server.post(batch("r", 2, points(1, x=1.0))).json == {
        "last": 2,
        "stop": True,
        "pruned": False,
        "over_budget": None,
    }


def test_files_are_where_the_server_says(server: Server) -> None:
    """A client cannot name the place of a run's artifacts."""
    server.post(batch("r", 1, start_of()))
    assert server.get("/api/v1/runs/r")["artifact_uri"] == f"{server.url}/api/v1/runs/r/artifacts"


def test_shutdown_commits_what_was_accepted(server: Server, store_url: str) -> None:
    """A batch that waits for the store when the server is told to end is committed and answered; then it ends with 0."""
    server.post(batch("r", 1, start_of()))
    with closing(sqlite3.connect(store_url[10:], isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        with closing(server.connect()) as connection:
            connection.request("POST", "/api/v1/batches", encode_batch(batch("r", 2, points(1, x=1.0))), MSGPACK)
            for _ in range(3):  # the loop has read what was sent before
                assert server.ask("GET", "/healthz").status == 200
            ended = pool.submit(server.end)
            eventually(lambda: not _connects(server))
            other.execute("ROLLBACK")
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["last"]) == (200, 2)
        assert ended.result() == 0
    assert "Traceback" not in server.errors
    with SqlRunStore.open(store_url) as store:
        assert store.history("r", "x").steps.tolist() == [1]


def _connects(server: Server) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=5).close()
    except OSError:
        return False
    return True


def test_interrupt_is_an_end(server: Server) -> None:
    """Ctrl-C ends the server as SIGTERM does."""
    assert server.end(signal.SIGINT) == 0


def test_bad_batch_fails_alone(server: Server, store_url: str) -> None:
    """Batches that wait together are committed together, but for those that cannot be."""
    server.post(batch("r", 1, start_of()))
    bodies = [batch(f"run{n}", 1, start_of()) if n % 2 else batch(f"nobody{n}", 2, points(1, x=1.0)) for n in range(16)]
    with closing(sqlite3.connect(store_url[10:], isolation_level=None)) as other, ThreadPoolExecutor(16) as pool:
        other.execute("BEGIN IMMEDIATE")
        answers = [pool.submit(server.post, body) for body in bodies]
        assert server.ask("GET", "/healthz").status == 200
        other.execute("ROLLBACK")
        assert [answer.result().status for answer in answers] == [200 if n % 2 else 404 for n in range(16)]
    assert answers[0].result().json["error"] == "RunNotFound"
    assert len(server.get("/api/v1/runs")["runs"]) == 9


def test_values_that_no_store_keeps(any_url: str) -> None:
    """A batch with numbers that no database keeps is refused whole, before the store sees it."""
    with Server(any_url) as server:
        big = batch("r", 1, start_of())
        assert server.post(big).status == 200
        parts = msgspec.msgpack.decode(encode_batch(batch("r", 2, points(1, x=1.0))))
        for number in (2**63, 2**64 - 1):
            parts["items"] = [[2, ["ev", number, "kind", None, None, 0, {}]]]
            answer = server.post(msgspec.msgpack.encode(parts))
            assert (answer.status, answer.json["error"]) == (422, "InvalidValue")
        assert server.get("/api/v1/runs/r/events") == []


def test_many_writers_at_once(server: Server) -> None:
    """Requests on many connections for one run are all committed."""
    server.post(batch("r", 1, start_of()))
    answers: list[Answer] = []

    def write(writer: str) -> None:
        bodies = [batch("r", number, points(number, **{writer: 1.0}), writer=writer) for number in range(1, 11)]
        answers.extend(server.post(body) for body in bodies)

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 80
    assert {one["count"] for one in server.get("/api/v1/runs/r/metrics").values()} == {10}

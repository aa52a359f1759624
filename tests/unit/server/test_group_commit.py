"""The writer's thread: bounded, and true to what it accepted."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from e2e.server_lab import MSGPACK, batch, points, start_of

from tracker.artifacts.local import LocalArtifacts
from tracker.domain.calls import batch_of_call
from tracker.domain.errors import RunNotFound, StoreUnavailable
from tracker.domain.frames import Ack
from tracker.server.app import create_app
from tracker.server.gate import Hosts
from tracker.server.group_commit import Busy, GroupCommit
from tracker.server.request_body import BodyLimits
from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import encode_batch


@pytest.fixture
def store(store_url: str) -> Iterator[SqlRunStore]:
    with SqlRunStore.open(store_url) as opened:
        yield opened


@pytest.fixture
def other(store: SqlRunStore) -> Iterator[sqlite3.Connection]:
    """A connection that can hold the store's write lock."""
    with closing(sqlite3.connect(store.url[10:], isolation_level=None)) as connection:
        yield connection


def client(store: SqlRunStore, writer: GroupCommit, intake: BodyLimits | None = None) -> httpx.AsyncClient:
    """A client of the application in this process."""
    app = create_app(store, writer, LocalArtifacts(Path.cwd() / "artifacts"), hosts=Hosts(), intake=intake)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=MSGPACK)


def test_full_queue_is_said(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """When as many batches wait as may, the next is 503 with Retry-After: 1; those that were accepted are committed."""

    async def run() -> tuple[httpx.Response, list[httpx.Response]]:
        async with client(store, writer) as http:
            body = encode_batch(batch("r", 2, points(1, x=1.0)))
            other.execute("BEGIN IMMEDIATE")
            accepted = [asyncio.create_task(http.post("/api/v1/batches", content=body)) for _ in range(8)]
            done, waiting = await asyncio.wait(accepted, return_when=asyncio.FIRST_COMPLETED)
            other.execute("ROLLBACK")
            return done.pop().result(), await asyncio.gather(*waiting)

    with GroupCommit(store.append_many, most_waiting=2) as writer:
        store.append(batch("r", 1, start_of()))
        refused, rest = asyncio.run(run())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"] == "StoreUnavailable"
    committed = [answer for answer in rest if answer.status_code == 200]
    assert 2 <= len(committed) <= 4
    assert all(
        answer.json() == {"last": 2, "stop": False, "pruned": False, "over_budget": None} for answer in committed
    )
    assert {answer.status_code for answer in rest} <= {200, 503}
    assert store.history("r", "x", raw=True).steps.tolist() == [1]


def test_bodies_together_are_bounded(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """Bodies whose batches wait count until they are committed; what would be too much at once is 503."""
    body = encode_batch(batch("r", 2, *(points(step, x=1.0) for step in range(200))))

    async def run() -> tuple[httpx.Response, list[httpx.Response]]:
        async with client(store, writer, BodyLimits(small_together=3 * len(body))) as http:
            other.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.create_task(http.post("/api/v1/batches", content=body)) for _ in range(4)]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            other.execute("ROLLBACK")
            rest = await asyncio.gather(*waiting)
            assert (await http.post("/api/v1/batches", content=body)).status_code == 200
            return done.pop().result(), rest

    with GroupCommit(store.append_many) as writer:
        store.append(batch("r", 1, start_of()))
        refused, rest = asyncio.run(run())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert [answer.status_code for answer in rest] == [200] * 3


def test_close_commits_what_was_accepted(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """close() returns when all that was accepted is committed and answered; what comes then is refused."""

    async def run() -> list[Ack]:
        batches = [batch(f"r{number}", 1, start_of()) for number in range(5)]
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.ensure_future(writer.append(one)) for one in batches]
        await asyncio.sleep(0)
        closing_ = asyncio.create_task(asyncio.to_thread(writer.close))
        other.execute("ROLLBACK")
        await closing_
        with pytest.raises(StoreUnavailable, match="shutting down"):
            await writer.append(batches[0])
        return await asyncio.wait_for(asyncio.gather(*waiting), 30)

    with GroupCommit(store.append_many, most_batches=1) as writer:
        assert asyncio.run(run()) == [Ack(last=1)] * 5
    assert len(store.search_runs().runs) == 5


def test_plain_threads(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """A thread hands a batch in and waits for its answer; a full queue and a closed writer refuse it at once."""
    with GroupCommit(store.append_many, most_waiting=1) as writer:
        other.execute("BEGIN IMMEDIATE")
        accepted: deque[Future[Ack]] = deque()

        def fill() -> None:
            accepted.extend(writer.submit(batch(f"r{number}", 1, start_of())) for number in itertools.count())

        with pytest.raises(Busy):
            fill()
        other.execute("ROLLBACK")
        assert [future.result(30) for future in accepted] == [Ack(last=1)] * len(accepted)
        with pytest.raises(RunNotFound):
            writer.submit(batch_of_call("nobody", ("x",), (1,), (1,), (1.0,))).result(30)
    with pytest.raises(StoreUnavailable, match="shutting down"):
        writer.submit(batch("c", 1, start_of()))


def test_points_are_settled(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """What is committed packed under load is moved when nothing more comes, and at the latest when the writer ends."""

    def rows(table: str) -> int:
        return int(other.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    steps = itertools.count()

    def log_until_packed() -> int:
        while not rows("tails"):
            step = next(steps)
            writer.submit(batch_of_call("r", ("x",), (step,), (1,), (1.0,))).result(30)
        return step + 1

    store.append(batch("r", 1, start_of()))
    with GroupCommit(store.append_soon, settle=store.settle) as writer:
        logged = log_until_packed()
        deadline = time.monotonic() + 30
        while rows("metric_points") < logged:
            assert time.monotonic() < deadline
        logged = log_until_packed()
    assert (rows("metric_points"), rows("tails")) == (logged, 0)
    assert store.metrics("r")["x"].count == logged


def test_store_that_is_away(store: SqlRunStore, other: sqlite3.Connection) -> None:
    """A store that cannot be written is 503 with Retry-After; when it can, the same request succeeds."""
    body = encode_batch(batch("r", 1, start_of()))
    other.execute("ALTER TABLE journals RENAME TO gone")

    async def run() -> list[httpx.Response]:
        async with client(store, writer) as http:
            answers = [await http.post("/api/v1/batches", content=body)]
            other.execute("ALTER TABLE gone RENAME TO journals")
            return [*answers, await http.post("/api/v1/batches", content=body)]

    with GroupCommit(store.append_many) as writer:
        away, there = asyncio.run(run())
    assert (away.status_code, there.status_code) == (503, 200)
    assert int(away.headers["Retry-After"]) >= 1


def test_slow_body_is_cut_off(store: SqlRunStore) -> None:
    """A body that stops coming is 408: nobody holds a place for ever."""

    async def stuck() -> object:
        yield b"\x85"
        await asyncio.Event().wait()

    async def run() -> httpx.Response:
        async with client(store, writer, BodyLimits(grace_s=0.05)) as http:
            return await http.post("/api/v1/batches", content=stuck())

    with GroupCommit(store.append_many) as writer:
        answer = asyncio.run(run())
    assert (answer.status_code, answer.headers["Connection"]) == (408, "close")


def test_bug_is_no_traceback(store: SqlRunStore, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody expected is 500 without the server's inside; the log has it, and the next batch is taken."""

    def broken(batches: object) -> list[Ack]:
        raise ZeroDivisionError("secret")

    async def run() -> httpx.Response:
        app = create_app(store, writer, LocalArtifacts(Path.cwd() / "artifacts"), hosts=Hosts())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=MSGPACK) as http:
            return await http.post("/api/v1/batches", content=encode_batch(batch("r", 1, start_of())))

    with GroupCommit(broken) as writer:
        answer = asyncio.run(run())
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "ZeroDivisionError: secret" in caplog.text

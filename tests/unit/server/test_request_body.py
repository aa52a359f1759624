"""Bodies that the server waits for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import zstandard

from tracker.artifacts.local import LocalArtifacts
from tracker.server.app import create_app
from tracker.server.gate import Hosts
from tracker.server.group_commit import GroupCommit
from tracker.server.request_body import SMALL, BodyLimits
from tracker.store.store import SqlRunStore


@pytest.fixture
def store(store_url: str) -> Iterator[SqlRunStore]:
    with SqlRunStore.open(store_url) as opened:
        yield opened


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/batches"), ("PUT", "/api/v1/runs/r/artifacts/x")])
def test_server_that_ends_tells_who_is_still_sending(store: SqlRunStore, method: str, path: str) -> None:
    """A request that is ended with the server while its body comes is 503, and what came of it is gone."""
    folder = Path.cwd() / "files"

    async def run() -> httpx.Response:
        waits = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"half"
            waits.set()
            await asyncio.Event().wait()

        app = create_app(store, writer, LocalArtifacts(folder), hosts=Hosts())
        headers = {"Content-Type": "application/msgpack"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            asking = asyncio.create_task(http.request(method, path, content=stuck(), headers=headers))
            await waits.wait()
            asking.cancel()
            return await asking

    with GroupCommit(store.append_many) as writer:
        answer = asyncio.run(run())
    assert (answer.status_code, answer.json()["error"]) == (503, "StoreUnavailable")
    assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "2")
    assert [file for file in folder.rglob("*") if file.is_file()] == []


def test_bodies_count_while_they_are_unpacked(store: SqlRunStore) -> None:
    """What a compressed body says counts with what came, for the limit of all that is held at once."""
    packed = zstandard.compress(bytes(1_000_000))

    async def run(together: int) -> int:
        intake = BodyLimits(small_together=together)
        app = create_app(store, writer, LocalArtifacts(Path("f")), hosts=Hosts(), intake=intake)
        headers = {"Content-Type": "application/msgpack", "Content-Encoding": "zstd"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            answers = [await http.post("/api/v1/batches", content=packed, headers=headers) for _ in range(3)]
        return {answer.status_code for answer in answers}.pop()

    with GroupCommit(store.append_many) as writer:
        assert asyncio.run(run(1_000_000)) == 503
        assert asyncio.run(run(1_000_000 + len(packed))) == 422


def test_one_client_leaves_room_for_others(store: SqlRunStore) -> None:
    """Large bodies of one client that stop one byte short take half of the room at most, and no small body's."""
    large = 2 * SMALL

    async def run() -> list[int]:
        app = create_app(store, writer, LocalArtifacts(Path("f")), hosts=Hosts(), intake=BodyLimits(together=4 * large))
        arrived = asyncio.Queue[None]()

        async def short() -> AsyncIterator[bytes]:
            yield bytes(large)
            arrived.put_nowait(None)
            await asyncio.Event().wait()

        async def post(client: str, content: bytes | AsyncIterator[bytes]) -> int:
            transport = httpx.ASGITransport(app, client=(client, 1))
            headers = {"Content-Type": "application/msgpack"}
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return (await http.post("/api/v1/batches", content=content, headers=headers)).status_code

        stuck = [asyncio.create_task(post("10.0.0.1", short())) for _ in range(2)]
        for _ in stuck:
            await arrived.get()
        statuses = [await post("10.0.0.1", bytes(large)), await post("10.0.0.1", b"small")]
        statuses += [await post("10.0.0.2", bytes(large)), await post("10.0.0.2", bytes(SMALL))]
        for task in stuck:
            task.cancel()
        return statuses + list(await asyncio.gather(*stuck))

    with GroupCommit(store.append_many) as writer:
        assert asyncio.run(run()) == [503, 422, 422, 422, 503, 503]

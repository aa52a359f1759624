"""Places for reads: bounded, shared fairly, and not waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tracker.server.problem_details import CLIENT, Refused
from tracker.server.read_concurrency import ReadSlots


async def start(slots: ReadSlots, client: str, log: list[str], go_on: asyncio.Event) -> asyncio.Task[None]:
    """A read of `client`, which is in the log once it has a place, and ends when it may go on."""

    async def read() -> None:
        CLIENT.set(client)
        async with slots.place():
            log.append(client)
            await go_on.wait()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    return task


def test_one_client_cannot_take_all_places() -> None:
    """However many reads of one client wait, another one's begins at once."""

    async def run() -> None:
        slots, log, go_on = ReadSlots(3, 2), [], asyncio.Event()
        tasks = [await start(slots, "many", log, go_on) for _ in range(5)]
        assert log == ["many", "many"]
        tasks.append(await start(slots, "one", log, go_on))
        assert log == ["many", "many", "one"]
        go_on.set()
        await asyncio.gather(*tasks)
        assert log.count("many") == 5

    asyncio.run(run())


def test_clients_who_wait_are_served_in_turn() -> None:
    """A client with many reads that wait is not served before one that came later with one."""

    async def run() -> None:
        slots, log, ends = ReadSlots(1, 1), [], [asyncio.Event() for _ in range(6)]
        order = ["a", "a", "a", "a", "b", "c"]
        tasks = [await start(slots, client, log, end) for client, end in zip(order, ends, strict=True)]
        for place in (0, 1, 4, 5, 2, 3):
            ends[place].set()
            await tasks[place]
        assert log == ["a", "a", "b", "c", "a", "a"]

    asyncio.run(run())


def test_who_waits_too_long_is_told(any_ending: Callable[[asyncio.Task[None]], Awaitable[None]]) -> None:
    """The refusal says when to come again; the place of one that waited no more is nobody's."""

    async def run() -> None:
        slots, log, go_on = ReadSlots(1, 1, patience_s=0.05), [], asyncio.Event()
        first = await start(slots, "a", log, go_on)
        await any_ending(await start(slots, "b", log, go_on))
        go_on.set()
        await first
        await asyncio.gather(*[await start(slots, client, log, go_on) for client in "abc"])
        assert log == ["a", "a", "b", "c"]

    asyncio.run(run())


@pytest.fixture(params=["late", "gone"])
def any_ending(request: pytest.FixtureRequest) -> Callable[[asyncio.Task[None]], Awaitable[None]]:
    """How a read that waits may end without having had a place."""

    async def late(task: asyncio.Task[None]) -> None:
        with pytest.raises(Refused, match="one client has at most 1 at once; ask again later") as refused:
            await task
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})

    async def gone(task: asyncio.Task[None]) -> None:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    return {"late": late, "gone": gone}[request.param]


def test_a_place_that_comes_as_its_client_goes_is_given_on() -> None:
    """A read that is cancelled right when its turn has come takes no place with it."""

    async def run() -> None:
        slots, log, go_on = ReadSlots(1, 1), [], asyncio.Event()
        first = await start(slots, "a", log, go_on)
        second = await start(slots, "b", log, go_on)
        go_on.set()
        await first
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.wait_for(await start(slots, "c", log, go_on), 5)

    asyncio.run(run())

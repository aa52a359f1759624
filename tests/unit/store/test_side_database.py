"""A database of somebody else's tables beside ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from tracker.domain.errors import StoreUnavailable
from tracker.store.engine import make_engine
from tracker.store.schema import differences
from tracker.store.side_database import SideDatabase
from tracker.store.store import SqlRunStore


def _fill(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (id INTEGER)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
    engine.dispose()


@pytest.fixture
def beside(any_url: str) -> Iterator[SideDatabase]:
    """A place beside a store that is there."""
    SqlRunStore.open(any_url).close()
    place = SideDatabase(any_url, "other")
    yield place
    place.close()


def _tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_it_is_there_once_it_is_whole(beside: SideDatabase, any_url: str) -> None:
    """Nothing is made before it is asked for; then it has its own tables, and ours are as they were."""
    assert not beside.exists()
    beside.make(_fill)
    assert beside.exists()
    assert _tables(beside.url) == {"things", "alembic_version"}
    beside.make(lambda url: pytest.fail("it is there already"))
    engine = make_engine(any_url)
    try:
        assert differences(engine) == []
    finally:
        engine.dispose()


def test_one_that_could_not_be_filled_is_not_there(beside: SideDatabase, tmp_path: Path) -> None:
    """Who dies while making it leaves nothing that another takes for it."""
    before = set(tmp_path.iterdir())

    def half(url: str) -> None:
        _fill(url)
        raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        beside.make(half)
    assert not beside.exists()
    assert set(tmp_path.iterdir()) == before
    beside.make(_fill)
    assert beside.exists()


def test_of_many_that_make_it_at_once_one_does(beside: SideDatabase, any_url: str) -> None:
    """All of them find the same whole database."""
    failed: list[BaseException] = []
    together = threading.Barrier(4)

    def make() -> None:
        try:
            together.wait(30)
            with closing(SideDatabase(any_url, "other")) as mine:
                mine.make(_fill)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert _tables(beside.url) == {"things", "alembic_version"}


def test_a_folder_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    """Where the file cannot be made the store is unavailable, not something else."""
    beside = SideDatabase(f"sqlite:///{tmp_path / 'tracker.db'}", "other")
    with pytest.raises(StoreUnavailable, match=r"tracker\.other\.db"):
        beside.make(lambda url: None)

"""`/readyz` says no while a write would not be taken, and tells strangers nothing of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from e2e.children import eventually
from e2e.server_lab import Server

import tracker


@pytest.fixture
def server(any_url: str) -> Iterator[Server]:
    """A server over each database."""
    with Server(any_url) as server:
        yield server


def not_ready(server: Server) -> bool:
    """Whether it says no, and nothing of where its store is. The health check answers all the same."""
    answer = server.ask("GET", "/readyz")
    assert server.ask("GET", "/healthz").status == 200
    if answer.status == 200:
        return False
    assert (answer.status, answer.json["detail"]) == (503, "the server takes no writes now; its log says why")
    assert int(answer.headers["retry-after"]) >= 1
    assert set(answer.json) <= {"type", "title", "status", "detail", "error", "request_id"}
    return True


def test_a_store_that_another_keeps_locked(server: Server, any_url: str) -> None:
    """A write would wait for its turn longer than its deadline: no until the lock is given up."""
    if any_url.startswith("sqlite"):
        other = sqlite3.connect(any_url.removeprefix("sqlite:///"), isolation_level=None)
        take, give = "BEGIN IMMEDIATE", "ROLLBACK"
    else:
        other = psycopg.connect(any_url, autocommit=True)  # type: ignore[assignment]
        take, give = "BEGIN; LOCK TABLE runs IN SHARE MODE", "ROLLBACK"
    with closing(other):
        assert not not_ready(server)
        other.execute(take)
        assert not_ready(server)
        assert not_ready(server)
        with closing(tracker.open_store(server.url)) as store:
            assert len(store.search_runs().runs) == 0, "who only reads is not kept waiting"
        other.execute(give)
        assert not not_ready(server)
    server.end()
    assert server.errors.count("not ready: ") == 1, "once for each outage"
    assert server.errors.count("ready again") == 1
    assert "lock" in server.errors


def test_a_database_that_only_reads(postgres_url: str) -> None:
    """A server whose PostgreSQL has become read-only, as a replica is, is not ready."""
    name = urlsplit(postgres_url).path[1:]

    def read_only(value: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )

    with Server(postgres_url) as server:
        read_only("on")
        eventually(lambda: not_ready(server))
        read_only("off")
        eventually(lambda: not not_ready(server))


def test_a_file_that_is_gone(store_url: str) -> None:
    """A SQLite file that was moved away takes no writes, and asking does not make another one."""
    file = Path(store_url.removeprefix("sqlite:///"))
    with Server(store_url) as server:
        file.rename(file.with_suffix(".moved"))
        assert not_ready(server)
        assert not file.exists()
        file.with_suffix(".moved").rename(file)
        assert not not_ready(server)

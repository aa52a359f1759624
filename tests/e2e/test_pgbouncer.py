"""PostgreSQL behind PgBouncer in transaction mode: everything works, and nothing is paid for it elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import run_child
from e2e.cli_lab import installed, invoke, record
from e2e.pgbouncer_lab import PASSWORD, pgbouncer, through
from e2e.server_lab import Server
from sqlalchemy import text

import tracker
from tracker.domain.errors import InvalidStoreUrl, StoreUnavailable
from tracker.store.engine import make_engine, reading, writing
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def port(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """That of a PgBouncer for all tests of this module."""
    with pgbouncer(postgres, tmp_path_factory.mktemp("pgbouncer")) as listening:
        yield listening


@pytest.fixture
def url(postgres_url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database behind it; it is TRACKER_STORE."""
    found = through(postgres_url, port)
    monkeypatch.setenv("TRACKER_STORE", found)
    return found


def prepared(url: str) -> set[int]:
    """How many statements the server keeps prepared for a client that wrote the same thing ten times over."""
    engine = make_engine(url)
    counts = set()
    for _ in range(20):
        with writing(engine) as connection:
            connection.execute(text("SELECT 1 + 1"))
            counts.add(connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())
    engine.dispose()
    return counts


def test_trainings_and_readers_share_its_connections(url: str) -> None:
    """Runs recorded at once, then read at once many times over, from one process: every value arrives."""
    with closing(SqlRunStore.open(url)):
        pass

    def train(number: int) -> None:
        with tracker.start_run("digits", name=f"run-{number}", params={"width": number}, tags={"team": "a"}) as run:
            fit = run.start_fit(epochs=12, steps_per_epoch=5)
            for epoch in range(12):
                fit.log_epoch(epoch, {"loss": 1.0 / (epoch + 1), "val_loss": number + epoch}, steps=5 * (epoch + 1))
                if epoch % 3 == 0:
                    run.log({f"batch/{key}": float(key) for key in range(30)}, step=epoch)
                    run.log_event("looked", epoch=epoch)
                    assert run.flush() == 0
            fit.end("completed")
            assert run.problems == {}

    together(train, range(4))
    with closing(tracker.open_store()) as store:
        runs = {run.name: run for run in store.search_runs(order_by=["name"]).runs}
        assert list(runs) == [f"run-{number}" for number in range(4)]

        def read(number: int) -> None:
            for _ in range(8):
                (found,) = store.search_runs(f"params.width = {number} AND metrics.val_loss.best = {number}").runs
                assert (found.id, found.status, found.best_epoch) == (runs[f"run-{number}"].id, "finished", 0)
                assert list(store.history(found.id, "val_loss").values) == [number + epoch for epoch in range(12)]
                assert len(store.epochs(found.id)) == 12
                assert len(store.metrics(found.id)) == 32

        together(read, range(4))


def together(work: object, numbers: range) -> None:
    """`work(number)` for all of them, each in a thread of its own; fails as the first of them did."""
    failed: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)  # type: ignore[operator]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_commands_of_the_database(url: str, tmp_path: Path) -> None:
    """Migrations, checks, tokens, what a killed process left, gc and the doctor; none of them shows the password."""
    shown = []

    def tracker_(*arguments: str, code: int = 0) -> str:
        done = installed(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        shown.append(done.stdout + done.stderr)
        return done.stdout

    tracker_("db", "upgrade")
    assert tracker_("db", "current").strip().isdigit()
    tracker_("db", "check")
    run_child(
        """
        run = tracker.start_run("digits", name="killed")
        run.log({"loss": 0.5}, step=1)
        run.log_text("x", "note.txt")
        os._exit(0)
        """
    )
    tracker_("sync")
    assert json.loads(tracker_("runs", "--format", "json"))[0]["name"] == "killed"
    tracker_("delete", "killed")
    tracker_("gc", "--older-than", "0d")
    assert json.loads(tracker_("runs", "--format", "json")) == []
    assert tracker_("token", "create", "ana", "--role", "writer").startswith("trk_")
    assert "ana" in tracker_("token", "list")
    tracker_("token", "revoke", "ana")
    tracker_("doctor")
    assert PASSWORD not in "".join(shown)
    assert "6frd" not in "".join(shown)


def test_a_server_with_several_processes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It records and answers; its log shows no password."""
    with Server(url, "--workers", "2") as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        for number in range(3):
            record(f"run-{number}", [0.3, 0.2], params={"width": number})
        for _ in range(8):
            listed = json.loads(invoke("runs", "--format", "json").stdout)
            assert [run["name"] for run in listed] == ["run-2", "run-1", "run-0"]


def test_mlflow_and_its_registry(url: str) -> None:
    """MLflow's client on the store: runs and registered models, whose tables lie in a schema of their own."""
    run_child(
        """
        import mlflow
        from mlflow import MlflowClient

        mlflow.set_tracking_uri("tracker+" + os.environ["TRACKER_STORE"])
        client = MlflowClient()
        experiment = client.create_experiment("flow")
        runs = [client.create_run(experiment) for _ in range(3)]
        for run in runs:
            for step in range(8):
                client.log_metric(run.info.run_id, "loss", 1.0 / (step + 1), step=step)
        client.create_registered_model("digits")
        for run in runs:
            client.create_model_version("digits", run.info.artifact_uri + "/model", run.info.run_id)
        for _ in range(8):
            assert len(client.search_model_versions("name = 'digits'")) == 3
            assert len(client.search_runs([experiment], "metrics.loss < 0.2")) == 3
            assert client.get_registered_model("digits").name == "digits"
        client.set_registered_model_alias("digits", "best", "2")
        assert str(client.get_model_version_by_alias("digits", "best").version) == "2"
        """
    )
    engine = make_engine(url)
    with reading(engine) as connection:
        schemas = text("SELECT schemaname FROM pg_tables WHERE tablename = 'registered_models'")
        assert connection.execute(schemas).scalars().all() == ["registry"]
    engine.dispose()


def test_statements_are_prepared_on_direct_connections_alone(url: str, postgres_url: str) -> None:
    """Who has a server process to itself keeps the speed of prepared statements, unless the URL says otherwise."""
    assert prepared(url) == {0}
    assert max(prepared(postgres_url)) >= 1
    assert prepared(f"{postgres_url}&prepare_threshold=0") == {0}
    assert prepared(f"{url}?prepare_threshold=0") == {0}


def test_options_of_libpq_arrive(postgres_url: str, url: str, port: int) -> None:
    """Those of a session and those of the connection, several hosts of which the first is away included."""
    asked = text("SELECT current_setting('application_name'), current_setting('search_path')")
    engine = make_engine(f"{postgres_url}&application_name=night%20shift&options=-csearch_path%3Dpg_catalog")
    with reading(engine) as connection:
        assert tuple(connection.execute(asked).one()) == ("night shift", "pg_catalog")
    engine.dispose()
    hosts = url.replace(f"127.0.0.1:{port}", f"127.0.0.1:1,127.0.0.1:{port}")
    with closing(tracker.open_store(f"{hosts}?target_session_attrs=read-write&application_name=x")) as store:
        assert store.search_runs().runs == []


@pytest.mark.parametrize(("options", "said"), [
    ("sslmode=require", "SSL"), ("options=-csearch_path%3Dx", "unsupported startup parameter: options"),
])  # fmt: skip
def test_what_the_other_side_refuses_is_one_line(url: str, options: str, said: str) -> None:
    """It says what the database said, without the password."""
    with pytest.raises(StoreUnavailable, match=said) as caught:
        tracker.open_store(f"{url}?{options}")
    assert len(str(caught.value).splitlines()) == 1
    assert "6frd" not in str(caught.value)


@pytest.mark.parametrize(("option", "said"), [
    ("sslmod=require", "no option 'sslmod'; did you mean 'sslmode'"), ("pool_size=5", "no option 'pool_size'; there are .*application_name.*sslmode"),
    ("sslmode=on", "sslmode takes disable, allow, prefer, require, verify-ca or verify-full"), ("connect_timeout=soon", "connect_timeout takes a whole number"),
    ("prepare_threshold=x", "prepare_threshold takes a whole number"), ("autocommit=true", "no option 'autocommit'"), ("sslmode", "name=value"),
    ("host=a&host=b", "given twice; several are written host1,host2"),
])  # fmt: skip
def test_options_that_there_are_not(option: str, said: str) -> None:
    """They are refused as a run starts and as a store is opened, with the option's name and what is allowed."""
    for start in (lambda url: tracker.start_run(store=url), tracker.open_store):
        with pytest.raises(InvalidStoreUrl, match=said) as caught:
            start(f"postgresql://u:hunter2@127.0.0.1:1/db?{option}")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("option", "said"), [
    ("mode=ro", "no option 'mode'; there are cached_statements, timeout"), ("timeout=long", "timeout takes a whole number"),
    ("time_out=3", "did you mean 'timeout'"), ("check_same_thread=1", "no option 'check_same_thread'"),
])  # fmt: skip
def test_options_of_sqlite(option: str, said: str) -> None:
    """There are two; any other is refused with what is allowed."""
    with pytest.raises(InvalidStoreUrl, match=said):
        tracker.start_run(store=f"sqlite:///a.db?{option}")
    with tracker.start_run(store="sqlite:///a.db?timeout=3&cached_statements=50") as run:
        run.log({"loss": 1.0})
        assert run.flush() == 0

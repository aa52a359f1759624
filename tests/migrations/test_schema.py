"""The schema's life: created at head, refused when it is another's, upgraded, and equal to the models."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import preloaded
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from e2e.cli_lab import invoke
from sqlalchemy import text

from tracker.client.batch_builder import make_batch
from tracker.domain.calls import batch_of_call
from tracker.domain.errors import InvalidStoreUrl, SchemaOutdated, SchemaTooNew, StoreUnavailable
from tracker.domain.frames import EventLogged, HistogramLogged, Points, RunStarted
from tracker.store import schema
from tracker.store.catalogue_tables import metadata
from tracker.store.engine import make_engine, reading, writing
from tracker.store.store import SqlRunStore

DATABASES = Path(__file__).parent / "databases"


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", schema.MIGRATIONS)
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def test_head_is_the_newest_migration() -> None:
    """The revision that the code asks for is the last one in the folder, and they are numbered without a gap."""
    assert revisions() == [f"{number:04d}" for number in range(1, int(schema.HEAD) + 1)]


def test_models_equal_migrations(any_empty_url: str) -> None:
    """A database made by the migrations has nothing that the models do not say, and lacks nothing."""
    engine = make_engine(any_empty_url)
    schema.ensure(engine)
    assert schema.differences(engine) == []
    engine.dispose()


def test_drift_is_seen(any_empty_url: str) -> None:
    """The drift check is one that can fail: a column too many and an index too few are both named."""
    engine = make_engine(any_empty_url)
    schema.ensure(engine)
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE runs ADD COLUMN surprise INTEGER"))
        connection.execute(text("DROP INDEX ix_runs_name"))
    found = " ".join(schema.differences(engine))
    assert "surprise" in found
    assert "ix_runs_name" in found
    engine.dispose()


def test_models_and_migrations_make_the_same_sqlite_file(tmp_path: Path) -> None:
    """What reflection does not see (WITHOUT ROWID, computed columns, partial indexes) is the same too."""

    def statements(name: str) -> dict[str, list[str]]:
        """Each statement's parts, without their order: constraints come in any."""
        with sqlite3.connect(tmp_path / name) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        connection.close()
        return {
            name: sorted(re.split(r"[(),]", re.sub(r"\s+|\"", "", sql)))
            for name, sql in rows
            if name != "alembic_version"
        }

    (tmp_path / "models.db").touch()
    models, migrations = (make_engine(f"sqlite:///{tmp_path / name}") for name in ("models.db", "migrations.db"))
    metadata.create_all(models)
    schema.upgrade(migrations)
    for engine in (models, migrations):
        engine.dispose()
    assert statements("models.db") == statements("migrations.db")


def test_new_store_uses_wal(tmp_path: Path) -> None:
    """A SQLite store is in WAL mode, so that readers and the writer do not wait for each other."""
    SqlRunStore.open(f"sqlite:///{tmp_path / 'a.db'}").close()
    connection = sqlite3.connect(tmp_path / "a.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def _set_revision(url: str, revision: str) -> None:
    engine = make_engine(url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


def test_older_store_is_refused_with_the_command_to_run(any_url: str) -> None:
    """An old store is not changed behind its owner's back."""
    _set_revision(any_url, "0000")
    with pytest.raises(SchemaOutdated, match="at schema revision 0000.*tracker db upgrade"):
        SqlRunStore.open(any_url)


def test_newer_store_is_refused(any_url: str) -> None:
    """A store of a newer Tracker is neither read nor upgraded."""
    _set_revision(any_url, "9999")
    with pytest.raises(SchemaTooNew, match="9999, newer than"):
        SqlRunStore.open(any_url)
    engine = make_engine(any_url)
    with pytest.raises(SchemaTooNew):
        schema.upgrade(engine)
    engine.dispose()


def test_password_is_not_in_messages(postgres_url: str) -> None:
    """Errors show a store's URL without its password."""
    _set_revision(postgres_url, "9999")
    with pytest.raises(SchemaTooNew) as caught:
        SqlRunStore.open(postgres_url.replace("postgres:@", "postgres:hunter2@"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://a/b", "sqlite://", "sqlite:///:memory:", "nonsense", "sqlite:////no/such/folder/a.db"]
)
def test_what_is_no_store(url: str) -> None:
    """A URL that names no store that we keep is refused before anything is opened."""
    with pytest.raises(InvalidStoreUrl):
        make_engine(url)


def _open(url: str, started: object) -> None:
    started.wait()  # type: ignore[attr-defined]
    SqlRunStore.open(url).close()


@pytest.mark.parametrize("attempt", range(3))
def test_two_processes_create_the_same_store(any_empty_url: str, attempt: int) -> None:
    """Both succeed, and the schema is there once."""
    context = preloaded.context()
    started = context.Barrier(2)
    both = [context.Process(target=_open, args=(any_empty_url, started)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    engine = make_engine(any_empty_url)
    assert schema.current(engine) == schema.HEAD
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM experiments")).scalar() == 1
    engine.dispose()


def test_every_revision_has_its_database() -> None:
    """One real old database per revision is kept."""
    assert sorted(path.stem for path in DATABASES.glob("*.db")) == revisions()


@pytest.mark.parametrize("revision", revisions())
def test_old_database_is_upgraded_and_read(revision: str, tmp_path: Path) -> None:
    """A database that a real client of that revision wrote is upgraded, and tells the same story."""
    shutil.copy(DATABASES / f"{revision}.db", tmp_path / "old.db")
    engine = make_engine(f"sqlite:///{tmp_path / 'old.db'}")
    assert schema.current(engine) == revision
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    with SqlRunStore(engine) as store:
        run = store.get_run("kept")
        assert (run.name, run.experiment, run.status, run.best_epoch) == ("kept-run", "kept", "finished", 2)
        assert store.params("kept") == {"optimizer.name": "adam", "lr": 0.001}
        assert store.tags("kept") == {"team": "blue"}
        assert store.history("kept", "val_loss").values.tolist() == [0.9, 0.7, 0.5, 0.6]
        assert [fit.outcome for fit in store.fits("kept")] == ["failed", "completed"]
        assert [epoch.fit for epoch in store.epochs("kept")] == [1, 2, 2, 2]
        assert store.checkpoints("kept")[0].is_best is False
        assert [h.key for h in store.histograms("kept")] == ["kernel"]
        assert [e.kind for e in store.events("kept") if e.kind != "checkpoint_saved"] == [
            "fit_started",
            "fit_ended",
            "fit_started",
            "note",
            "fit_ended",
        ]


@pytest.mark.parametrize("revision", [one for one in revisions() if one >= "0002"])
def test_what_came_with_0002_is_read(revision: str, tmp_path: Path) -> None:
    """Runs, data sets and models of MLflow's clients, and tokens, are what they were."""
    shutil.copy(DATABASES / f"{revision}.db", tmp_path / "old.db")
    engine = make_engine(f"sqlite:///{tmp_path / 'old.db'}")
    schema.upgrade(engine)
    with SqlRunStore(engine) as store:
        found = store.catalogue.runs.detail("foreign")
        assert (found.run.status, found.run.ended_ms, found.params) == ("finished", 4000, {"depth": "3"})
        assert [use.dataset.name for use in found.datasets] == ["digits"]
        assert [link.model_id for link in found.outputs] == ["m-kept"]
        assert store.history("foreign", "m").values.tolist() == [0.5, 0.25]
        assert store.catalogue.experiments.get(1).tags == {"owner": "ana"}
        assert store.catalogue.models.get("m-kept").run_id == "foreign"
        assert store.find_runs("kept-run")[0].id == "kept"
        assert [(one.name, one.role) for one in store.tokens.list()] == [("ana", "writer")]


def test_what_came_with_0004_is_read(tmp_path: Path) -> None:
    """A run that was opened again: how long it was open in all, and by whom."""
    shutil.copy(DATABASES / "0004.db", tmp_path / "old.db")
    engine = make_engine(f"sqlite:///{tmp_path / 'old.db'}")
    schema.upgrade(engine)
    with SqlRunStore(engine) as store:
        run = store.get_run("again")
        assert (run.opened_ms, run.spent_ms, run.took_s(0)) == (9000, 2000, 3.0)
        assert [event.detail["script"] for event in store.events("again") if event.kind == "reopened"] == ["train.py"]


@pytest.mark.parametrize("revision", revisions())
def test_checkpoints_of_every_revision_are_read(revision: str, tmp_path: Path) -> None:
    """Checkpoints from before 0003 are published ones of the model; later ones have their role, their tag and state."""
    shutil.copy(DATABASES / f"{revision}.db", tmp_path / "old.db")
    engine = make_engine(f"sqlite:///{tmp_path / 'old.db'}")
    schema.upgrade(engine)
    with SqlRunStore(engine) as store:
        found = [(one.epoch, one.status, one.role, one.tag) for one in store.checkpoints("kept")]
        newer = [(3, "pruned", "model", None), (4, "published", "model", None), (4, "published", "state", "release")]
        assert found == (newer if revision >= "0003" else [(3, "published", "model", None)])


@pytest.mark.parametrize("old", ["SELECT rolled_step, rolled_count FROM series", "SELECT * FROM metric_rollups"])
def test_a_server_of_an_older_release_is_refused(any_url: str, old: str) -> None:
    """Releases before 0005 read these with every series: they fail on an upgraded store, and do not miss its blocks."""
    engine = make_engine(any_url)
    with pytest.raises(StoreUnavailable), reading(engine) as connection:
        connection.execute(text(old))
    engine.dispose()


def test_a_store_that_is_upgraded_while_it_is_used(any_url: str) -> None:
    """A later upgrade refuses this release's writers and readers for now: they keep what they have, and say why."""
    with SqlRunStore.open(any_url) as store:
        store.append(make_batch("r", "w", [(1, RunStarted(1000, "Default", "n", "file:///x", "host", 1))]))
        engine = make_engine(any_url)
        with writing(engine) as connection:
            connection.execute(text("ALTER TABLE series RENAME COLUMN sealed_step TO something_newer"))
        engine.dispose()
        point = make_batch("r", "w", [(2, Points(2000, "step", 1, 0, {"loss": 1.0}))])
        with pytest.raises(StoreUnavailable, match="sealed_step"):
            store.append(point)
        with pytest.raises(StoreUnavailable, match="sealed_step"):
            store.metrics("r")


def test_keys_have_64_bits(postgres_url: str) -> None:
    """Ids do not run out: rows with ids beyond 32 bits are written and read, their points and blocks too."""
    engine = make_engine(postgres_url)
    with writing(engine) as connection:
        for table in ("experiments", "runs", "series", "events", "checkpoints"):
            connection.execute(text(f"SELECT setval('{table}_id_seq', {2**40})"))
    engine.dispose()
    with SqlRunStore.open(postgres_url, block_points=8) as store:
        frames = [
            RunStarted(1000, "new", "n", "file:///x", "host", 1),
            *(Points(2000 + step, "step", step, 0, {"loss": float(step)}) for step in range(100)),
            EventLogged(3000, "note", None, None, 0, {}),
            HistogramLogged(2000, "kernel", "epoch", 1, 0, [0.0, 0.5], [3]),
        ]
        for number, frame in enumerate(frames, 1):
            store.append(make_batch("r", "w", [(number, frame)]))
        store.append(batch_of_call("r", ["loss", "more"], [5, 1], [9000, 9000], [7.0, 1.0]))
        assert store.history("r", "loss").values.tolist()[:8] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 6.0]
        assert store.experiments()[-1].id > 2**40
        assert [event.kind for event in store.events("r")] == ["note"]
        assert [page.id for page in store.search_runs("metrics.more = 1").runs] == ["r"]
        assert store.catalogue.runs.detail("r").run.id == "r"


def test_a_long_upgrade_is_announced(empty_postgres_url: str) -> None:
    """Before it rewrites millions of rows, the command says what that takes; `pg_class` knows about how many they are."""
    engine = make_engine(empty_postgres_url)
    with writing(engine) as connection:
        command.upgrade(schema._config(connection), "0004")
        connection.execute(text("UPDATE pg_class SET reltuples = 3e7 WHERE oid = to_regclass('metric_points')"))
    engine.dispose()
    first, last = (invoke("db", "upgrade", "--store", empty_postgres_url).stderr for _ in range(2))
    assert "about 30 million rows of points are rewritten, which takes some 10 s a million" in first
    assert "upgraded from 0004" in first
    assert "rewritten" not in last

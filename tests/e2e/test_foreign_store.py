"""A store that another program wrote: every reader reads what a row may say, or says which field is wrong.

No text of a row names a file outside of the store's folder, an address or a program.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.cli_lab import invoke
from e2e.keras_lab import SEED
from e2e.sandbox import OTHERS, TEXTS, everything, watched

import tracker
from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink, ModelMetric
from tracker.domain.errors import ArtifactError, InvalidRecord, TrackerError
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(240)
TABLES = (
    "experiments", "experiment_tags", "runs", "fits", "epochs", "series", "metric_points", "params", "tags", "events",
    "checkpoints", "histograms", "datasets", "run_datasets", "run_models", "models", "model_texts", "model_metrics",
)  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """A store with something of each kind in `folder`, and its file's connection, which writes what it is told to."""

    folder: Path
    run_id: str
    database: sqlite3.Connection
    store: SqlRunStore
    saved: sqlite3.Connection

    def columns(self) -> list[tuple[str, str]]:
        """The columns with values, but the keys that join tables."""
        return [
            (table, column)
            for table in TABLES
            for _, column, _, _, _, _, hidden in self.database.execute(f"PRAGMA table_xinfo({table})")
            if not hidden and column not in ("id", "run_id", "experiment_id", "series_id", "dataset_id", "model_id")
        ]

    def write(self, table: str, column: str, value: Any) -> bool:
        """Put the value into the column of each row, or where it must be unique of one; False if that cannot be."""
        for which in ("", f" WHERE {column} = (SELECT max({column}) FROM {table})"):
            with suppress(sqlite3.Error):
                self.database.execute(f'UPDATE {table} SET "{column}" = ?{which}', (value,))
                return True
        return False

    def put_back(self) -> None:
        """Undo all writes."""
        self.saved.backup(self.database)


@pytest.fixture
def foreign(store_url: str, tmp_path: Path) -> Iterator[Foreign]:
    with tracker.start_run("digits", name="net", params={"lr": 0.1, "on": [1], "opt": "adam"}, tags={"t": "v"}) as run:
        run.keep_checkpoints(last=2)
        with run.start_fit(epochs=3, steps_per_epoch=3, batch_size=2) as fit:
            for epoch in range(3):
                fit.log_epoch(epoch, {"val_loss": 1 / (epoch + 1)}, seconds=0.1, steps=3 * (epoch + 1))
                Path("saved.keras").write_bytes(bytes([epoch] * 9))
                fit.log_checkpoint("saved.keras", epoch, metrics={"val_loss": 1 / (epoch + 1)})
        run.log_histogram("kernel", [1.0, 2.0, 3.0], step=1)
    with SqlRunStore.open(store_url) as store, closing(sqlite3.connect(":memory:")) as saved:
        catalogue = store.catalogue
        place = catalogue.experiments.create(
            "placed", artifact_location=(tmp_path / "placed").as_uri(), tags={"a": "b"}
        )
        catalogue.runs.create("gone", place, name="gone", artifact_uri=f"{(tmp_path / 'placed').as_uri()}/gone/artifacts",
                             started_ms=1, tags={})  # fmt: skip
        data = Dataset(name="digits", digest="d", source_type="local", source="{}", schema="{}", profile="{}")
        use = DatasetUse(dataset=data, tags={"mlflow.data.context": "training"})
        uri = f"{(tmp_path / 'placed').as_uri()}/models/m-1/artifacts"
        catalogue.models.create(
            "m-1", place, name="net", artifact_uri=uri, run_id="gone", params={"a": "b"}, tags={"c": "d"}
        )
        metric = ModelMetric(key="loss", value=1.0, step=1, ms=1, run_id="gone")
        catalogue.models.add_metrics("m-1", [metric])
        catalogue.inputs.add(run.id, datasets=[use], models=[ModelLink(model_id="m-1")])
        store.delete_run("gone")
        file = store_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute("UPDATE runs SET status = 'finished' WHERE uid = 'gone'")
            database.backup(saved)
            yield Foreign(tmp_path, run.id, database, store, saved)


def readers(foreign: Foreign) -> dict[str, Callable[[], object]]:
    """Every way to read the store."""
    store, run, catalogue = foreign.store, foreign.run_id, foreign.store.catalogue
    of_run = (
        "get_run",
        "progress",
        "params",
        "tags",
        "metrics",
        "fits",
        "epochs",
        "events",
        "checkpoints",
        "histograms",
    )
    found: dict[str, Callable[[], object]] = {name: lambda name=name: getattr(store, name)(run) for name in of_run}
    return found | {
        "search": lambda: store.search_runs("params.lr > 0 OR name LIKE '%'", order_by=["metrics.val_loss"]),
        "find": lambda: store.find_runs("net"),
        "experiments": store.experiments,
        "history": lambda: store.history(run, "val_loss"),
        "raw history": lambda: store.history(run, "val_loss", raw=True),
        "details": lambda: catalogue.runs.detail(run),
        "data sets": lambda: catalogue.inputs.uses([0, 1, 2]),
        "models": lambda: catalogue.models.listed([0, 1, 2]),
        "all experiments": lambda: catalogue.experiments.listed("all"),
        "deleted": lambda: store.removal.deleted(2**60),
        "deleted experiments": lambda: store.removal.deleted_experiments(2**60),
        "pruned": store.removal.pruned_files,
        "cached": lambda: tracker.load_checkpoint(run, store=store),
        "copied": lambda: tracker.load_checkpoint("net", "latest", store=store, to=f"{foreign.folder}/out/"),
    }


def test_each_column_may_say_anything(foreign: Foreign, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a column says, a reader reads it or raises an error of Tracker's, and no text leads anywhere else."""
    draw = random.Random(SEED)
    (foreign.folder / "out").mkdir()
    others = tmp_path_factory.mktemp("others")
    (others / "file").write_bytes(b"of somebody else")
    before, refused, read = everything(others), 0, readers(foreign)
    crashed: list[str] = []
    with watched(foreign.folder) as led:
        for table, column in draw.sample(foreign.columns(), 40):
            value = draw.choice(draw.choice((TEXTS, OTHERS)))
            if not foreign.write(table, column, value):
                continue
            for name, reader in read.items():
                try:
                    reader()
                except TrackerError:
                    refused += 1
                except Exception as error:
                    crashed.append(f"{name} of {table}.{column} = {value!r:.80}: {error!r:.200}")
            foreign.put_back()
    assert crashed == []
    assert led == []
    assert everything(others) == before
    assert refused > 10


@pytest.mark.parametrize("round", range(2))
def test_every_command_reads_it(foreign: Foreign, round: int) -> None:
    """Commands print, or say what is wrong and exit with 1 or 2; they do the same for what several columns say at once."""
    draw = random.Random(f"{SEED} {round}")
    columns = [one for one in foreign.columns() if one[0] in ("runs", "checkpoints", "events", "params", "tags")]
    out = foreign.folder / "out"
    out.mkdir()
    with watched(foreign.folder) as led:
        for command in (
            ("runs",), ("show", foreign.run_id), ("show", foreign.run_id, "--format", "json"), ("compare", "net", "net"),
            ("checkpoints", foreign.run_id), ("restore", foreign.run_id, "-o", f"{out}/"), ("doctor",),
            ("gc", "--older-than", "0"), ("artifacts", "relocate", "/somewhere", "/elsewhere"), ("delete", "gone"),
        ):  # fmt: skip
            foreign.write(*draw.choice(columns), draw.choice(TEXTS))
            result = invoke(*command)
            unforeseen = None if isinstance(result.exception, SystemExit) else result.exception
            if unforeseen is not None:
                raise AssertionError(command) from unforeseen
            assert "\x1b[31m" not in result.output
            if draw.random() < 0.7:
                foreign.put_back()
    assert led == []


def test_the_error_names_table_column_and_value(foreign: Foreign) -> None:
    """Whoever reads the error can find the value, and hears what to do."""
    foreign.write("runs", "status", "as good as new")
    with pytest.raises(InvalidRecord, match=r"runs\.status: .*'as good as new'.*restore a backup") as caught:
        foreign.store.get_run(foreign.run_id)
    assert caught.value.field == "runs.status"
    foreign.put_back()
    foreign.write("events", "detail", "[1, 2")
    with pytest.raises(InvalidRecord, match=r"events\.detail: .*'\[1, 2'"):
        foreign.store.events(foreign.run_id)


@pytest.mark.parametrize(
    "uri", ["file:///etc/hostname", "file://{folder}/other/../secret", "file:{run}/x", "file:///{run}%00"]
)
def test_a_checkpoint_is_read_from_its_runs_folder_only(foreign: Foreign, uri: str) -> None:
    """An address elsewhere on this machine is not opened, even if the digest of the file there is known."""
    uri = uri.format(folder=foreign.folder, run=foreign.run_id)
    foreign.write("checkpoints", "uri", uri)
    with pytest.raises(ArtifactError, match="not an address of a file of run|absolute path"):
        tracker.load_checkpoint(foreign.run_id, store=foreign.store)


def test_gc_removes_no_folder_that_is_not_a_runs(foreign: Foreign) -> None:
    """An experiment's location may be anywhere, so gc removes there only what has a run's layout."""
    theirs = foreign.folder / "home" / "gone"
    (theirs / "artifacts").mkdir(parents=True)
    (theirs / "thesis.txt").write_text("years of work")
    foreign.write("experiments", "artifact_location", theirs.parent.as_uri())
    foreign.database.execute("UPDATE runs SET artifact_uri = ? WHERE uid = 'gone'", (f"{theirs.as_uri()}/artifacts",))
    result = invoke("gc", "--older-than", "0")
    assert (result.exit_code, "thesis.txt" in result.output) == (1, True), result.output
    assert (theirs / "thesis.txt").read_text() == "years of work"
    (theirs / "thesis.txt").unlink()
    assert invoke("gc", "--older-than", "0").exit_code == 0
    assert not theirs.exists()

"""Write the database that is kept for the newest revision: `python tests/migrations/make_database.py`.

Run it once, when a revision is new, and commit the file; it is never written again.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import tracker
from tracker.domain.calls import batch_of_call
from tracker.domain.catalogue import Dataset, DatasetUse, ModelLink
from tracker.store.schema import HEAD
from tracker.store.store import SqlRunStore

target = Path(__file__).parent / "databases" / f"{HEAD}.db"
if target.exists():
    sys.exit(f"{target} is there already; old databases are kept as they are")

with tempfile.TemporaryDirectory() as folder:
    os.environ.update(TRACKER_HOME=f"{folder}/home", TRACKER_PLUGINS="off")
    url, weights = f"sqlite:///{folder}/kept.db", Path(folder) / "m.weights.h5"
    weights.write_bytes(b"not really weights")
    with tracker.start_run("kept", name="kept-run", run_id="kept", store=url, tags={"team": "blue"}) as run:
        run.log_params({"optimizer": {"name": "adam"}, "lr": 0.001})
        fit = run.start_fit(epochs=3, steps_per_epoch=10, batch_size=32)
        for epoch, loss in enumerate([0.9, 0.8, 0.75]):
            fit.log_epoch(epoch, {"val_loss": loss}, seconds=0.5, steps=(epoch + 1) * 10)
        fit = run.start_fit(initial_epoch=1, epochs=4, steps_per_epoch=10, batch_size=32)
        for epoch, loss in enumerate([0.7, 0.5, 0.6], 1):
            fit.log_epoch(epoch, {"val_loss": loss}, seconds=0.5, steps=epoch * 10)
        run.log_event("note", epoch=3, text="kept")
        run.log_checkpoint(weights, epoch=3, metrics={"val_loss": 0.6}, state={"wait": 1})
        weights.write_bytes(b"newer, and not really weights")
        run.keep_checkpoints(last=1)
        run.log_checkpoint(weights, epoch=4, metrics={"val_loss": 0.5})
        run.log_checkpoint(weights, epoch=4, role="state", state={"wait": 2})
        run.log_histogram("kernel", [1.0, 2.0, 3.0], step=3)
        run.log({"batch/loss": 1.0}, step=5)
        fit.end("completed")
    # Opened by a second process.
    tracker.start_run("kept", run_id="again", store=url).finish("failed")
    tracker.start_run("kept", run_id="again", resume="must", store=url).finish()
    with SqlRunStore.open(url) as store:
        books = store.catalogue
        books.experiments.set_tag(1, "owner", "ana")
        uri = "file:///artifacts/foreign"
        books.runs.create("foreign", 1, name="foreign", started_ms=1000, artifact_uri=uri, tags={"mlflow.user": "ana"})
        store.append(batch_of_call("foreign", ("m", "m"), (1, 1), (2000, 3000), (0.5, 0.25), params={"depth": "3"}))
        data = Dataset(name="digits", digest="abc", source_type="local", source="digits.csv")
        books.inputs.add("foreign", datasets=[DatasetUse(dataset=data, tags={"mlflow.data.context": "training"})])
        books.models.create("m-kept", 1, name="model", artifact_uri="file:///artifacts/m-kept", run_id="foreign")
        books.inputs.add_outputs("foreign", [ModelLink(model_id="m-kept", step=1)])
        books.runs.change("foreign", status="finished", ended_ms=4000)
        store.tokens.create("ana", "writer")
        store.tag_checkpoint("kept", store.checkpoints("kept")[-1].id, "release")
    database = sqlite3.connect(f"{folder}/kept.db")
    database.execute(f"VACUUM INTO '{target}'")
    database.close()
    # No machine's paths in what is kept.
    kept = sqlite3.connect(target)
    kept.execute("UPDATE database_folders SET folder = 'file:///project'")
    kept.execute(
        "UPDATE runs SET started_ms = 1000, spent_ms = 2000, opened_ms = 9000, ended_ms = 10000 WHERE uid = 'again'"
    )
    kept.execute("""UPDATE events SET detail = '{"script": "train.py", "host": "host"}' WHERE kind = 'reopened'""")
    kept.execute("UPDATE fits SET host = 'host'")
    kept.commit()
    kept.execute("VACUUM")
    kept.close()
print(target.name, target.stat().st_size, "bytes")

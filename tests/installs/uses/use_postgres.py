"""`postgres`: a training is recorded in a PostgreSQL database, whose URL is the argument, and read from it."""

from __future__ import annotations

import subprocess
import sys

import tracker

url = sys.argv[1]
with tracker.start_run("digits", name="first", params={"lr": 0.1}, store=url) as run, run.start_fit(epochs=3) as fit:
    for epoch in range(3):
        for step in range(4):
            fit.log_batch(epoch * 4 + step + 1, {"batch/loss": 1.0 / (step + 1)})
        fit.log_epoch(epoch, {"loss": 1.0 / (epoch + 1)}, steps=(epoch + 1) * 4)
assert run.problems == {}, run.problems
store = tracker.open_store(url)
assert [one.name for one in store.search_runs("metrics.loss < 0.4").runs] == ["first"]
assert list(store.history(run.id, "loss").values) == [1.0, 1 / 2, 1 / 3]
assert len(store.history(run.id, "batch/loss").values) == 12
store.close()
done = subprocess.run(["tracker", "show", "first", "--store", url], capture_output=True, text=True, check=True)
assert "first" in done.stdout, done
print("works")

"""Without any extra: a run is recorded, and the commands read it."""

from __future__ import annotations

import subprocess

import tracker

with tracker.start_run("digits", name="first", params={"lr": 0.1}) as run:
    run.log({"x": 1.0}, step=1)
    run.log_epoch(0, {"loss": 0.5})
    run.log_text("words", "notes.txt")
assert run.problems == {}, run.problems
for arguments in (["runs"], ["show", "first"], ["history", "first", "x"], ["runs", "--filter", "metrics.loss < 1"]):
    done = subprocess.run(["tracker", *arguments], capture_output=True, text=True, check=True)
    assert "first" in done.stdout or "1" in done.stdout, done
found = tracker.open_store().search_runs("metrics.loss < 1 AND params.lr = 0.1").runs
assert [one.name for one in found] == ["first"]
print("works")

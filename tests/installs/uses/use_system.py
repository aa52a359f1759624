"""`system`: the machine is on record."""

from __future__ import annotations

import os

os.environ["TRACKER_SYSTEM_INTERVAL"] = "1"

import tracker

with tracker.start_run() as run:
    ...
assert run.problems == {}, run.problems
keys = set(tracker.open_store().metrics(run.id))
assert any(key.startswith("system/") for key in keys), keys
print("works")

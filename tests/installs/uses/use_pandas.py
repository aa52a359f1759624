"""`pandas`: compared runs are a data frame."""

from __future__ import annotations

import tracker

for name, loss in (("a", 0.5), ("b", 0.25)):
    with tracker.start_run(name=name) as run:
        run.log_epoch(0, {"loss": loss})
store = tracker.open_store()
frame = tracker.compare([one.id for one in store.search_runs().runs]).to_frame()
assert sorted(frame["name"]) == ["a", "b"], frame
print("works")

"""`server`: a tracking server, and a client that records into it."""

from __future__ import annotations

import re
import subprocess

import tracker

with subprocess.Popen(["tracker", "server", "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
    assert server.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
            line = server.stderr.readline()
            assert line, said
            said += line
        with tracker.start_run(name="far", store=found[0]) as run:
            run.log_epoch(0, {"loss": 0.5})
        assert run.problems == {}, run.problems
        store = tracker.open_store(found[0])
        assert [one.name for one in store.search_runs("metrics.loss < 1").runs] == ["far"]
        store.close()
    finally:
        server.terminate()
        server.stderr.read()
assert server.returncode == 0
print("works")

"""`mlflow`: the pages answer, and MLflow's client writes to the same store."""

from __future__ import annotations

import re
import subprocess
import urllib.request

import mlflow

import tracker

with tracker.start_run(name="ours") as run:
    run.log_epoch(0, {"loss": 0.5})
with subprocess.Popen(["tracker", "ui", "--no-browser", "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
    assert server.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
            line = server.stderr.readline()
            assert line, said
            said += line
        page = urllib.request.urlopen(found[0]).read().decode()
        assert "static-files" in page, page
        mlflow.set_tracking_uri(found[0])
        with mlflow.start_run(run_name="theirs"):
            mlflow.log_metric("loss", 0.25)
        assert {one.info.run_name for one in mlflow.search_runs(output_format="list")} == {"ours", "theirs"}
    finally:
        server.terminate()
        server.stderr.read()
assert {one.name for one in tracker.open_store().search_runs().runs} == {"ours", "theirs"}
print("works")

"""The benchmarks' own parts that others rely on: the document they share, and the loader that fills stores."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.content import Content
from benchmarks.figures import replace_part

import tracker

FILL = Path(__file__).parents[1] / "benchmarks" / "fill.py"
CONTENT = Content(30)


def test_a_script_replaces_its_own_part_only(tmp_path: Path) -> None:
    """A part of the document is written in its own place, a new one at the end, and the others stay as they are."""
    document = tmp_path / "BENCHMARKS.md"
    for title, text in (("One", "old"), ("Two", "two"), ("One", "new\n\n## Below\n\nit"), ("Three", "3")):
        replace_part(document, title, f"# {title}\n\n{text}\n")
    assert document.read_text() == "# One\n\nnew\n\n## Below\n\nit\n\n# Two\n\ntwo\n\n# Three\n\n3\n"


def test_the_loader_fills_a_store(store_url: str) -> None:
    """`fill.py` writes runs with 10 parameters and 10 metrics each, and a history of as many points as it is told."""
    command = [sys.executable, str(FILL), "--store", store_url, "--runs", "30", "--points", "1000"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with closing(tracker.open_store(store_url)) as store:
        runs = store.search_runs("metrics.metric_1 >= 0", limit=100).runs
        long = store.search_runs("name = 'long'").runs
        assert (len(runs), len(long)) == (30, 1)
        for run in runs:
            number = int(run.id, 16) - 1
            wanted = CONTENT.values[number].tolist()
            assert (run.name, run.status, run.started_ms) == (f"run-{number}", "finished", CONTENT.started_ms(number))
            assert [one.last.value for one in store.metrics(run.id).values()] == wanted
            assert [store.history(run.id, f"metric_{key}").values[0] for key in range(10)] == wanted
            assert list(store.params(run.id).values()) == CONTENT.params(number)
        assert list(store.history(long[0].id, "points_1000").steps) == list(range(1000))

"""What reads take in a store of a million runs, compared with one of 100 000, in this process and with a warm cache.

    python tests/benchmarks/many_runs.py --folder /tmp/many --databases sqlite postgresql

Fills both stores first, which takes minutes and 4 GB for each database.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from content import FILTER, METRICS, ORDER, Content
from databases import KINDS, Databases
from fill import fill, settle

from tracker.domain.catalogue import RunDetail
from tracker.store.read.run_cache import RunVersion
from tracker.store.store import SqlRunStore

FEW, MANY = 100_000, 1_000_000
REPEATS = 30


class _Cached:
    """Runs that are encoded already, as a server has those that are shown often."""

    def get(self, of: RunVersion) -> str:
        return of.run_id

    def add(self, of: RunVersion, detail: RunDetail) -> str:
        return of.run_id


def reads(store: SqlRunStore, content: Content) -> Mapping[str, Callable[[], object]]:
    """The reads by title."""
    runs = store.catalogue.runs
    experiment = store.catalogue.experiments.named("Default")
    assert experiment is not None
    ids = [experiment.id]
    one, name = content.id(content.runs // 2), content.name(content.runs // 3)

    def listed(filter: str = "", *order_by: str, limit: int = 100) -> Callable[[], object]:
        return lambda: runs.search_encoded(ids, filter, order_by=order_by, limit=limit, encoded=_Cached())

    def ours(filter: str = "", *order_by: str) -> Callable[[], object]:
        return lambda: store.search_runs(filter, order_by=order_by)

    return {
        "MLflow: the newest 100 with their contents": lambda: runs.search(ids, limit=100),
        "MLflow: the newest 100": listed(),
        "MLflow: 100, filtered": listed(FILTER),
        "MLflow: 100, filtered and ordered by a metric": listed(FILTER, ORDER),
        "MLflow: 100, ordered by a parameter": listed("", "params.param_2 DESC"),
        "MLflow: 100, ordered by two metrics": listed("", "metrics.metric_3", "metrics.metric_4 DESC"),
        "MLflow: 100, ordered by name": listed("", "attributes.run_name"),
        "MLflow: running ones, of which there are none": listed("attributes.status = 'running'"),
        "MLflow: one's own run": listed(f"attributes.run_id = '{one}'"),
        "the newest 100 of all experiments": ours(),
        "100 of all experiments, filtered and ordered": ours(FILTER, ORDER),
        "a run to continue": ours("status IN ('failed', 'interrupted', 'preempted', 'lost')"),
        "runs of a name": lambda: store.find_runs(name),
        "one run": lambda: store.get_run(one),
        "one run with its contents": lambda: runs.detail(one),
        "metrics, parameters, progress of one run": lambda: (
            store.metrics(one), store.params(one), store.progress(one)
        ),
        "a history": lambda: store.history(one, METRICS[0]),
    }  # fmt: skip


def measure(url: str, content: Content) -> Mapping[str, float]:
    """Medians in ms."""
    found = {}
    with SqlRunStore.open(url, create=False) as store:
        for title, read in reads(store, content).items():
            times = []
            for _ in range(REPEATS + 2):
                began = time.perf_counter()
                read()
                times.append(time.perf_counter() - began)
            found[title] = statistics.median(times[2:]) * 1e3
    return found


def main(arguments: list[str] | None = None) -> int:
    """Fill, measure, and print a table for each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the databases are made")
    parser.add_argument("--databases", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with Databases(options.folder) as databases:
        for kind in options.databases:
            results = [_filled(databases, kind, Content(count)) for count in (FEW, MANY)]
            print(f"| {kind} | {FEW:,} runs | {MANY:,} runs | ratio |\n|---|---|---|---|")
            for title, few in results[0].items():
                many = results[1][title]
                print(f"| {title} | {few:.2f} ms | {many:.2f} ms | {many / few:.2f} |")
    return 0


def _filled(databases: Databases, kind: str, content: Content) -> Mapping[str, float]:
    database: Any = databases.new(kind)
    began = time.perf_counter()
    fill("tracker", database.url, content)
    settle(database.url)
    print(f"{kind}: {content.runs:,} runs in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    try:
        return measure(database.url, content)
    finally:
        databases.drop(database)


if __name__ == "__main__":
    sys.exit(main())

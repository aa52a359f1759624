"""No hot statement reads or sorts a whole table: each that runs is explained by the database.

Statements are recorded while `hot_operations` runs, whichever module has them and however they are built. So a new one
is checked as soon as one of those operations runs it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from unit.store.hot_operations import MORE_ROWS, RUNS, WIDE, Statement, recorded, run_all
from unit.store.test_statements import POSTGRES_ONLY, SQLITE_ONLY, STATEMENTS

from tracker.store.engine import make_engine

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LARGE = {
    "runs", "series", "metric_points", "metric_blocks", "params", "tags", "events", "checkpoints", "histograms",
    "epochs", "fits", "journals",
}  # fmt: skip
_LITERAL = re.compile(r"[Xx]?'(?:[^']|'')*'|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b|\bNULL\b")
_BOUNDED = re.compile(r"SEARCH \w+ .*\((?:run_id|id|uid|rowid|series_id)=\?")
"""Looks up rows of one run, or runs that were counted before."""
_STOPS = re.compile(r"LIMIT|EXISTS|IN \(SELECT|alive_ms")
"""Stops at the first rows, looks up rows that were selected before, or is about the few runs with a lease."""


@pytest.fixture
def filled_url(any_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with thousands of runs that has rows in every table."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from benchmarks.content import Content
    from benchmarks.fill import fill, settle

    fill("tracker", any_url, Content(RUNS))
    engine = make_engine(any_url)
    with engine.begin() as connection:
        for statement in (*MORE_ROWS, WIDE):
            connection.exec_driver_sql(statement.replace("%", "%%") if "postgresql" in any_url else statement)
    engine.dispose()
    settle(any_url)
    return any_url


def test_no_hot_statement_reads_or_sorts_a_whole_table(filled_url: str, tmp_path: Path) -> None:
    """Of thousands of runs only those that are shown are read."""
    with recorded() as found:
        run_all(filled_url, tmp_path)
    distinct = {_LITERAL.sub("?", text): (text, values) for text, values in found if _is_data(text)}
    assert len(distinct) > 100
    problems = _sqlite if filled_url.startswith("sqlite:") else _postgres
    assert _not_run(filled_url, list(distinct)) == []
    assert all(list(problems(filled_url, [(text, ())])) for text in SLOW)
    bad = list(problems(filled_url, list(distinct.values())))
    assert not bad, "\n\n".join(bad)


SLOW = ("SELECT * FROM runs WHERE monitor = 'loss'", "SELECT id FROM runs WHERE experiment_id = 0 ORDER BY monitor")
"""Statements that the check refuses."""
NOT_HOT = {
    "compaction._RUNS": "`tracker db compact` looks at every run",
    "compaction._SELECT_HISTOGRAMS": "`tracker db compact`, in one run",
    "compaction._UPDATE_HISTOGRAM": "`tracker db compact`, in one run",
    "points.blocks._DELETE": "`tracker db compact`, in one series",
    "write.sessions._END": "a part of others",
}
ONE_BY_ONE = {"points.summaries._UPDATE_COUNT", "points.summaries._UPDATE_END", "write.deduplication._SELECT_AT"}
"""PostgreSQL has a statement for all of them at once."""


def _not_run(url: str, shapes: Iterable[str]) -> list[str]:
    """The statements that are spelled out in the store and were not run: the session lacks an operation."""
    run = {_loose(text) for text in shapes}
    is_sqlite = url.startswith("sqlite:")
    others = POSTGRES_ONLY if is_sqlite else SQLITE_ONLY
    not_run = NOT_HOT.keys() if is_sqlite else NOT_HOT.keys() | ONE_BY_ONE
    expected = {name: _loose(_LITERAL.sub("?", text)) for name, text in STATEMENTS.items() if not others.search(text)}
    return [
        name for name, text in expected.items() if name not in not_run and not any(one.startswith(text) for one in run)
    ]


def _loose(shape: str) -> str:
    """The statement without what differs between the databases and from one execution to the next."""
    one_line = re.sub(r"\s+", " ", shape.replace("%s", "?").replace("-?", "?")).strip()
    one_line = one_line.replace(" INDEXED BY ix_runs_alive_ms", "")
    return re.sub(r"IN \(SELECT value FROM json_each\(\?\)\)|= ANY\(\?\)", "= ?", one_line)


def _is_data(text: str) -> bool:
    return re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", text) is not None


def _sqlite(url: str, statements: Sequence[Statement]) -> Iterator[str]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        for text, _ in statements:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()
            for _, parent, _, detail in rows:
                scan = re.match(r"SCAN (\S+)", detail)
                if scan and _table(text, scan[1]) in LARGE and not ("USING" in detail and "LIMIT" in text):
                    yield f"{detail}: {text}"
                looked_up = re.match(r"SEARCH (\S+) USING", detail)
                is_bounded = _BOUNDED.match(detail) or _STOPS.search(text)
                if looked_up and _table(text, looked_up[1]) in LARGE and not is_bounded:
                    yield f"{detail}: {text}"
                if detail == "USE TEMP B-TREE FOR ORDER BY":
                    outermost = next((row[3] for row in rows if row[1] == parent), "")
                    table = re.match(r"\w+ (\S+)", outermost)
                    if table and _table(text, table[1]) in LARGE and not _BOUNDED.match(outermost):
                        yield f"{detail} after {outermost}: {text}"


def _table(text: str, alias: str) -> str:
    """The table that a statement calls `alias`."""
    found = re.search(rf"(\w+) AS {re.escape(alias)}\b", text)
    return found[1] if found else alias


def _postgres(url: str, statements: Sequence[Statement]) -> Iterator[str]:
    with psycopg.connect(url) as connection:
        for text, values in statements:
            try:
                (plans,) = connection.execute(f"EXPLAIN (FORMAT JSON) {text}".encode(), values).fetchone()  # type: ignore[misc]
            except psycopg.Error as error:
                connection.rollback()
                yield f"{error}: {text}"
                continue
            plan = plans[0]["Plan"]
            for node in _nodes(plan):
                # Else it is expected to stop early: at the first row of an EXISTS, or when a page is full.
                is_whole = plan["Total Cost"] > node["Total Cost"] / 2
                if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE and is_whole:
                    yield f"Seq Scan on {node['Relation Name']}: {text} {values}"
                if node["Node Type"] == "Sort" and node["Plan Rows"] >= RUNS:
                    yield f"Sort of {node['Plan Rows']} rows: {text}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)

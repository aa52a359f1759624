"""Fill a store with many runs, each of 10 parameters and 10 metrics, and one run with long histories.

    python tests/benchmarks/fill.py --store sqlite:////tmp/many.db --runs 100000 --points 100000

All of it goes into the tables by SQL: through the peers' servers it would take hours. Their databases must be there,
made by their servers (start them once); Tracker's is made.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from content import BEGIN_MS, LONG_RUN, METRICS, PARAMS, Content, long_key, long_values

Row = Sequence[object]


def main(arguments: list[str] | None = None) -> int:
    """Fill and say how long it took."""
    options = _options().parse_args(arguments)
    start = time.perf_counter()
    fill(options.server, options.store, Content(options.runs, options.points))
    taken = time.perf_counter() - start
    print(f"{options.runs:,} runs and {sum(options.points):,} points more in {taken:.0f} s", file=sys.stderr)
    return 0


def fill(server: str, url: str, content: Content) -> None:
    """Put `content` into the store at `url` (SQLAlchemy's form), which has none of it yet, of the named server."""
    if server == "tracker":
        import fill_tracker

        fill_tracker.append_first(url, content)
    put = _Sqlite(url) if url.startswith("sqlite:") else _Postgres(url)
    try:
        if server == "tracker":
            fill_tracker.add_others(put, content)
        else:
            for table, columns, rows in (MlflowTables() if server == "mlflow" else FastTrackTables()).all(content):
                put.rows(table, columns, rows)
    finally:
        put.close()


class Tables(ABC):
    """A peer's tables, as rows to insert: (table, columns, rows)."""

    value_column = "value"
    run_extra: tuple[str, ...] = ()
    metric_extra: tuple[str, ...] = ()
    latest_extra: tuple[str, ...] = ()

    def all(self, content: Content) -> Iterator[tuple[str, tuple[str, ...], Iterable[Row]]]:
        """Rows of every table, parents first; within a table in the order of its key, which is quicker to insert."""
        columns: tuple[str, ...] = (
            "run_uuid",
            "name",
            "source_type",
            "source_name",
            "entry_point_name",
            "user_id",
            "status",
        )
        columns += ("start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id")
        yield "runs", columns + self.run_extra, self._runs(content)
        yield "params", ("key", self.value_column, "run_uuid"), self._params(content)
        yield "tags", ("key", "value", "run_uuid"), self._tags(content)
        of_metrics = ("key", "value", "timestamp", "run_uuid", "step", "is_nan")
        yield "metrics", of_metrics + self.metric_extra, self._metrics(content)
        yield "latest_metrics", of_metrics + self.latest_extra, self._latest(content)

    def _runs(self, content: Content) -> Iterator[Row]:
        ids = [(LONG_RUN, "long", BEGIN_MS)] if content.histories else []
        ids += [(content.id(run), content.name(run), content.started_ms(run)) for run in range(content.runs)]
        for number, (run, name, ms) in enumerate(ids, 1):
            row = (run, name, "UNKNOWN", "", "", "bench", "FINISHED", ms, ms + 900, "", "active", "file:///nowhere", 0)
            yield row + self.extra_of_run(number)

    def _params(self, content: Content) -> Iterator[Row]:
        of_runs = [content.params(run) for run in range(content.runs)]
        for number, key in enumerate(PARAMS):
            for run, values in enumerate(of_runs):
                yield key, str(values[number]), content.id(run)

    def _tags(self, content: Content) -> Iterator[Row]:
        for run in range(content.runs):
            yield "mlflow.runName", content.name(run), content.id(run)

    def _metrics(self, content: Content) -> Iterator[Row]:
        yield from self._single(content, self.extra_of_metric(1))
        for points in content.histories:
            for step, value in enumerate(long_values(points).tolist()):
                row = (long_key(points), value, BEGIN_MS + step, LONG_RUN, step, False)
                yield row + self.extra_of_metric(step + 1)

    def _latest(self, content: Content) -> Iterator[Row]:
        yield from self._single(content, self.extra_of_metric(1))
        for points in content.histories:
            last = float(long_values(points)[-1])
            row = (long_key(points), last, BEGIN_MS + points - 1, LONG_RUN, points - 1, False)
            yield row + self.extra_of_metric(points)

    def _single(self, content: Content, extra: tuple[int, ...]) -> Iterator[Row]:
        for number, key in enumerate(METRICS):
            for run, value in enumerate(content.values[:, number].tolist()):
                yield (key, value, content.started_ms(run) + 500, content.id(run), 0, False, *extra)

    @abstractmethod
    def extra_of_run(self, number: int) -> tuple[int, ...]:
        """Columns of a run, the n-th, that only this peer has."""

    @abstractmethod
    def extra_of_metric(self, number: int) -> tuple[int, ...]:
        """Columns of a metric's n-th point that only this peer has."""


class MlflowTables(Tables):
    """MLflow 3.17's."""

    def extra_of_run(self, number: int) -> tuple[int, ...]:
        return ()

    def extra_of_metric(self, number: int) -> tuple[int, ...]:
        return ()


class FastTrackTables(Tables):
    """FastTrackML 0.6's: a row number for runs, a count and a context (1, the empty one) for metrics."""

    value_column = "value_str"
    run_extra = ("row_num",)
    metric_extra = ("iter", "context_id")
    latest_extra = ("last_iter", "context_id")

    def extra_of_run(self, number: int) -> tuple[int, ...]:
        return (number,)

    def extra_of_metric(self, number: int) -> tuple[int, ...]:
        return (number, 1)


class _Sqlite:
    """Inserts into a file, without waiting for the disk and without a log."""

    def __init__(self, url: str) -> None:
        self._connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        (self._mode,) = self._connection.execute("PRAGMA journal_mode").fetchone()
        for setting in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -400000"):
            self._connection.execute(f"PRAGMA {setting}")

    def rows(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        places = ", ".join("?" * len(columns))
        self._connection.execute("BEGIN")
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
        self._connection.execute("COMMIT")

    def run(self, statement: str) -> list[Any]:
        return self._connection.execute(statement).fetchall()

    def count_ids(self, table: str) -> None:
        pass  # the next id is the highest and one

    def close(self) -> None:
        self._connection.execute(f"PRAGMA journal_mode = {self._mode}")
        self._connection.close()


class _Postgres:
    """Copies into a database of a superuser, without checking foreign keys."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection: Any = psycopg.connect(url, autocommit=True)
        for setting in (
            "session_replication_role = replica",
            "synchronous_commit = off",
            "maintenance_work_mem = '1GB'",
        ):
            self._connection.execute(f"SET {setting}")

    def rows(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        if "id" in columns:
            self.count_ids(table)

    def run(self, statement: str) -> list[Any]:
        cursor = self._connection.execute(statement)
        return [] if cursor.description is None else cursor.fetchall()  # type: ignore[no-any-return]

    def count_ids(self, table: str) -> None:
        """Ids were given: the next one that the database gives must be another."""
        self.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table} HAVING max(id) > 0")

    def close(self) -> None:
        self._connection.close()


def settle(url: str) -> None:
    """Have PostgreSQL do now what its autovacuum would do while something is measured; nothing for SQLite."""
    if url.startswith("sqlite:"):
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, metavar="URL", help="sqlite:///… or postgresql://…")
    parser.add_argument("--server", choices=("tracker", "mlflow", "fasttrackml"), default="tracker", help="whose store")
    parser.add_argument("--runs", type=int, default=2_000, help="how many runs (default 2000)")
    parser.add_argument(
        "--points", type=int, nargs="*", default=[], help="histories of so many points, in one run more"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Results of the servers → Markdown: a table a kind of load, ratios, and the targets they are held against."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from figures import Row, good, lost, median_of, number, section, spread, table, times, verdict
from reads import BEST, FIRST, FULL, MANY, SAMPLED
from runner import Result, Results
from server_measures import WRITES
from servers import SERVERS

TITLE = "Benchmarks of the server"
NAMES = {"tracker": "**Tracker**", "fasttrackml": "FastTrackML", "mlflow": "MLflow"}
KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
OVER_FASTTRACK = {WRITES[0].title: 6, WRITES[1].title: 9, WRITES[2].title: 9, WRITES[3].title: 12, WRITES[4].title: 12}
"""On SQLite: how many times FastTrackML's figure is the target."""
OVER_BEST = 5
"""On PostgreSQL: how many times the better peer's figure is the target."""
READ_MS = {FIRST: 4.0, BEST: 4.0, MANY: 40.0, FULL: 150.0, SAMPLED[100_000]: 15.0, SAMPLED[1_000_000]: 30.0}
MORE_RUNS = 1.5
"""A search of the large store takes at most so many times what it takes of the small one."""
STEPS = {
    "start_run": "`start_run`",
    "log_params": "`log_params`, 10",
    "log_metric": "`log_metric`, 1000 times",
    "end_run": "`end_run`",
    "search_runs": "`search_runs`, filtered and ordered, 100 runs",
    "search_own": "`search_runs`, its own run",
    "get_metric_history": "`get_metric_history`, 1000 points",
}


@dataclass
class Found:
    """All that was measured. Results are by kind of database, what was done, server."""

    writes: dict[str, dict[str, Results]] = field(default_factory=dict)
    starts: dict[str, Results] = field(default_factory=dict)
    reads: dict[tuple[str, int], dict[str, Results]] = field(default_factory=dict)
    """By kind of database and number of runs in it."""
    starts_on: dict[tuple[str, int], Results] = field(default_factory=dict)
    scripts: dict[str, Results] = field(default_factory=dict)

    def tracker_failed(self) -> bool:
        """Whether a measurement of Tracker's failed, or its answers were errors, or points were lost or doubled."""
        tables = [results for by in (*self.writes.values(), *self.reads.values()) for results in by.values()]
        tables += [*self.starts.values(), *self.starts_on.values(), *self.scripts.values()]
        ours = [result for results in tables for result in results.get("tracker", [])]
        return any(any(result.get(bad) for bad in ("failed", "errors", "lost", "too_many")) for result in ours)


def render(found: Found, facts: Mapping[str, str], versions: Mapping[str, str], *, quick: bool) -> str:
    """The part of the document."""
    return section(
        _head(facts, versions, quick=quick),
        *(_writes(kind, results) for kind, results in found.writes.items()),
        _bytes(found.writes),
        *(_reads(kind, found) for kind in KINDS if any(of == kind for of, _ in found.reads)),
        *(_client(kind, results) for kind, results in found.scripts.items() if results),
        _starts(found),
    )


def _head(facts: Mapping[str, str], versions: Mapping[str, str], *, quick: bool) -> str:
    return section(
        f"# {TITLE}",
        f"Written by `make bench` on {datetime.datetime.now(datetime.UTC):%d %B %Y}; do not edit. Every server speaks "
        "MLflow's REST API and is driven by the same requests from the same load generator, wrk, on the same machine, "
        "which they share; one at a time, in alternating order. Figures are medians over the rounds, with the lowest "
        "and the highest round in brackets. Each server is started as its users start it (MLflow with its own number "
        "of workers), with its log of requests switched off.",
        "**A quick run: it shows that everything works, its figures mean little.**" if quick else "",
        table(("machine", ""), facts.items()),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "Repeat: `make bench` (all of it), `python tests/benchmarks/server.py --only writes --databases sqlite` (one "
        "part), `--quick` (does it work?), `--no-peers` (Tracker alone). The peers get environments of their own in "
        "`.bench`.",
    )


def _writes(kind: str, loads: Mapping[str, Results]) -> str:
    rows: list[Row] = []
    verdicts: list[str] = []
    for title, results in loads.items():
        ours = median_of(results.get("tracker", []), "read_points_s")
        for name, rounds in results.items():
            rates = [spread(rounds, "requests_s", digits=0, leads=True)]
            rates += [spread(rounds, of, digits=0) for of in ("points_s", "read_points_s")]
            waits = (spread(rounds, "p50_ms", digits=2), spread(rounds, "p99_ms", digits=1))
            cpu = number(median_of(rounds, "cpu_us"))
            faster = "" if name == "tracker" else times(ours, median_of(rounds, "points_s"))
            rows.append((title, NAMES[name], *rates, *waits, cpu, faster, _sum(rounds, "errors"), _kept(rounds)))
            title = ""
    for title, results in loads.items():
        verdicts.append(_write_verdict(kind, title, results))
    kept = "; ".join(f"{NAMES[name].strip('*')}: {SERVERS[name].durable[kind]}" for name in NAMES)
    head: Row = ("", "", "requests/s", "points/s", "until read, points/s", "median, ms", "p99, ms")
    head = (*head, "CPU, µs a request", "Tracker is faster by", "errors", "points lost")
    return section(
        f"## Writes over HTTP, {KINDS[kind]}",
        "`POST runs/log-batch` over connections that are kept, each of which sends its next request when the last one "
        "is answered. Every connection writes to a run of its own"
        + (", or all of them to one run, taking turns in its steps" if kind == "postgresql" else "")
        + ". The metrics of a request are as many keys at one step, a higher one in each request, or 10 keys at many "
        "steps. Only answers with success count. *Until read* has the time in it that the first read after the load "
        "takes, whatever a server left to do until then; Tracker's ratios are of that figure of its own to the peers' "
        "plain one. *CPU* is that of all of a server's processes, without PostgreSQL's. Afterwards the points were counted through each server's API.",
        table(head, rows),
        f"What is on disk when a request is answered: {kept}.",
        *[text for text in verdicts if text],
    )


def _write_verdict(kind: str, title: str, results: Results) -> str:
    """The load's ratio to its peer against the target."""
    ours = results.get("tracker", [])
    mine = median_of(ours, "read_points_s")
    peers = {name: median_of(results.get(name, []), "points_s") for name in ("fasttrackml", "mlflow")}
    if kind == "sqlite":
        base, whose, least = peers["fasttrackml"], "FastTrackML's", OVER_FASTTRACK.get(title, 0)
    else:
        base, whose, least = max((one for one in peers.values() if one), default=None), "the better peer's", OVER_BEST
    if mine is None or not base or not least:
        return ""
    bad = sum(int(result[what]) for result in good(ours) for what in ("errors", "lost", "too_many"))
    met = mine / base >= least and not bad
    errors = f", {bad} errors or points lost" if bad else ""
    return (
        f"{title}: {mine / base:.1f} × {whose}{errors}, target ≥ {least} ×, no errors: "
        f"**{'met' if met else 'not met'}**."
    )


def _bytes(writes: Mapping[str, Mapping[str, Results]]) -> str:
    shown = (WRITES[0].title, WRITES[3].title, WRITES[4].title)
    rows = [
        (KINDS[kind], NAMES[name], *(spread(loads[title].get(name, []), "bytes_a_point") for title in shown))
        for kind, loads in writes.items()
        for name in NAMES
        if name in loads[shown[0]]
    ]
    if not rows:
        return ""
    ours = median_of(writes.get("sqlite", {}).get(shown[2], {}).get("tracker", []), "bytes_a_point")
    return section(
        "## Bytes on disk a point, after the load",
        "What the database grew by during a load, by the points in it, indexes included, after the points were read: "
        "of SQLite the pages in use, of PostgreSQL its files without its log. New keys cost a row each besides their "
        "points.",
        table(("", "", *(title.partition(",")[0] for title in shown)), rows),
        verdict(f"SQLite, {shown[2].partition(',')[0]}", ours, 30.0, "bytes a point"),
    )


def _reads(kind: str, found: Found) -> str:
    sizes = sorted(size for of, size in found.reads if of == kind)
    rows: list[Row] = []
    verdicts: list[str] = []
    for size in sizes:
        for title, results in found.reads[kind, size].items():
            first = _of_store(title, size)
            ours = median_of(results.get("tracker", []), "p50_ms")
            for name, rounds in results.items():
                figures = (spread(rounds, "p50_ms", digits=2, leads=True), spread(rounds, "p99_ms", digits=1))
                slower = times(median_of(rounds, "p50_ms"), ours)
                counted = [result for result in good(rounds) if "kib" in result]
                costs = (spread(counted, "cpu_ms", digits=2), number(median_of(counted, "kib")))
                rows.append((first, NAMES[name], *figures, slower, *costs, _sum(rounds, "errors")))
                first = ""
            verdicts.append(
                _read_verdict(title, size, ours, found.reads[kind, sizes[0]][title], small=size == sizes[0])
            )
    return section(
        f"## Reads over HTTP, {KINDS[kind]}",
        "Every run has 10 parameters and 10 metrics of one point. Searches (`POST runs/search`) come over two "
        "connections, histories (`GET metrics/get-history`, and `metrics/get-history-bulk-interval`, which is what the "
        "MLflow UI draws) over one. *The first 100* are the newest; the filtered ones are those with a metric above "
        "0.5, half of all, the largest first. Each answer was checked against what was stored before it was timed. "
        "*CPU* is that of a server's processes for one answer, without PostgreSQL's, *KiB* its size.",
        table(("", "", "median, ms", "p99, ms", "÷ Tracker's", "CPU, ms", "KiB", "errors"), rows),
        *filter(None, verdicts),
    )


def _read_verdict(title: str, size: int, ours: float | None, at_small: Results, *, small: bool) -> str:
    if small:
        return verdict(_of_store(title, size), ours, READ_MS[title], "ms")
    base = median_of(at_small.get("tracker", []), "p50_ms")
    if ours is None or not base or title == MANY:
        return ""
    return verdict(_of_store(title, size), ours / base, MORE_RUNS, "× what the small store takes")


def _of_store(title: str, size: int) -> str:
    return f"{size:,} runs: {title}" if title in (FIRST, BEST, MANY) else title


def _client(kind: str, results: Results) -> str:
    rows: list[Row] = []
    for step, title in (STEPS | {"total": "all of it"}).items():
        ours = median_of(results.get("tracker", []), step)
        for name, rounds in results.items():
            shown = [{step: result[step] * 1e3} for result in good(rounds)] or rounds
            slower = times(median_of(rounds, step), ours)
            rows.append((title, NAMES[name], spread(shown, step, leads=step == "start_run"), slower))
            title = ""
    return section(
        f"## A script with the stock MLflow client, {KINDS[kind]}",
        "The same script, MLflow's own client, one process, on the store of 2 000 runs. Most of the time is the "
        "client's own where the server is quick. What it read back was checked.",
        table(("", "", "ms", "÷ Tracker's"), rows),
    )


def _starts(found: Found) -> str:
    rows: list[Row] = []
    for kind, results in found.starts.items():
        for name, rounds in results.items():
            cells = (spread(rounds, "start_s", digits=2, leads=True), spread(rounds, "mib", digits=0))
            rows.append((f"{KINDS[kind]}, empty", NAMES[name], *cells, number(median_of(rounds, "processes"))))
    for (kind, size), results in found.starts_on.items():
        for name, rounds in results.items():
            rows.append(
                (f"{KINDS[kind]}, {size:,} runs", NAMES[name], spread(rounds, "start_s", digits=2, leads=True), "", "")
            )
    if not rows:
        return ""
    ours = _all_of(found.starts.values(), "tracker")
    every = ours + _all_of(found.starts_on.values(), "tracker")
    return section(
        "## Start and memory",
        "From the start of the process to its first answer to a search; on an empty database the server makes its "
        "tables first. Memory is what is resident in all of a server's processes, before the MLflow UI was opened, "
        "when it had stood still for three seconds.",
        table(("", "", "seconds to the first answer", "MiB resident", "processes"), rows),
        verdict("start to first answer", median_of(every, "start_s"), 1.0, "s"),
        verdict("memory", median_of(ours, "mib"), 150.0, "MiB"),
    )


def _all_of(tables: Iterable[Results], name: str) -> list[Result]:
    return [result for results in tables for result in results.get(name, [])]


def _sum(rounds: Sequence[Result], what: str) -> str:
    return f"{sum(int(result[what]) for result in good(rounds)):,}" if good(rounds) else ""


def _kept(rounds: Sequence[Result]) -> str:
    """Points lost, and those that are there though never sent."""
    more = sum(int(result["too_many"]) for result in good(rounds))
    return lost(rounds) + (f", {more:,} too many" if more else "")

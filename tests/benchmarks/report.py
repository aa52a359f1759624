"""Results → Markdown: one table a row of the targets, with medians over rounds, their range, targets and ratios."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import fit_report
from figures import Row, good, lost, median_of, number, section, spread, table, times, verdict
from runner import Results

NAMES = {
    "empty": "an empty function (the clock itself)",
    "floor": "bare msgpack frame, CRC, `write(2)` (the floor)",
    "tracker": "**Tracker** `run.log`",
    "tracker-epochs": "**Tracker** `run.log_epoch`",
    "tracker-postgres": "**Tracker**, PostgreSQL",
    "trackio": "Trackio",
    "wandb": "W&B offline",
    "mlflow": "MLflow",
    "mlflow-async": "MLflow, `synchronous=False`",
    "tensorboard": "TensorBoard, `tf.summary.scalar`",
    "tensorboard-writer": "TensorBoard, `summary.Writer`",
}
STORES = NAMES | {"tracker": "**Tracker**, embedded SQLite"}
KEPT_AS = {
    "tracker": "SQLite, WAL, `synchronous=FULL`: every batch synced",
    "tracker-postgres": "PostgreSQL as it comes: every batch synced",
    "trackio": "SQLite, WAL, `synchronous=NORMAL`: not synced at a commit",
    "wandb": "a file of its own, not synced; no rows",
    "mlflow": "SQLite, rollback journal, `synchronous=FULL`: every call synced",
    "mlflow-async": "SQLite, rollback journal, `synchronous=FULL`: every batch synced",
    "tensorboard": "event file, not synced; no rows",
    "tensorboard-writer": "event file, not synced; no rows",
}


TITLE = "Benchmarks of the client"


def render(
    results: Mapping[str, Mapping[str, Results]], facts: Mapping[str, str], found: Mapping[str, str], *, quick: bool
) -> str:
    """The whole report."""
    parts = [_head(facts, found, quick=quick)]
    sections: dict[str, Callable[[Mapping[str, Results]], str]] = {
        "latency": _latency,
        "durable": _durable,
        "size": _sizes,
        "import": _imports,
        "memory": _memory,
        "fit": fit_report.fit,
        "batches": fit_report.batches,
        "checkpoints": fit_report.checkpoints,
    }
    parts += [sections[name](variants) for name, variants in results.items()]
    return "\n\n".join(parts) + "\n"


def tracker_failed(results: Mapping[str, Mapping[str, Results]]) -> bool:
    """Whether a measurement of Tracker's own failed or lost points."""
    ours = [
        result
        for variants in results.values()
        for by_contender in variants.values()
        for contender, rounds in by_contender.items()
        for result in rounds
        if contender.startswith("tracker")
    ]
    return any("failed" in result or result.get("lost") for result in ours)


def _head(facts: Mapping[str, str], found: Mapping[str, str], *, quick: bool) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if name != "Python")
    return section(
        f"# {TITLE}",
        f"Written by `make bench` on {datetime.datetime.now(datetime.UTC):%d %B %Y}; do not edit. Every contender ran "
        "on the same machine, in turn, each time in a fresh process and an empty folder; figures are medians over the "
        "rounds, with the lowest and the highest round in brackets. Afterwards another reader counted the points in "
        "the files; where some are missing, the table says so.",
        "**A quick run: it shows that everything works, its figures mean nothing.**" if quick else "",
        table(("machine", ""), facts.items()),
        f"Versions: {versions}.",
        "Repeat: `make bench` (all of it), `python tests/benchmarks/client.py --only latency --rounds 5` (one part), "
        "`--quick` (does it work?), `--no-peers` (Tracker alone). The peers get an environment of their own in "
        "`.bench/venv`; nothing is uploaded, telemetry is switched off, and so is what would be unfair to time: the "
        "peers' hardware monitors, Git and console capture.",
    )


def _latency(variants: Mapping[str, Results]) -> str:
    parts = []
    for rhythm, results in variants.items():
        ours = results.get("tracker", [])
        rows = [
            (
                NAMES[contender],
                spread(rounds, "p50_us", leads=True),
                spread(rounds, "p99_us"),
                spread(rounds, "worst_us", digits=0),
                times(median_of(rounds, "p50_us"), median_of(ours, "p50_us")),
                number(median_of(rounds, "calls")),
                lost(rounds),
            )
            for contender, rounds in results.items()
        ]
        head = ("", "median, µs", "p99, µs", "worst, µs", "median ÷ Tracker's", "calls a round", "points lost")
        verdicts = [
            verdict("median", median_of(ours, "p50_us"), 3.0, "µs"),
            verdict("p99", median_of(ours, "p99_us"), 50.0, "µs"),
        ]
        parts += [f"### {rhythm.capitalize()}", table(head, rows), " ".join(filter(None, verdicts))]
    return section(
        "## One log call of 4 metrics, on the thread that trains",
        "Target: median ≤ 3 µs, p99 ≤ 50 µs. Only the call itself is timed. *Back to back* lasts long enough "
        "for the contender's background thread to be at work meanwhile; *1 ms of work between* is nearer to training: "
        "single-threaded linear algebra, which leaves the interpreter to other threads, with Python between.",
        *parts,
    )


def _durable(variants: Mapping[str, Results]) -> str:
    results = variants["all"]
    ours = median_of(results.get("tracker", []), "points_s")
    rows = [
        (
            STORES[contender],
            spread(rounds, "points_s", digits=0, leads=True),
            times(ours, median_of(rounds, "points_s")),
            number(median_of(rounds, "points")),
            lost(rounds),
            KEPT_AS[contender],
        )
        for contender, rounds in results.items()
    ]
    return section(
        "## Log calls to durable rows, end to end",
        "Target: ≥ 500,000 points/s, embedded. From the first log call (4 metrics each, back to back) until `finish()` "
        "has returned and every row is there; then the rows were counted in the database, or in the file.",
        table(("", "points/s", "Tracker is faster by", "points", "points lost", "kept as"), rows),
        verdict("embedded", ours, 500_000.0, "points/s", at_least=True),
        _bytes(results),
    )


def _bytes(results: Results) -> str:
    rows: list[Row] = []
    for contender, rounds in results.items():
        each = [{"b": result["bytes"] / result["points"]} for result in good(rounds)]
        rows.append((STORES[contender], spread(each or rounds, "b", leads=True), number(median_of(rounds, "points"))))
        journals = [{"b": r["journal_bytes"] / r["points"]} for r in good(rounds) if r.get("journal_bytes")]
        if journals and contender == "tracker":
            rows.append(("its journal, removed once the rows are stored", spread(journals, "b", leads=True), ""))
    ours = [{"b": result["bytes"] / result["points"]} for result in good(results.get("tracker", []))]
    return section(
        "## Bytes on disk a point",
        "Target: ≤ 30. What the store grew by, from the opened run to the closed one, its indexes included and its "
        "write-ahead log folded in.",
        table(("", "bytes a point", "points"), rows),
        verdict("embedded", median_of(ours, "b"), 30.0, "bytes a point"),
    )


SIZES = {
    "keras": ("batches of a Keras training", 5.0),
    "random": ("random doubles", 9.0),
    "short": ("400 series of 100 epochs", 30.0),
}
"""What is measured, and the target in bytes a point."""


def _sizes(variants: Mapping[str, Results]) -> str:
    rows: list[Row] = []
    verdicts = []
    for series, results in variants.items():
        what, target = SIZES[series]
        for contender, rounds in results.items():
            each = [{"b": result["bytes"] / result["points"]} for result in good(rounds)]
            points = number(median_of(rounds, "points"))
            rows.append((STORES[contender], what, spread(each or rounds, "b", leads=True), points, lost(rounds)))
            verdicts.append(verdict(f"{what}, {STORES[contender]}", median_of(each, "b"), target, "bytes a point"))
    return section(
        "## Bytes on disk a point, by kind of series",
        "Targets: ≤ 5 for the batch series of a real Keras training (three metrics; its 20 000 batches again and again), "
        "≤ 9 for random doubles, ≤ 30 for short series, on SQLite. Counted as above, with steps and times.",
        table(("", "series", "bytes a point", "points", "points lost"), rows),
        *verdicts,
    )


def _imports(variants: Mapping[str, Results]) -> str:
    results = variants["all"]
    ours, bare = median_of(results.get("tracker", []), "ms"), median_of(results.get("tracker", []), "bare_ms")
    rows = [
        (f"`import {contender}`", spread(rounds, "ms", digits=0, leads=True), times(median_of(rounds, "ms"), ours))
        for contender, rounds in results.items()
    ]
    return section(
        "## `import tracker`",
        f"Target: ≤ 60 ms. A fresh process that imports it, less one right before that does nothing ({bare or 0:.0f} "
        "ms); median of the pairs, files in the page cache, byte code written.",
        table(("", "ms", "÷ Tracker's"), rows),
        verdict("`import tracker`", ours, 60.0, "ms"),
    )


def _memory(variants: Mapping[str, Results]) -> str:
    parts = []
    for contender, rounds in variants["all"].items():
        for result in rounds:
            if "failed" in result:
                parts.append(f"{STORES[contender]}: not measured, {result['failed']}")
                continue
            rows = [
                ("points in one run", number(result["points"])),
                ("points lost", number(result["lost"])),
                ("seconds for the log calls alone", f"{result['logging_s']:.1f}"),
                ("seconds until `finish()` returned", f"{result['seconds']:.1f}"),
                ("resident with the run just opened", f"{result['opened_mib']:.1f} MiB"),
                ("resident before, first points stored", f"{result['before_mib']:.1f} MiB"),
                ("**growth at the peak**", f"**{result['peak_growth_mib']:.1f} MiB**"),
                ("growth after the last call", f"{result['logged_growth_mib']:.1f} MiB"),
                ("growth after `finish()`", f"{result['after_growth_mib']:.1f} MiB"),
                ("resident in processes it started", f"{result['children_mib']:.1f} MiB"),
            ]
            parts += [table(("", ""), rows), verdict("growth at the peak", result["peak_growth_mib"], 64.0, "MiB")]
    return section(
        "## Memory of the process that trains",
        "Target: 10 million points in one run grow it by ≤ 64 MiB. 4 metrics a call, back to back, faster than any "
        "training; the peak is the kernel's own (VmHWM).",
        *parts,
    )

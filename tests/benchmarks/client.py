"""The client's benchmarks: Tracker and its peers, written to their part of BENCHMARKS.md. `--help` has the options."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import report
from environment import PEERS, make_environment, versions
from figures import replace_part
from runner import Results, Runner

ROOT = Path(__file__).parents[2]
MEASURES = ("latency", "durable", "size", "import", "memory", "fit", "batches", "checkpoints")
# Calls that fill about two seconds, so that each contender's background work falls into the time that is measured;
# MLflow's queue takes far more calls than it can write in the time that is here to wait for it.
BURST = {
    "empty": 100_000,
    "floor": 200_000,
    "tracker": 200_000,
    "tracker-epochs": 50_000,
    "trackio": 100_000,
    "wandb": 15_000,
    "mlflow-async": 600,
    "mlflow": 500,
    "tensorboard": 4_000,
    "tensorboard-writer": 10_000,
}
DURABLE = {
    "tracker": 250_000,
    "tracker-postgres": 100_000,
    "trackio": 100_000,
    "wandb": 25_000,
    "mlflow": 1_000,
    "mlflow-async": 1_000,
    "tensorboard": 5_000,
    "tensorboard-writer": 25_000,
}
IMPORTS = {"tracker": "tracker", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}
MEMORY = {"tracker": 2_500_000}
SIZES = {"tracker": ("keras", "random", "short"), "tracker-postgres": ("keras", "random")}
"""The series whose room on disk is measured, by contender (see `series.py`)."""
SIZE_CALLS = {"keras": 3_333_334, "random": 1_000_000, "short": 100}


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 1 if a measurement of Tracker's own failed or lost points."""
    options = _options().parse_args(arguments)
    measures = options.only or list(MEASURES)
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=options.scratch))
    try:
        facts = machine.describe(scratch)
        peers = None if options.no_peers else options.peers_python or make_environment(ROOT / ".bench" / "venv", PEERS)
        runner = Runner(Path(sys.executable), peers, scratch, 1 if options.quick else options.rounds)
        start = time.perf_counter()
        results = {name: _measure(name, runner, options) for name in measures}
        facts["time taken"] = f"{(time.perf_counter() - start) / 60:.1f} minutes, {runner.rounds} rounds"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = _versions(runner)
    text = report.render(results, facts, found, quick=options.quick)
    target = options.output or (None if options.quick or options.only or options.contenders else ROOT / "BENCHMARKS.md")
    if target:
        replace_part(target, report.TITLE, text)
        print(f"written to {target}", file=sys.stderr)
    else:
        print(text)
    for failure in runner.failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return int(report.tracker_failed(results))


def _measure(name: str, runner: Runner, options: argparse.Namespace) -> dict[str, Results]:
    """The results of one measure, by variant (a rhythm; "all" where there is but one)."""
    share = 20 if options.quick else 1

    def chosen(table: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in table.items() if not options.contenders or name in options.contenders}

    print(name, file=sys.stderr)
    if name == "latency":
        rhythms: dict[str, tuple[float, int]] = {"back to back": (0.0, 10**9), "1 ms of work between": (1.0, 2_000)}
        jobs = {
            rhythm: {
                contender: {
                    "measure": "latency",
                    "calls": max(200, min(calls, most) // share),
                    "seconds": 2.5 / share + 0.3,
                    "warm": 50,
                    "work_ms": work,
                }
                for contender, calls in chosen(BURST).items()
            }
            for rhythm, (work, most) in rhythms.items()
        }
        return {rhythm: runner.rounds_of(of_rhythm) for rhythm, of_rhythm in jobs.items()}
    if name == "durable":
        return {
            "all": runner.rounds_of(
                {c: {"measure": "durable", "calls": n // share} for c, n in chosen(DURABLE).items()}
            )
        }
    if name == "size":
        sizes: dict[str, Results] = {}
        for contender, of_series in chosen(SIZES).items():
            for series in of_series:
                calls = SIZE_CALLS[series] // (1 if series == "short" else share)
                job = {"measure": "size", "series": series, "calls": calls}
                sizes.setdefault(series, {})[contender] = [runner.one(contender, job)]
        return sizes
    if name == "import":
        return {"all": runner.import_ms(chosen(IMPORTS), 2 if options.quick else 10)}
    if name == "memory":
        return {
            "all": {
                contender: [
                    runner.one(contender, {"measure": "memory", "calls": calls // share, "warm": 20_000 // share})
                ]
                for contender, calls in chosen(MEMORY).items()
            }
        }
    return {
        variant: {"tracker": [runner.one("tracker", {"measure": name, **job})]}
        for variant, job in _fits(name, quick=options.quick).items()
    }


def _fits(name: str, *, quick: bool) -> dict[str, dict[str, Any]]:
    """The jobs of a measure of `fit()`, by variant."""
    if name == "fit":
        fit = {"rounds": 3 if quick else 20, "epochs": 5 if quick else 10}
        return {"alone": fit | {"stock": False}, "stock": fit | {"stock": True}}
    if name == "batches":
        return {"all": {"rounds": 2 if quick else 10, "epochs": 2 if quick else 10}}
    saved = {"rounds": 1 if quick else 4, "epochs": 3 if quick else 6}
    return {
        "small": saved | {"width": 512, "layers": 1, "optimizer": "adam"},
        "large": saved | {"width": 3500, "layers": 2, "optimizer": "sgd"},
    }


def _versions(runner: Runner) -> dict[str, str]:
    ours = versions(runner.own, ("callback-tracker", "tensorflow-cpu", "tensorflow", "keras", "numpy", "msgspec"))
    peers = ("mlflow", "trackio", "wandb", "tensorboard")
    return ours | ({k: v for k, v in versions(runner.peers, peers).items() if k != "Python"} if runner.peers else {})


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a twentieth: does it work, not how fast")
    parser.add_argument("--only", action="append", choices=MEASURES, help="this measure only; may be repeated")
    parser.add_argument("--contenders", nargs="+", choices=sorted(BURST | DURABLE), help="these contenders only")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured (default 3)")
    parser.add_argument("--peers-python", type=Path, metavar="PATH", help="a Python that has the peers already")
    parser.add_argument("--no-peers", action="store_true", help="Tracker alone; installs nothing")
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="where contenders write (default: temporary)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default BENCHMARKS.md; a partial or quick run prints"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The server's benchmarks: Tracker and its peers, written to their part of BENCHMARKS.md. `--help` has the options."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import load
import machine
import server_report
from content import Content
from databases import KINDS, Databases
from environment import FASTTRACKML, MLFLOW_SERVER, make_environment, versions
from figures import replace_part
from reads import CURVES, HISTORIES, SEARCHES
from server_measures import Bench, Plan
from servers import SERVERS

ROOT = Path(__file__).parents[2]
MEASURES = ("writes", "reads")
SMALL, LARGE = 2_000, 100_000
"""Runs in the filled stores."""
FULL = Plan(rounds=2, write_s=4, warm_s=4, read_s=(2, 4))
QUICK = Plan(rounds=1, write_s=1, warm_s=2, read_s=(1, 1))


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; 1 if a measurement of Tracker's own failed, answered errors or lost points."""
    options = _options().parse_args(arguments)
    try:
        load.program()
    except load.NoWrk as error:
        print(error, file=sys.stderr)
        return 2
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = Plan(options.rounds, plan.write_s, plan.warm_s, plan.read_s)
    pythons = _pythons(options)
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=options.scratch))
    scratch.chmod(0o755)  # PostgreSQL runs as another user where this one is root
    try:
        facts = machine.describe(scratch)
        start = time.perf_counter()
        with Databases(scratch) as databases:
            bench = Bench(pythons, databases, scratch, plan)
            found = _measure(bench, options)
        facts["time taken"] = f"{(time.perf_counter() - start) / 60:.1f} minutes, {plan.rounds} rounds"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = server_report.render(found, facts, _versions(pythons), quick=options.quick)
    partial = options.quick or options.only or options.servers or options.databases or options.no_peers
    target = options.output or (None if partial else ROOT / "BENCHMARKS.md")
    if target:
        replace_part(target, server_report.TITLE, text)
        print(f"written to {target}", file=sys.stderr)
    else:
        print(text)
    for failure in bench.failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return int(found.tracker_failed())


def _measure(bench: Bench, options: argparse.Namespace) -> server_report.Found:
    found = server_report.Found()
    measures, kinds = options.only or MEASURES, options.databases or KINDS
    if "writes" in measures:
        for kind in kinds:
            found.writes[kind], found.starts[kind] = bench.writes(kind)
    if "reads" in measures:
        for kind in kinds:
            small = Content(SMALL, HISTORIES)
            names = ["tracker"] if options.quick and kind != "sqlite" else list(SERVERS)
            found.reads[kind, SMALL], found.starts_on[kind, SMALL], found.scripts[kind] = bench.reads(
                kind, small, (*SEARCHES, *CURVES), names
            )
        for kind in () if options.quick else kinds:
            # The targets on a large store are Tracker's alone: the peers are shown on one of the databases.
            names = list(SERVERS) if kind == "sqlite" else ["tracker"]
            large = Content(LARGE)
            found.reads[kind, LARGE], found.starts_on[kind, LARGE], _ = bench.reads(kind, large, SEARCHES, names)
    return found


def _pythons(options: argparse.Namespace) -> dict[str, Path]:
    """The Python of each server that takes part."""
    folder = ROOT / ".bench"
    wanted = options.servers or (["tracker"] if options.no_peers else list(SERVERS))
    pythons: dict[str, Path] = {}
    for name in SERVERS:
        if name not in wanted:
            continue
        if name == "tracker":
            pythons[name] = Path(sys.executable)
        elif name == "mlflow":
            pythons[name] = options.mlflow_python or make_environment(folder / "mlflow", MLFLOW_SERVER)
        else:
            pythons[name] = options.fasttrackml_python or make_environment(
                folder / "fasttrackml", FASTTRACKML, alone=True
            )
    return {name: python.absolute() for name, python in pythons.items()}


def _versions(pythons: dict[str, Path]) -> dict[str, str]:
    found = versions(Path(sys.executable), ("callback-tracker", "uvicorn", "starlette", "sqlalchemy"))
    for name in ("fasttrackml", "mlflow"):
        if python := pythons.get(name):
            found |= {one: version for one, version in versions(python, (name,)).items() if one == name}
    return {name: version for name, version in found.items() if name != "Python"} | {"wrk": load.version()}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, no large store: does it work")
    parser.add_argument("--only", action="append", choices=MEASURES, help="this measure only")
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), help="these servers only")
    parser.add_argument("--databases", nargs="+", choices=KINDS, help="these databases only")
    parser.add_argument("--rounds", type=int, help=f"how often each server is measured (default {FULL.rounds})")
    parser.add_argument("--mlflow-python", type=Path, metavar="PATH", help="a Python that has MLflow already")
    parser.add_argument("--fasttrackml-python", type=Path, metavar="PATH", help="a Python that has FastTrackML already")
    parser.add_argument("--no-peers", action="store_true", help="Tracker alone; installs nothing")
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="where servers write (default: temporary)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default BENCHMARKS.md; a partial or quick run prints"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

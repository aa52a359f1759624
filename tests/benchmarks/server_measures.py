"""What is measured of tracking servers: writes, reads, a script with MLflow's client; start and memory on the way."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from content import Content
from databases import Database, Databases
from environment import child_variables
from fill import fill, settle
from load import Batches, NoWrk
from reads import Read, WrongAnswer, warm
from rest import Refused
from runner import Result, Results
from servers import SERVERS, DidNotStart, Server

SCRIPT = Path(__file__).with_name("stock_client.py")
FAILURES = (OSError, Refused, WrongAnswer, NoWrk, DidNotStart, ValueError, KeyError, subprocess.SubprocessError)
"""What a server may do that fails one measurement of it, and not the others."""

WRITES = (
    Batches("1 metric a request, 8 connections", 1, 1, 8),
    Batches("100 metrics a request, 8 connections", 100, 1, 8),
    Batches("100 as 10 keys × 10 steps, 8 connections", 10, 10, 8),
    Batches("1000 metrics a request, 4 connections", 1000, 1, 4),
    Batches("1000 as 10 keys × 100 steps, 4 connections", 10, 100, 4),
)
ONE_RUN = (
    Batches("1 metric a request, 8 connections, one run", 1, 1, 8, one_run=True),
    Batches("100 metrics a request, 8 connections, one run", 100, 1, 8, one_run=True),
)
"""On PostgreSQL only: on SQLite writers take turns whichever run they write to."""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    write_s: float
    warm_s: float
    read_s: tuple[float, float]
    """At least and at most, for slow answers."""


@dataclass(frozen=True)
class Bench:
    """Measures servers that run in `pythons`, by name, in turn, below `scratch`."""

    pythons: Mapping[str, Path]
    databases: Databases
    scratch: Path
    plan: Plan
    failures: list[str] = field(default_factory=list)

    def writes(self, kind: str) -> tuple[dict[str, Results], Results]:
        """Results of each load, by its title and server, and of starts on an empty database."""
        loads = WRITES + (ONE_RUN if kind == "postgresql" else ())
        results: dict[str, Results] = {load.title: {name: [] for name in self.pythons} for load in loads}
        starts: Results = {name: [] for name in self.pythons}
        for number in range(self.plan.rounds):
            for name in self._in_turn(number):
                database = self.databases.new(kind)
                try:
                    with self._server(name, database) as server:
                        mib, processes = server.memory()
                        starts[name].append({"start_s": server.start_s, "mib": mib, "processes": processes})
                        experiment = server.rest.create_experiment("load")
                        self._warm(server, experiment)
                        for load in loads:
                            label = f"{name} {kind}: {load.title}"
                            one = self._guarded(label, self._write, server, experiment, load)
                            results[load.title][name].append(one)
                except FAILURES as error:
                    self._not_measured(f"{name} {kind}: writes", error)
                    starts[name].append({"failed": str(error)})
                    for load in loads:
                        if len(results[load.title][name]) <= number:
                            results[load.title][name].append({"failed": str(error)})
                finally:
                    self.databases.drop(database)
        return results, starts

    def _warm(self, server: Server, experiment: str) -> None:
        """Have every process of the server handle requests of all kinds."""
        for load in (WRITES[1], WRITES[0]):
            runs = load.runs(server.rest, experiment)
            load.put(server.port, runs, self.plan.warm_s / 2)
            server.rest.last_steps(runs[0])

    def _write(self, server: Server, experiment: str, load: Batches) -> Result:
        """One load. `read_points_s` has the time in it that the first read afterwards takes: what was left to do."""
        runs = load.runs(server.rest, experiment)
        before = server.database.bytes()
        used = server.cpu_s()
        answers = load.put(server.port, runs, self.plan.write_s)
        began = time.perf_counter()
        server.rest.last_steps(runs[0])
        read_s = time.perf_counter() - began
        used = server.cpu_s() - used
        points = load.points(server.rest, runs)
        grown = server.database.bytes() - before
        return {
            "requests_s": answers.stored / answers.seconds,
            "points_s": answers.stored * load.metrics / answers.seconds,
            "read_points_s": answers.stored * load.metrics / (answers.seconds + read_s),
            "read_ms": read_s * 1e3,
            "cpu_us": used * 1e6 / max(1, answers.requests),
            "p50_ms": answers.p50_ms,
            "p99_ms": answers.p99_ms,
            "errors": answers.refused + answers.broken,
            "requests": answers.requests,
            "points": points,
            "lost": max(0, answers.stored * load.metrics - points),
            "too_many": max(0, points - sum(answers.sent) * load.metrics),
            "bytes_a_point": grown / points if points else 0.0,
        }

    def reads(
        self, kind: str, content: Content, reads: Sequence[Read], names: Iterable[str]
    ) -> tuple[dict[str, Results], Results, Results]:
        """Results of each read on stores that hold `content`, of starts on such a store, of MLflow's client.

        All servers run, and one at a time is asked.
        """
        names = [name for name in names if name in self.pythons]
        starts: Results = {name: [] for name in names}
        with ExitStack() as running:
            servers: dict[str, Server] = {}
            for name in names:
                try:
                    servers[name] = running.enter_context(self._filled(name, kind, content, running))
                    starts[name].append({"start_s": servers[name].start_s})
                    warm(servers[name], self.plan.warm_s)
                except FAILURES as error:
                    self._not_measured(f"{name} {kind}: {content.runs} runs", error)
                    starts[name].append({"failed": str(error)})
            label = f"{kind}, {content.runs} runs"
            results = {
                read.title: self._rounds(servers, f"{label}: {read.title}", read.ask, content, *self.plan.read_s)
                for read in reads
            }
            scripts: Results = {}
            if content.histories and (client := self._client()):
                scripts = self._rounds(servers, f"{label}: MLflow's client", self._script, client)
        return results, starts, scripts

    def _rounds(
        self, servers: Mapping[str, Server], label: str, measure: Callable[..., Result], *arguments: object
    ) -> Results:
        """`measure(server, *arguments)` of each server, once a round."""
        results: Results = {name: [] for name in servers}
        for number in range(self.plan.rounds):
            for name in [name for name in self._in_turn(number) if name in servers]:
                results[name].append(self._guarded(f"{name} {label}", measure, servers[name], *arguments))
        return results

    def _filled(self, name: str, kind: str, content: Content, running: ExitStack) -> Server:
        """A server, not started yet, of a store that holds `content`."""
        database = self.databases.new(kind)
        running.callback(self.databases.drop, database)
        if name != "tracker":
            with self._server(name, database):
                pass  # it makes its tables
        began = time.perf_counter()
        fill(name, database.url, content)
        settle(database.url)
        self._say(f"{name} {kind}: filled with {content.runs} runs ({time.perf_counter() - began:.1f} s)\n")
        return self._server(name, database)

    def _client(self) -> Path | None:
        """A Python with MLflow's client: the peer's, or this one."""
        here = Path(sys.executable) if importlib.util.find_spec("mlflow") else None
        return self.pythons.get("mlflow") or here

    def _script(self, server: Server, python: Path) -> Result:
        """The stock client's script against a server, in a process of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            answer = folder / "result.json"
            command = [str(python), str(SCRIPT), f"http://127.0.0.1:{server.port}", str(answer)]
            done = subprocess.run(
                command,
                cwd=folder,
                env=child_variables(folder),
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
            result: Result = json.loads(answer.read_text())
            return result
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _server(self, name: str, database: Database) -> Server:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch))
        return SERVERS[name](self.pythons[name], database, folder)

    def _in_turn(self, number: int) -> list[str]:
        """The servers; every second round goes backwards."""
        names = list(self.pythons)
        return names if number % 2 == 0 else names[::-1]

    def _guarded(self, label: str, measure: Callable[..., Result], *arguments: object) -> Result:
        self._say(f"  {label} … ")
        began = time.perf_counter()
        try:
            result = measure(*arguments)
        except FAILURES as error:
            result = {"failed": str(error) or type(error).__name__}
        if "failed" in result:
            self.failures.append(f"{label}: {result['failed']}")
        self._say(f"{_shown(result)} ({time.perf_counter() - began:.1f} s)\n")
        return result

    def _not_measured(self, label: str, error: Exception) -> None:
        self.failures.append(f"{label}: {error}")
        self._say(f"  {label}: {error}\n")

    def _say(self, text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)


def _shown(result: Result) -> str:
    if "failed" in result:
        return str(result["failed"])
    shown = {
        "requests_s": "{:,.0f} requests/s",
        "p50_ms": "{:.2f} ms",
        "cpu_us": "{:,.0f} µs CPU",
        "errors": "{} errors",
        "lost": "{} lost",
    }
    return ", ".join(text.format(result[name]) for name, text in shown.items() if name in result) or "done"

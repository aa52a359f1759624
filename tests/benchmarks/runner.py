"""Runs each measurement in a fresh process, contenders in turn, round after round."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import child_variables

WORKER = Path(__file__).with_name("worker.py")

Result = dict[str, Any]
Results = dict[str, list[Result]]
"""Results by contender, one a round; a round that failed is {"failed": why}."""


@dataclass(frozen=True)
class Runner:
    """Where contenders run: ours in `own`, the peers in `peers` (Pythons), all of them below `scratch`."""

    own: Path
    peers: Path | None
    scratch: Path
    rounds: int
    timeout_s: float = 300.0
    failures: list[str] = field(default_factory=list)

    def python(self, contender: str) -> Path | None:
        """The Python that runs `contender`; None for a peer where no peers are installed."""
        return (
            self.peers
            if contender in ("trackio", "wandb", "mlflow", "mlflow-async", "tensorboard-writer")
            else self.own
        )

    def one(self, contender: str, job: Mapping[str, Any]) -> Result:
        """The result of `job` in a process of its own, in a folder that is removed afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        label = " ".join([str(job["measure"]), contender, *(f"{k}={v}" for k, v in job.items() if k != "measure")])
        print(f"  {label} … ", end="", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            result = self._run(contender, dict(job), folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{result.get('failed', 'done')} ({time.perf_counter() - start:.1f} s)", file=sys.stderr, flush=True)
        if "failed" in result:
            self.failures.append(f"{label}: {result['failed']}")
        return result

    def _run(self, contender: str, job: Result, folder: Path) -> Result:
        python = self.python(contender)
        if python is None:
            return {"failed": "not installed"}
        variables, data = child_variables(folder), folder / "data"
        data.mkdir()
        job |= {"contender": contender, "folder": str(data)}
        ask, answer = folder / "job.json", folder / "result.json"
        ask.write_text(json.dumps(job))
        command = [str(python), str(WORKER), str(ask), str(answer)]
        try:
            with open(folder / "output", "wb") as output:
                done = subprocess.run(
                    command, cwd=data, env=variables, stdout=output, stderr=output, timeout=self.timeout_s
                )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {self.timeout_s:.0f} s"}
        if done.returncode or not answer.exists():
            lines = (folder / "output").read_text(errors="replace").strip().splitlines() or ["no output"]
            return {"failed": f"exit code {done.returncode}: {lines[-1]}"}
        result: Result = json.loads(answer.read_text())
        return result

    def rounds_of(self, jobs: Mapping[str, Mapping[str, Any]]) -> Results:
        """All of `jobs`, by contender, once a round; every second round goes backwards."""
        results: Results = {contender: [] for contender in jobs}
        for number in range(self.rounds):
            order: Iterable[str] = list(jobs) if number % 2 == 0 else reversed(list(jobs))
            for contender in order:
                results[contender].append(self.one(contender, jobs[contender]))
        return results

    def import_ms(self, modules: Mapping[str, str], times: int) -> Results:
        """What `import` costs by contender: ms in a fresh process less those of `pass` in one right before, `times`."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        results: Results = {contender: [] for contender in modules}
        try:
            variables = child_variables(folder)
            for number in range(times + 1):
                for contender, module in modules.items():
                    python = self.python(contender)
                    if python is None:
                        results[contender] = [{"failed": "not installed"}]
                        continue
                    bare = _process_s(python, "pass", variables, folder)
                    full = _process_s(python, f"import {module}", variables, folder)
                    if number:  # the first one writes byte code and fills the page cache
                        results[contender].append({"ms": (full - bare) * 1e3, "bare_ms": bare * 1e3})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return results


def _process_s(python: Path, script: str, variables: Mapping[str, str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run([str(python), "-c", script], cwd=folder, env=variables, check=True, capture_output=True)
    return time.perf_counter() - start

"""Load on a server, made by wrk: what is sent, how fast it was answered, and whether all of it was stored."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rest import Rest

SCRIPT = Path(__file__).parent / "wrk" / "load.lua"
PATIENCE_S = 60
"""How long wrk waits for an answer before it counts a time-out."""


class NoWrk(Exception):
    """wrk is not there, or failed."""


@dataclass(frozen=True)
class Answers:
    """What wrk saw. `sent` counts, by thread, what was written to the wire: one more than was answered, at most."""

    requests: int
    seconds: float
    bytes: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    sent: tuple[int, ...]

    @property
    def stored(self) -> int:
        """Requests answered with success."""
        return self.requests - self.refused


@dataclass(frozen=True)
class Batches:
    """A load of log-batch requests: `keys` metrics at each of `steps` steps a request, over some connections.

    Each connection writes to a run of its own, or all to the same one.
    """

    title: str
    keys: int
    steps: int
    connections: int
    one_run: bool = False

    @property
    def metrics(self) -> int:
        """Points a request."""
        return self.keys * self.steps

    def runs(self, rest: Rest, experiment: str) -> list[str]:
        """New runs for it to write to."""
        return [rest.create_run(experiment) for _ in range(1 if self.one_run else self.connections)]

    def put(self, port: int, runs: Sequence[str], seconds: float) -> Answers:
        """Write to `runs` for `seconds`."""
        return _wrk(port, self.connections, seconds, ["batches", str(self.keys), str(self.steps), *runs])

    def points(self, rest: Rest, runs: Sequence[str]) -> int:
        """How many points of `runs` the server gives back.

        Every request writes every key, so the histories of three keys a run stand for all of them: where one of
        those counts differs from another, where a step comes twice or a key has another last step, the smallest
        number is taken.
        """
        found = 0
        for run in runs:
            last = rest.last_steps(run)
            sample = sorted({0, self.keys // 2, self.keys - 1})
            steps = [rest.steps(run, f"m{key}") for key in sample]
            whole = len(last) == self.keys and len(set(last.values())) <= 1
            found += min(len(set(of_key)) for of_key in steps) * (self.keys if whole else 0)
        return found


def get(port: int, connections: int, seconds: float, target: str) -> Answers:
    """The same GET over and over."""
    return _wrk(port, connections, seconds, ["request", "GET", target])


def post(port: int, connections: int, seconds: float, target: str, body: object) -> Answers:
    """The same POST of JSON over and over."""
    return _wrk(port, connections, seconds, ["request", "POST", target, json.dumps(body)])


def program() -> str:
    """wrk's path, with the version that it says."""
    found = shutil.which("wrk")
    if found is None:
        raise NoWrk("wrk, which makes the load, is not installed: apt-get install wrk")
    return found


def version() -> str:
    """wrk's version."""
    said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=False).stdout
    return said.split()[1].rpartition("/")[2] if len(said.split()) > 1 else "unknown"


def _wrk(port: int, connections: int, seconds: float, arguments: Sequence[str]) -> Answers:
    command = [program(), "-t", str(connections), "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
    command += ["--timeout", f"{PATIENCE_S}s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * PATIENCE_S, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise NoWrk(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    said = json.loads(lines[-1].removeprefix("RESULT "))
    return Answers(
        requests=said["requests"],
        seconds=said["microseconds"] / 1e6,
        bytes=said["bytes"],
        refused=said["status"],
        broken=said["broken"] + said["timeouts"],
        p50_ms=said["p50_us"] / 1e3,
        p99_ms=said["p99_us"] / 1e3,
        max_ms=said["max_us"] / 1e3,
        sent=tuple(said["sent"]),
    )

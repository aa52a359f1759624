"""What is measured of a contender, inside its own process. Times in µs (`_us`), ms (`_ms`) or seconds (`_s`)."""

from __future__ import annotations

import gc
import os
import time
from array import array
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, Contender, Log
from series import SERIES

METRICS_A_CALL = 4
_PAGE = os.sysconf("SC_PAGE_SIZE")


def metrics(step: int) -> dict[str, float]:
    """Four plausible metrics of one step, none of them equal to that of another step."""
    decay = 1.0 / (step + 2)
    return {"loss": decay, "accuracy": 1.0 - decay, "val_loss": decay * 1.1, "val_accuracy": 1.0 - decay * 1.1}


def latency(contender: Contender, folder: Path, *, calls: int, seconds: float, warm: int, work_ms: float) -> Any:
    """Times of single log calls on the thread that trains: at most `calls`, for at most `seconds` of them.

    Before each call the thread works for `work_ms` (0: calls follow back to back). `lost` counts the points that a
    reader does not find afterwards.
    """
    log = contender.open(folder)
    for step in range(warm):
        log(metrics(step), step)
    gc.collect()
    taken = array("q", bytes(8 * calls))
    work = _Work(work_ms) if work_ms else None
    clock, done, deadline = time.perf_counter_ns, 0, time.perf_counter_ns() + int(seconds * 1e9)
    for done in range(calls):
        values, step = metrics(done), warm + done
        if work:
            work()
        start = clock()
        log(values, step)
        end = clock()
        taken[done] = end - start
        if end > deadline:
            break
    done += 1
    start = clock()
    contender.close()
    closing = clock() - start
    lost, _ = _settled(contender, METRICS_A_CALL * (warm + done))
    ordered = sorted(taken[:done])
    return {
        "p50_us": ordered[done // 2] / 1e3,
        "p99_us": ordered[min(done - 1, done * 99 // 100)] / 1e3,
        "worst_us": ordered[-1] / 1e3,
        "calls": done,
        "closing_s": closing / 1e9,
        "lost": lost,
    }


class _Work:
    """A training step's likeness: linear algebra that leaves the interpreter to other threads, and Python between."""

    def __init__(self, ms: float) -> None:
        import numpy as np

        self._ns = int(ms * 1e6)
        self._left = np.ones((96, 96), dtype=np.float32)
        self._right = np.ones((96, 96), dtype=np.float32)

    def __call__(self) -> None:
        end = time.perf_counter_ns() + self._ns
        while time.perf_counter_ns() < end:
            self._left @ self._right


def durable(contender: Contender, folder: Path, *, calls: int) -> Any:
    """From the first log call until `close` has returned and a reader finds everything.

    `bytes` is what the store grew by between the opened run and the closed one.
    """
    log = contender.open(folder)
    before = contender.stored_bytes()
    start = time.perf_counter()
    _log_many(log, calls)
    logged = time.perf_counter()
    journal = getattr(contender, "journal_bytes", lambda: None)()
    measured = time.perf_counter()
    contender.close()
    closed = time.perf_counter()
    points = METRICS_A_CALL * calls
    lost, waited = _settled(contender, points)
    seconds = closed - measured + logged - start + waited
    return {
        "points": points,
        "lost": lost,
        "seconds": seconds,
        "logging_s": logged - start,
        "points_s": (points - lost) / seconds,
        "bytes": contender.stored_bytes() - before,
        "journal_bytes": journal,
    }


def _settled(contender: Contender, expected: int, longest: float = 30.0) -> tuple[int, float]:
    """How many of `expected` points are not to be found, and for how many seconds more than none some were not.

    W&B's `finish` can return a moment before its service has written the end of the file.
    """
    start, first = time.perf_counter(), True
    while True:
        asked = time.perf_counter()
        found = contender.points()
        if found is None:
            return 0, 0.0
        if found >= expected or time.perf_counter() - start > longest:
            return expected - found, 0.0 if first else asked - start
        first = False
        time.sleep(0.01)


def size(contender: Contender, folder: Path, *, series: str, calls: int) -> Any:
    """What the store grows by when `calls` log the values of `series` (see `series.py`), as `durable` counts it."""
    values = SERIES[series]()
    log = contender.open(folder)
    before = contender.stored_bytes()
    points = 0
    for step in range(calls):
        one = next(values)
        points += len(one)
        log(one, step)
    contender.close()
    lost, _ = _settled(contender, points)
    return {"points": points, "lost": lost, "bytes": contender.stored_bytes() - before}


def _log_many(log: Log, calls: int) -> None:
    for step in range(calls):
        log(metrics(step), step)


def memory(contender: Contender, folder: Path, *, calls: int, warm: int) -> Any:
    """What resident memory grows by while `calls` are logged and until the run is closed: at its peak, and after.

    Counted from the open run on, after `warm` calls whose points are stored. `children_mib` is the peak, sampled, of
    processes that the contender started.
    """
    log = contender.open(folder)
    opened = _resident()
    for step in range(warm):
        log(metrics(step), step)
    getattr(contender, "flush", lambda: None)()
    gc.collect()
    exact = _reset_peak()
    before = peak = _resident()
    children, start = 0, time.perf_counter()
    for step in range(warm, warm + calls):
        log(metrics(step), step)
        if not step % 5000:
            peak, children = max(peak, _resident()), max(children, _children())
    logged, logging = _resident(), time.perf_counter() - start
    contender.close()
    after = _resident()
    peak = max(peak, logged, after, _peak() if exact else 0)
    points = METRICS_A_CALL * (warm + calls)
    return {
        "points": points,
        "lost": _settled(contender, points)[0],
        "opened_mib": opened / 2**20,
        "before_mib": before / 2**20,
        "peak_growth_mib": (peak - before) / 2**20,
        "logged_growth_mib": (logged - before) / 2**20,
        "after_growth_mib": (after - before) / 2**20,
        "children_mib": children / 2**20,
        "logging_s": logging,
        "seconds": time.perf_counter() - start,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _reset_peak() -> bool:
    """Reset the kernel's count of the peak; False where it has none, and samples are taken instead."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _children() -> int:
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            for child in (task / "children").read_text().split():
                total += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def measure(job: dict[str, Any]) -> Any:
    """Carry out `job`: {"measure", "contender", "folder", and the measure's own arguments}."""
    arguments = {key: value for key, value in job.items() if key not in ("measure", "contender", "folder")}
    contender = CONTENDERS[job["contender"]]()
    try:
        return {"latency": latency, "durable": durable, "memory": memory, "size": size}[job["measure"]](
            contender, Path(job["folder"]), **arguments
        )
    finally:
        getattr(contender, "release", lambda: None)()

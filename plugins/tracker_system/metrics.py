"""The plugin `system`: records CPU, memory, disk, network and NVIDIA GPUs as series `system/…` on the axis `time`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tracker.domain.extras import how_to_install
from tracker.hooks import Unavailable, hookimpl
from tracker.settings import Settings
from tracker_system.worker import worker_name

try:
    from tracker_system.sampler import Sampler
except ModuleNotFoundError as error:
    if error.name != "psutil":
        raise
    raise Unavailable(f"it needs psutil, which is not installed: {how_to_install('system')}") from None

if TYPE_CHECKING:
    from tracker.client.run import Run

_samplers: dict[int, Sampler] = {}
"""By `id(run)`; each sampler keeps its run alive, so the ids stay unique."""


@hookimpl(tryfirst=True)
def run_started(run: Run) -> None:
    """Start recording system metrics, every TRACKER_SYSTEM_INTERVAL seconds.

    Workers other than the chief record under their own names (`system/worker-1/…`).
    """
    worker = worker_name()

    def take(metrics: Mapping[str, float]) -> None:
        run.log_system({f"{worker}/{key}": value for key, value in metrics.items()} if worker else metrics)

    sampler = Sampler(take, lambda: run.status != "running", Settings.from_environment().system_interval_s)
    _samplers[id(run)] = sampler
    sampler.start()


@hookimpl(trylast=True)
def run_ended(run: Run) -> None:
    """Record system metrics a last time and stop."""
    sampler = _samplers.pop(id(run), None)
    if sampler is not None:
        sampler.stop()

"""Reads CPU, memory, disk and network with psutil, under MLflow's metric names where it has them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

Reading = Callable[[], dict[str, float]]
"""Reads metrics by name; may raise if the machine does not provide them."""
MEGA = 1e6


def readings() -> Iterator[Reading]:
    """All readings. Rates and utilisation are over the time since the last reading, and missing in the first."""
    yield _Cpu()
    yield _memory
    yield _disk
    yield _Rates("disk_read", "disk_write", psutil.disk_io_counters, "read_bytes", "write_bytes")
    yield _Network()


class _Cpu:
    """CPU utilisation of the machine (of all cores) and of this process (of one core), and its memory."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._is_first = True

    def __call__(self) -> dict[str, float]:
        found = {
            "cpu_utilization_percentage": float(psutil.cpu_percent()),
            "process_cpu_utilization_percentage": float(self._process.cpu_percent()),
        }
        if self._is_first:
            self._is_first, found = False, {}
        return found | {"process_memory_usage_megabytes": self._process.memory_info().rss / MEGA}


def _memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system_memory_usage_megabytes": memory.used / MEGA,
        "system_memory_usage_percentage": 100 * (memory.total - memory.available) / memory.total,
    }


def _disk() -> dict[str, float]:
    """Usage of the disk of the working directory."""
    usage = psutil.disk_usage(os.getcwd())
    return {
        "disk_usage_percentage": float(usage.percent),
        "disk_usage_megabytes": usage.used / MEGA,
        "disk_available_megabytes": usage.free / MEGA,
    }


class _Rates:
    """Rates of two byte counters, in megabytes a second."""

    def __init__(self, into: str, out: str, read: Callable[[], Any], into_field: str, out_field: str) -> None:
        self._names = {f"{into}_megabytes_per_second": into_field, f"{out}_megabytes_per_second": out_field}
        self._read = read
        self._at = 0.0
        self._last: Any = None

    def __call__(self) -> dict[str, float]:
        counters, now = self._read(), time.monotonic()
        last, seconds = self._last, now - self._at
        self._last, self._at = counters, now
        if counters is None or last is None or seconds <= 0:
            return {}
        return {
            name: max(getattr(counters, field) - getattr(last, field), 0) / MEGA / seconds
            for name, field in self._names.items()
        }


class _Network:
    """Network traffic: megabytes since the first reading, as MLflow counts them, and megabytes a second."""

    def __init__(self) -> None:
        self._begin: Any = None
        self._rates = _Rates("network_receive", "network_transmit", psutil.net_io_counters, "bytes_recv", "bytes_sent")

    def __call__(self) -> dict[str, float]:
        now = psutil.net_io_counters()
        begin = self._begin = self._begin or now
        return {
            "network_receive_megabytes": (now.bytes_recv - begin.bytes_recv) / MEGA,
            "network_transmit_megabytes": (now.bytes_sent - begin.bytes_sent) / MEGA,
            **self._rates(),
        }

"""Reads NVIDIA GPUs from their driver through nvidia-ml-py (NVML)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, Self

MEGA = 1e6


class Gpus:
    """All NVIDIA GPUs of the machine, in the driver's order; none without a driver or nvidia-ml-py.

    A context manager; otherwise call `close`.
    """

    def __init__(self, nvml: Any = None) -> None:
        """`nvml` is the module `pynvml`; by default it is imported, if it is there."""
        self._nvml = nvml
        self._handles: list[Any] = []
        try:
            if nvml is None:
                ctypes.CDLL("libnvidia-ml.so.1")  # a cheap check first: most machines have no driver

                import pynvml

                self._nvml = pynvml
            self._nvml.nvmlInit()
        except Exception:  # not installed, no driver, a wrong version, no permission: no GPU can be read
            self._nvml = None
            return
        try:
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except Exception:  # a GPU fell off the bus
            self._handles = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self) -> list[str]:
        """The product names of the GPUs."""
        names = []
        for handle in self._handles:
            name = self._asked(partial(self._nvml.nvmlDeviceGetName, handle))
            names.append(name.decode() if isinstance(name, bytes) else str(name or "?"))
        return names

    def read(self) -> dict[str, float]:
        """Utilisation, memory, temperature and power of each; values that a GPU does not report are missing."""
        found: dict[str, float] = {}
        for number, handle in enumerate(self._handles):
            for name, value in self._read_one(handle).items():
                found[f"gpu_{number}_{name}"] = float(value)
        return found

    def close(self) -> None:
        """Shut NVML down."""
        if self._nvml is not None:
            self._asked(self._nvml.nvmlShutdown)
        self._nvml, self._handles = None, []

    def _read_one(self, handle: Any) -> dict[str, float]:
        nvml, found = self._nvml, {}
        if memory := self._asked(lambda: nvml.nvmlDeviceGetMemoryInfo(handle)):
            found["memory_usage_percentage"] = 100 * memory.used / memory.total
            found["memory_usage_megabytes"] = memory.used / MEGA
        if used := self._asked(lambda: nvml.nvmlDeviceGetUtilizationRates(handle)):
            found["utilization_percentage"] = used.gpu
        if (
            celsius := self._asked(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        ) is not None:
            found["temperature_celsius"] = celsius
        if (milliwatts := self._asked(lambda: nvml.nvmlDeviceGetPowerUsage(handle))) is not None:
            found["power_usage_watts"] = milliwatts / 1000
            if limit := self._asked(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)):
                found["power_usage_percentage"] = 100 * milliwatts / limit
        return found

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """The driver's answer; None if it fails."""
        try:
            return ask()
        except Exception:
            return None

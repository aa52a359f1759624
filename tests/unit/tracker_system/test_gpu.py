"""GPUs as a driver tells them; the driver here is a stand-in, as the machines that test have no GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tracker_system.gpu import Gpus


class Driver:
    """NVML with two GPUs, the second of which tells no power and no temperature."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return b"NVIDIA A" if handle == 0 else "NVIDIA B"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80_000_000_000, used=20_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=97, memory=40)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return self._told(handle, 61)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._told(handle, 350_000)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return self._told(handle, 700_000)

    def _told(self, handle: int, value: int) -> int:
        if handle:
            raise OSError("not supported")
        return value


def test_each_gpu_is_read() -> None:
    """What a GPU tells is there in MLflow's names, and what it does not tell is missing."""
    driver = Driver()
    with Gpus(driver) as gpus:
        assert gpus.names() == ["NVIDIA A", "NVIDIA B"]
        assert gpus.read() == {
            "gpu_0_memory_usage_percentage": 25.0,
            "gpu_0_memory_usage_megabytes": 20_000.0,
            "gpu_0_utilization_percentage": 97.0,
            "gpu_0_temperature_celsius": 61.0,
            "gpu_0_power_usage_watts": 350.0,
            "gpu_0_power_usage_percentage": 50.0,
            "gpu_1_memory_usage_percentage": 25.0,
            "gpu_1_memory_usage_megabytes": 20_000.0,
            "gpu_1_utilization_percentage": 97.0,
        }
    assert driver.open == 0


def test_no_driver_is_no_gpu() -> None:
    """A machine without a driver, or with one that refuses, has no GPUs, and nothing is raised."""

    class Refusing(Driver):
        def nvmlInit(self) -> None:
            raise OSError("driver/library version mismatch")

    with Gpus(Refusing()) as gpus:
        assert (gpus.names(), gpus.read()) == ([], {})
    with Gpus() as real:
        assert len(real.names()) == len({key.split("_")[1] for key in real.read()})

"""What the numbers were measured on, in words that name no host, no user and no path."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from pathlib import Path


def describe(folder: Path) -> dict[str, str]:
    """Facts about this machine by name; `folder` is where the contenders write."""
    return {
        "processor": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "file system": f"{_file_system(folder)}, write + fsync of 4 KiB {_fsync_ms(folder):.2f} ms (median)",
        "load before the start": f"{os.getloadavg()[0]:.2f} (1 minute)",
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _file_system(folder: Path) -> str:
    """The kind of the file system that holds `folder`: that of its longest mount point."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, mount, mounted_kind, *_ = line.split()
        mount = mount.replace("\\040", " ")
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, mounted_kind
    return kind


def _fsync_ms(folder: Path, times: int = 50) -> float:
    """Median ms of appending 4 KiB to a file and syncing it, over `times` writes."""
    block, taken = b"\0" * 4096, []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            start = time.perf_counter()
            os.write(file.fileno(), block)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    return sorted(taken)[times // 2] * 1e3

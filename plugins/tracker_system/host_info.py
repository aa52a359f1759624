"""Describes the process, machine and user of a run. Environment variables are never recorded."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tracker.client.origin import is_notebook
from tracker_system.gpu import Gpus
from tracker_system.masking import masked

GIGA = 1e9


def process() -> dict[str, Any]:
    """Description of this process: command, working directory, user, Python."""
    return {
        "source": source()[1],
        "command": masked(sys.orig_argv, is_code=bool(sys.argv) and sys.argv[0] == "-c"),
        "working_directory": os.getcwd(),
        "user": user(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "executable": sys.executable,
        "tracker": _version("callback-tracker"),
    }


@functools.cache
def machine() -> dict[str, Any]:
    """Description of this machine, read once a process."""
    system = os.uname()
    with Gpus() as gpus:
        gpu_names = gpus.names()
    return {
        "host": socket.gethostname(),
        "platform": f"{system.sysname} {system.release}",
        "architecture": system.machine,
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gigabytes": _memory_gigabytes(),
        "gpus": gpu_names or _driver_gpus(),
    }


def user() -> str:
    """The user's name, or the user id if there is no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid())


def source() -> tuple[str, str]:
    """MLflow's source type and name: of the script, the notebook, or a command such as `python -c`."""
    if is_notebook():
        return "NOTEBOOK", os.environ.get("JPY_SESSION_NAME", "notebook")
    first = sys.argv[0] if sys.argv else ""
    if first in ("", "-c", "-"):
        return "LOCAL", {"": "python", "-c": "python -c", "-": "python -"}[first]
    return "LOCAL", os.path.abspath(first)


def code_folder() -> Path:
    """The folder of the script that runs, else the working directory."""
    script = Path(sys.argv[0] if sys.argv else "")
    return script.resolve().parent if script.name not in ("", "-c", "-") and script.is_file() else Path.cwd()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, colon, value = line.partition(":")
                if colon and name.strip() in ("model name", "Model", "cpu model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or os.uname().machine


def _memory_gigabytes() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGA, 1)
    except (ValueError, OSError):
        return None


def _driver_gpus() -> list[str]:
    """Names of NVIDIA GPUs from the Linux driver's files in /proc, if nvidia-ml-py is not installed."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model:")]
    return names

"""The peers' own virtual environments, and the environment variables that every contender is started with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = ("mlflow==3.17.2", "trackio==0.43.0", "wandb==0.31.*", "tensorboard==2.21.*")
MLFLOW_SERVER = ("mlflow==3.17.2", "psycopg2-binary==2.9.*")
FASTTRACKML = ("fasttrackml==0.6.0",)
"""Alone: its server is one program written in Go, and needs none of what its Python package asks for."""

_QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    # One thread of linear algebra: the second core stays free for whoever works in the background.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


def child_variables(folder: Path) -> dict[str, str]:
    """What a contender's process sees: nothing of this user's set-up, no uploads, and `folder` for all it writes."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    folders = {
        "HOME": "home",
        "XDG_CACHE_HOME": "home/cache",
        "XDG_CONFIG_HOME": "home/config",
        "XDG_STATE_HOME": "home/state",
        "TRACKER_HOME": "journals",
        "TRACKIO_DIR": "trackio",
        "WANDB_DIR": "wandb",
        "WANDB_CACHE_DIR": "home/wandb-cache",
        "WANDB_CONFIG_DIR": "home/wandb-config",
        "WANDB_DATA_DIR": "home/wandb-data",
        "TMPDIR": "tmp",
    }
    paths = {name: folder / relative for name, relative in folders.items()}
    for path in paths.values():
        path.mkdir(parents=True, exist_ok=True)
    return kept | _QUIET | {name: str(path) for name, path in paths.items()}


def make_environment(folder: Path, requirements: tuple[str, ...], *, alone: bool = False) -> Path:
    """The Python of a virtual environment in `folder` with `requirements` installed; created again when these change.

    `alone` leaves out what they depend on.
    """
    python = folder / "bin" / "python"
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {', '.join(requirements)} in {folder} (once) …", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        commands = [[uv, "venv", "--python", sys.executable, folder], [uv, "pip", "install", "--python", python]]
    else:
        commands = [[sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet"]]
    commands[1] += [*(["--no-deps"] if alone else []), *requirements]
    for command in commands:
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    stamp.write_text(wanted)
    return python


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of distributions `names` in the environment of `python`; missing ones are left out."""
    script = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'Python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([str(python), "-c", script, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found

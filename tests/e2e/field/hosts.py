"""Processes that train: how they are started, where, and what surrounds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import preloaded
from e2e.field.record import differences, record, shown
from e2e.field.trials import TESTS
from e2e.field.truths import untrue
from e2e.keras_lab import environment

import tracker

TRAIN = """
import json, pathlib
from e2e.field.reference import Script, train

def main():
    told = train(Script(), "host") | {"folder": str(pathlib.Path.cwd())}
    pathlib.Path("told.json").write_text(json.dumps(told), encoding="utf-8")
"""
CALL = "\nif __name__ == '__main__':\n    main()\n"
PROCESS = """
import multiprocessing

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target={main})
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""
LATE = """
def main():
    import train
    train.main()
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A process: `files` in its folder, the `command` after the interpreter, `settings` of its environment.

    A setting of None is unset. `limit` is how many files it may have open.
    """

    command: tuple[str, ...] = ("train.py",)
    files: Mapping[str, str] = field(default_factory=lambda: {"train.py": TRAIN + CALL})
    settings: Mapping[str, str | None] = field(default_factory=dict)
    folder: str = "plain"
    limit: int | None = None

    @property
    def needs_new_interpreter(self) -> bool:
        """Whether one that has imported Keras already would not show what this host is about."""
        return self.command[0] == "-O" or "LC_ALL" in self.settings or self.limit is not None


MODULE = {"train.py": TRAIN + CALL}
HOSTS: dict[str, Host] = {
    "script": Host(),
    "python -m": Host(command=("-m", "train")),
    "python -c": Host(command=("-c", TRAIN + CALL), files={}),
    "python -O": Host(command=("-O", "train.py")),
    "pytest": Host(
        command=("-m", "pytest", "-q", "test_train.py"), files={"test_train.py": TRAIN + "\ntest_training = main\n"}
    ),
    "spawn": Host(
        command=("start.py",), files={**MODULE, "start.py": LATE + PROCESS.format(method="spawn", main="main")}
    ),
    "fork": Host(
        command=("start.py",), files={**MODULE, "start.py": LATE + PROCESS.format(method="fork", main="main")}
    ),
    "a folder with spaces": Host(folder="my project"),
    "a folder with #": Host(folder="run #1"),
    "a folder with %": Host(folder="100% of %23 and %2F"),
    "a folder with ?": Host(folder="really?"),
    "a folder with other letters": Host(folder="müßig 日本"),
    "HOME unset": Host(settings={"HOME": None}),
    "HOME that cannot be": Host(settings={"HOME": "/dev/null/home"}),
    "locale C": Host(settings={"LC_ALL": "C", "LANG": None}),
    "few files": Host(limit=96),
    "all that is odd": Host(
        command=("-m", "train"),
        folder="ü #1 of 100%25, why?",
        settings={"HOME": None, "LC_ALL": "C", "LANG": None},
        limit=96,
    ),
}


def trained(host: Host, root: Path) -> tuple[dict[str, Any], list[str]]:
    """The record that a process leaves that trains with JAX on this host, and what is untrue of it."""
    folder = root / host.folder
    folder.mkdir(parents=True)
    for name, text in host.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = environment(root, "jax") | {"PYTHONPATH": f"{TESTS}"} | host.settings | {"TRACKER_STORE": None}
    given: dict[str, Any] = {
        "env": {key: value for key, value in settings.items() if value is not None},
        "cwd": folder,
        "errors": "replace",
    }
    command = [sys.executable, *host.command]
    if host.limit is not None:
        command = ["sh", "-c", f'ulimit -n {host.limit}; exec "$@"', "sh", *command]
    if host.needs_new_interpreter:
        done = subprocess.run(command, capture_output=True, text=True, **given)
    else:
        done = preloaded.run(command, backend="jax", **given)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    with closing(tracker.open_store(f"sqlite:///{quote(os.fspath(folder / 'tracker.db'))}")) as store:
        return record(store, told), list(untrue(store, told))


def wrong(expected: Mapping[str, Any], host: Host, root: Path) -> str:
    """What is wrong with the record of a training on this host; empty if nothing is."""
    found, lies = trained(host, root)
    return "\n".join([*lies, *([shown(differ)] if (differ := differences(expected, found)) else [])])

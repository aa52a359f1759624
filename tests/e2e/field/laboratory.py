"""Trainings under many conditions in one process: `python -m e2e.field.laboratory TRIALS TOLD`, both JSON files.

TRIALS is a list of [name, conditions, plan]; TOLD becomes {name: what Keras said}. Each trial has a folder of its own,
in which it trains.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from e2e.field.conditions import script_under
from e2e.field.reference import train

KILLED_AT = (3, 3)
"""Before which batch of which epoch."""


def trial(name: str, conditions: list[str], plan: str) -> dict[str, Any]:
    """One training. `plan` is "once" or "killed" (it dies, and goes on)."""
    if plan == "once":
        return train(script_under(conditions), name)
    for at in (KILLED_AT, None):
        script = script_under(conditions)
        script.dies_at = at
        told = train(script, name, resume="auto")
    return told


def main(trials: Path, told: Path) -> None:
    results: dict[str, Any] = {}
    home = Path.cwd()
    for name, conditions, plan in json.loads(trials.read_text()):
        folder = home / name.replace("/", "_")
        folder.mkdir()
        os.chdir(folder)
        began = time.process_time()
        try:
            results[name] = trial(name, conditions, plan)
        except Exception:
            results[name] = {"crashed": traceback.format_exc()}
        os.chdir(home)
        results[name] |= {"folder": str(folder), "cpu_s": round(time.process_time() - began, 2)}
        told.write_text(json.dumps(results, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Runs the trainings of a test's module: `python keras_scenarios.py MODULE FACTS`, in a process that has Keras.

The function `scenarios` of the module registers functions of one training each, of tiny models. They are called one after
the other, and what Keras itself said of each (the truth that the record is held against) is written as JSON. Each
training names its run after itself; runs that it makes besides are named in its facts.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path

import keras
from keras_bench import SCENARIOS, Facts


def main(module: str, facts_file: Path) -> None:
    importlib.import_module(f"e2e.{module}").scenarios()
    facts: Facts = {"backend": {"name": keras.backend.backend()}}
    for name, run in SCENARIOS.items():
        try:
            facts[name] = run()
        except Exception:
            facts[name] = {"error": traceback.format_exc()}
    facts_file.write_text(json.dumps(facts, default=str))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

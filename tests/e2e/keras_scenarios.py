"""Real fits of tiny models, one scenario a function.

`python keras_scenarios.py PART FACTS` runs those of `keras_scenarios_PART.py` one after the other, and writes what Keras
itself said of each (the truth that the record is held against) as JSON. Each scenario names its run after itself; runs
that it makes besides are named in its facts.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path

import keras
from keras_bench import SCENARIOS, Facts


def main(part: str, facts_file: Path) -> None:
    importlib.import_module(f"keras_scenarios_{part}")
    facts: Facts = {"backend": {"name": keras.backend.backend()}}
    for name, run in SCENARIOS.items():
        try:
            facts[name] = run()
        except Exception:
            facts[name] = {"error": traceback.format_exc()}
    facts_file.write_text(json.dumps(facts, default=str))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Real fits of tiny models, one scenario a function, run once a backend in a process of their own.

`python keras_scenarios.py FACTS` writes what Keras itself said of each (the truth that the record is held against) as
JSON. Each scenario names its run after itself; runs that it makes besides are named in its facts.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import keras
import keras_scenarios_autolog  # noqa: F401  # these register their scenarios
import keras_scenarios_beside  # noqa: F401
import keras_scenarios_calls  # noqa: F401
import keras_scenarios_checkpoints  # noqa: F401
import keras_scenarios_data  # noqa: F401
import keras_scenarios_decisions  # noqa: F401
import keras_scenarios_drop_ins  # noqa: F401
import keras_scenarios_fits  # noqa: F401
import keras_scenarios_harm  # noqa: F401
import keras_scenarios_models  # noqa: F401
import keras_scenarios_resume  # noqa: F401
import keras_scenarios_steps  # noqa: F401
import keras_scenarios_tensorboard  # noqa: F401
from keras_bench import SCENARIOS, Facts


def main(facts_file: Path) -> None:
    facts: Facts = {"backend": keras.backend.backend()}
    for name, run in SCENARIOS.items():
        try:
            facts[name] = run()
        except Exception:
            facts[name] = {"error": traceback.format_exc()}
    facts_file.write_text(json.dumps(facts, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

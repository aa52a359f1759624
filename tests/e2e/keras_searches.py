"""Searches that copy their callbacks: `python keras_searches.py FACTS` writes which runs they recorded into."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras_tuner
from keras_bench import Facts, X, Y, linear, log_lines, verbose
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV

import tracker
from tracker_keras import TrackerCallback

UNPICKLES = """
import pickle, sys
import keras_searches
callback = pickle.load(open(sys.argv[1], "rb"))
assert callback.run is None
keras_searches.linear().fit(keras_searches.X, keras_searches.Y, epochs=2, verbose=keras_searches.verbose(), callbacks=[callback])
print(callback.run.id)
"""


def build(parameters: Any) -> Any:
    """The model of a KerasTuner trial."""
    return linear(rate=parameters.Choice("rate", [0.01, 0.02, 0.04]))


class Estimator(RegressorMixin, BaseEstimator):
    """A scikit-learn estimator as users write them: what it is given are parameters, which `clone` copies."""

    def __init__(self, rate: float = 0.01, callbacks: Any = None) -> None:
        self.rate = rate
        self.callbacks = callbacks

    def fit(self, x: Any, y: Any) -> Estimator:
        self.model_ = linear(rate=self.rate)
        self.model_.fit(x, y, epochs=2, verbose=verbose(), callbacks=self.callbacks)
        return self

    def predict(self, x: Any) -> Any:
        return self.model_.predict(x)[:, 0]


def tuner(callback: TrackerCallback) -> None:
    """Three trials, in the order of the grid."""
    search = keras_tuner.GridSearch(build, "val_loss", max_trials=3, overwrite=True, directory="search")
    search.search(X, Y, epochs=2, validation_data=(X, Y), callbacks=[callback])


def grid(callback: TrackerCallback) -> None:
    """Two values, each on two folds, and the better one on everything."""
    GridSearchCV(Estimator(callbacks=[callback]), {"rate": [0.01, 0.02]}, cv=2, error_score="raise").fit(X, Y)


def main(facts_file: Path) -> None:
    facts: Facts = {}
    with log_lines() as said:
        with tracker.start_run("searches", name="tuner") as run:
            tuner(TrackerCallback(run))
        with tracker.start_run("searches", name="grid") as run:
            grid(TrackerCallback(run))
        tuner(TrackerCallback())
        with tracker.start_run("searches", name="deep") as run:
            original = TrackerCallback(run, resume=True, checkpoint=3, log_batches=2, histograms=1)
            linear().fit(X, Y, batch_size=5, epochs=2, verbose=verbose(), callbacks=[original])
            copied = copy.deepcopy(original)
            facts["deep"] = [copied.run is run, copied.guard is original.guard]
            linear().fit(X, Y, batch_size=5, epochs=2, verbose=verbose(), callbacks=[copied])
        with tracker.start_run("searches", name="pickled") as run:
            linear().fit(X, Y, epochs=2, verbose=verbose(), callbacks=[callback := TrackerCallback(run)])
            assert pickle.loads(pickle.dumps(run)) is run
            again = pickle.loads(pickle.dumps(callback))
            linear().fit(X, Y, epochs=2, verbose=verbose(), callbacks=[again])
            facts["pickled"] = again.run is run
        Path("callback.pickle").write_bytes(pickle.dumps(callback))
        given = [sys.executable, "-c", UNPICKLES, "callback.pickle"]
        elsewhere = subprocess.run(given, capture_output=True, text=True, check=True, timeout=200)
        facts["elsewhere"] = [elsewhere.stdout.split()[-1], run.id]
    facts["said"] = said
    facts_file.write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

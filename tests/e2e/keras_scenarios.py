"""Real fits of tiny models, one scenario a function, run once a backend in a process of their own.

`python keras_scenarios.py FACTS` writes what Keras itself said of each (the truth that the record is held against) as
JSON. Each scenario names its run after itself; runs that it makes besides are named in its facts.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import tracker
from tracker_keras import TrackerCallback

Facts = dict[str, Any]
SCENARIOS: dict[str, Callable[[], Facts]] = {}
X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")
BATCH, STEPS = 5, 4


def scenario(function: Callable[[], Facts]) -> Callable[[], Facts]:
    SCENARIOS[function.__name__] = function
    return function


def linear(optimizer: Any = None, *, rate: float = 0.01, name: str = "linear", **compile_args: Any) -> Any:
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)], name=name)
    model.compile(optimizer or keras.optimizers.SGD(rate), **{"loss": "mse", "metrics": ["mae"], **compile_args})
    return model


def fit(model: Any, *callbacks: Any, **arguments: Any) -> Any:
    given = {"x": X, "y": Y, "batch_size": BATCH, "epochs": 2, "verbose": 0, "callbacks": list(callbacks), **arguments}
    return model.fit(**given)


def rate_of(model: Any) -> float:
    return float(ops.convert_to_numpy(model.optimizer.learning_rate))


class Truth(keras.callbacks.Callback):
    """What the epochs really were: the rate before each first batch, the optimizer's steps at each end."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.iterations: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self.rates.append(rate_of(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.iterations.append(int(ops.convert_to_numpy(self.model.optimizer.iterations)))


@contextlib.contextmanager
def log_lines() -> Iterator[list[str]]:
    """What is said on the log `tracker` meanwhile, tracebacks included, one string a message."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Collect()
    logging.getLogger("tracker").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("tracker").removeHandler(handler)


# -- epochs, fits, phases ------------------------------------------------------------------------------------------


@scenario
def plain() -> Facts:
    with tracker.start_run(name="plain") as run:
        model = linear(metrics=["mae", keras.metrics.MeanSquaredError(name="squares")])
        history = fit(model, TrackerCallback(run), validation_data=(X, Y), epochs=3)
    return {"history": history.history, "params": model.count_params(), "keras": keras.version()}


@scenario
def phases() -> Facts:
    with tracker.start_run(name="phases") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, epochs=3)
        fit(model, callback, epochs=2)
        fit(model, callback, epochs=4, initial_epoch=1)
    return {}


@scenario
def evaluation() -> Facts:
    with tracker.start_run(name="evaluation") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, validation_data=(X, Y), validation_freq=2)
        result = model.evaluate(X, Y, verbose=0, return_dict=True, callbacks=[callback])
        model.predict(X, verbose=0, callbacks=[callback])
    return {"result": result}


@scenario
def evaluation_inside() -> Facts:
    """Somebody evaluates another model with the same callback in the middle of the fit."""
    other = linear(name="other", rate=0.5)

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            other.evaluate(X, Y, verbose=0, callbacks=[callback])

    with tracker.start_run(name="evaluation_inside") as run:
        callback = TrackerCallback(run)
        fit(linear(), Evaluates(), callback, validation_data=(X, Y), epochs=3)
    return {}


@scenario
def empty_fits() -> Facts:
    with tracker.start_run(name="empty_fits") as run, log_lines() as said:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback, epochs=3)
        model._initial_epoch = 2  # what BackupAndRestore leaves behind
        fit(model, callback, epochs=2)
    return {"said": said}


@scenario
def max_epochs() -> Facts:
    keras.config.set_max_epochs(2)
    try:
        with tracker.start_run(name="max_epochs") as run, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(linear(), TrackerCallback(run), epochs=5)
    finally:
        keras.config.set_max_epochs(None)
    return {}


@scenario
def outcomes() -> Facts:
    class Dies(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise RuntimeError("the training died")

    with tracker.start_run(name="outcomes") as run:
        callback = TrackerCallback(run)
        fit(linear(), callback, keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1), epochs=5)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(linear(), callback, keras.callbacks.TerminateOnNaN(), x=X * np.nan, epochs=5)
        fit(linear(), callback, x=X * np.nan, epochs=1)
        with contextlib.suppress(RuntimeError):
            fit(linear(), callback, Dies(), epochs=5)
        linear().evaluate(X, Y, verbose=0, callbacks=[callback])
        fit(linear(), callback, epochs=1)
    return {}


@scenario
def other_lists() -> Facts:
    """Callbacks as a tuple, and as a CallbackList of the user's own in a loop of the user's own."""
    with tracker.start_run(name="other_lists") as run:
        fit(linear(), callbacks=(TrackerCallback(run),))
        model, logs = linear(), {}
        callbacks = keras.callbacks.CallbackList([TrackerCallback(run)], model=model)
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            for batch in range(STEPS):
                callbacks.on_train_batch_begin(batch)
                logs = model.train_on_batch(X, Y, return_dict=True)
                callbacks.on_train_batch_end(batch, logs)
            callbacks.on_epoch_end(epoch, logs)
        callbacks.on_train_end(logs)
    return {}


@scenario
def two_models() -> Facts:
    with tracker.start_run(name="two_models") as run:
        one, two, callback = linear(name="one"), linear("adam", name="two"), TrackerCallback(run)
        for _ in range(2):
            fit(one, callback, epochs=1)
            fit(two, callback, epochs=1)
    return {}


# -- learning rates ------------------------------------------------------------------------------------------------


def _recorded_rates(name: str, model: Any, *around: Any, **arguments: Any) -> Facts:
    """Fit with `around`, in which None stands for where TrackerCallback goes."""
    with tracker.start_run(name=name) as run:
        truth = Truth()
        fit(model, *(TrackerCallback(run) if one is None else one for one in around), truth, epochs=4, **arguments)
    return {"rates": truth.rates}


@scenario
def rates() -> Facts:
    def scheduler() -> Any:
        return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / (epoch + 1))

    def plateau() -> Any:
        return keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)

    around = {
        "scheduler_before": (scheduler(), None),
        "scheduler_after": (None, scheduler()),
        "plateau_before": (plateau(), None),
        "plateau_after": (None, plateau()),
        "two_plateaus_before": (plateau(), plateau(), None),
        "around": (plateau(), None, scheduler()),
    }
    return {name: _recorded_rates(f"rates.{name}", linear(), *callbacks)["rates"] for name, callbacks in around.items()}


@scenario
def rates_of_a_schedule() -> Facts:
    stairs = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=STEPS, decay_rate=0.5, staircase=True)
    return _recorded_rates("rates_of_a_schedule", linear(keras.optimizers.SGD(stairs)), None)


@scenario
def rates_of_a_function() -> Facts:
    return _recorded_rates("rates_of_a_function", linear(keras.optimizers.SGD(lambda: 0.025)), None)


@scenario
def two_optimizers() -> Facts:
    slow, fast = keras.optimizers.SGD(0.01, name="slow"), keras.optimizers.Adam(0.1, name="fast")
    chosen = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(slow, {".*bias": fast}))
    with tracker.start_run(name="two_optimizers") as run:
        fit(linear(chosen), TrackerCallback(run), keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2))
    return {}


@scenario
def no_optimizer() -> Facts:
    """A model that learns nothing can be compiled without an optimizer; no backend's own loop will train it."""
    with tracker.start_run(name="no_optimizer") as run, log_lines() as said:
        model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Rescaling(2.0)])
        model.compile(optimizer=None, loss="mse")
        callbacks = keras.callbacks.CallbackList([TrackerCallback(run, log_batches=1)], model=model, epochs=1, steps=2)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for batch in range(2):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"loss": 1.0})
        callbacks.on_epoch_end(0, {"loss": 1.0})
        callbacks.on_train_end()
    return {"said": said}


# -- hyperparameters and models ------------------------------------------------------------------------------------


@scenario
def mixed_precision() -> Facts:
    with tracker.start_run(name="mixed_precision") as run:
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = linear(keras.optimizers.Adam(0.125))
        finally:
            keras.config.set_dtype_policy("float32")
        fit(model, TrackerCallback(run))
    return {"wrapped": type(model.optimizer).__name__}


@scenario
def settings() -> Facts:
    class Odd(keras.optimizers.SGD):
        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("this optimizer keeps its settings to itself")

    schedule = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=100)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    with tracker.start_run(name="settings") as run, log_lines() as said:
        fit(linear(keras.optimizers.SGD(schedule, momentum=0.5), loss=loss, loss_weights=[0.5]), TrackerCallback(run))
    with tracker.start_run(name="settings.odd") as run, log_lines() as said:
        fit(linear(Odd(0.01)), TrackerCallback(run))
    return {"said": said}


@scenario
def two_outputs() -> Facts:
    shared = keras.Input((3,), name="features")
    outputs = {name: keras.layers.Dense(1, name=name)(shared) for name in ("left", "right")}
    model = keras.Model(shared, outputs)
    model.compile(
        "sgd",
        loss={"left": "mse", "right": keras.losses.MeanAbsoluteError()},
        loss_weights={"left": 1.0, "right": 0.5},
        metrics={"left": [keras.metrics.R2Score(name="fit_quality")], "right": ["mae"]},
    )
    with tracker.start_run(name="two_outputs") as run:
        history = fit(
            model, TrackerCallback(run), y={"left": Y, "right": Y}, validation_data=(X, {"left": Y, "right": Y})
        )
    return {"keys": sorted(history.history)}


@scenario
def unbuilt() -> Facts:
    built = []

    class Peeks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            built.append(self.model.built)

    class Custom(keras.Model):
        def __init__(self, function: Any) -> None:
            super().__init__(name="custom")
            self.dense, self.function = keras.layers.Dense(1), function

        def call(self, x: Any) -> Any:
            return self.function(self.dense(x))

    with tracker.start_run(name="unbuilt") as run:
        model = keras.Sequential([keras.layers.Dense(1)], name="lazy")
        model.compile("sgd", loss="mse")
        fit(model, Peeks(), TrackerCallback(run))
    with tracker.start_run(name="unbuilt.custom") as run, log_lines() as said:
        model = Custom(lambda x: x)
        model.compile("sgd", loss=lambda y, p: ops.mean(ops.square(y - p), axis=-1))
        fit(model, TrackerCallback(run))
    return {"built": built, "said": said}


@scenario
def unfrozen() -> Facts:
    with tracker.start_run(name="unfrozen") as run:
        model, callback = linear(), TrackerCallback(run)
        fit(model, callback)
        model.layers[0].trainable = False
        model.layers[0].bias.trainable = True
        model.compile(keras.optimizers.SGD(0.001), loss="mse")
        fit(model, callback)
    return {"trainable": sum(int(np.prod(w.shape)) for w in model.trainable_weights)}


@scenario
def goals() -> Facts:
    with tracker.start_run(name="goals") as run:
        stopping = keras.callbacks.EarlyStopping("val_quality", mode="max", patience=9)
        checkpoint = keras.callbacks.ModelCheckpoint("never.keras", monitor="nowhere", save_best_only=False)
        model = linear(metrics=[keras.metrics.R2Score(name="quality"), "mae"])
        checkpoint.set_model = lambda model: None  # it is there to be looked at, not to save
        checkpoint.on_epoch_end = lambda epoch, logs=None: None
        history = fit(
            model, checkpoint, stopping, TrackerCallback(run, log_batches=1), validation_data=(X, Y), epochs=3
        )
    return {"quality": history.history["val_quality"]}


# -- batches -------------------------------------------------------------------------------------------------------


@scenario
def batches() -> Facts:
    facts: Facts = {}
    for name, steps_at_once, every in (("single", 1, 3), ("several", 3, 1), ("rarely", 3, 5)):
        with tracker.start_run(name=f"batches.{name}") as run:
            truth = Truth()
            callbacks = (TrackerCallback(run, log_batches=every), truth)
            fit(linear(steps_per_execution=steps_at_once), *callbacks, batch_size=2)  # 10 steps an epoch
        facts[name] = truth.iterations
    return facts


@scenario
def batches_of_unknown_length() -> Facts:
    def data() -> Iterator[Any]:
        for _ in range(2):  # two epochs of ten steps, as one stream that nobody knows the length of
            for start in range(0, 20, 2):
                yield X[start : start + 2], Y[start : start + 2]

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            return X[index * 2 : index * 2 + 2], Y[index * 2 : index * 2 + 2]

    with tracker.start_run(name="batches_of_unknown_length") as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = Truth()
        stream = linear(steps_per_execution=3)
        stream.fit(data(), epochs=1, verbose=0, callbacks=[TrackerCallback(run, log_batches=1), truth])
    with tracker.start_run(name="batches_of_unknown_length.set") as run:
        linear().fit(Batches(), epochs=1, verbose=0, callbacks=[TrackerCallback(run)])
    return {"iterations": truth.iterations}


@scenario
def hooks() -> Facts:
    """What Keras sees of us, and what we make it do."""

    class Counted(keras.Sequential):
        syncs = 0

        def jax_state_sync(self) -> None:
            if getattr(self, "_jax_state", None) and not self._jax_state_synced:
                Counted.syncs += 1
            super().jax_state_sync()

    def syncs(*callbacks: Any) -> int:
        model = Counted([keras.layers.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse")
        Counted.syncs = 0
        fit(model, *callbacks, batch_size=1)
        return Counted.syncs

    def is_async(callback: Any) -> bool:
        return bool(keras.callbacks.CallbackList([callback])._async_train)

    names = [name for name in dir(keras.callbacks.Callback) if "batch" in name]
    with tracker.start_run(name="hooks") as run:
        quiet = TrackerCallback(run)
        facts = {
            "defined": [
                name for name in names if getattr(TrackerCallback, name) is not getattr(keras.callbacks.Callback, name)
            ],
            "on the object": [name for name in names if name in vars(quiet)],
            "async without us": is_async(keras.callbacks.Callback()),
            "async with us": is_async(quiet),
            "async with batches": is_async(TrackerCallback(run, log_batches=1)),
            "syncs without us": syncs(),
            "syncs with us": syncs(quiet),
            "syncs with batches": syncs(TrackerCallback(run, log_batches=1)),
        }
        facts["left on the object"] = [name for name in names if name in vars(quiet)]
    return facts


@scenario
def subclass_of_ours() -> Facts:
    seen: list[int] = []

    class Mine(TrackerCallback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

    with tracker.start_run(name="subclass_of_ours") as run:
        mine = Mine(run, log_batches=1)
        fit(linear(), mine, epochs=1)
    return {"seen": seen, "async safe": mine.async_safe}


# -- no harm -------------------------------------------------------------------------------------------------------


@scenario
def errors() -> Facts:
    """A run that fails at every turn."""

    class Broken:
        status = "running"

        def __getattr__(self, name: str) -> Any:
            def fails(*_: Any, **__: Any) -> Any:
                raise RuntimeError(f"{name} is broken")

            return fails

    class BrokenFit(Broken):
        number = 1

        def step(self, steps: int) -> int:
            return steps

    class BrokenLater(Broken):
        def start_fit(self, **_: Any) -> Any:
            return BrokenFit()

    keras.utils.set_random_seed(1)
    wanted = fit(linear(), validation_data=(X, Y)).history
    with log_lines() as said:
        keras.utils.set_random_seed(1)
        early = TrackerCallback(Broken(), log_batches=1)  # type: ignore[arg-type]
        at_once = fit(linear(), early, validation_data=(X, Y)).history
        keras.utils.set_random_seed(1)
        late = TrackerCallback(BrokenLater(), log_batches=1)  # type: ignore[arg-type]
        later = fit(linear(), late, validation_data=(X, Y)).history
        linear().evaluate(X, Y, verbose=0, callbacks=[late])
    return {"unharmed": wanted == at_once == later, "said": said, "errors": [early.guard.errors, late.guard.errors]}


@scenario
def store_away() -> Facts:
    with log_lines() as said:
        run = tracker.start_run(name="store_away", store="postgresql://nobody@127.0.0.1:9/nowhere")
        began = time.monotonic()
        history = fit(linear(), TrackerCallback(run, log_batches=1), epochs=3)
        took = time.monotonic() - began
        run.finish(timeout=1.0)
    return {"epochs": len(history.history["loss"]), "seconds": took, "said": said}


@scenario
def odd_logs() -> Facts:
    class Adds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs.update(text="high", nothing=None, array=np.zeros(3), one=np.ones((1, 1)), infinite=float("inf"))

    seen: list[list[str]] = []

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(sorted(logs))

    with tracker.start_run(name="odd_logs") as run:
        fit(linear(), Looks(), Adds(), TrackerCallback(run), Looks(), epochs=1)
    return {"seen": seen}


@scenario
def runs_of_our_own() -> Facts:
    """Without a run the callback opens one, once; those of callbacks that are gone do not stay open."""
    callback = TrackerCallback()
    copied = copy.deepcopy(callback)
    before = callback.run
    fit(linear(), callback)
    first = callback.run
    fit(linear(), callback)
    linear().evaluate(X, Y, verbose=0, callbacks=[callback])
    assert first is not None
    facts: Facts = {"before": before, "kept": callback.run is first, "first": first.id, "status": first.status}
    fit(linear(), copied)
    facts["copied"] = copied.run.id if copied.run else None
    dropped = TrackerCallback()
    fit(linear(), dropped)
    run = dropped.run
    del dropped
    fit(linear(), TrackerCallback())
    facts["dropped"], facts["dropped status"] = run.id if run else None, run.status if run else None
    facts["alive"] = [first.status, copied.run.status if copied.run else None]
    first.finish()
    fit(linear(), callback)
    facts["anew"] = callback.run is not first
    return facts


@scenario
def workers() -> Facts:
    """What each task of a multi-worker training records, by its `TF_CONFIG`."""
    cluster = {"worker": ["a:1", "b:1"]}
    tasks = {
        "worker 0": {"cluster": cluster, "task": {"type": "worker", "index": 0}},
        "worker 1": {"cluster": cluster, "task": {"type": "worker", "index": 1}},
        "worker 0 beside a chief": {"cluster": {**cluster, "chief": ["c:1"]}, "task": {"type": "worker", "index": 0}},
        "chief": {"cluster": {**cluster, "chief": ["c:1"]}, "task": {"type": "chief", "index": 0}},
        "evaluator": {"cluster": cluster, "task": {"type": "evaluator", "index": 0}},
    }
    facts: Facts = {}
    for name, config in tasks.items():
        os.environ["TF_CONFIG"] = json.dumps(config)
        try:
            with tracker.start_run(name=f"workers.{name}") as run:
                fit(linear(), TrackerCallback(run, log_batches=1), epochs=1)
                facts[name] = run.id
            own = TrackerCallback()
            fit(linear(), own, epochs=1)
            facts[f"{name} opens a run"] = own.run is not None
        finally:
            del os.environ["TF_CONFIG"]
    return facts


@scenario
def misuse() -> Facts:
    facts: Facts = {}
    for name, make in {
        "run": lambda: TrackerCallback("my experiment"),  # type: ignore[arg-type]
        "log_batches": lambda: TrackerCallback(log_batches=-1),
        "log_batches as a flag": lambda: TrackerCallback(log_batches=True),
    }.items():
        try:
            make()
        except tracker.TrackerError as error:
            facts[name] = str(error)
    return facts


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

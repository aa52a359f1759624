"""Every ending of a training × the way its run was opened × the process that it runs in, and what the record must say.

A combination is one script, run as a real process. The training is a short loop, or a `fit()` of Keras for the ways that
need one; after its first epoch it ends.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from preloaded import Preloaded

EPOCHS = 3
DEADLINE_S = 120.0

HEAD = """
import concurrent.futures, multiprocessing, os, signal, sys, threading, time
import tracker

# A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def ready():
    print(f"ready {os.getpid()}", flush=True)
    # Not by a lock: a second Ctrl-C in threading's own clean-up makes a RuntimeError of the first.
    time.sleep(3600)
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the training ends: its code, the signals that the test sends once it is `ready`, and what is recorded of it."""

    code: str
    status: str
    outcome: str
    signals: tuple[signal.Signals, ...] = ()
    repeated: bool = False
    """Whether the signal is sent until the process is gone."""


ENDINGS = {
    "return": Ending("pass", "finished", "completed"),
    "exception": Ending("raise ValueError('boom')", "failed", "failed"),
    "exit 1 after an exception": Ending("try: 1 / 0\nexcept Exception: sys.exit(1)", "failed", "failed"),
    "sys.exit(3)": Ending("sys.exit(3)", "failed", "failed"),
    "sys.exit(text)": Ending("sys.exit('no data')", "failed", "failed"),
    "exit(2)": Ending("exit(2)", "failed", "failed"),
    "sys.exit(0)": Ending("sys.exit(0)", "finished", "stopped"),
    "a caught sys.exit": Ending("try: sys.exit(4)\nexcept SystemExit as error: error.code", "finished", "completed"),
    "os._exit": Ending("os._exit(5)", "lost", "lost"),
    "Ctrl-C": Ending("ready()", "interrupted", "interrupted", (signal.SIGINT,)),
    "Ctrl-C often": Ending("ready()", "interrupted", "interrupted", (signal.SIGINT,), repeated=True),
    "SIGTERM": Ending("ready()", "preempted", "preempted", (signal.SIGTERM,)),
    "SIGHUP": Ending("ready()", "preempted", "preempted", (signal.SIGHUP,)),
}

LOOP = """
fit = run.start_fit(epochs=3)
for epoch in range(3):
    fit.log_epoch(epoch, {"loss": 3.0 - epoch})
    if epoch == 0:
ENDING
fit.end("completed")
"""
FIT = """
os.environ.setdefault("KERAS_BACKEND", "jax")
import keras, numpy as np
from tracker_keras import TrackerCallback, autolog
class Ends(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
ENDING
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.ones((4, 2), "float32")
OPENED
model.fit(x, x[:, :1], epochs=3, callbacks=CALLBACKS)
"""
PLAIN = ("with", "without")
KERAS = ("callback", "autolog", "callback in with")


def train(way: str, code: str, name: str = "it") -> str:
    """The function `train`, of which `code` is the end; the run's name is `name` where the way names it."""
    loop = LOOP.replace("ENDING", indent(code, " " * 8))

    def fit(opened: str, callbacks: str) -> str:
        text = FIT.replace("ENDING", indent(code, " " * 12))
        return text.replace("OPENED", opened).replace("CALLBACKS", callbacks)

    opened = f"with tracker.start_run(name={name!r}) as run:\n"
    bodies = {
        "with": opened + indent(loop, "    "),
        "without": f"run = tracker.start_run(name={name!r})\n" + loop,
        "callback": fit("", "[TrackerCallback(), Ends()]"),
        "autolog": fit("autolog()", "[Ends()]"),
        "callback in with": opened + indent(fit("", "[Ends(), TrackerCallback(run)]"), "    "),
    }
    return "def train():\n" + indent(bodies[way], "    ")


THREAD = """
thread = threading.Thread(target=train, daemon=True)
thread.start()
thread.join()
"""
PROCESS = """
process = multiprocessing.get_context({start!r}).Process(target=train)
process.start()
process.join()
"""
# A task that leaves its process is never answered.
POOL = """
with multiprocessing.get_context({start!r}).Pool(1) as pool:
    [worker] = multiprocessing.active_children()
    answer = pool.apply_async(train)
    while worker.is_alive() and not answer.ready():
        answer.wait(0.05)
    if answer.ready() and {raises}:
        answer.get()
"""
EXECUTOR = """
with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context({start!r})) as executor:
    executor.submit(train).exception()
"""
HOSTS = {
    "script": "train()",
    "thread": THREAD,
    **{f"Process by {start}": PROCESS.format(start=start) for start in ("fork", "spawn", "forkserver")},
    **{f"Pool by {start}": POOL.format(start=start, raises=False) for start in ("fork", "spawn")},
    **{f"executor by {start}": EXECUTOR.format(start=start) for start in ("fork", "spawn")},
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One combination."""

    ending: str
    way: str
    host: str

    def __str__(self) -> str:
        return f"{self.ending}, {self.way}, {self.host}"

    @property
    def expected(self) -> tuple[str, str]:
        """The run's status and the fit's outcome."""
        ending = ENDINGS[self.ending]
        # Python lets only the main thread handle signals, so one that ends the process ends it without a word; Ctrl-C
        # is handled already.
        if self.host == "thread" and ending.signals and ending.signals[0] is not signal.SIGINT:
            return "lost", "lost"
        return ending.status, ending.outcome

    @property
    def epochs(self) -> int:
        """How many epochs are recorded."""
        return EPOCHS if ENDINGS[self.ending].outcome == "completed" else 1

    def run(self, folder: Path) -> None:
        """Run it to its end, whatever that is."""
        ending = ENDINGS[self.ending]
        script = folder / "training.py"
        main = indent(HOSTS[self.host].strip(), "    ")
        script.write_text(f"{HEAD}\n{train(self.way, ending.code)}\nif __name__ == '__main__':\n{main}\n")
        command = [sys.executable, str(script)]
        given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "cwd": folder, "text": True}
        process: subprocess.Popen[str] = (
            Preloaded(command, backend="jax", **given) if self.way in KERAS else subprocess.Popen(command, **given)
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("ready"):
                    self._send(ending, int(line.split()[1]), process)
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()

    def _send(self, ending: Ending, pid: int, process: subprocess.Popen[str]) -> None:
        try:
            for number in ending.signals:
                os.kill(pid, number)
            while ending.repeated and process.poll() is None:
                os.kill(pid, ending.signals[0])
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
        except ProcessLookupError:
            return  # it is gone


def light() -> list[Trial]:
    """All that need no Keras."""
    return [Trial(*one) for one in itertools.product(ENDINGS, PLAIN, HOSTS)]


def heavy() -> list[Trial]:
    """All that train with Keras: not forked from a process that has a backend already, so nothing of it is inherited."""
    return [Trial(*one) for one in itertools.product(ENDINGS, KERAS, HOSTS)]


def drawn(seed: int, trials: Sequence[Trial], count: int) -> list[Trial]:
    """So many of them, the same for the same seed."""
    return random.Random(f"endings {seed}").sample(trials, count)

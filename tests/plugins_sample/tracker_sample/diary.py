"""A plugin that uses every hook: it writes down what it is told, a line of JSON each, into the file SAMPLE_DIARY.

With SAMPLE_GATE it waits in `epoch_ended` until that file is there.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import click

from tracker.hooks import Mount, hookimpl


def _write(hook: str, **facts: object) -> None:
    line = json.dumps({"hook": hook, "thread": threading.current_thread().name, "pid": os.getpid(), **facts})
    with open(os.environ.get("SAMPLE_DIARY", os.devnull), "a") as diary:
        diary.write(line + "\n")


@hookimpl
def run_started(run):
    _write("run_started", run=run.id, status=run.status, resumed=run.resumed)
    run.set_tags({"sample": "was here"})


@hookimpl
def fit_started(fit):
    _write("fit_started", number=fit.number, phase=fit.phase, first_epoch=fit.first_epoch, epochs=fit.epochs)


@hookimpl
def epoch_ended(run, epoch, metrics):
    gate = os.environ.get("SAMPLE_GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    _write("epoch_ended", run=run.id, epoch=epoch, metrics=dict(metrics))


@hookimpl
def checkpoint_saved(checkpoint):
    _write("checkpoint_saved", epoch=checkpoint.epoch, format=checkpoint.format, size=checkpoint.size)


@hookimpl
def fit_ended(fit, outcome):
    _write("fit_ended", number=fit.number, outcome=outcome)


@hookimpl
def fit_observers(fit):
    from tracker_keras.recording.fit_observers import FitObserver

    class Follower(FitObserver):
        def begin(self, initial_epoch):
            _write("begin", epoch=initial_epoch, callbacks=[type(one).__name__ for one in self.fit.callbacks])

        def end_epoch(self, epoch, metrics):
            _write("end_epoch", epoch=epoch, metrics=sorted(metrics))

        def end(self):
            _write("end", epochs=self.fit.call.epochs)

    return [Follower(fit)]


@hookimpl
def run_ended(run, status):
    _write("run_ended", status=status)
    run.log_event("sample_said_goodbye", status=status)


@click.command()
@click.argument("name")
def hello(name):
    """Greet somebody."""
    click.echo(f"hello {name}")


@click.command(name="runs")
def runs():
    """Take over a command of Tracker's, which nobody may."""
    click.echo("mine")


@hookimpl
def commands():
    return [hello, runs]


async def _answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body = json.dumps({name: scope[name] for name in ("method", "path", "root_path")}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@hookimpl
def server_mounts():
    return [
        ("/sample", _answer),
        Mount("/locked/away", _answer, reads="admin", writes="admin"),
        ("/api/v1/runs", _answer),
    ]

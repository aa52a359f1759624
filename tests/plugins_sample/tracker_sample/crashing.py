"""A plugin all of whose hooks fail; one of them would even end the process."""

from __future__ import annotations

import sys

import click

from tracker.hooks import hookimpl


async def _fail(scope, receive, send):
    raise ZeroDivisionError("the crashing plugin's page")


@click.command()
def crash():
    """Fail."""
    raise ZeroDivisionError("the crashing plugin's command")


class Crashing:
    """Made by Tracker, without arguments."""

    @hookimpl(tryfirst=True)
    def run_started(self, run):
        raise ZeroDivisionError("at the start")

    @hookimpl(tryfirst=True)
    def epoch_ended(self, epoch):
        raise ZeroDivisionError(f"in epoch {epoch}")

    @hookimpl(tryfirst=True)
    def run_ended(self):
        sys.exit("not like that")

    @hookimpl(tryfirst=True)
    def fit_observers(self):
        yield from ()
        raise ZeroDivisionError("no observer")

    @hookimpl
    def commands(self):
        yield crash
        raise ZeroDivisionError("after one command")

    @hookimpl
    def server_mounts(self):
        yield "/crash", _fail
        yield "no slash", _fail

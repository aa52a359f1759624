"""A plugin that implements a hook that does not exist, and one that does."""

from __future__ import annotations

from tracker.hooks import hookimpl


@hookimpl
def epoch_begun(run):
    raise AssertionError("nobody calls this")


@hookimpl
def run_started(run):
    run.set_tags({"mistaken": "but here"})

"""Resolves a command's RUN argument."""

from __future__ import annotations

from tracker.cli.output import say
from tracker.domain.ports import RunReader
from tracker.domain.records import Run
from tracker.query.named_runs import find_run
from tracker.query.text_format import printable


def named_run(store: RunReader, text: str) -> Run:
    """The run of an id, prefix or name; of several the running one, with a note on stderr. RunNotFound,
    InvalidValue."""
    found = find_run(store, text, prefer_running=True)
    if found.status == "running" and text not in (found.id,) and len(store.find_runs(text, limit=2)) > 1:
        say(f"several runs are called {printable(text)}; this is about the one that is running: {found.id}")
    return found

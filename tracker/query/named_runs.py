"""Finds the run that a person names by an id, the beginning of one, or a name."""

from __future__ import annotations

import shlex

from tracker.domain.errors import InvalidValue, RunNotFound, did_you_mean
from tracker.domain.identity import local_time
from tracker.domain.ports import RunReader
from tracker.domain.records import Run

_CANDIDATES = 5
"""How many runs an ambiguous name lists."""
_MOST_OF_A_NAME = 10_000
_NEIGHBOURS = 500
"""How many runs are searched for the nearest name."""


def find_run(store: RunReader, text: str, *, deleted: bool = False, prefer_running: bool = False) -> Run:
    """The run, with `deleted` the deleted run, that `text` names: its id, else its name, else a prefix of its id.

    With `prefer_running`, the only running one if several match. Raises RunNotFound with the nearest name, or
    InvalidValue naming the candidates if several runs match.
    """
    found = store.find_runs(text, limit=_CANDIDATES + 1, deleted=deleted) if text else ()
    if len(found) > _CANDIDATES:
        found = store.find_runs(text, limit=_MOST_OF_A_NAME, deleted=deleted)
    if not found:
        raise RunNotFound(text, "" if deleted else _instead_of(store, text))
    found = [run for run in found if run.id == text] or [run for run in found if run.name == text] or found
    running = [run for run in found if run.status == "running"]
    if len(found) == 1 or (prefer_running and len(running) == 1):
        return found[0] if len(found) == 1 else running[0]
    some = "".join(
        f"\n  {run.id}  {run.name}  {run.status}, started {local_time(run.started_ms)}" for run in found[:_CANDIDATES]
    )
    more = "\n  and more" if len(found) > _CANDIDATES else ""
    raise InvalidValue("run", f"{text!r} could be any of{some}{more}\ngive an id, or as much of one as no other has")


def _instead_of(store: RunReader, text: str) -> str:
    """A hint for a name that no run has."""
    if gone := store.find_runs(text, limit=1, deleted=True) if text else ():
        return f"it is deleted, restore it with: tracker undelete {gone[0].id}"
    if text in {one.name for one in store.experiments()}:
        return f"it is an experiment; its runs are: tracker runs --experiment {shlex.quote(text)}"
    return did_you_mean(text, {run.name for run in store.search_runs(limit=_NEIGHBOURS).runs}).removeprefix("; ")

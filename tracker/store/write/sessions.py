"""Sessions of a run, the periods in which a process had it open, in the rows of runs and fits.

A run row holds when the last session began (`opened_ms`), and how long the earlier ones lasted in all (`spent_ms`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracker.domain.frames import EventLogged, RunStarted

_END = "UPDATE fits SET outcome = ?, ended_ms = CASE WHEN started_ms > ? THEN started_ms ELSE ? END WHERE run_id = ?"
"""Not compiled by SQLAlchemy, which calls `exec` for it: after that Python exits with 1 if Ctrl-C ends it."""
END_FIT = f"{_END} AND number = ?"
"""End a fit; values are the outcome, twice the time, the run's key, and the fit's number."""
END_OPEN_FITS = f"{_END} AND writer = ? AND outcome IS NULL"
"""The same for those that a writer left open."""
END_ALL_OPEN_FITS = f"{_END} AND outcome IS NULL"
"""The same for those of all writers."""
REVIVE_FITS = "UPDATE fits SET outcome = NULL, ended_ms = NULL WHERE run_id = ? AND writer = ? AND outcome = 'lost'"
"""Open the fits of a writer again that were marked as lost by mistake."""
Now = Callable[[str], Any]
"""Returns a column of the run's row, with the changes that are not written yet."""


def begin(now: Now, opened_ms: int) -> Mapping[str, Any]:
    """The columns to change of an existing run that is opened again at `opened_ms`."""
    ended = now("alive_ms") if now("ended_ms") is None else now("ended_ms")
    return {"opened_ms": opened_ms, "spent_ms": now("spent_ms") + max(ended - _began(now), 0)}


def reopened(item: RunStarted, status: str) -> EventLogged:
    """The event of a process that opens an existing run, whose status was `status`."""
    known = {"script": item.script, "commit": item.commit, "host": item.host, "was": status}
    return EventLogged(item.ms, "reopened", None, None, 0, {key: value for key, value in known.items() if value})


def end(now: Now, ms: int) -> int:
    """The end of a session that ended at `ms`, but not before its beginning: clocks of machines differ."""
    return max(ms, _began(now))


def _began(now: Now) -> int:
    opened: int | None = now("opened_ms")
    started: int = now("started_ms")
    return started if opened is None else opened

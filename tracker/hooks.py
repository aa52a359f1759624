"""The plugin interface: the hooks, when and on which thread each is called, and what it may do.

A plugin is a module or an object with functions of these names, marked `@hookimpl`; a class is instantiated. A
distribution names it in the entry-point group `tracker.plugins`. A function declares only the arguments that it needs,
by name. `@hookimpl(tryfirst=True)` and `trylast=True` set the order among plugins.

An exception in a hook is logged once on the logger `tracker`, with the plugin and the hook, and counted in
`run.problems`; it never reaches training, command line or server. A plugin whose requirements are missing raises
`Unavailable` when it is imported. Hooks of a run, except `fit_observers`, are called on one thread of that run, one
after the other, in the order of the events. So a slow hook delays only the run's other hooks; the end of a run waits at
most `PATIENCE_S` seconds for it. Hooks may use the run as training code does. No hook is called in the
mode `disabled`, in a forked child, or after its run has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from tracker.client.checkpoint_log import CheckpointInfo
from tracker.client.fit_recorder import FitInfo
from tracker.client.plugin_events import PATIENCE_S
from tracker.domain.access import Role
from tracker.domain.vocabulary import FitOutcome, RunStatus

if TYPE_CHECKING:
    from tracker.client.run import Run

__all__ = ["PATIENCE_S", "CheckpointInfo", "FitInfo", "Hooks", "Mount", "Unavailable", "hookimpl"]

GROUP = "tracker.plugins"
PROJECT = "tracker"
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as an implementation of the hook of its name."""
_spec = pluggy.HookspecMarker(PROJECT)


class Unavailable(ImportError):
    """The plugin cannot work here, which is not an error: it is listed as inactive, with this text."""


class Mount(NamedTuple):
    """An ASGI application that a plugin adds to the server.

    `path` begins with a slash and is not one of the server's own; requests below it go to `app`, whose scope has
    `root_path` and the full `path`. On a server with tokens, GET and HEAD need the role `reads`, every other method
    `writes`.
    """

    path: str
    app: Any
    reads: Role = "viewer"
    writes: Role = "writer"


class Hooks:
    """Specifications of all hooks."""

    @_spec
    def run_started(self, run: Run) -> None:
        """`tracker.start_run` returned `run`, a new or a continued one (`run.resumed`)."""

    @_spec
    def fit_started(self, run: Run, fit: FitInfo) -> None:
        """A fit began: `model.fit()` or `run.start_fit`."""

    @_spec
    def epoch_ended(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch was recorded, of a fit or by `run.log_epoch`. `epoch` is the run's number, `metrics` those that were
        accepted; all plugins share the mapping."""

    @_spec
    def checkpoint_saved(self, run: Run, checkpoint: CheckpointInfo) -> None:
        """The run has copied a checkpoint's bytes and will publish them. Not called for state checkpoints."""

    @_spec
    def fit_ended(self, run: Run, fit: FitInfo, outcome: FitOutcome) -> None:
        """A fit ended with this outcome."""

    @_spec
    def run_ended(self, run: Run, status: RunStatus) -> None:
        """The run is about to end with this status; data logged now is still recorded. The last call for a run.

        It is not called if the process was killed, or if earlier hooks took too long.
        """

    @_spec
    def fit_observers(self, fit: Any) -> Iterable[Any]:  # type: ignore[empty-body]
        """Observers of a Keras `fit()` that is about to be recorded. Called on the training thread, before the fit's
        first epoch, so it must be fast. `fit` is a `tracker_keras.recording.fit.ObservedFit`; the observers derive from
        `tracker_keras.recording.fit_observers.FitObserver`."""

    @_spec
    def commands(self) -> Iterable[Any]:  # type: ignore[empty-body]
        """Click commands or groups for the command `tracker`. Called by the command line, in its only thread, if the
        user's command is not built in, or to list commands. A plugin cannot replace a built-in command."""

    @_spec
    def server_mounts(self) -> Iterable[Mount | tuple[str, Any]]:  # type: ignore[empty-body]
        """Applications for the tracking server, each a `Mount` or a pair (path, ASGI application), behind the same gate
        (host, origin, token, role) as the server's routes. Called once in each process of a server, before it answers.
        The applications share the server's event loop, so they must not block it, and get no lifespan events."""

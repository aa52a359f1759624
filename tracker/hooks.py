"""What a plugin can do: the hooks, each with when and on which thread it is called, and what it may do.

A plugin is a module, or an object, with functions of these names marked `@hookimpl`; a class is called for an object. A
distribution names it in the entry-point group `tracker.plugins`. Each takes as many of the arguments as it wants, by
name. `@hookimpl(tryfirst=True)` and `trylast=True` order plugins among each other.

Whatever a hook raises is said once on the log `tracker`, with the plugin and the hook, and counted in `run.problems`;
it never reaches training, command line or server. A plugin that needs something that is not there raises `Unavailable`
when it is imported. Hooks of runs are called on one thread of the run's own, one after the other, in the order in which
things happened: a hook that takes its time delays no training, only other hooks of the run; at the end of a run it is
waited for `PATIENCE_S` seconds at most. They may use the run as training code does. No hook is called in the mode
`disabled`, in a forked child, or after its run has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from tracker.client.plugin_events import PATIENCE_S, CheckpointInfo, FitInfo
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
    """The plugin cannot work here, for a reason that is nobody's fault: it is listed as inactive, with this text."""


class Mount(NamedTuple):
    """An application of a plugin on the server.

    `path` begins with a slash and is nothing of ours; all below it goes to `app`, an ASGI application, which finds what
    follows `root_path` in `path`. `reads` is the role that GET and HEAD need, `writes` what every other method does,
    where the server asks for tokens.
    """

    path: str
    app: Any
    reads: Role = "viewer"
    writes: Role = "writer"


class Hooks:
    """The hooks."""

    @_spec
    def run_started(self, run: Run) -> None:
        """`tracker.start_run` returned `run`, new or taken up again (`run.resumed`)."""

    @_spec
    def fit_started(self, run: Run, fit: FitInfo) -> None:
        """A fit began, of Keras or of `run.start_fit`."""

    @_spec
    def epoch_ended(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch was recorded, of a fit or by `run.log_epoch`; numbered as the run counts, with what was taken of its
        metrics. The mapping is shared by all plugins."""

    @_spec
    def checkpoint_saved(self, run: Run, checkpoint: CheckpointInfo) -> None:
        """The run has a checkpoint's bytes and will publish them. Not called for states to resume from."""

    @_spec
    def fit_ended(self, run: Run, fit: FitInfo, outcome: FitOutcome) -> None:
        """A fit ended so."""

    @_spec
    def run_ended(self, run: Run, status: RunStatus) -> None:
        """The run is about to end so, whichever way: what is logged now is still recorded. The last call for a run.

        It is not called if the process was killed, or if hooks before it took too long.
        """

    @_spec
    def commands(self) -> Iterable[Any]:  # type: ignore[empty-body]
        """Click commands, or groups of them, for `tracker`. Called by the command line, in its only thread, if what was
        typed is no command of ours, or to list commands. A name of ours stays ours."""

    @_spec
    def server_mounts(self) -> Iterable[Mount | tuple[str, Any]]:  # type: ignore[empty-body]
        """Applications for the tracking server, each a `Mount` or a pair (path, ASGI application), behind the same gate
        (host, origin, token, role) as all else. Called once in each process of a server, before it answers. They share
        the server's event loop, so they must not block it, and get no lifespan."""

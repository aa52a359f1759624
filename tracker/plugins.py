"""Plugins: found by entry points, loaded once a process, called one by one. A failing plugin affects nothing else."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any, Literal

import pluggy

from tracker.hooks import GROUP, PROJECT, Hooks, Unavailable
from tracker.settings import Settings

log = logging.getLogger("tracker")

State = Literal["active", "inactive", "off", "failed"]
HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin that is installed, or whose distribution has broken metadata.

    `inactive`: a requirement is missing, named by `reason`; `off`: TRACKER_PLUGINS disables it; `failed`: it cannot be
    loaded. The `reason` of an active one says which of its hooks are not called. `hooks` are those that it implements.
    """

    name: str
    distribution: str
    version: str
    state: State
    hooks: Sequence[str] = ()
    reason: str = ""
    calls: Mapping[str, pluggy.HookCaller] = field(default_factory=dict, repr=False)


class Plugins:
    """The plugins of this process, called in the order of their names unless `tryfirst` or `trylast` is set."""

    def __init__(self, found: Iterable[Plugin]) -> None:
        self.found = tuple(found)
        self._called = {
            hook: sorted((plugin for plugin in self.found if hook in plugin.hooks), key=partial(_turn, hook))
            for hook in HOOKS
        }
        self.wanted = frozenset(hook for hook, called in self._called.items() if called)

    def call(self, hook: str, failed: Failed, /, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Call `hook` of each plugin that has it, and yield each result that is not None.

        `failed` is called with each plugin that raised, and its exception.
        """
        for plugin in self._called[hook]:
            try:
                answers = plugin.calls[hook](**arguments)
            except (Exception, SystemExit) as error:
                failed(plugin, error)
            else:
                for answer in answers:
                    yield plugin, answer


def _turn(hook: str, plugin: Plugin) -> int:
    """Sort key of this plugin's hook: -1 for `tryfirst`, 1 for `trylast`, else 0."""
    (implementation,) = plugin.calls[hook].get_hookimpls()
    return implementation.trylast - implementation.tryfirst


class RunObserver:
    """Calls the plugins' hooks for one run; `report(kind, problem)` is called for each failure."""

    def __init__(self, plugins: Plugins, report: Callable[[str, str], None]) -> None:
        self._plugins = plugins
        self._report = report

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        for _ in self._plugins.call(hook, partial(self._failed, hook), **arguments):
            pass  # hooks of runs return nothing of use

    def ask(self, hook: str, **arguments: Any) -> Iterator[Any]:
        """All items of the iterables that the plugins' functions return."""
        for plugin, items in self._plugins.call(hook, partial(self._failed, hook), **arguments):
            try:
                yield from items
            except (Exception, SystemExit) as error:
                self._failed(hook, plugin, error)

    def _failed(self, hook: str, plugin: Plugin, error: BaseException) -> None:
        name = plugin.name
        self._report(f"plugin {name}.{hook}", f"the plugin {name} failed in its hook {hook}: {described(error)}")

    def wanted(self) -> Collection[str]:
        """The hooks that at least one plugin implements."""
        return self._plugins.wanted


Failed = Callable[[Plugin, BaseException], None]
_loading = threading.Lock()
_loaded: dict[str, Plugins] = {}


def installed(settings: Settings, *, say: bool = True) -> Plugins:
    """The installed plugins, loaded if TRACKER_PLUGINS allows them; searched for once a process.

    With `say`, those that cannot be loaded are logged.
    """
    with _loading:
        if settings.plugins not in _loaded:
            _loaded[settings.plugins] = found = Plugins(_load(settings))
            for one in found.found if say else ():
                if one.state == "failed" or (one.state == "active" and one.reason):
                    log.warning("the plugin %s (%s %s): %s", one.name, one.distribution, one.version, one.reason)
        return _loaded[settings.plugins]


def _in_forked_child() -> None:
    global _loading
    _loading = threading.Lock()  # the thread that held it may not exist in this process


os.register_at_fork(after_in_child=_in_forked_child)


def described(error: BaseException) -> str:
    """An error's class and message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _load(settings: Settings) -> Iterator[Plugin]:
    points, broken = _entry_points()
    names: set[str] = set()
    for point in sorted(points, key=lambda point: point.name):
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        plugin = partial(Plugin, name=point.name, distribution=distribution, version=version)
        try:
            if point.name in names:
                raise ValueError("another plugin has this name")
            names.add(point.name)
            if settings.allows_plugin(point.name):
                calls, reason = _hooks(point.load())
                yield plugin(state="active", hooks=tuple(calls), calls=calls, reason=reason)
            else:
                yield plugin(state="off", reason="TRACKER_PLUGINS says so")
        except Unavailable as lack:
            yield plugin(state="inactive", reason=str(lack))
        except (Exception, SystemExit) as error:
            yield plugin(state="failed", reason=f"it cannot be loaded: {described(error)}")
    yield from broken


def _entry_points() -> tuple[list[EntryPoint], list[Plugin]]:
    """All entry points of plugins, and the distributions whose metadata cannot be read."""
    try:
        return list(entry_points(group=GROUP)), []
    except Exception:
        log.debug("the metadata of some distribution cannot be read", exc_info=True)
    points: dict[tuple[str, str], EntryPoint] = {}
    broken = []
    for distribution in distributions():
        try:
            for point in distribution.entry_points.select(group=GROUP):
                points.setdefault((distribution.name, point.name), point)
        except Exception as error:
            name = os.path.basename(str(getattr(distribution, "_path", ""))) or "?"
            reason = f"its metadata cannot be read: {described(error)}"
            broken.append(Plugin(name=name, distribution=name, version="", state="failed", reason=reason))
    return list(points.values()), broken


def _hooks(loaded: Any) -> tuple[dict[str, pluggy.HookCaller], str]:
    """The hooks of a loaded entry point, in the order of HOOKS, and which of its functions are never called.

    Each plugin has its own manager: pluggy calls all plugins of a manager, and stops at the first that fails.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    plugin = loaded() if isinstance(loaded, type) else loaded
    manager.register(plugin)
    callers = {caller.name: caller for caller in manager.get_hookcallers(plugin) or ()}
    hooks = [name for name in HOOKS if name in callers]
    unknown = sorted(
        name
        for name, caller in callers.items()
        if name not in hooks and not all(one.optionalhook for one in caller.get_hookimpls())
    )
    reason = ""
    if unknown:
        reason = f"{', '.join(unknown)} is never called: the hooks are {', '.join(HOOKS)}"
    elif not hooks:
        reason = "it has no hook: what implements one is marked with tracker.hooks.hookimpl"
    return {hook: callers[hook] for hook in hooks}, reason

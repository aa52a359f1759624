"""Plugins: found by their entry points, loaded once a process, called one by one. None can make anything else fail."""

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
    """A plugin that is installed, or was meant to be.

    `inactive`: it lacks something, which `reason` says; `off`: TRACKER_PLUGINS says so; `failed`: it cannot be loaded.
    An active one may have a `reason` too: what of it is not called, and why. `hooks` are those that it implements.
    """

    name: str
    distribution: str
    version: str
    state: State
    hooks: Sequence[str] = ()
    reason: str = ""
    calls: Mapping[str, pluggy.HookCaller] = field(default_factory=dict, repr=False)


class Plugins:
    """The plugins of this process. They are called in the order of their names, but for `tryfirst` and `trylast`."""

    def __init__(self, found: Iterable[Plugin]) -> None:
        self.found = tuple(found)
        self._called = {
            hook: sorted((plugin for plugin in self.found if hook in plugin.hooks), key=partial(_turn, hook))
            for hook in HOOKS
        }
        self.wanted = frozenset(hook for hook, called in self._called.items() if called)

    def call(self, hook: str, failed: Failed, /, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Call `hook` of each plugin that has it, and yield what it returns if that is not None.

        `failed` hears of each that raised.
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
    """Where among the others this plugin's hook is called."""
    (implementation,) = plugin.calls[hook].get_hookimpls()
    return implementation.trylast - implementation.tryfirst


class RunObserver:
    """Tells the plugins what one run does; `report(kind, problem)` hears which of them failed in what."""

    def __init__(self, plugins: Plugins, report: Callable[[str, object], None]) -> None:
        self._plugins = plugins
        self._report = report

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        def failed(plugin: Plugin, error: BaseException) -> None:
            name = plugin.name
            self._report(f"plugin {name}.{hook}", f"the plugin {name} failed in its hook {hook}: {described(error)}")

        for _ in self._plugins.call(hook, failed, **arguments):
            pass  # what hooks of runs return says nothing

    def wanted(self) -> Collection[str]:
        """The hooks that some plugin has."""
        return self._plugins.wanted


Failed = Callable[[Plugin, BaseException], None]
_loading = threading.Lock()
_loaded: dict[str, Plugins] = {}


def installed(settings: Settings, *, say: bool = True) -> Plugins:
    """The plugins that are installed, loaded as far as TRACKER_PLUGINS lets them; looked for once a process.

    Those that cannot be loaded are said on the log, if `say`.
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
    _loading = threading.Lock()  # its owner may not be here


os.register_at_fork(after_in_child=_in_forked_child)


def described(error: BaseException) -> str:
    """An error in a few words."""
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
    """The hooks of what an entry point names, in the order of HOOKS, and what of it is not called.

    Each plugin has a manager of its own: one call of pluggy calls all of a manager, and ends with the first that fails.
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

"""Applications of plugins on the server: their allowed paths, and errors that are attributed to them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.domain.access import ROLES
from tracker.domain.errors import InvalidValue
from tracker.hooks import Mount
from tracker.plugins import Plugin, Plugins, described
from tracker.server import problem_details
from tracker.server.roles import Rules

log = logging.getLogger("tracker.server")

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


class Mounted(NamedTuple):
    """A mount and the name of its plugin."""

    plugin: str
    mount: Mount


def find_mounts(plugins: Plugins) -> list[Mounted]:
    """The applications of plugins; invalid ones, and those at a path in use, are logged and left out."""
    found: list[Mounted] = []
    rules = Rules()

    def failed(plugin: Plugin, error: BaseException) -> None:
        log.warning("the plugin %s failed in its hook server_mounts: %s", plugin.name, described(error))

    for plugin, mounts in plugins.call("server_mounts", failed):
        try:
            for given in mounts:
                mount = _checked(Mount(*given), rules, [one.mount.path for one in found])
                found.append(Mounted(plugin.name, mount))
        except Exception as error:
            failed(plugin, error)
    return found


def _checked(mount: Mount, rules: Rules, others: Sequence[str]) -> Mount:
    if not isinstance(mount.path, str) or not _PATH.fullmatch(mount.path) or {".", ".."} & set(mount.path.split("/")):
        raise InvalidValue(
            "path", f"{mount.path!r} is not a path for an application", limit="/name, or several of these"
        )
    if rules.has_at(mount.path) or any(
        _is_below(mount.path, other) or _is_below(other, mount.path) for other in others
    ):
        raise InvalidValue("path", f"{mount.path!r} is taken")
    if mount.reads not in ROLES or mount.writes not in ROLES:
        raise InvalidValue("role", f"{mount.reads!r}, {mount.writes!r}", limit=", ".join(ROLES))
    if not callable(mount.app):
        raise InvalidValue("app", f"{mount.app!r} is not an ASGI application")
    return mount


def _is_below(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}/")


class WithMounts:
    """`app` with the mounts before it. An exception in a mount is logged with its plugin's name, and answered 500."""

    def __init__(self, app: ASGIApp, mounts: Sequence[Mounted]) -> None:
        self._app = app
        self._mounts = mounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for one in self._mounts:
                if _is_below(scope["path"], one.mount.path):
                    await _answer(one, scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(one: Mounted, scope: Scope, receive: Receive, send: Send) -> None:
    begun = False

    async def sending(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    path = scope["path"] if scope["path"] != one.mount.path else f"{one.mount.path}/"
    try:
        await one.mount.app({**scope, "path": path, "root_path": one.mount.path}, receive, sending)
    except ClientDisconnect:
        raise
    except Exception:
        log.exception("the plugin %s failed at %s", one.plugin, one.mount.path)
        if begun:
            raise
        refusal = problem_details.response(
            500, f"the plugin {one.plugin} failed; the server's log says how", "TrackerError"
        )
        await refusal(scope, receive, send)

"""Who may talk to the server at all: the checks of Host and Origin, before every route.

A page on the web must not reach a server on somebody's own machine. Its name may be made to point here (DNS
rebinding), but then Host says that name; and what it sends by itself carries its own Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.server import problems

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The names under which the server may be asked, with any port.

    With `addresses`, any IP address too: rebinding takes a name.
    """

    names: Collection[str] = LOOPBACK
    addresses: bool = False

    def allow(self, host: str) -> bool:
        """Whether `host`, as in the header of that name, is one of them."""
        name = _name(host)
        return name is not None and (name in self.names or (self.addresses and _is_address(name)))


def _name(host: str) -> str | None:
    """The name or address in `host`, without port and brackets; None if it is malformed."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not (port.isascii() and port.isdecimal()):
        return None
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1].lower()
    return name.lower() if name and ":" not in name else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HostCheck:
    """Refuses (403) requests for another host, and those that a page of another origin sent."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            refusal = problems.response(403, problem[1], "InvalidValue", field=problem[0])
            await refusal(scope, receive, send)

    def _problem(self, headers: Headers) -> tuple[str, str] | None:
        """The header that does not fit, and why."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allow(hosts[0]):
            shown = ", ".join(hosts)[:200]
            return "Host", f"{shown!r} is not a name of this server; start it with --allow-host NAME to make it one"
        for origin in headers.getlist("origin"):
            scheme, _, authority = origin.partition("://")
            if scheme not in ("http", "https") or authority.lower() != hosts[0].lower():
                return "Origin", f"{origin[:200]!r} is not this server: its pages may not ask here"
        return None

"""Opens the listening socket, and serves an application on it until a signal ends the process."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tracker.domain.errors import InvalidValue, TrackerError
from tracker.server.connections import ConnectionLimits, Connections

_GRACE_S = 30
_IDLE_S = 75
"""Seconds that a connection may be idle: longer than between clients' heartbeats, so that they keep it."""


class PortTaken(TrackerError):
    """The address cannot be listened on."""


def listen(host: str, port: int, *, exposed: bool = False) -> socket.socket:
    """A socket that listens on `host` and `port`, 0 for any that is free.

    Raises InvalidValue for an address that others can reach, unless it may be `exposed` to them; PortTaken.
    """
    family, address = resolve(host, port)
    if not exposed and not is_loopback(str(address[0])):
        raise InvalidValue(
            "host",
            f"{host!r} can be reached from other machines, and the store has no access token in force: "
            "whoever reaches it could read, change and delete everything. `tracker token create NAME` makes one",
            limit="127.0.0.1, ::1 or localhost without tokens; --insecure if the network keeps others out",
        )
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(2048)
    except OSError as error:
        opened.close()
        low = error.errno in (errno.EACCES, errno.EPERM)
        more = ", and ports below 1024 are for root" if low else ""
        raise PortTaken(
            f"cannot listen on {host} port {port}: {error.strerror}{more}; --port names another, --port 0 takes any"
        ) from error
    return opened


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The address of `host` for a listening socket, IPv4 if there is a choice. InvalidValue."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidValue("host", f"{host!r} is not an address of this machine: {error}") from error
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `address`."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def address_of(opened: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: ASGIApp, opened: socket.socket) -> None:
    """Serve on the socket until SIGTERM or SIGINT; requests in progress are finished, for half a minute at most."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connections(ConnectionLimits.of_this_process()).protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    # uvicorn has handlers of its own while it serves, and raises the signals again when it is done. An earlier signal
    # must end it too, and a later one must not keep the caller from committing.
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

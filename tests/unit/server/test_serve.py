"""Sockets, and processes that die at once."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tracker.domain.errors import InvalidValue
from tracker.server.serve import PortTaken, listen


class Forbidden(socket.socket):
    """A socket of somebody who may not listen."""

    def bind(self, address: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_port_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that needs a permission is said so, with what to do."""
    monkeypatch.setattr("tracker.server.serve.socket.socket", Forbidden)
    with pytest.raises(PortTaken, match=r"port 80: Permission denied, and ports below 1024 are for root; --port names"):
        listen("127.0.0.1", 80)


def test_address_that_others_reach() -> None:
    """An address that others reach is for servers that may be exposed."""
    with pytest.raises(InvalidValue, match="`tracker token create NAME` makes one"):
        listen("0.0.0.0", 0)
    listen("0.0.0.0", 0, exposed=True).close()
    listen("127.0.0.1", 0).close()


def test_processes_that_die_at_once() -> None:
    """Processes that end as soon as they begin are not begun for ever."""
    script = """
        import os
        from tracker.server.workers import Workers, WorkersDie
        try:
            Workers(2, lambda place: os._exit(3)).run()
        except WorkersDie as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "its processes end as soon as they begin, the last with status 3\n"

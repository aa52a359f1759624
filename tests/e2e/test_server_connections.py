"""What a stranger's connections may cost: bounded heads, bounded time for them, bounded numbers."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from e2e.server_lab import Server

pytestmark = pytest.mark.timeout(180)
FILES = 256


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Server]:
    """A server that was started with few files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    try:
        started = Server(f"sqlite:///{tmp_path / 'tracker.db'}", new=True).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield started
    finally:
        started.kill()


def opened(server: Server, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection((server.host, server.port), timeout=60))


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_idle_connections_shut_nobody_out(few_files: Server) -> None:
    """Twice as many silent connections as the process has files: who asks for something is answered."""
    with ExitStack() as stack:
        silent = [opened(few_files, stack) for _ in range(2 * FILES)]
        half_sent = silent[::2]
        for connection in half_sent:
            with suppress(BrokenPipeError, ConnectionResetError):  # it made room for another
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        for _ in range(5):
            assert few_files.ask("GET", "/healthz").status == 200
        assert few_files.ask("GET", "/api/v1/experiments").status == 200
        # The last ones were open all the while, and are closed because they sent no request, or half of one.
        assert rest(silent[-1]) == b""
        assert rest(silent[-2]).startswith(b"HTTP/1.1 408 ")
    assert "as many connections as this process takes" in few_files.errors


def test_a_head_that_is_too_large_is_refused_as_it_comes(tmp_path: Path) -> None:
    """A head without end costs no memory: the connection is closed after its first 64 KiB."""
    with Server(f"sqlite:///{tmp_path / 'tracker.db'}") as server, ExitStack() as stack:
        before = server.memory_kib
        for begin in (
            b"GET /healthz HTTP/1.1\r\nX-Large: ",
            b"GET /healthz?",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
        ):
            connection = opened(server, stack)
            sent = 0
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(begin)
                while sent < 50_000_000:
                    connection.sendall(b"x" * 100_000)
                    sent += 100_000
            assert sent < 50_000_000, "the server read it all"
        answer = server.ask("GET", "/healthz", headers={"X-Large": "x" * 70_000})
        assert answer.status == 431
        assert server.ask("GET", "/healthz", headers={"X-Large": "x" * 50_000}).status == 200
        assert server.memory_kib < before + 20_000


def test_connections_that_are_used_are_kept(few_files: Server) -> None:
    """A client's connection that asked for something outlives any number of silent ones."""
    connection = few_files.connect()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    with ExitStack() as stack:
        for _ in range(60):
            opened(few_files, stack)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    connection.close()

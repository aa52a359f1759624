"""`tracker ui`: a server on the embedded store, and the browser at it."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from e2e.children import eventually
from e2e.cli_lab import COMMAND, installed, record
from e2e.server_lab import request


@contextmanager
def ui(*arguments: str, **environment: str) -> Iterator[str]:
    """The address that `tracker ui` says, while it runs; it must end well."""
    command = [str(COMMAND), "ui", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stderr is not None
        try:
            said = ""
            while not (found := re.search(r"open(?:ing)? (http://\S+) in ", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield found[1].rstrip(";")
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0


def answer(address: str, path: str) -> int:
    with closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)) as connection:
        return request(connection, "GET", path).status


@contextmanager
def port_5000_taken() -> Iterator[None]:
    """Port 5000 is listened on, by this test or by somebody else."""
    with closing(socket.socket()) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", 5000))
            one.listen()
        except OSError:
            pass
        yield


def test_it_shows_the_store(store_url: str) -> None:
    """It serves the embedded store, and says where."""
    run_id = record("shown", [0.5])
    with ui("--no-browser", "--port", "0") as address:
        assert answer(address, f"/api/v1/runs/{run_id}") == 200
        assert answer(address, "/") == 200


def test_browser_is_opened(store_url: str, tmp_path: Path) -> None:
    """The browser is opened at the address once the server answers there."""
    opened, browser = tmp_path / "opened", tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    with ui("--port", "0", BROWSER=f"{browser} %s") as address:
        assert eventually(lambda: opened.exists() and opened.read_text()) == f"{address}\n"
        assert answer(address, "/healthz") == 200


def test_port_that_is_taken(store_url: str) -> None:
    """If nobody named a port and 5000 is taken, another is found; a port that was named is not changed in silence."""
    with port_5000_taken():
        with ui("--no-browser") as address:
            assert not address.endswith(":5000")
            assert answer(address, "/healthz") == 200
        done = installed("ui", "--no-browser", "--port", "5000")
    assert done.returncode == 1
    assert done.stderr.startswith("tracker: cannot listen on 127.0.0.1 port 5000: Address already in use")


def test_store_behind_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store that is behind a server the pages are that server's: it is opened, and no other is started."""
    monkeypatch.setenv("TRACKER_STORE", "http://me:secret@tracker.example:5000")
    done = installed("ui", "--no-browser")
    assert done.returncode == 0
    assert "open http://tracker.example:5000 in a browser" in done.stderr
    assert "secret" not in done.stderr

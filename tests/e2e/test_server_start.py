"""Starting the server, and who may talk to it."""

from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from e2e.cli_lab import installed
from e2e.server_lab import Server, batch, start_of

from tracker.store.store import SqlRunStore


def test_port_that_is_taken(store_url: str) -> None:
    """A port that somebody listens on is one plain sentence and exit code 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = installed("server", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"tracker: cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert done.stderr.count("\n") == 1


def test_store_of_another_version(store_url: str) -> None:
    """A store that is newer than the code is refused with what to do, exit code 1."""
    SqlRunStore.open(store_url).close()
    with closing(sqlite3.connect(store_url[10:])) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = installed("server", "--port", "0")
    assert done.returncode == 1
    assert "upgrade callback-tracker" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "--insecure"),
        (["--host", "::"], 2, "`tracker token create NAME`"),
        (["--host", "no.such.host.invalid"], 2, "not an address of this machine"),
        (["--host", "192.0.2.1", "--insecure"], 1, "cannot listen on 192.0.2.1"),
        (["--port", "70000"], 2, "65535"),
        (["--store", "http://127.0.0.1:5000"], 2, "a server keeps its runs in a database"),
        (["--store", "postgresql://nobody@127.0.0.1:1/x"], 1, "127.0.0.1"),
        (["--store", "sqlite:////no/such/folder/x.db"], 2, "does not exist"),
        (["--artifacts", "s3://bucket/x"], 2, "is not a place for artifacts"),
    ],
)
def test_what_cannot_be_started(store_url: str, arguments: list[str], code: int, words: str) -> None:
    """Each thing that keeps the server from starting is said plainly."""
    done = installed("server", "--port", "0", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_there_at_once_and_small(store_url: str) -> None:
    """On a store that is there it answers soon, in little memory (measured without load: 0.5 s, 75 MB)."""
    SqlRunStore.open(store_url).close()
    begun = time.monotonic()
    with Server(store_url) as server:
        assert server.ask("GET", "/readyz").status == 200
        assert time.monotonic() - begun < 20
        assert server.memory_kib < 150_000


def test_store_and_artifacts_are_where_it_is_told(store_url: str, tmp_path: Path) -> None:
    """--artifacts names another place for files; a store that is not there is made."""
    with Server(store_url, "--artifacts", str(tmp_path / "files")) as server:
        server.post(batch("r", 1, start_of()))
        assert server.ask("PUT", "/api/v1/runs/r/artifacts/x", b"x").status == 201
        assert (tmp_path / "files" / "r" / "x").read_bytes() == b"x"
        assert server.get("/api/v1/runs/r")["artifact_uri"] == f"{server.url}/api/v1/runs/r/artifacts"


def test_hosts_and_origins(store_url: str) -> None:
    """On every route: a name that is not the server's, and a page of another origin, get nothing."""
    with Server(store_url, "--allow-host", "Tracker.example") as server:
        own = f"127.0.0.1:{server.port}"

        def status(path: str, host: str, origin: str | None = None) -> int:
            return server.ask("GET", path, headers={"Host": host} | ({"Origin": origin} if origin else {})).status

        for path in ("/healthz", "/api/v1/runs", "/nothing", "/api/v1/runs/r/artifacts/x"):
            expected = server.ask("GET", path).status
            assert expected != 403
            for host in ("localhost", f"localhost:{server.port}", own, "[::1]:1", "LOCALHOST", "tracker.example:80"):
                assert status(path, host) == expected, host
            for host in (
                "evil.example",
                "localhost.evil",
                "127.0.0.1.evil",
                "192.0.2.1",
                "",
                "localhost:x",
                "[::1",
                "localhost:80:80",
            ):
                assert status(path, host) == 403, host
            assert status(path, own, f"http://{own}") == expected
            for origin in (
                "http://evil.example",
                "null",
                f"http://localhost:{server.port}",
                f"ftp://{own}",
                f"http://{own}/",
            ):
                assert status(path, own, origin) == 403, origin


def test_changes_from_other_pages(store_url: str) -> None:
    """A page elsewhere cannot delete a run."""
    with Server(store_url) as server:
        server.post(batch("r", 1, start_of()))
        assert server.ask("DELETE", "/api/v1/runs/r", headers={"Origin": "http://evil.example"}).status == 403
        assert server.ask("POST", "/api/v1/runs/r/stop", headers={"Origin": "null"}).status == 403
        assert server.get("/api/v1/runs/r")["deleted_ms"] is None


def test_insecure_is_said(store_url: str) -> None:
    """With --insecure it listens where others reach it; an address is then as good a host as a name that was allowed."""
    with Server(store_url, "--host", "0.0.0.0", "--insecure") as server:
        assert server.ask("GET", "/healthz", headers={"Host": "192.0.2.1:5000"}).status == 200
        assert server.ask("GET", "/healthz", headers={"Host": "evil.example"}).status == 403


def test_ipv6(store_url: str) -> None:
    """The loopback address of IPv6 is one."""
    with Server(store_url, "--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert server.ask("GET", "/healthz").status == 200

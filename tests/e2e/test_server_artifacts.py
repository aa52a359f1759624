"""Files through the server: whole or not at all, below the run's own root, and harmless in a browser."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest
from e2e.children import eventually
from e2e.server_lab import Server

ROOT = "/api/v1/runs/r/artifacts"


@pytest.fixture
def server(store_url: str) -> Iterator[Server]:
    with Server(store_url) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the run's files are on the server."""
    return tmp_path / "tracker-artifacts" / "r"


def test_put_get_list(server: Server, folder: Path) -> None:
    """What is put comes back byte for byte, with the URI and digest that are recorded."""
    data = os.urandom(3_000_000)
    answer = server.ask("PUT", f"{ROOT}/a/b%20%C3%BC.bin", data, {"X-Tracker-SHA256": hashlib.sha256(data).hexdigest()})
    assert answer.status == 201
    assert answer.json == {"uri": (folder / "a" / "b ü.bin").as_uri(), "sha256": hashlib.sha256(data).hexdigest()}
    got = server.ask("GET", f"{ROOT}/a/b%20%C3%BC.bin")
    assert (got.status, got.body) == (200, data)
    assert got.headers["content-length"] == "3000000"
    assert server.get(ROOT) == ["a/b ü.bin"]
    assert server.get("/api/v1/runs/other/artifacts") == []


def test_digest_in_the_path(server: Server) -> None:
    """`{sha256}` in the path stands for the digest."""
    answer = server.ask("PUT", f"{ROOT}/c/%7Bsha256%7D.keras", b"weights")
    assert answer.json["uri"].endswith(f"c/{hashlib.sha256(b'weights').hexdigest()}.keras")
    assert server.ask("GET", f"{ROOT}/c/{answer.json['sha256']}.keras").body == b"weights"


def test_other_bytes_than_announced(server: Server) -> None:
    """Bytes of another digest than the header's are refused, and what was there stays."""
    server.ask("PUT", f"{ROOT}/x", b"old")
    answer = server.ask("PUT", f"{ROOT}/x", b"new", {"X-Tracker-SHA256": "0" * 64})
    assert (answer.status, answer.json["field"]) == (400, "X-Tracker-SHA256")
    assert server.ask("GET", f"{ROOT}/x").body == b"old"


def test_upload_that_is_cut_off(server: Server, folder: Path) -> None:
    """A file whose sender goes away half-way was never there, and leaves nothing behind."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.sendall(
            f"PUT {ROOT}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n".encode() + bytes(900_000)
        )
        assert server.get(ROOT) == []
    eventually(lambda: not list(Path(gettempdir()).glob("tracker-put-*/file")))
    assert server.ask("GET", f"{ROOT}/x").status == 404
    assert not folder.exists()


ELSEWHERE = [
    "..", "%2e%2e/x", "a/../../x", "a/%2e%2e/%2e%2e/x", "/etc/passwd", "%2Fetc%2Fpasswd", "a//b", "a/./b", "a%5Cb", "..%5C..%5Cx",
    "C:%5Cx", "C:/x", "a%00b", "a%0Db", "%ED%A0%80:", "x" * 256, "/".join(["y" * 100] * 6), "", ".",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_paths_that_lead_elsewhere(server: Server, tmp_path: Path, method: str) -> None:
    """A path stays below the run's root, whatever is tried."""
    for path in ELSEWHERE:
        answer = server.ask(method, f"{ROOT}/{path}", b"evil" if method == "PUT" else None)
        assert answer.status in (400, 404), path
        assert answer.headers["content-type"] == "application/problem+json"
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"evil"]


def test_runs_that_are_none(server: Server) -> None:
    """What is no run id names no folder."""
    for run in ("..", "%2e%2e", "-a", "a.b", "x" * 65, "a%2Fb", "%00"):
        assert server.ask("PUT", f"/api/v1/runs/{run}/artifacts/x", b"evil").status in (400, 404), run


def test_links_are_not_followed(server: Server, folder: Path, tmp_path: Path) -> None:
    """A symbolic link below the root leads nowhere, be it a file, a folder or the run's own."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").write_text("secret")
    folder.mkdir(parents=True)
    (folder / "file").symlink_to(tmp_path / "secret" / "x")
    (folder / "folder").symlink_to(tmp_path / "secret")
    (folder.parent / "linked").symlink_to(tmp_path / "secret")
    for path in ("r/artifacts/file", "r/artifacts/folder/x", "linked/artifacts/x"):
        assert server.ask("GET", f"/api/v1/runs/{path}").status == 400
        assert server.ask("PUT", f"/api/v1/runs/{path}", b"evil").status == 400
    assert (tmp_path / "secret" / "x").read_text() == "secret"


def test_what_is_not_there(server: Server) -> None:
    """A missing file, and a folder, are 404; a file below a file is refused."""
    server.ask("PUT", f"{ROOT}/a/b", b"x")
    for path in ("none", "a", "a/b/c"):
        answer = server.ask("GET", f"{ROOT}/{path}")
        assert (answer.status, answer.json["error"]) == (404, "NotFound")
    assert server.ask("PUT", f"{ROOT}/a/b/c", b"x").status == 400
    assert server.ask("PUT", f"{ROOT}/a", b"x").status == 400


def test_files_cannot_script_the_origin(server: Server) -> None:
    """What can carry a script is a download; nothing is sniffed, and all of it is sandboxed."""
    downloads, shown = ("a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a"), ("a.png", "a.txt", "a.json")
    for name in (*downloads, *shown):
        server.ask("PUT", f"{ROOT}/{name}", b"<script>alert(1)</script>")
        headers = server.ask("GET", f"{ROOT}/{name}").headers
        assert headers["content-disposition"].startswith("inline;" if name in shown else "attachment;"), name
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("sandbox;")


def test_memory_does_not_grow_with_the_file(server: Server) -> None:
    """A file of 200 MB passes through in pieces, both ways."""
    server.ask("PUT", f"{ROOT}/small", bytes(1_000_000))
    server.ask("GET", f"{ROOT}/small")
    before = server.memory_kib
    assert server.ask("PUT", f"{ROOT}/large", bytes(200_000_000)).status == 201
    assert len(server.ask("GET", f"{ROOT}/large").body) == 200_000_000
    assert server.memory_kib - before < 30_000

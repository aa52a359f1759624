"""Files through the server: whole or not at all, below the run's own root, and harmless in a browser."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from e2e.children import eventually
from e2e.server_lab import Server, batch, start_of

from tracker.compose import open_artifacts
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import CheckpointLogged, Staged

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
    address = f"{server.url}{ROOT}/a/b%20%C3%BC.bin"
    assert answer.json == {"uri": address, "sha256": hashlib.sha256(data).hexdigest()}
    assert (folder / "a" / "b ü.bin").read_bytes() == data
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
        [part] = eventually(lambda: list(incoming(folder)))
        assert server.get(ROOT) == []
    eventually(lambda: not part.exists())
    assert server.ask("GET", f"{ROOT}/x").status == 404
    assert not folder.exists()


def test_upload_to_a_server_that_is_killed(server: Server, folder: Path) -> None:
    """What a dead server had taken in is no file of the run; it is removed once nobody can be sending it any more."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.sendall(f"PUT {ROOT}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf".encode())
        [part] = eventually(lambda: list(incoming(folder)))
        server.kill()
    server.start()
    assert server.get(ROOT) == []
    assert server.ask("PUT", f"{ROOT}/y", b"y").status == 201
    assert part.exists()  # it may be another server's
    os.utime(part, (0, 0))
    assert server.ask("PUT", f"{ROOT}/z", b"z").status == 201
    assert list(incoming(folder)) == []
    assert server.get(ROOT) == ["y", "z"]


def incoming(folder: Path) -> Iterator[Path]:
    """What is on its way to the files beside `folder`."""
    return (folder.parent / ".incoming").glob("*")


ELSEWHERE = [
    "..", "%2e%2e/x", "a/../../x", "a/%2e%2e/%2e%2e/x", "/etc/passwd", "%2Fetc%2Fpasswd", "a//b", "a/./b", "a%5Cb", "..%5C..%5Cx",
    "C:%5Cx", "C:/x", "a%00b", "a%0Db", "x" * 256, "/".join(["y" * 100] * 6), "", ".",
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
    (folder / "dangling").symlink_to(tmp_path / "secret" / "made")
    for path in ("r/artifacts/file", "r/artifacts/folder/x", "r/artifacts/dangling", "linked/artifacts/x"):
        assert server.ask("GET", f"/api/v1/runs/{path}").status == 400
        assert server.ask("PUT", f"/api/v1/runs/{path}", b"evil").status == 400
    assert [(file.name, file.read_text()) for file in (tmp_path / "secret").iterdir()] == [("x", "secret")]


def test_what_is_not_there(server: Server, folder: Path) -> None:
    """A missing file, a folder, and what is no file at all, are 404; a file below a file is refused."""
    server.ask("PUT", f"{ROOT}/a/b", b"x")
    os.mkfifo(folder / "a" / "pipe")
    for path in ("none", "a", "a/b/c", "a/pipe"):
        answer = server.ask("GET", f"{ROOT}/{path}")
        assert (answer.status, answer.json["error"]) == (404, "NotFound")
    assert server.ask("PUT", f"{ROOT}/a/b/c", b"x").status == 400
    assert server.ask("PUT", f"{ROOT}/a", b"x").status == 400


def test_files_cannot_script_the_origin(server: Server) -> None:
    """What can carry a script is a download; nothing is sniffed, and all of it is sandboxed."""
    downloads, shown = (
        ("a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a.txt.gz", "a"),
        ("a.png", "a.txt", "a.json"),
    )
    for name in (*downloads, *shown):
        server.ask("PUT", f"{ROOT}/{name}", b"<script>alert(1)</script>")
        headers = server.ask("GET", f"{ROOT}/{name}").headers
        assert headers["content-disposition"].startswith("inline;" if name in shown else "attachment;"), name
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("sandbox;")
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_part_of_a_file(server: Server) -> None:
    """A download that was cut off goes on where it ended, as long as the bytes are the same."""
    data = os.urandom(3_000_000)
    server.ask("PUT", f"{ROOT}/x", data)
    whole = server.ask("GET", f"{ROOT}/x")
    tag = whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"

    def part(wanted: str, **more: str) -> tuple[int, str | None, bytes]:
        headers = {"Range": wanted, **{name.replace("_", "-"): value for name, value in more.items()}}
        answer = server.ask("GET", f"{ROOT}/x", headers=headers)
        assert int(answer.headers["content-length"]) == len(answer.body)
        return answer.status, answer.headers.get("content-range"), answer.body

    assert part("bytes=2999990-") == (206, "bytes 2999990-2999999/3000000", data[-10:])
    assert part("bytes=-10") == part("bytes=2999990-9999999999") == part("bytes=2999990-")
    assert part("bytes=1-2", If_Range=tag) == (206, "bytes 1-2/3000000", data[1:3])
    assert part("bytes=-9999999")[:2] == (206, "bytes 0-2999999/3000000")
    for ignored in ("bytes=2-1", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=x-", "", f"bytes={'9' * 5000}-"):
        assert part(ignored) == (200, None, data), ignored[:40]
    for other in ('"other"', f"W/{tag}", "Mon, 23 Nov 2026 10:00:00 GMT"):
        assert part("bytes=1-2", If_Range=other) == (200, None, data)
    for beyond in ("bytes=3000000-", "bytes=-0"):
        status, place, body = part(beyond)
        assert (status, place, json.loads(body)["field"]) == (416, "bytes */3000000", "Range")
    server.ask("PUT", f"{ROOT}/x", bytes(3_000_000))
    assert part("bytes=1-2", If_Range=tag) == (200, None, bytes(3_000_000))


def test_what_the_client_has(server: Server) -> None:
    """A file is not sent to who has its bytes already; HEAD tells about it without them."""
    server.ask("PUT", f"{ROOT}/x", b"old")
    tag = server.ask("GET", f"{ROOT}/x").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = server.ask("GET", f"{ROOT}/x", headers={"If-None-Match": known})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    head = server.ask("HEAD", f"{ROOT}/x", headers={"Range": "bytes=1-"})
    assert (head.status, head.headers["content-length"], head.headers["etag"]) == (200, "3", tag)
    server.ask("PUT", f"{ROOT}/x", b"new")
    assert server.ask("GET", f"{ROOT}/x", headers={"If-None-Match": tag}).body == b"new"


def test_download_goes_on(server: Server, tmp_path: Path) -> None:
    """A client whose connection breaks again and again has the file in the end, and each byte came once."""
    data = os.urandom(5_000_000)
    server.ask("PUT", f"{ROOT}/x", data)
    with cutting(server, after=1_500_000) as (url, passed):
        files = open_artifacts(url)
        got = files.fetch(f"{files.uri('r')}/x", tmp_path / "got", sha256=hashlib.sha256(data).hexdigest())
    assert got.read_bytes() == data
    assert len(passed) == 4
    assert sum(passed) < len(data) + 4 * 2000


def test_download_of_what_changes(server: Server, tmp_path: Path) -> None:
    """Bytes of two files are never put together: one that was replaced on the way comes anew."""
    old, new = bytes(2_000_000), os.urandom(1_000_000)
    server.ask("PUT", f"{ROOT}/x", old)
    with cutting(server, after=1_500_000, then=lambda: server.ask("PUT", f"{ROOT}/x", new)) as (url, _):
        files = open_artifacts(url)
        assert files.fetch(f"{files.uri('r')}/x", tmp_path / "got").read_bytes() == new


@contextmanager
def cutting(server: Server, *, after: int, then: Callable[[], object] = int) -> Iterator[tuple[str, list[int]]]:
    """A way to the server that hangs up after so many bytes of each answer; and how many passed of each."""
    passed: list[int] = []

    def talk(near: socket.socket) -> None:
        with near, socket.create_connection((server.host, server.port)) as far:
            far.sendall(near.recv(65536).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            passed.append(0)
            while passed[-1] < after and (part := far.recv(min(65536, after - passed[-1]))):
                passed[-1] += len(part)
                near.sendall(part)
        then()

    with socket.create_server(("127.0.0.1", 0)) as opened:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    talk(opened.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}", passed
        finally:
            opened.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_file_that_is_too_large(store_url: str, folder: Path) -> None:
    """A limit for files is named by what it refuses, told or not how long the file is; what is refused is nowhere."""
    with Server(store_url, "--max-artifact-bytes", "1000000") as server:
        assert server.ask("PUT", f"{ROOT}/x", bytes(1_000_000)).status == 201
        with closing(server.connect()) as connection:
            connection.putrequest("PUT", f"{ROOT}/x")
            connection.putheader("Content-Length", "1000001")
            connection.endheaders()
            announced = connection.getresponse()
            assert (announced.status, json.loads(announced.read())["limit"]) == (413, "1000000 bytes")
        with closing(server.connect()) as connection:
            connection.request("PUT", f"{ROOT}/y", (bytes(100_000) for _ in range(11)), encode_chunked=True,
                               headers={"Transfer-Encoding": "chunked"})  # fmt: skip
            assert connection.getresponse().status == 413
        (folder / "large").write_bytes(bytes(1_000_001))
        with pytest.raises(InvalidValue, match="1000000 bytes"):
            open_artifacts(server.url).put("r", "z", folder / "large")
        (folder / "large").unlink()
        assert server.get(ROOT) == ["x"]
        assert list(incoming(folder)) == []


def test_memory_does_not_grow_with_the_file(server: Server) -> None:
    """A file of 200 MB passes through in pieces, both ways."""
    server.ask("PUT", f"{ROOT}/small", bytes(1_000_000))
    server.ask("GET", f"{ROOT}/small")
    before = server.memory_kib
    assert server.ask("PUT", f"{ROOT}/large", bytes(200_000_000)).status == 201
    assert len(server.ask("GET", f"{ROOT}/large").body) == 200_000_000
    assert server.memory_kib - before < 30_000


def test_a_checkpoint_names_no_file_but_its_runs(server: Server) -> None:
    """Where a writer says that a checkpoint lies is not believed: its row names a file of the run's."""
    assert server.post(batch("r", 1, start_of())).status == 200
    root = server.get("/api/v1/runs/r")["artifact_uri"]
    assert root == f"{server.url}{ROOT}"
    file = Staged(path="checkpoints/x.keras", name="x", size=1)

    def post(number: int, uri: str) -> int:
        item = CheckpointLogged(1, number, None, 1, ".keras", {}, None, {}, file, "ab" * 32, uri)
        return server.post(batch("r", number, item)).status

    elsewhere = ["file:///etc/passwd", "s3://bucket/x", "http://169.254.169.254/x", "file:///dev/zero", "../../x"]
    elsewhere += [f"{root}/{path}" for path in ("../s/x", "%2e%2e/s/x", "", "a//b")]
    assert [post(number, uri) for number, uri in enumerate(elsewhere, 2)] == [200] * len(elsewhere)
    found = {one["uri"] for one in server.get("/api/v1/runs/r/checkpoints")}
    assert found == {f"{root}/checkpoints/x.keras"}

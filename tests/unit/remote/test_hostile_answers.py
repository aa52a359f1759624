"""A server whose answers have no end, swell, or drip: the trainer that asks keeps its memory and its threads."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import repeat
from pathlib import Path

import pytest
from e2e.children import run_child
from unit.remote.test_connection import http, listening, read_request

from tracker.compose import make_transport, open_artifacts
from tracker.domain.errors import ArtifactError, StoreError, StoreUnavailable
from tracker.domain.frames import Batch
from tracker.remote import answers, download
from tracker.remote.store import HttpRunStore

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b"\x90" * 65536
CHUNK = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
EMPTY = Batch(run_id="r", writer="w", first=0, last=0)

Parts = Callable[[], Iterator[bytes]]


def pours(begin: bytes, rest: bytes = b"") -> Parts:
    """`begin`, and then `rest` again and again."""

    def parts() -> Iterator[bytes]:
        yield begin
        if rest:
            yield from repeat(rest)

    return parts


ENDLESS: dict[str, Parts] = {
    "body": pours(OK + b"\r\n", BLOCK),
    "chunks": pours(CHUNKED, CHUNK),
    "tiny chunks": pours(CHUNKED, b"1\r\n\x90\r\n" * 4096),
    "chunk of no size": pours(CHUNKED + b"-1\r\n", BLOCK),
    "chunk of all sizes": pours(CHUNKED + b"ffffffffffffffff\r\n", BLOCK),
    "trailers": pours(CHUNKED + b"1\r\n\x90\r\n0\r\n", b"X: y\r\n" * 4096),
    "length": pours(OK + b"Content-Length: 100000000000\r\n\r\n", BLOCK),
    "length beyond numbers": pours(OK + b"Content-Length: " + b"9" * 60 + b"\r\n\r\n", BLOCK),
    "headers": pours(OK, b"X: y\r\n" * 4096),
    "one header": pours(OK + b"X: ", b"y" * 65536),
    "interim answers": pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1024),
    "status line": pours(b"HTTP/1.1 200 ", b"O" * 65536),
    "page of a failure": pours(OK.replace(b"200", b"500") + b"\r\n", BLOCK),
    "gzip": pours(http(200, gzip.compress(bytes(50_000_000)), more="Content-Encoding: gzip\r\n")),
}


def sends(parts: Parts) -> Callable[[socket.socket], None]:
    """Answers one request with these parts, until nobody listens any more."""

    def talk(connection: socket.socket) -> None:
        if read_request(connection):
            with suppress(OSError):
                for part in parts():
                    connection.sendall(part)

    return talk


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that answers the first request with the first of `ENDLESS`, and so on, again and again."""
    ways = iter([*map(sends, ENDLESS.values())] * 3)
    with listening(lambda connection: next(ways)(connection)) as url:
        yield url


def test_no_answer_fills_a_trainer(url: str) -> None:
    """What has no end, or swells, is an error that names the server, for batches, reads and files; memory stays."""
    run_child(
        f"""
        from pathlib import Path
        from tracker.compose import open_artifacts
        from tracker.domain.errors import ArtifactError, StoreError
        from tracker.domain.frames import Batch
        from tracker.remote.store import HttpRunStore

        def fetch(url):
            files = open_artifacts(url)
            files.fetch(files.uri("run") + "/x", Path("got"), size=1000)

        url = {url!r}
        names = {list(ENDLESS)!r}
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
        for kind, ask, most in (
            ("batch", lambda: HttpRunStore(url).append(Batch(run_id="r", writer="w", first=0, last=0)), 40_000),
            ("file", lambda: fetch(url), 40_000),
            ("params", lambda: HttpRunStore(url).params("r"), 300_000),
        ):
            before = memory()
            for name in names:
                try:
                    ask()
                except StoreError as error:
                    assert url in str(error), (kind, name, error)
                except ArtifactError as error:
                    assert kind == "file" and "damaged: it has more than the 1000 bytes" in str(error), (name, error)
                else:
                    raise AssertionError((kind, name))
            assert memory() - before < most, (kind, memory() - before)
        assert [str(path) for path in Path().glob("*.part*")] == []
    """,
        new=True,
    )


def test_an_answer_that_is_too_large_names_the_limit() -> None:
    """A caller learns what was asked, of whom, and how much is read."""
    large = pours(OK + b"Content-Length: 100000000000\r\n\r\n")
    with listening(sends(large)) as url, closing(HttpRunStore(url)) as store:
        with pytest.raises(StoreError, match=f"{url} answers GET /api/v1/runs/r/params .*100000000000 .*67108864"):
            store.params("r")


@pytest.mark.parametrize("begin", [b"", OK, OK + b"Content-Length: 1000\r\n\r\n", CHUNKED, CHUNKED + b"5\r\n\x90"],
                         ids=["head", "headers", "body", "chunks", "chunk"])  # fmt: skip
def test_an_answer_that_drips_ends(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes: a batch is an outage when its answer is not whole in time."""
    monkeypatch.setattr(answers, "ANSWER_S", 0.3)
    with listening(drips(begin)) as url, closing(make_transport(url)) as transport:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"{url} does not answer: slower than"):
            transport.send(EMPTY)
        assert time.monotonic() - started < 5


def test_a_file_that_drips_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on where a download was cut off is for those that come: one that drips is an outage."""
    monkeypatch.setattr(answers, "ANSWER_S", 0.2)
    monkeypatch.setattr(download, "PATIENCE_S", 0.5)
    begin = OK + b'ETag: "a"\r\nAccept-Ranges: bytes\r\nContent-Length: 1000000\r\n\r\n'
    with listening(drips(begin)) as url:
        files = open_artifacts(url)
        with pytest.raises(StoreUnavailable):
            files.fetch(f"{files.uri('run')}/x", tmp_path / "got", size=1_000_000)
    assert list(tmp_path.iterdir()) == []


def drips(begin: bytes) -> Callable[[socket.socket], None]:
    """`begin` at once, and then a byte every few milliseconds for as long as somebody listens."""

    def talk(connection: socket.socket) -> None:
        gone = threading.Event()
        if read_request(connection):
            with suppress(OSError):
                connection.sendall(begin)
                while not gone.wait(0.005):
                    connection.sendall(b"1")

    return talk


def test_a_file_without_a_size_is_not_fetched(tmp_path: Path) -> None:
    """Where no size is on record the server has to say one, and the disk must have room for it."""
    with listening(sends(ENDLESS["chunks"])) as url:
        files = open_artifacts(url)
        with pytest.raises(StoreError, match="does not say how large"):
            files.fetch(f"{files.uri('run')}/x", tmp_path / "got")
    with listening(sends(pours(OK + b"Content-Length: 99000000000000000\r\n\r\n", BLOCK))) as url:
        files = open_artifacts(url)
        with pytest.raises(ArtifactError, match="99000000000000000 bytes"):
            files.fetch(f"{files.uri('run')}/x", tmp_path / "got")
    assert list(tmp_path.iterdir()) == []

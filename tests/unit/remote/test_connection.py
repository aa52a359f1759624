"""What may come instead of an answer, from servers that are none, half gone, or in the way."""

from __future__ import annotations

import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zstandard

from tracker.client.batch_builder import make_batch
from tracker.compose import make_transport, open_artifacts, open_store
from tracker.domain.errors import (
    ArtifactError,
    InvalidFilter,
    InvalidValue,
    RequestTooLarge,
    RunNotFound,
    SchemaOutdated,
    StoreError,
    StoreUnavailable,
)
from tracker.domain.frames import Ack, Batch, Points, RunStarted
from tracker.domain.records import Experiment
from tracker.remote.store import HttpRunStore
from tracker.wire.batch_codec import decode_batch, encode_batch
from tracker.wire.record_codec import to_msgpack

START = make_batch("r", "w", [(1, RunStarted(1, "Default", "n", "", "h", 1))])


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does `talk` with each connection, on a thread of its own."""
    opened = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = opened.accept()
            except OSError:
                return
            with connection:
                talk(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        opened.shutdown(socket.SHUT_RDWR)
        opened.close()
        thread.join()


def read_request(connection: socket.socket) -> bytes:
    """One request, head and body; nothing once the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(lines.get(b"content-length", 0)):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def says(*answers: bytes, seen: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """Answers one request after the other with these bytes, and then hangs up."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            request = read_request(connection)
            if not request:
                return
            if seen is not None:
                seen.append(request)
            connection.sendall(answer)

    return talk


def http(status: int, body: bytes = b"", kind: str = "application/msgpack", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def problem(status: int, error: str, detail: str = "so it is", more: str = "") -> bytes:
    body = f'{{"title":"t","status":{status},"detail":"{detail}","error":"{error}","field":"f","limit":"l"}}'.encode()
    return http(status, body, "application/problem+json", more)


@pytest.mark.parametrize("answer", [
    b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf", http(200, b"<html>", "text/html"), http(200, b"\xc1"),
    http(200), http(200, to_msgpack({"last": "x"})), http(500), http(502), http(503, b"busy", "text/plain"), http(504), http(429),
    http(408), http(404), http(404, b"<html>no such page</html>", "text/html"), http(400, b"{}", "application/json"), http(401), http(403),
    http(302, more="Location: https://elsewhere/\r\n"), http(405), http(418), problem(404, "NotFound"), problem(403, "InvalidValue"),
    problem(408, "InvalidValue"), problem(500, "TrackerError"), problem(500, "InvalidValue"), problem(503, "StoreUnavailable"),
    problem(400, "KeyboardInterrupt"), problem(400, "TrackerError"), problem(404, "InvalidValue"), http(404, b"{", "application/problem+json"),
    http(400, b"[" * 100_000, "application/problem+json"),
])  # fmt: skip
def test_what_is_no_answer_refuses_nothing(answer: bytes) -> None:
    """Only a tracking server's own word refuses a batch; whatever else comes, the journal keeps it and tries again."""
    with listening(says(answer)) as url, closing(make_transport(url)) as transport:
        with pytest.raises(StoreError) as caught:
            transport.send(START)
        assert url in str(caught.value) or "so it is" in str(caught.value)


@pytest.mark.parametrize(("status", "error"), [(400, InvalidValue), (422, InvalidValue), (413, InvalidValue), (404, RunNotFound),
                                               (503, SchemaOutdated), (400, InvalidFilter), (503, StoreUnavailable)])  # fmt: skip
def test_problems_become_the_errors_they_were(status: int, error: type[Exception]) -> None:
    """A problem of the server is raised as the class it names, with its message, field and limit."""
    with listening(says(problem(status, error.__name__))) as url, closing(HttpRunStore(url)) as store:
        with pytest.raises(error) as caught:
            store.append(START)
        assert type(caught.value) is error
        assert str(caught.value) == "so it is"
        if isinstance(caught.value, InvalidValue):
            assert (caught.value.field, caught.value.limit) == ("f", "l")


def test_a_proxy_that_takes_no_more_refuses_nothing() -> None:
    """A 413 in other words than a Tracker server's is an outage, and says what to raise; it is not asked twice."""
    seen: list[bytes] = []
    with (
        listening(says(http(413, b"<html>", "text/html"), seen=seen)) as url,
        closing(make_transport(url)) as transport,
    ):
        with pytest.raises(RequestTooLarge, match=f"^{url} answered 413 .*client_max_body_size") as caught:
            transport.send(LARGE)
    assert isinstance(caught.value, StoreUnavailable)
    assert len(seen) == 1


def test_when_to_come_again_is_said() -> None:
    """The message of a busy server says how long it asks for."""
    with listening(says(http(503, more="Retry-After: 7\r\n"))) as url, closing(make_transport(url)) as transport:
        with pytest.raises(StoreUnavailable, match="again in 7 s"):
            transport.send(START)


def test_one_connection_is_used_again_and_again() -> None:
    """Requests one after the other share a connection, problems included."""
    seen: list[bytes] = []
    begun: list[int] = []
    good = http(200, to_msgpack([Experiment(id=0, name="Default", created_ms=1)]))
    answers = says(good, problem(404, "RunNotFound"), good, seen=seen)

    def talk(connection: socket.socket) -> None:
        begun.append(1)
        answers(connection)

    with listening(talk) as url, closing(HttpRunStore(url)) as store:
        assert [one.name for one in store.experiments()] == ["Default"]
        with pytest.raises(RunNotFound):
            store.get_run("nobody")
        store.experiments()
    assert (len(seen), len(begun)) == (3, 1)


def test_a_stop_request_is_never_sent_twice() -> None:
    """A connection that dies under a request is made anew, but not for what would be done twice."""
    seen: list[bytes] = []
    good = http(200, to_msgpack([]))
    with listening(says(good, b"", seen=seen)) as url, closing(HttpRunStore(url)) as store:
        store.experiments()
        with pytest.raises(StoreUnavailable):
            store.request_stop("r")
    assert [one.split(b" ")[0] for one in seen] == [b"GET", b"POST"]


def test_credentials_go_along_and_are_not_shown() -> None:
    """A user and password in the URL are sent as HTTP Basic, and stand in no message and no attribute."""
    seen: list[bytes] = []
    with listening(says(http(200, to_msgpack([])), http(401), seen=seen)) as url:
        with closing(HttpRunStore(url.replace("//", "//ann:p%40ss@"))) as store:
            store.experiments()
            assert store.url == url
            with pytest.raises(StoreError, match="401") as caught:
                store.experiments()
    assert b"Authorization: Basic " + b64encode(b"ann:p@ss") in seen[0]
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


def test_a_prefix_stands_before_every_path() -> None:
    """A server may live below a path of another one."""
    seen: list[bytes] = []
    with (
        listening(says(http(200, to_msgpack([])), seen=seen)) as url,
        closing(HttpRunStore(f"{url}/ml/tracker")) as store,
    ):
        store.experiments()
    assert seen[0].startswith(b"GET /ml/tracker/api/v1/experiments HTTP/1.1\r\n")


@pytest.mark.parametrize("run_id", ["a/b", "..", ".", "a?b=c", "a#b", "ü", "a b", "%2e%2e", "\n"])
def test_no_text_leads_to_another_path(run_id: str) -> None:
    """A run id is one segment of the path, whatever stands in it."""
    seen: list[bytes] = []
    with listening(says(problem(404, "RunNotFound"), seen=seen)) as url, closing(HttpRunStore(url)) as store:
        with pytest.raises(RunNotFound):
            store.params(run_id)
    path = seen[0].split(b" ")[1]
    assert path.count(b"/") == 5
    assert b"/../" not in path
    assert b"?" not in path


@pytest.mark.parametrize("run_id", ["", "\ud800"])
def test_what_can_stand_in_no_path_is_no_run(run_id: str) -> None:
    """A run id that cannot be sent is not found, and nobody is asked."""
    with closing(HttpRunStore("http://127.0.0.1:9")) as store, pytest.raises(RunNotFound):
        store.get_run(run_id)


def test_what_can_stand_in_no_query_is_named() -> None:
    """A text that cannot be sent, or is too long to be, is refused before it is."""
    with closing(HttpRunStore("http://127.0.0.1:9")) as store:
        with pytest.raises(InvalidValue, match="filter: .* not a text that can be sent"):
            store.search_runs("params.x = '\ud800'")
        with pytest.raises(InvalidValue, match="bytes of URL .limit: 60000"):
            store.search_runs("x" * 70_000)


def test_the_run_that_was_not_found_is_named() -> None:
    """The error has the run's id as an attribute, as the embedded store's has."""
    with (
        listening(says(problem(404, "RunNotFound", "run 'abc' not found"))) as url,
        closing(HttpRunStore(url)) as store,
    ):
        with pytest.raises(RunNotFound, match="run 'abc' not found") as caught:
            store.get_run("abc")
    assert caught.value.run_id == "abc"


def test_a_torn_file_is_not_handed_out(tmp_path: Path) -> None:
    """A download that breaks off is an outage, and leaves nothing behind."""
    torn = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 2_000_000
    with listening(says(torn)) as url:
        home = open_artifacts(url)
        with pytest.raises(StoreUnavailable):
            home.fetch(home.uri("run") + "/x", tmp_path / "got")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_upload_says_why(tmp_path: Path) -> None:
    """A server that answers before it has read the file, and hangs up, is understood."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 20_000_000)

    def talk(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(problem(500, "ArtifactError", "no room", "Connection: close\r\n"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with listening(talk) as url, pytest.raises(ArtifactError, match="no room"):
        open_artifacts(url).put("run", "x", source)


def test_an_upload_that_arrived_as_something_else_is_an_error(tmp_path: Path) -> None:
    """The digest that the server computed must be that of the bytes that were sent."""
    source = tmp_path / "source"
    source.write_bytes(b"here")
    answer = http(201, to_msgpack({"uri": "file:///home/run/x", "sha256": "0" * 64}))
    with listening(says(answer)) as url, pytest.raises(ArtifactError, match="did not arrive whole"):
        open_artifacts(url).put("run", "x", source)


def test_open_store_asks_whether_somebody_is_there() -> None:
    """Opening a store says at once that the server does not answer, or is none."""
    with listening(says(http(404, b"<html>", "text/html"))) as url:
        with pytest.raises(StoreError, match="is it a tracking server"):
            open_store(url)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        open_store(url)


LARGE = make_batch("r", "w", [(n, Points(n, "step", n, 0, {"x": float(n)})) for n in range(1, 2001)])
ACK = http(200, to_msgpack(Ack(last=2000)))


def sent(request: bytes) -> tuple[bool, Batch]:
    """Whether the request's body is compressed, and the batch that it is."""
    head, _, body = request.partition(b"\r\n\r\n")
    packed = b"\r\ncontent-encoding: zstd" in head.lower()
    return packed, decode_batch(zstandard.decompress(body) if packed else body)


def test_large_batches_are_compressed() -> None:
    """A batch that is worth it goes over the wire in a good half of its bytes; a small one as it is."""
    seen: list[bytes] = []
    with listening(says(ACK, ACK, seen=seen)) as url, closing(HttpRunStore(url)) as store:
        assert store.append(LARGE).last == 2000
        store.append(START)
    assert [sent(request) for request in seen] == [(True, LARGE), (False, START)]
    assert len(seen[0]) < 0.6 * len(encode_batch(LARGE))


@pytest.mark.parametrize("answer", [
    problem(415, "InvalidValue"), http(415), problem(422, "InvalidValue"), http(400, b"<html>", "text/html"), http(500),
])  # fmt: skip
def test_server_that_reads_no_zstd(answer: bytes) -> None:
    """What is refused compressed is sent as it is before it is given up; then so is the rest."""
    seen: list[bytes] = []
    with listening(says(answer, ACK, ACK, seen=seen)) as url, closing(HttpRunStore(url)) as store:
        for _ in range(2):
            assert store.append(LARGE).last == 2000
    assert [sent(request)[0] for request in seen] == [True, False, False]


def test_server_that_is_busy_is_sent_nothing_twice() -> None:
    """An outage says nothing about compression: the next attempt is compressed again."""
    seen: list[bytes] = []
    with listening(says(http(503), ACK, seen=seen)) as url, closing(HttpRunStore(url)) as store:
        with pytest.raises(StoreUnavailable):
            store.append(LARGE)
        assert store.append(LARGE).last == 2000
    assert [sent(request)[0] for request in seen] == [True, True]


def test_without_the_module_nothing_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """zstandard is no dependency of a client."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    seen: list[bytes] = []
    with listening(says(ACK, seen=seen)) as url, closing(HttpRunStore(url)) as store:
        store.append(LARGE)
    assert [sent(request)[0] for request in seen] == [False]

"""Bodies that are garbage, cut off, too large, slow or compressed: each is told apart, and disturbs nobody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import msgspec
import pytest
import zstandard
from e2e.server_lab import MSGPACK, Answer, Server, batch, points, request, start_of

from tracker.wire.batch_codec import encode_batch

MIB = 1024 * 1024
START = encode_batch(batch("r", 1, start_of()))
ZSTD = {**MSGPACK, "Content-Encoding": "zstd"}
HEAD = "POST /api/v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all of these tests: what one of them sends must not disturb the next. In the end it ends well."""
    folder = tmp_path_factory.mktemp("server")
    with Server(f"sqlite:///{folder / 'tracker.db'}", cwd=folder) as started:
        yield started
        assert started.end() == 0
        assert "Traceback" not in started.errors, started.errors


def goes_on(server: Server) -> bool:
    """Whether the server takes batches as ever."""
    return server.post(START).status == 200


def post_packed(server: Server, body: bytes) -> Answer:
    return server.ask("POST", "/api/v1/batches", body, ZSTD)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"{}",
        b'{"run_id": "r"}',
        START[:-1],
        START + b"\x00",
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 0}),
        msgspec.msgpack.encode({"run_id": "../x", "writer": "w", "first": 1, "last": 1}),
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 1, "items": [[1, ["what", 1]]]}),
        msgspec.msgpack.encode({"run_id": "r", "writer": "w", "first": 1, "last": 1, "blocks": [
            {"axis": "step", "fit": 0, "keys": ["x"], "numbers": [1], "steps": [1, 2], "ms": [1], "values": [[1.0]]}]}),
    ],
)  # fmt: skip
def test_garbage_is_refused(server: Server, body: bytes) -> None:
    """A body that is no batch is 422 and says where it is wrong; the server goes on."""
    answer = server.post(body)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json["error"] == "InvalidValue"
    assert answer.json["field"]
    assert goes_on(server)


def test_only_messagepack(server: Server) -> None:
    """Another content type, and an encoding that nobody asked for, are told apart from garbage."""
    assert server.ask("POST", "/api/v1/batches", START, {"Content-Type": "application/json"}).status == 415
    answer = server.ask("POST", "/api/v1/batches", START, {**MSGPACK, "Content-Encoding": "gzip"})
    assert (answer.status, answer.json["field"], answer.json["limit"]) == (415, "Content-Encoding", "identity, zstd")
    assert answer.headers["accept-encoding"] == "identity, zstd"


def test_body_that_is_too_large(server: Server) -> None:
    """A body over 64 MiB is refused before it is read, or, if it does not say how long it is, when it is over."""
    with closing(server.connect()) as connection:
        connection.putrequest("POST", "/api/v1/batches")
        for name, value in {**MSGPACK, "Content-Length": str(64 * 1024 * 1024 + 1)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["limit"] == "67108864 bytes"
    with closing(server.connect()) as connection:
        pieces = (bytes(1024 * 1024) for _ in range(65))
        connection.request(
            "POST", "/api/v1/batches", pieces, {**MSGPACK, "Transfer-Encoding": "chunked"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
    assert goes_on(server)


def test_a_reading_request_has_a_small_body(server: Server) -> None:
    """What a viewer may send takes 1 MiB at most: a search is never larger."""
    body = json.dumps({"experiment_ids": ["0"], "filter": " " * 2 * MIB}).encode()
    answer = server.ask("POST", "/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    assert answer.status == 413, answer.body[:300]


def test_client_that_goes_away(server: Server) -> None:
    """A body that is cut off stores nothing and disturbs nobody."""
    body = encode_batch(batch("gone", 1, start_of()))
    for sent in (0, 1, len(body) - 1):
        with socket.create_connection((server.host, server.port)) as raw:
            raw.sendall(HEAD.format(len(body)).encode() + body[:sent])
    assert goes_on(server)
    assert server.ask("GET", "/api/v1/runs/gone").status == 404


@pytest.mark.parametrize("sent", [b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                  b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"])  # fmt: skip
def test_what_is_no_http(server: Server, sent: bytes) -> None:
    """Bytes that are no request are answered with 400 or cut off, and disturb nobody."""
    with socket.create_connection((server.host, server.port), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65536)[:12] in (b"HTTP/1.1 400", b"")
    assert server.ask("GET", "/healthz").status == 200


def test_bodies_that_do_not_come(server: Server) -> None:
    """Hundreds of bodies that stopped half-way hold up nobody, and take no memory to speak of."""
    before = server.memory_kib
    with ExitStack() as stack:
        for _ in range(200):
            raw = stack.enter_context(socket.create_connection((server.host, server.port)))
            raw.sendall(HEAD.format(10 * MIB).encode() + bytes(1000))
        connection = stack.enter_context(closing(server.connect()))
        begun = time.monotonic()
        for number in range(1, 21):
            body = encode_batch(batch("beside", number, start_of() if number == 1 else points(number, x=1.0)))
            assert request(connection, "POST", "/api/v1/batches", body, MSGPACK).status == 200
        assert time.monotonic() - begun < 10
        assert server.memory_kib - before < 40_000


# -- compressed --------------------------------------------------------------------------------------------------------


def test_compressed_body(server: Server) -> None:
    """A body in zstd is what it says, however it was compressed, and in however many frames."""
    body = encode_batch(batch("packed", 1, start_of(), points(1, x=1.0)))
    stream = zstandard.ZstdCompressor(level=19, write_checksum=True).compressobj()
    half = len(body) // 2
    for number, packed in enumerate(
        [
            zstandard.compress(body),
            stream.compress(body) + stream.flush(),
            zstandard.compress(body[:half]) + zstandard.compress(body[half:]),
        ]
    ):
        answer = post_packed(server, packed)
        assert (answer.status, answer.json["last"]) == (200, 2), number
    assert server.get("/api/v1/runs/packed/history?key=x&raw=true")["steps"] == [1]


def test_what_is_no_zstd(server: Server) -> None:
    """A body that is not in zstd, cut off, damaged or followed by something else, is 422."""
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(START)
    damaged = bytes(byte ^ (index == len(packed) - 1) for index, byte in enumerate(packed))
    for body in (b"", START, packed[:-9], packed[:6], damaged, packed + b"more", packed + packed):
        answer = post_packed(server, body)
        assert (answer.status, answer.json["error"]) == (422, "InvalidValue"), body
    assert goes_on(server)


def test_compressed_bombs(server: Server) -> None:
    """A small body that says a lot, or asks for a lot of memory, is refused before it costs any."""
    post_packed(server, zstandard.compress(START))
    before = server.memory_kib
    flood = zstandard.compress(bytes(8 * MIB)) * 200
    for bomb in (zstandard.compress(bytes(1000 * MIB), 19), flood):
        answer = post_packed(server, bomb)
        assert (answer.status, answer.json["limit"]) == (413, "67108864 bytes")
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    answer = post_packed(server, stream.compress(START) + stream.flush())
    assert (answer.status, "too much memory" in answer.json["detail"]) == (422, True)
    assert server.memory_kib - before < 100_000
    assert goes_on(server)

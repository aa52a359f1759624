"""What the server's tests share: servers, in their own process and in a thread, and raw requests to them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from preloaded import Preloaded

from tracker.client.batch_builder import make_batch
from tracker.domain.frames import Batch, Frame, Points, RunStarted
from tracker.wire.batch_codec import encode_batch

if TYPE_CHECKING:
    from tracker.domain.ports import ArtifactHome
    from tracker.store.store import SqlRunStore

COMMAND = Path(sys.executable).with_name("tracker")
DEADLINE_S = 60
MSGPACK = {"Content-Type": "application/msgpack"}


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def on_server(text: str, url: str) -> str:
    """`text` with files' addresses as the server at `url` shows them, instead of those at the default place."""
    return re.sub(r"file://[^\s\",]*/tracker-artifacts/([\w-]+)", rf"{url}/api/v1/runs/\1/artifacts", text)


class Server:
    """`tracker server` in a process of its own: a context manager that starts it, and kills what is left of it.

    `port` 0 is one that nobody listens on; the server has it for as long as this object lives, `start` after `start`.
    `before` is Python that runs in the process first: limits on time can be made shorter than a test.
    A `new` one is not forked: what only a new interpreter reads, and limits of this process, hold for it.
    """

    def __init__(
        self,
        store: str,
        *arguments: str,
        port: int = 0,
        cwd: Path | None = None,
        before: str = "",
        new: bool = False,
        **environment: str,
    ) -> None:
        self._begin: type[subprocess.Popen[str]] = subprocess.Popen if new else Preloaded
        self._command = [str(COMMAND)]
        if before:
            self._command = [sys.executable, "-c", f"{before}\nfrom tracker.cli.main import main; main()"]
        self._arguments = ["--store", store, *arguments]
        self._cwd = cwd
        self._environment = {**os.environ, **environment}
        self.process: subprocess.Popen[str] | None = None
        self.host = "127.0.0.1"
        self.port = port
        self._said: _Said | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Start it, and return once it says that it answers."""
        self.begin().wait()
        return self

    def begin(self) -> Self:
        """Start it, and return at once."""
        command = [*self._command, "server", "--port", str(self.port), *self._arguments]
        self.process = self._begin(
            command, text=True, stderr=subprocess.PIPE, cwd=self._cwd, env=self._environment, errors="replace"
        )
        self._said = _Said(self.process)
        return self

    def wait(self) -> None:
        """Return once it says that it answers."""
        assert self._said is not None
        try:
            self.host, self.port = self._said.address()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def errors(self) -> str:
        """What it wrote to its standard error since it answers."""
        return "" if self._said is None else self._said.since

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def kill(self) -> None:
        """`kill -9`, and wait until it is dead; nothing if it does not run."""
        if self.process is not None and self._said is not None:
            self.process.kill()
            self._end()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end, wait until it has, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self._end()

    def _end(self) -> int:
        assert self.process is not None
        assert self._said is not None
        code = self.process.wait(DEADLINE_S)
        self._said.join(DEADLINE_S)
        return code

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=DEADLINE_S)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return request(connection, method, path, body, headers)
        finally:
            connection.close()

    def post(self, batch: Batch | bytes) -> Answer:
        body = batch if isinstance(batch, bytes) else encode_batch(batch)
        return self.ask("POST", "/api/v1/batches", body, MSGPACK)

    def get(self, path: str) -> Any:
        """The JSON of a path that must answer 200."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    @property
    def memory_kib(self) -> int:
        """What it has resident now."""
        return self._status("VmRSS")

    @property
    def most_memory_kib(self) -> int:
        """The most that it has had resident."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


class _Said(threading.Thread):
    """Reads what a server says as it says it, so that the pipe never fills."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._lines: list[str] = []
        self._begun = threading.Event()
        self._place: tuple[str, int] | None = None
        self._since: list[str] = []
        self.start()

    def run(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if self._place is not None:
                    self._since.append(line)
                elif found := re.search(r'serving .* at http://(.*):(\d+)(?:"})?$', line):
                    self._place = found[1], int(found[2])
                    self._begun.set()
                else:
                    self._lines.append(line)
        self._begun.set()

    @property
    def since(self) -> str:
        """What it says since it answers."""
        return "".join(self._since)

    def address(self) -> tuple[str, int]:
        """Host and port once it answers."""
        assert self._begun.wait(DEADLINE_S)
        assert self._place is not None, "the server did not start:\n" + "".join(self._lines)
        return self._place


@contextmanager
def away(store: str, *arguments: str, **environment: str) -> Iterator[Server]:
    """A server that does not run yet, at an address that is known; what runs of it when the block ends is killed."""
    server = Server(store, *arguments, port=free_port(), **environment)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def served(store: SqlRunStore, artifacts: ArtifactHome) -> Iterator[str]:
    """The address of a server in this process, over parts that the test made; when the block ends it has ended."""
    import uvicorn

    from tracker.server.app import create_app
    from tracker.server.gate import Hosts
    from tracker.server.group_commit import GroupCommit
    from tracker.server.serve import address_of, listen

    answers = threading.Event()
    with listen("127.0.0.1", 0) as opened, GroupCommit(store.append_many) as writer:
        app = create_app(store, writer, artifacts, hosts=Hosts(), started=answers.set)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            assert answers.wait(DEADLINE_S)
            yield address_of(opened)
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """A port on which nobody listens."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on `connection`."""
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def start_of(name: str = "name") -> RunStarted:
    return RunStarted(1000, "Default", name, "file:///elsewhere", "host", 1)


def points(step: int, **values: float) -> Points:
    return Points(2000 + step, "step", step, 0, values)


def batch(run_id: str, first: int, *frames: Frame, writer: str = "w") -> Batch:
    """A batch of `frames`, numbered from `first`."""
    return make_batch(run_id, writer, list(enumerate(frames, first)))

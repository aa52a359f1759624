"""What the server's tests share: a real `tracker server` in its own process, and raw requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cli_lab import COMMAND

from tracker.client.batches import make_batch
from tracker.domain.frames import Batch, Frame, Points, RunStarted
from tracker.wire.batches import encode_batch

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


class Server:
    """`tracker server`; a context manager that starts it, and kills what is left of it."""

    def __init__(self, store: str, *arguments: str, port: int = 0, cwd: Path | None = None) -> None:
        self._command = [str(COMMAND), "server", "--store", store, "--port", str(port), *arguments]
        self._cwd = cwd
        self.process: subprocess.Popen[str]
        self.port = port
        self.errors = ""

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        elif self.process.stderr is not None:
            self.process.stderr.close()

    def start(self) -> None:
        """Start it and wait until it says that it answers."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, cwd=self._cwd)
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            if found := re.search(r"serving .* at http://(.*):(\d+)$", line):
                self.host, self.port = found[1], int(found[2])
                return
            lines.append(line)
        raise AssertionError("the server did not start:\n" + "".join(lines))

    def again(self) -> None:
        """Start it again on the same port."""
        self._command[self._command.index("--port") + 1] = str(self.port)
        self.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end, and wait until it has."""
        self.process.send_signal(number)
        _, self.errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode

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
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])


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


def environment(**given: str) -> dict[str, str]:
    return {**os.environ, **given}

"""The three tracking servers: how each is started on a database, when it answers, what it holds in memory."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import psutil
from databases import Database
from environment import child_variables
from rest import Refused, Rest

if TYPE_CHECKING:
    from types import TracebackType

START_S = 180.0
"""A server that has not answered by then does not start."""


class DidNotStart(Exception):
    """The server ended, or never answered; with the last line of what it said."""


class Server(ABC):
    """One server on `database` in processes of its own, as its users start it, writing below `folder`.

    A context manager: it has answered a request to the API when the block begins, and is gone when it ends.
    """

    name: ClassVar[str]
    durable: ClassVar[dict[str, str]]
    """By kind of database: what is on disk when a request is answered."""

    def __init__(self, python: Path, database: Database, folder: Path) -> None:
        self.python = python
        self.database = database
        self.folder = folder
        self.port = _free_port()
        self.rest = Rest(self.port)
        self.start_s = 0.0
        """Seconds from its start to its first answer to a search."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that starts it."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = child_variables(self.folder)
        with open(self.folder / "output", "wb") as output:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        try:
            self._wait(began)
        except BaseException:
            self._end()
            raise
        return self

    def _wait(self, began: float) -> None:
        search = {"experiment_ids": ["0"], "max_results": 1}
        while True:
            with suppress(OSError, Refused, ValueError):
                self.rest.post("runs/search", search)
                self.start_s = time.perf_counter() - began
                return
            if self._process.poll() is not None or time.perf_counter() - began > START_S:
                raise DidNotStart(self._last_words())
            time.sleep(0.005)

    def _last_words(self) -> str:
        lines = (self.folder / "output").read_text(errors="replace").strip().splitlines() or ["no output"]
        return f"{self.name} did not start: {lines[-1]}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Ask it to end, and end what is left of it and of the processes that it started."""
        processes = self._tree()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(processes, timeout=20)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(20)
        psutil.wait_procs(left, timeout=20)

    def _tree(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""
        used = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
        return used

    def memory(self) -> tuple[float, int]:
        """MiB resident in its processes, and how many they are, once that has stood still for three seconds."""
        deadline = time.monotonic() + 30
        seen = [self._resident()]
        while time.monotonic() < deadline:
            time.sleep(0.5)
            seen.append(self._resident())
            lately = [mib for mib, _ in seen[-7:]]
            if len(lately) == 7 and max(lately) - min(lately) < 0.01 * max(lately):
                break
        return seen[-1]

    def _resident(self) -> tuple[float, int]:
        found = []
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                found.append(process.memory_info().rss / 2**20)
        return sum(found), len(found)


class Tracker(Server):
    """`tracker server`, its log of requests switched off."""

    name = "tracker"
    durable: ClassVar[dict[str, str]] = {
        "sqlite": "WAL, `synchronous=FULL`: synced before it is answered",
        "postgresql": "PostgreSQL as it comes: synced before it is answered",
    }

    def command(self) -> list[str]:
        program = str(self.python.with_name("tracker"))
        artifacts = str(self.folder / "artifacts")
        command = [program, "server", "--log-level", "warning", "--port", str(self.port)]
        return [*command, "--store", self.database.url, "--artifacts", artifacts]


class Mlflow(Server):
    """`mlflow server` with its own number of workers, its log of requests switched off."""

    name = "mlflow"
    durable: ClassVar[dict[str, str]] = {
        "sqlite": "rollback journal, `synchronous=FULL`: synced before it is answered",
        "postgresql": "PostgreSQL as it comes: synced before it is answered",
    }

    def command(self) -> list[str]:
        # Its driver is named, for which one is meant without depends on SQLAlchemy's version.
        url = self.database.url.replace("postgresql:", "postgresql+psycopg2:")
        command = [str(self.python), "-m", "mlflow", "server", "--port", str(self.port)]
        command += ["--backend-store-uri", url, "--artifacts-destination", str(self.folder / "artifacts")]
        return [*command, "--uvicorn-opts", "--log-level warning --no-access-log"]


class FastTrackML(Server):
    """`fml server`, a program written in Go, its log of requests switched off."""

    name = "fasttrackml"
    durable: ClassVar[dict[str, str]] = {
        "sqlite": "WAL, `synchronous=NORMAL`: not synced when it is answered",
        "postgresql": "PostgreSQL as it comes: synced before it is answered",
    }

    def command(self) -> list[str]:
        url = self.database.url if self.database.file is None else f"sqlite://{self.database.file}"
        command = [str(self.python.with_name("fml")), "server", "--log-level", "warn", "--database-uri", url]
        command += ["--default-artifact-root", str(self.folder / "artifacts")]
        return [*command, "--listen-address", f"127.0.0.1:{self.port}"]


SERVERS: dict[str, type[Server]] = {one.name: one for one in (Tracker, FastTrackML, Mlflow)}


def _free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

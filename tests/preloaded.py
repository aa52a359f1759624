"""Python processes that have imported Keras, or what Tracker stands on, before they start: a fork instead of 12 s.

`Preloaded` is a `subprocess.Popen`. Its process is forked from one that has imported other people's packages and nothing
of ours; what is of Tracker, the process itself imports. Arguments, environment, folder and streams are those of a new
interpreter, and it ends as one. What only a new interpreter has (its options, its locale, its size in memory) is not
there to be tested: such tests take `subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

TRACKER = ("alembic.command", "alembic.runtime.migration", "click", "httptools", "msgspec", "numpy", "pluggy", "psutil",
           "psycopg", "rich.progress", "rich.table", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg",
           "sqlite3", "starlette.applications", "starlette.staticfiles", "uvicorn.main",
           "uvicorn.protocols.http.httptools_impl")  # fmt: skip
"""What Tracker, its command and its server stand on."""
KERAS = (*TRACKER, "pytest", "keras", "tensorflow")
"""What a training imports: Keras on JAX imports TensorFlow too as soon as it saves a model."""
_CAN_FORK = sys.platform == "linux"
"""Elsewhere there is no subreaper: processes start as ever, and the tests take longer."""
_FORK_SERVER = Path(__file__).with_name("fork_server.py")
_PR_SET_CHILD_SUBREAPER = 36


class Preloaded(subprocess.Popen[str]):
    """`python SCRIPT …`, `python -c CODE …`, `python -m MODULE …` or an installed command, with text streams.

    With a `backend` Keras is imported already, else what Tracker stands on.
    """

    def __init__(self, arguments: Sequence[Any], *, backend: str = "", **given: Any) -> None:
        self._fork_server = _fork_server(backend) if _CAN_FORK else None
        super().__init__([os.fspath(one) for one in arguments], **{**given, "text": True})

    def _execute_child(self, args: list[str], *given: Any) -> None:
        """As Popen's own, whose arguments these are (CPython 3.11 to 3.13), but forked there instead of here."""
        if self._fork_server is None:
            super()._execute_child(args, *given)  # type: ignore[misc]
            return
        names = (
            "executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell "
            "p2cread p2cwrite c2pread c2pwrite errread errwrite "
            "restore_signals gid gids uid umask start_new_session process_group"
        ).split()
        told = dict(zip(names, given, strict=True))
        assert not any(told[one] for one in ("preexec_fn", "pass_fds", "shell")), told
        streams = [told["p2cread"], told["c2pwrite"], told["errwrite"]]
        request = {
            "arguments": args[1:] if args[0] == sys.executable else args,
            "environment": dict(os.environ if told["env"] is None else told["env"]),
            "folder": os.path.abspath(told["cwd"] or "."),
            "session": told["start_new_session"],
        }
        self.pid = self._fork_server.fork(request, [own if own != -1 else n for n, own in enumerate(streams)])
        self._child_created = True
        # Popen opened these for the child alone.
        for one in (told["p2cread"], told["c2pwrite"], told["errwrite"]):
            if one != -1 and one != getattr(self, "_devnull", None):
                os.close(one)
        if getattr(self, "_devnull", None) is not None:
            os.close(self._devnull)


def run(arguments: Sequence[Any], *, timeout: float | None = None, **given: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with both outputs kept."""
    with Preloaded(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **given) as process:
        try:
            said, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def context() -> ForkServerContext:
    """What starts functions in processes that have imported what Tracker stands on."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([*TRACKER])
    return made


def settings(backend: str) -> dict[str, str]:
    """The environment in which Keras is to be imported: the backend says less, and JAX compiles each model once."""
    return {
        "JAX_COMPILATION_CACHE_DIR": _compiled(),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


@functools.cache
def _compiled() -> str:
    folder = tempfile.TemporaryDirectory(prefix="tracker-jax-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder.name


class _ForkServer:
    """The process that has imported the modules, and forks."""

    def __init__(self, backend: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._libc = ctypes.CDLL(None, use_errno=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKER_", "PYTHON"))}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, _FORK_SERVER, str(theirs.fileno()), *(KERAS if backend else TRACKER)],
                pass_fds=[theirs.fileno()],
                env=environment | (settings(backend) if backend else {}),
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The number of a process that does what is requested; it becomes a child of ours."""
        body = json.dumps(request).encode()
        # It forks twice, and the process between ends at once: what it leaves behind goes to the nearest subreaper.
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self._socket, [len(body).to_bytes(4, "big")], streams)
            self._socket.sendall(body)
            answer = self._socket.recv(4, socket.MSG_WAITALL)
        finally:
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        assert len(answer) == 4, "the process that forks has ended"
        return int.from_bytes(answer, "big")

    def close(self) -> None:
        """End it; those that it forked live on."""
        self._socket.close()
        self._process.wait()


@functools.cache
def _fork_server(backend: str) -> _ForkServer:
    return _ForkServer(backend)

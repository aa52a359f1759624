"""`python fork_server.py SOCKET MODULE…`: imports the modules, and forks a process for each request on the socket.

A request is the length of a JSON object (4 bytes, with the three standard streams beside them), and the object; its
answer is the number of the process (4 bytes). See `preloaded.py`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import time
import types
import warnings
from typing import Any


def main(number: int, modules: list[str]) -> dict[str, Any]:
    """Serve until the other end is closed; returns only in a forked process, with what was requested of it."""
    for module in modules:
        importlib.import_module(module)
    # A process that ends looks through all objects, which takes seconds for TensorFlow's, and copies their pages.
    gc.collect()
    gc.freeze()
    path = [*sys.path]
    with socket.socket(fileno=number) as asked:
        while True:
            head, streams, *_ = socket.recv_fds(asked, 4, 3)
            if not head:
                os._exit(0)
            request: dict[str, Any] = json.loads(asked.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
            read, write = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of threads that the modules started: theirs are ready for a fork
                between = os.fork()
                if not between and (forked := os.fork()):
                    os.write(write, forked.to_bytes(4, "big"))
                    os._exit(0)
            if not between:
                asked.detach()
                os.close(number)
                for one in (read, write):
                    os.close(one)
                sys.path[:] = path
                become(request, streams)
                return request
            os.waitpid(between, 0)
            asked.sendall(os.read(read, 4))
            for one in (read, write, *streams):
                os.close(one)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """What a new process has from its parent."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def start(arguments: list[str]) -> None:
    """As the interpreter starts what its arguments name."""
    kind, *others = arguments
    sys.orig_argv = [sys.executable, *arguments]
    first, sys.argv = os.path.dirname(os.path.abspath(kind)), arguments
    if kind in ("-c", "-m"):
        first, sys.argv = ("" if kind == "-c" else os.getcwd()), ["-c" if kind == "-c" else "-m", *others[1:]]
    libraries = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[0:1] = [first, *libraries]
    if kind == "-m":
        sys.argv[0] = others[0]
        runpy._run_module_as_main(others[0])  # type: ignore[attr-defined]
        return
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    if kind == "-c":
        code = compile(others[0], "<string>", "exec")
    else:
        module.__file__ = kind
        with open(kind, "rb") as source:
            code = compile(source.read(), kind, "exec")
    module.__dict__["__builtins__"] = __builtins__
    exec(code, module.__dict__)


if __name__ == "__main__":
    start(main(int(sys.argv[1]), sys.argv[2:])["arguments"])

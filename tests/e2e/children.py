"""Real Python processes to interrupt, kill and watch; synchronised by lines on pipes, never by time."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import IO, Any, TypeVar

from preloaded import Preloaded

T = TypeVar("T")
DEADLINE_S = 60.0

PREAMBLE = """
import os, resource, signal, sys
import tracker

# A shell starts what runs in its background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(word):
    print(word, flush=True)

def wait():
    sys.stdin.readline()

def limit(size):
    "No file of this process may grow beyond `size` bytes: as full as a disk can be."
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def room():
    limit(resource.RLIM_INFINITY)

def memory():
    "The most memory that this process has had, in KiB."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

"""


class Child:
    """A Python process that runs `code` after the preamble; use it as a context manager.

    With a `backend` it has imported Keras before it starts. A `new` one is not forked: its memory is its own.
    """

    def __init__(self, code: str, *, backend: str = "", new: bool = False) -> None:
        command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = (
            subprocess.Popen(command, text=True, **pipes) if new else Preloaded(command, backend=backend, **pipes)
        )
        self.errors = ""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def expect(self, word: str) -> None:
        """Read lines until `word`; fail if the process ends before it."""
        output: IO[str] | None = self._process.stdout
        assert output is not None
        for line in output:
            if line.strip() == word:
                return
        raise AssertionError(f"the child never said {word!r}:\n{self._process.communicate()[1]}")

    def line(self) -> str:
        """The next line that the child says; fail if it ends before it."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise AssertionError(f"the child says nothing more:\n{self._process.communicate()[1]}")
        return line.strip()

    def go_on(self, line: str = "") -> None:
        """Let a `wait()` of the child return, or send it a line to read."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait until it is dead; children that it forked may live on."""
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """Wait for the process to end; return its exit status and keep its standard error in `errors`."""
        _, self.errors = self._process.communicate(timeout=DEADLINE_S)
        return self._process.returncode


def run_child(code: str, *, backend: str = "", new: bool = False) -> Child:
    """Run `code` to its end, which must be exit status 0."""
    with Child(code, backend=backend, new=new) as child:
        assert child.end() == 0, child.errors
        return child


def eventually(ask: Callable[[], T], *, within: float = DEADLINE_S, said: Callable[[], str] = str) -> T:
    """The first true answer of `ask`, asked again and again for so many seconds; then an error with what is `said`."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"it did not happen within {within:g} s. {said()}"
        time.sleep(0.02)
    return answer

"""Reads the git state of the running code, without prompts, without changes, and without running other programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tracker_system.masking import without_credentials

BUDGET_S = 10.0
"""Seconds that all git commands of one run may take together."""
HDF5_S = 0.2
"""Seconds to wait until no HDF5 file is open."""
DIFF_BYTES = 5_000_000
STATUS_BYTES = 1_000_000
UNTRACKED = 1000
"""How many untracked files are listed at most."""

_SETTINGS = {
    "core.fsmonitor": "false",  # may be a program
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.askPass": "true",
    "credential.helper": "",
    "diff.external": "",
    "diff.autoRefreshIndex": "false",  # it would write into the repository
    "protocol.allow": "never",  # a partial clone would fetch what it lacks
    "submodule.recurse": "false",
    "log.showSignature": "false",
    "color.ui": "false",
}
_KEPT = ("HOME", "PATH", "XDG_CONFIG_HOME", "USER", "LOGNAME", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The state of a working tree.

    `commit` is None before the first commit, `branch` off any branch. `diff` has the uncommitted changes of tracked
    files, for `git apply`; if it is larger than DIFF_BYTES, binary files and then whole files at its end are left out,
    and `diff_is_whole` is False. `untracked` lists untracked files, UNTRACKED at most.
    """

    root: str
    commit: str | None
    branch: str | None
    remote: str | None
    dirty: bool
    diff: bytes = b""
    diff_is_whole: bool = True
    untracked: tuple[str, ...] = ()


class GitFailed(Exception):
    """Git is not installed, does not finish in time, or fails."""


def state_of(folder: Path, *, with_diff: bool, budget: float = BUDGET_S) -> Code | None:
    """The state of the working tree around `folder`; None if there is none. Raises GitFailed."""
    git = _Git(folder, time.monotonic() + budget)
    try:
        root = _line(git.ask("rev-parse", "--show-toplevel"))
    except GitFailed as failure:
        if "not a git repository" in str(failure):
            return None
        raise
    if not root:
        return None  # a bare repository
    commit = _line(git.ask("rev-parse", "--verify", "--quiet", "HEAD", may_fail=True))
    branch = _line(git.ask("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True))
    remote = _line(git.ask("config", "--get", "remote.origin.url", may_fail=True))
    status, _ = git.read(STATUS_BYTES, "status", "--porcelain=v1", "-z", "--ignore-submodules=all", "--no-renames")
    entries = [os.fsdecode(entry) for entry in status.split(b"\0") if entry]
    changed = [entry for entry in entries if not entry.startswith("?? ")]
    diff, is_whole = b"", True
    if with_diff and commit and changed:
        diff, is_whole = _diff(git)
    return Code(
        root=root,
        commit=commit or None,
        branch=branch or None,
        remote=without_credentials(remote) if remote else None,
        dirty=bool(entries),
        diff=diff,
        diff_is_whole=is_whole,
        untracked=tuple(sorted(entry[3:] for entry in entries if entry.startswith("?? "))[:UNTRACKED]),
    )


def _diff(git: _Git) -> tuple[bytes, bool]:
    """The uncommitted changes and whether they are complete; too large ones lose binary files, then are cut."""
    how = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
    diff, fits = git.read(DIFF_BYTES, *how, "--binary")
    if fits:
        return diff, True
    diff, fits = git.read(DIFF_BYTES, *how)
    return diff if fits else diff[: diff.rfind(b"\ndiff --git ") + 1], False


class _Git:
    """Runs git in one folder, until a deadline."""

    def __init__(self, folder: Path, deadline: float) -> None:
        self._folder = folder
        self._deadline = deadline

    def ask(self, *arguments: str, may_fail: bool = False) -> bytes:
        """Run git and return its output. Raises GitFailed."""
        return self.read(STATUS_BYTES, *arguments, may_fail=may_fail)[0]

    def read(self, most: int, *arguments: str, may_fail: bool = False) -> tuple[bytes, bool]:
        """Run git; return up to `most` bytes of its output, and whether that is all. Raises GitFailed."""
        with tempfile.TemporaryFile() as said:
            return self._read(most, arguments, may_fail, said)

    def _read(self, most: int, arguments: Sequence[str], may_fail: bool, said: IO[bytes]) -> tuple[bytes, bool]:
        command = ["git", "--no-pager", "--no-optional-locks"]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        try:
            with _no_hdf5_file_open():
                process = subprocess.Popen(
                    [*command, *arguments],
                    cwd=self._folder,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    start_new_session=True,
                )
        except OSError as error:
            raise GitFailed(f"git cannot be run: {error.strerror}") from error
        with _killed_at(self._deadline, process) as late, process:
            assert process.stdout is not None
            found = process.stdout.read(most + 1)
            if len(found) > most:
                _kill(process)
                return found[:most], False
            process.wait()
        if late.is_set():
            raise GitFailed(f"git {arguments[0]} was not done in time")
        if process.returncode and not may_fail:
            said.seek(0)
            line = said.readline(500).decode(errors="replace").strip()
            raise GitFailed(f"git {arguments[0]}: {line or process.returncode}")
        return found, True


@contextlib.contextmanager
def _no_hdf5_file_open() -> Iterator[None]:
    """Wait until the process has no HDF5 file open, and keep it from opening one.

    HDF5 locks a file that it writes. A child process shares the lock from its fork until its program starts, and a
    ModelCheckpoint that writes the file again meanwhile would raise in the training. Popen returns when the program
    has started. The wait for files that stay open (training data) ends after HDF5_S.
    """
    objects, files = sys.modules.get("h5py._objects"), sys.modules.get("h5py.h5f")
    if objects is None or files is None:
        yield
        return
    deadline = time.monotonic() + HDF5_S
    while True:
        with objects.phil:  # every call of h5py takes it
            if not files.get_obj_count(files.OBJ_ALL, files.OBJ_FILE) or time.monotonic() >= deadline:
                yield
                return
        time.sleep(0.002)  # h5py has no notification when a file is closed


@contextlib.contextmanager
def _killed_at(deadline: float, process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    late = threading.Event()

    def kill() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), kill)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children, which may hold its pipes open."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Git environment without inherited GIT_* variables (such as GIT_DIR in a git hook) or prompts."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "false",
        "GIT_CEILING_DIRECTORIES": os.environ.get("GIT_CEILING_DIRECTORIES", ""),
    }


def _line(output: bytes) -> str:
    return os.fsdecode(output).strip("\n")

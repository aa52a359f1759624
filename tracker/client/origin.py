"""The script that this process runs, and the checked out commit of its repository."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tracker.domain.limits import SCRIPT_LENGTH

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST = 1_000_000
"""Bytes that are read of a Git file at most."""


def script() -> str:
    """The script's path, a command such as `python -c`, or the notebook's name."""
    if is_notebook():
        name = os.environ.get("JPY_SESSION_NAME", "notebook")
    else:
        first = sys.argv[0] if sys.argv else ""
        name = f"python {first}".rstrip() if first in ("", "-c", "-") else os.path.abspath(first)
    return "".join(one if one.isprintable() else "�" for one in name)[-SCRIPT_LENGTH:]


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and not a script that has imported ipykernel."""
    kernel = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return kernel is not None and bool(kernel.initialized())


def commit() -> str:
    """The commit checked out in the script's repository, else the working directory's; empty if there is none.

    Git's files are read instead of running Git: opening a run must not wait for it, and a repository's configuration
    can name programs that Git starts.
    """
    try:
        first = Path(sys.argv[0] if sys.argv else "")
        start = first.resolve().parent if first.is_file() else Path.cwd()
        return next((_head(folder / ".git") for folder in (start, *start.parents) if (folder / ".git").exists()), "")
    except (OSError, ValueError):
        return ""


def _head(git: Path) -> str:
    if git.is_file():  # in a worktree or a submodule it contains the folder's path
        git = git.parent / _read(git).removeprefix("gitdir:").strip()
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else ""
    name = head.removeprefix("ref:").strip()
    if ".." in name:
        return ""
    shared = git / _read(git / "commondir").strip()
    for folder in (git, shared):
        if _COMMIT.fullmatch(found := _read(folder / name).strip()):
            return found
    packed = (line.split(" ", 1) for line in _read(shared / "packed-refs").splitlines() if " " in line)
    return next((commit for commit, ref in packed if ref == name and _COMMIT.fullmatch(commit)), "")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except OSError:
        return ""

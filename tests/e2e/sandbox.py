"""What the tests of hostile records share: hostile values, and a watch over what a process opens, asks and starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MARK = "9q7z"
"""Is in every hostile text: where it turns up, a record led there."""
TEXTS = (
    f"../../../../{MARK}", f"/{MARK}/x", f"file:///{MARK}/etc/passwd", f"file:/{MARK}%00", f"file:{MARK}",
    f"http://127.0.0.1:1/{MARK}", f"s3://{MARK}/x", f"'; touch /{MARK} #", f"$(touch /{MARK})", f"{MARK}\x00b",
    f"{MARK}\n\x1b[31m\u202e", f"http://[{MARK}", "", "[1, 2", "[[1]]", '{"a": {"b": [1]}}', "NaN", "[" * 5000,
    f"{MARK}" * 5000, "\U0001f600" * 300, f"C:\\{MARK}", f"~/{MARK}", f"-{MARK}",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (-1, 2**63 - 1, -(2**63), 1.5, 1e308, float("inf"), b"\xff\xfe", b"", None)

_FILES = frozenset(
    {"open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
     "os.scandir", "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree",
     "sqlite3.connect"}
)  # fmt: skip
_OUTSIDE = frozenset(
    {"os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "socket.connect", "socket.getaddrinfo",
     "subprocess.Popen", "urllib.Request", "import", "exec", "compile"}
)  # fmt: skip
_watched: list[tuple[str, list[str]]] = []
"""The folder within which files may be named as records say, and what went further; empty while nobody watches."""


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or (event not in _FILES and event not in _OUTSIDE):
        return
    inside, found = _watched[-1]
    for one in arguments:
        text = os.fsdecode(one) if isinstance(one, (bytes, os.PathLike)) else str(one)
        if MARK in text and (event in _OUTSIDE or not os.path.realpath(text).startswith(inside)):
            found.append(f"{event} {text[:200]!r}")


_hooked: list[bool] = []


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """What a record's text led to in the block: files outside of `folder`, addresses, modules, programs."""
    if not _hooked:
        sys.addaudithook(_look)  # none can be removed
        _hooked.append(True)
    found: list[str] = []
    _watched.append((f"{folder.resolve()}{os.sep}", found))
    try:
        yield found
    finally:
        _watched.pop()


def everything(*folders: Path) -> dict[str, tuple[int, int]]:
    """The files in the folders with their sizes and times."""
    return {
        str(path): (state.st_size, state.st_mtime_ns)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        for state in [path.lstat()]
    }

"""What the command-line tests share: runs of the real client; the command in process, installed, in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import preloaded
from click.testing import CliRunner, Result

import tracker
from tracker.cli.main import cli

COMMAND = Path(sys.executable).with_name("tracker")


def invoke(*arguments: str) -> Result:
    """What the command does, in this process."""
    return CliRunner().invoke(cli, arguments)


def installed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the installed command does."""
    return preloaded.run([COMMAND, *arguments], env={**os.environ, **environment}, timeout=60)


def in_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """What the installed command writes to a terminal of so many columns, colours and all."""
    pid, terminal = pty.fork()
    if pid == 0:
        given = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        os.execve(COMMAND, [str(COMMAND), *arguments], {**given, "TERM": "xterm-256color", **environment})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    written = b""
    try:
        while part := os.read(terminal, 65536):
            written += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return written.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """`text` without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def record(
    name: str,
    losses: Sequence[float] = (),
    *,
    experiment: str = "digits",
    planned: int | None = None,
    accuracies: Sequence[float] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> str:
    """Record a finished run of one fit with these values of `val_loss`, and maybe of `accuracy`; return its id."""
    with tracker.start_run(experiment, name=name, params=params, tags=tags, run_id=run_id) as run:
        if losses:
            fit = run.start_fit(epochs=planned or len(losses), steps_per_epoch=5, batch_size=32)
            for epoch, loss in enumerate(losses):
                metrics = {"val_loss": loss} | ({"accuracy": accuracies[epoch]} if accuracies else {})
                fit.log_epoch(epoch, metrics, seconds=0.25, steps=5 * (epoch + 1))
            fit.end("completed" if planned in (None, len(losses)) else "stopped_early")
    return run.id

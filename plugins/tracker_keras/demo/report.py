"""The demo's output: a few lines for each training, the comparison of the runs, and the commands to try next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import tracker

if TYPE_CHECKING:
    from tracker.domain.ports import RunStore

_console = Console(highlight=False)


def opening(data: str, trainings: int, epochs: int) -> None:
    """Lines that say what the demo does."""
    _console.print(f"[bold]{trainings} trainings of {epochs} epochs[/] on scikit-learn's handwritten digits")
    _console.print(f"[dim]{data}[/]\n")


def training_begins(number: int, title: str, callbacks: str) -> None:
    """Lines for a training: its title and callbacks."""
    _console.print(f"[bold]{number} {title}[/]")
    _say(f"  TrackerCallback(run), {callbacks}", style="dim")


def training_ended(seconds: float, saved: Sequence[str]) -> None:
    """Lines for an ended training: its duration and its files."""
    # Event files have long generated names, so their folders are shown.
    names = sorted({first + ("/" if rest else "") for first, _, rest in (name.partition("/") for name in saved)})
    _say(f"  {seconds:.1f} s" + (f", wrote {', '.join(names)}" if names else ""))


def closing(run_ids: Sequence[str], store_url: str | None, folder: Path) -> None:
    """The comparison, read from the store, and the commands. TrackerError if the store lacks the runs."""
    store = tracker.open_store(store_url)
    try:
        _console.print()
        _console.print(_comparison(store, run_ids))
        _say(f"Recorded in {store.url}")
        _say(f"Checkpoint files and TensorBoard logs are in {folder}{os.sep}\n")
        _commands([_short(store, run_id) for run_id in run_ids], store_url)
    finally:
        store.close()


def _comparison(store: RunStore, run_ids: Sequence[str]) -> Table:
    table = Table(
        title="The five runs, as the store has them",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("run", no_wrap=True)
    for heading in ("best\nval_loss", "at\nepoch", "epochs", "last\nrate", "check-\npoints"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\nstatus", no_wrap=True)
    runs = [store.get_run(run_id) for run_id in run_ids]
    best = min((run.best_value for run in runs if run.best_value is not None), default=None)
    for run in runs:
        epochs, planned = store.epochs(run.id), store.fits(run.id)[-1].epochs
        rate = store.metrics(run.id)["learning_rate"].last
        value = _number(run.best_value, ".4f")
        table.add_row(
            run.name,
            f"[bold green]{value}[/]" if run.best_value == best else value,
            _number(run.best_epoch, "d"),
            f"{len(epochs)}/{planned}",
            _number(rate.value if rate else None, ".4f"),
            str(len(store.checkpoints(run.id))),
            run.status,
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _short(store: RunStore, run_id: str) -> str:
    """The run's name, or a unique prefix of its id if earlier demos used the name too."""
    names = [store.get_run(run_id).name, *(run_id[:length] for length in range(10, len(run_id)))]
    return next((name for name in names if len(store.find_runs(name, limit=2)) == 1), run_id)


def _commands(runs: Sequence[str], store_url: str | None) -> None:
    command = "tracker"
    if shutil.which("tracker") is None and (beside := Path(sys.executable).parent / "tracker").exists():
        command = shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))
    _console.print("[bold]Try next[/]")
    if store_url:
        _say(f"  export TRACKER_STORE={shlex.quote(store_url)}")
    for arguments in (
        "ui",
        "runs",
        f"show {runs[2]}",
        f"checkpoints {runs[1]}",
        f"restore {runs[1]} --which best -o best.keras",
        f"compare {runs[1]} {runs[3]}",
        f"history {runs[3]} learning_rate",
        'runs --filter "metrics.val_loss.best < 0.1"',
    ):
        _say(f"  {command} {arguments}")


def _say(text: str, style: str | None = None) -> None:
    _console.print(text, style=style, markup=False, soft_wrap=True)

"""What the demo prints: a few lines a training, the comparison of the runs, the commands to try next."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tracker.domain.ports import RunStore

_console = Console(highlight=False)


def opening(data: str, trainings: int, epochs: int) -> None:
    """What is about to happen."""
    _console.print(f"[bold]{trainings} trainings of {epochs} epochs[/] on scikit-learn's handwritten digits")
    _console.print(f"[dim]{data}[/]\n")


def training_begins(number: int, title: str, callbacks: str) -> None:
    """A training and the callbacks that it adds."""
    _console.print(f"[bold]{number} {title}[/]")
    _console.print(f"  TrackerCallback(run), {callbacks}", style="dim", markup=False)


def training_ended(seconds: float, saved: Sequence[str]) -> None:
    """How long it took and which files it left."""
    files = ", ".join(saved[:3]) + (f" and {len(saved) - 3} more" if len(saved) > 3 else "")
    _console.print(f"  {seconds:.1f} s" + (f", wrote {files}" if saved else ""), markup=False, soft_wrap=True)


def closing(run_ids: Sequence[str], store_url: str | None, folder: Path) -> int:
    """The comparison, read back from the store, and the commands; 1 if the store does not have all runs."""
    import tracker

    store = tracker.open_store(store_url)
    try:
        _console.print()
        _console.print(_comparison(store, run_ids))
        _console.print(
            f"Recorded in {store.url}; checkpoint files and TensorBoard logs are in {folder}/\n", markup=False
        )
        _commands([_short(store, run_id) for run_id in run_ids], store_url)
    finally:
        store.close()
    return 0


def _comparison(store: RunStore, run_ids: Sequence[str]) -> Table:
    table = Table(title="The five runs, read back from the store", title_justify="left", title_style="bold")
    table.add_column("run")
    for heading in ("best val_loss", "val_accuracy", "at epoch", "epochs", "last learning rate", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("status")
    values = [store.get_run(run_id).best_value for run_id in run_ids]
    best = min((value for value in values if value is not None and not math.isnan(value)), default=None)
    for run_id, value in zip(run_ids, values, strict=True):
        run, epochs, rate = store.get_run(run_id), store.epochs(run_id), store.metrics(run_id)["learning_rate"].last
        at_best = {epoch.number: epoch.metrics for epoch in epochs}.get(
            -1 if run.best_epoch is None else run.best_epoch
        )
        outcomes = ", ".join(str(fit.outcome).replace("_", " ") for fit in store.fits(run_id))
        table.add_row(
            run.name,
            f"[green]{value:.4f}[/]" if value == best else _number(value, ".4f"),
            _number(at_best.get("val_accuracy") if at_best else None, ".4f"),
            str(run.best_epoch),
            str(len(epochs)),
            _number(rate.value if rate else None, ".3g"),
            f"{sum(epoch.seconds or 0.0 for epoch in epochs):.1f}",
            f"{run.status} ({outcomes})",
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _short(store: RunStore, run_id: str) -> str:
    """What to call the run on the command line: its name, or its id if earlier demos used the name."""
    name = store.get_run(run_id).name
    return name if len(store.find_runs(name, limit=2)) == 1 else run_id


def _commands(runs: Sequence[str], store_url: str | None) -> None:
    command = "tracker"
    if shutil.which("tracker") is None and (beside := Path(sys.executable).parent / "tracker").exists():
        command = shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))
    _console.print("[bold]Try next[/]")
    if store_url:
        _console.print(f"  export TRACKER_STORE={shlex.quote(store_url)}", markup=False, soft_wrap=True)
    for arguments in (
        "runs",
        f"show {runs[2]}",
        f"compare {runs[1]} {runs[3]}",
        f"history {runs[3]} learning_rate",
        'runs --filter "metrics.val_loss.best < 0.1"',
    ):
        _console.print(f"  {command} {arguments}", markup=False, soft_wrap=True)

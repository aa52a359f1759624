"""`tracker restore`: write a checkpoint to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from tracker import compose
from tracker.api import find_checkpoint
from tracker.artifacts import checkpoint_download
from tracker.cli import styles
from tracker.cli.checkpoint_labels import best_label
from tracker.cli.named import named_run
from tracker.cli.output import print_text, say
from tracker.cli.stores import existing_store, store_option
from tracker.domain.errors import TrackerError
from tracker.domain.records import Checkpoint, Run
from tracker.query.checkpoint_choice import BEST
from tracker.query.text_format import printable

LARGE = 20_000_000
"""Bytes from which on a progress bar is shown."""


@click.command()
@click.argument("run")
@click.option(
    "--which",
    metavar="WHICH",
    default="best",
    show_default=True,
    help="best (by the run's monitored metric), best:METRIC (by another metric), latest, an epoch (counted from 0), "
    "a tag, or id: and an id that `tracker checkpoints` lists.",
)
@click.option("-o", "--output", metavar="PATH", required=True, help="File to write, or folder to write into.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@store_option
def restore(run: str, which: str, output: str, force: bool, store: str | None) -> None:
    """Write a checkpoint of RUN to PATH, verify it, and print its path.

    If that fails, nothing is left at PATH. Load the file with keras.models.load_model, or a .weights.h5 file with
    model.load_weights.
    """
    with existing_store(store) as opened:
        found = named_run(opened, run)
        one = find_checkpoint(opened, found, which)
        target = checkpoint_download.place(one, found.id, output)
        if target.exists() and not force:
            raise TrackerError(f"{printable(str(target))} is there already; --force replaces it")
        if target.is_dir() and not checkpoint_download.is_folder(one):
            raise TrackerError(f"{printable(str(target))} is a folder, in the way of the checkpoint")
        if not target.parent.is_dir():
            raise TrackerError(f"the folder {printable(str(target.parent))} does not exist")
        with _progress(one, target) as on_progress:
            checkpoint_download.copy(compose.artifacts_of(opened), one, found.id, target, on_progress)
    _report(one, f"{printable(found.name)}{printable(_best_label(found, which))}", target)
    print_text(f"{target}\n")


def _best_label(run: Run, which: str) -> str:
    """The metric by which the checkpoint is the best, if `which` selects the best."""
    if which == BEST:
        return f", the {best_label(run) or BEST}"
    return f", the best by {which.removeprefix(f'{BEST}:')}" if which.startswith(f"{BEST}:") else ""


def _report(one: Checkpoint, name: str, target: Path) -> None:
    gone_on = ", superseded by a later fit" if one.superseded else ""
    role = "the state to resume from" if one.role == "state" else "the checkpoint"
    say(f"{role} of epoch {one.epoch} of {name}{gone_on}: {styles.size(one.size)}, SHA-256 {one.sha256}")
    if not checkpoint_download.suits(one, target):
        say(f"Keras reads it only under a name that ends in {one.format}")


@contextmanager
def _progress(one: Checkpoint, target: Path) -> Iterator[Callable[[int], None] | None]:
    """Context manager of a function that takes the bytes so far and draws a progress bar; None if none is needed."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal or one.size < LARGE:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(printable(target.name), total=one.size)
        yield lambda count: bars.update(task, completed=count)

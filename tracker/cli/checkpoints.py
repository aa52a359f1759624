"""`tracker checkpoints`: a run's checkpoints, and the tags that protect one from retention."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields

import click
from rich.text import Text

from tracker.api import find_checkpoint
from tracker.cli import styles
from tracker.cli.checkpoint_labels import best_label, marks, measured, remarks, without_replaced_states
from tracker.cli.named import named_run
from tracker.cli.output import jsonable, print_csv, print_json, print_lines, say, table_width
from tracker.cli.stores import existing_store, store_option
from tracker.cli.tables import Column, cell, table
from tracker.domain.errors import InvalidValue, TrackerError
from tracker.domain.identity import now_ms
from tracker.domain.ports import RunStore
from tracker.domain.records import Checkpoint, Run
from tracker.query.checkpoint_choice import check_tag
from tracker.query.text_format import printable

FIELDS = tuple(field.name for field in fields(Checkpoint))


@click.command()
@click.argument("run")
@click.option("--tag", "tag", metavar="WHICH=NAME", help="Tag a checkpoint, so that it is never pruned.")
@click.option("--untag", "untag", metavar="WHICH", help="Remove a checkpoint's tag.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@store_option
def checkpoints(run: str, tag: str | None, untag: str | None, format_: str, store: str | None) -> None:
    """List the checkpoints of RUN, oldest first.

    Epochs count from 0. The file of a pruned checkpoint is deleted. State checkpoints that a newer one replaced are
    listed only in JSON and CSV. WHICH is best (by the run's monitored metric), best:METRIC (by another metric),
    latest, an epoch, a tag, or id: with the number in the first column. `tracker restore RUN --which WHICH -o PATH`
    writes a checkpoint to a file.
    """
    with existing_store(store) as opened:
        found = named_run(opened, run)
        if tag is not None or untag is not None:
            _retag(opened, found, tag, untag)
            return
        kept = opened.checkpoints(found.id)
        if format_ == "json":
            print_json([{field: jsonable(getattr(one, field)) for field in FIELDS} for one in kept])
        elif format_ == "csv":
            print_csv(FIELDS, ([_csv_value(getattr(one, field)) for field in FIELDS] for one in kept))
        elif kept:
            shown = without_replaced_states(kept)
            print_lines(_lines(shown, marks(opened, found, kept), found))
            if hidden := len(kept) - len(shown):
                say(f"and {styles.plural(hidden, 'state')} that newer ones replaced: --format csv")
        else:
            say(f"{printable(found.name)} has no checkpoints")


def _retag(store: RunStore, run: Run, tag: str | None, untag: str | None) -> None:
    if untag is not None:
        one = find_checkpoint(store, run, untag)
        if one.tag is None:
            raise TrackerError(f"the checkpoint of epoch {one.epoch} of {printable(run.name)} has no tag")
        store.tag_checkpoint(run.id, one.id, None)
        say(f"epoch {one.epoch} of {printable(run.name)} is no longer tagged {printable(one.tag)}")
    if tag is not None:
        which, equals, name = tag.rpartition("=")
        if not equals or not which or not name:
            raise InvalidValue("--tag", f"{tag!r} has no WHICH=NAME", limit="for example best=paper, 12=before-tuning")
        one = find_checkpoint(store, run, which)
        store.tag_checkpoint(run.id, one.id, check_tag(name))
        say(f"tagged epoch {one.epoch} of {printable(run.name)} as {printable(name)}")


def _lines(kept: Sequence[Checkpoint], marked: dict[int, str], run: Run) -> Iterator[Text]:
    now, measures = now_ms(), ", ".join(filter(None, ("metrics", best_label(run))))
    columns = [
        Column(title="id", right=True), Column(title="epoch", right=True), Column(title="step", right=True),
        Column(title="which"), Column(title="format"), Column(title="size", right=True),
        Column(title="saved", optional=True), Column(title="status"), Column(title=measures, flexible=True, least=32),
    ]  # fmt: skip
    rows = [
        [
            Text(str(one.id), "dim"),
            Text(str(one.epoch)),
            Text("–" if one.step is None else str(one.step)),
            cell(marked.get(one.id, ""), "green"),
            cell(one.format),
            Text(styles.size(one.size)),
            Text(styles.ago(one.ms, now)),
            cell(remarks(one) or "kept", "yellow" if one.status == "pruned" else "dim"),
            cell(measured(one, run.best_metric), "dim"),
        ]
        for one in kept
    ]
    return table(columns, rows, width=table_width())


def _csv_value(value: object) -> object:
    """A mapping as JSON; other values unchanged."""
    return json.dumps(jsonable(value), ensure_ascii=False) if isinstance(value, dict) else value

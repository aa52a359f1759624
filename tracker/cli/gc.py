"""`tracker gc`: permanently remove deleted runs, and files that no row needs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import click
from rich.text import Text

from tracker import compose
from tracker.artifacts.checkpoint_download import cache_of
from tracker.cli import styles
from tracker.cli.output import jsonable, print_json, print_lines, say, table_width, with_progress
from tracker.cli.stores import Database, existing_store, full_url, store_option
from tracker.cli.tables import Column, cell, table
from tracker.domain.identity import now_ms
from tracker.garbage_collection import Collected, Kind, collect
from tracker.query.text_format import printable
from tracker.settings import Settings

if TYPE_CHECKING:
    from tracker.store.store import SqlRunStore

_UNITS = (86_400_000, 3_600_000, 60_000, 1000)
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_KINDS: dict[Kind, tuple[str, str]] = {
    "run": ("run", "runs"),
    "model": ("logged model", "logged models"),
    "experiment": ("experiment", "experiments"),
    "checkpoint": ("file of pruned checkpoints", "files of pruned checkpoints"),
    "file": ("unfinished file", "unfinished files"),
    "copy": ("copy in the cache", "copies in the cache"),
}


def _span(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """A span of time in milliseconds: `30d`, `12h`, `1d12h`; a number alone means days."""
    found = _SPAN.fullmatch(f"{text}d" if text.isdecimal() else text) if 0 < len(text) < 20 else None
    if found is None:
        raise click.BadParameter(f"{text!r} is not a duration like 30d, 12h or 1d12h")
    return sum(int(count) * unit for count, unit in zip(found.groups("0"), _UNITS, strict=True))


@click.command()
@click.option("--older-than", "older_than", callback=_span, metavar="SPAN", default="30d", show_default=True,
              help="Remove what was deleted longer ago: 30d, 12h; 0 for everything.")  # fmt: skip
@click.option("--dry-run", "dry_run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--artifacts", metavar="URI", help="Folder or URI of the store's files"
              " (default: TRACKER_ARTIFACTS, else tracker-artifacts/ next to the SQLite file).")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_option
def gc(older_than: int, dry_run: bool, artifacts: str | None, format_: str, store: str | None) -> None:
    """Remove deleted runs for good, and files that are no longer needed.

    Removed are: runs, logged models and experiments that were deleted longer ago than --older-than, with their rows
    and files; the files of pruned checkpoints, whose rows stay; incomplete files older than a day; copies of this
    store's checkpoints that load_checkpoint made on this machine and that were not used for that time. Runs that are
    running keep everything.

    The command opens the database itself, on the machine that has the files; a server may run meanwhile. If it is
    interrupted, run it again. Exit code 1 if something could not be removed.
    """
    url = full_url(store)
    Database(url).close()  # raises for a server, with what to do: clients do not remove its files
    settings = Settings.from_environment()
    root = compose.artifact_root(artifacts or settings.artifacts, url)
    with existing_store(store) as opened:
        cache = cache_of(opened.url, settings.home)
        things = collect(cast("SqlRunStore", opened), root, older_than_ms=older_than, cache=cache, dry_run=dry_run)
        found = list(with_progress(things, "looking for files to remove", lambda one: one.bytes, _so_far))
    if format_ == "json":
        print_json(jsonable(found))
    elif found:
        print_lines(_lines(found))
    say(_sum_up(found, dry_run))
    if any(one.kept is not None for one in found):
        click.get_current_context().exit(1)


def _so_far(count: int, size: int) -> str:
    return f"{styles.plural(count, 'thing')}, {styles.size(size)}"


def _lines(found: Sequence[Collected]) -> Iterator[Text]:
    now = now_ms()
    columns = [
        Column(title="what"), Column(title="id"), Column(title="name", flexible=True), Column(title="deleted"),
        Column(title="files", right=True), Column(title="size", right=True),
    ]  # fmt: skip
    rows = [
        [
            Text(_KINDS[one.kind][0]),
            cell(one.id, "yellow"),
            cell(one.name),
            Text("" if one.since_ms is None else styles.ago(one.since_ms, now)),
            Text(styles.thousands(one.files) if one.kept is None else "–"),
            Text(styles.size(one.bytes) if one.kept is None else "stays"),
        ]
        for one in found
    ]
    titles, *lines = table(columns, rows, width=table_width())
    yield titles
    for one, line in zip(found, lines, strict=True):
        yield line
        if one.kept is not None:
            yield Text.assemble("  ", cell(one.kept, "dim"))


def _sum_up(found: Sequence[Collected], dry_run: bool) -> str:
    gone = [one for one in found if one.kept is None]
    counts = Counter(one.kind for one in gone)
    parts = [styles.plural(counts[kind], *_KINDS[kind]) for kind in _KINDS if kind in counts]
    size = styles.size(sum(one.bytes for one in gone))
    text = f"{'would remove' if dry_run else 'removed'} {', '.join(parts)}: {size}" if gone else "nothing to remove"
    kept = len(found) - len(gone)
    return printable(text + (f"; {kept} cannot be removed" if kept else ""))

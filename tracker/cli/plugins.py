"""`tracker plugins`: the installed plugins, and those that do not work."""

from __future__ import annotations

import click
from rich.text import Text

from tracker.cli.output import print_json, print_lines
from tracker.cli.tables import Column, cell, table
from tracker.plugins import installed
from tracker.settings import Settings

_STYLES = {"active": "green", "inactive": "yellow", "off": "dim", "failed": "bold red"}


@click.command()
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plugins(format_: str) -> None:
    """List the installed plugins, their hooks, and why a plugin does not work."""
    found = installed(Settings.from_environment(), say=False).found
    if format_ == "json":
        fields = ("name", "distribution", "version", "state", "hooks", "reason")
        print_json([{field: getattr(one, field) for field in fields} for one in found])
        return
    columns = [
        Column(title="name"), Column(title="distribution"), Column(title="state"), Column(title="hooks"),
    ]  # fmt: skip
    rows = [
        [
            cell(one.name),
            cell(f"{one.distribution} {one.version}".strip()),
            Text(one.state, _STYLES[one.state]),
            cell(", ".join(one.hooks)),
        ]
        for one in found
    ]
    print_lines(table(columns, rows))
    print_lines(cell(f"{one.name}: {one.reason}") for one in found if one.reason)

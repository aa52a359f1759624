"""`tracker doctor`: finds problems, and says what to do about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

import click
from rich.text import Text

from tracker.cli.doctor_checks import Finding, findings, versions
from tracker.cli.output import jsonable, print_json, print_lines, say, table_width
from tracker.cli.stores import store_option
from tracker.cli.styles import plural
from tracker.cli.tables import cell
from tracker.query.text_format import printable

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command()
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_option
def doctor(format_: str, store: str | None) -> None:
    """Check the settings, the store, the folders and the unsent journals, and say how to solve problems.

    It changes nothing. Exit code 1 if there is a problem.
    """
    found = list(findings(store))
    problems = sum(one.status == "problem" for one in found)
    if format_ == "json":
        print_json({"ok": not problems, "findings": jsonable(found), "versions": versions()})
    else:
        print_lines(_lines(found, versions(), table_width()))
        say(plural(problems, "problem") if problems else "no problem found")
    if problems:
        click.get_current_context().exit(1)


def _lines(found: Sequence[Finding], versions: Mapping[str, str | None], width: int | None) -> Iterator[Text]:
    checks = max(len(one.check) for one in found)
    margin = len("problem") + 2 + checks + 2
    room = None if width is None else max(width - margin, 20)
    for one in found:
        head = Text.assemble((f"{one.status:<7}", _STYLES[one.status]), f"  {one.check:<{checks}}  ")
        for line in _wrapped(one.found, room):
            yield Text.assemble(head, cell(line))
            head = Text(" " * margin)
        for line in one.advice.split("\n") if one.advice else ():
            yield Text.assemble(head, "→ ", cell(line, "bold"))
    listed = ", ".join(f"{name} {number or 'not installed'}" for name, number in versions.items())
    head = Text.assemble(f"{'':<7}  ", f"{'versions':<{checks}}  ")
    for line in _wrapped(listed, room):
        yield Text.assemble(head, Text(line, "dim"))
        head = Text(" " * margin)


def _wrapped(text: str, width: int | None) -> list[str]:
    """Lines of `text`, broken only for a terminal; what cannot be broken, like a path, stays whole."""
    lines = [printable(line) for line in text.split("\n")]
    if width is None:
        return lines
    return [part for line in lines for part in wrap(line, width, break_long_words=False, break_on_hyphens=False)]

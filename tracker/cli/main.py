"""`tracker`: what is typed. Errors become one sentence on stderr and an exit code: 1 failed, 2 bad usage."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any, NamedTuple, cast

import click

from tracker.domain.errors import InvalidValue, RunNotFound, TrackerError
from tracker.query.texts import printable


class Entry(NamedTuple):
    """A command that is imported when it is asked for: `name` in `module`, and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Entry] = {
    "runs": Entry("tracker.cli.runs", "List runs, newest first."),
    "show": Entry("tracker.cli.show", "Show a run: where it stands, its curves, parameters and decisions."),
    "history": Entry("tracker.cli.history", "Print the points of one metric."),
    "compare": Entry("tracker.cli.compare", "Set runs side by side, and fail if one is worse than it may be."),
    "delete": Entry("tracker.cli.deletion", "Hide a run from every list."),
    "undelete": Entry("tracker.cli.deletion", "Show a deleted run again."),
    "sync": Entry("tracker.cli.journals", "Ship what processes that died left behind."),
    "db": Entry("tracker.cli.db", "Look after the database: upgrade, current, check."),
    "doctor": Entry("tracker.cli.doctor", "Find out what is wrong, and what to do about it."),
}


class Failed(click.ClickException):
    """A TrackerError as the command line shows it."""

    def show(self, file: Any = None) -> None:
        lines = [printable(line) for line in self.message.split("\n")]
        click.echo("tracker: " + "\n".join(lines), file=file, err=file is None)


class Misused(Failed):
    """A TrackerError about what was typed."""

    exit_code = 2


class Commands(click.Group):
    """The commands in the order of COMMANDS; TrackerErrors of all of them are made presentable."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return cast(click.Command, getattr(import_module(entry.module), cmd_name)) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidValue as error:
            raise Misused(str(error)) from None
        except RunNotFound as error:
            raise Failed(f"{error}; `tracker runs` lists what there is") from None
        except TrackerError as error:
            raise Failed(str(error)) from None
        finally:
            sys.stdout.flush()  # a reader that went away is noticed here, where click is quiet about it


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="callback-tracker", prog_name="tracker")
def cli() -> None:
    """Read and look after what trainings recorded.

    RUN is a run's id, the begin of one that no other run has, or a name. Exit codes: 0 done, 1 the operation failed,
    2 bad usage. Data goes to stdout, talk to stderr. In JSON and CSV, numbers that JSON does not have are "NaN",
    "Infinity" and "-Infinity".
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tracker: %(message)s"))
    logging.getLogger("tracker").handlers[:] = [handler]


def main() -> None:
    """The console script."""
    cli(prog_name="tracker")

"""The command `tracker`. Errors become one sentence on stderr and an exit code: 1 failed, 2 bad usage."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple, cast

import click

from tracker.domain.errors import InvalidValue, RunNotFound, TrackerError
from tracker.domain.store_url import without_passwords
from tracker.query.text_format import printable


class CommandEntry(NamedTuple):
    """A command that is imported on use: `name` in `module`, and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, CommandEntry] = {
    "runs": CommandEntry("tracker.cli.runs", "List runs, newest first."),
    "show": CommandEntry("tracker.cli.show", "Show a run: its status, curves, parameters and decisions."),
    "history": CommandEntry("tracker.cli.history", "Print the points of one metric."),
    "compare": CommandEntry("tracker.cli.compare", "Compare runs; fail if one is worse than allowed."),
    "checkpoints": CommandEntry("tracker.cli.checkpoints", "List a run's checkpoints, and tag them."),
    "restore": CommandEntry("tracker.cli.restore", "Write a checkpoint of a run to a file."),
    "stop": CommandEntry("tracker.cli.stop", "Ask a training to stop at its next epoch."),
    "delete": CommandEntry("tracker.cli.deletion", "Delete a run; `undelete` restores it."),
    "undelete": CommandEntry("tracker.cli.deletion", "Restore a deleted run."),
    "ui": CommandEntry("tracker.cli.ui", "Show the store in the browser."),
    "server": CommandEntry("tracker.cli.server", "Serve the store over HTTP, with MLflow's pages and API."),
    "token": CommandEntry("tracker.cli.token", "Manage access tokens: create, list, revoke."),
    "artifacts": CommandEntry("tracker.cli.artifacts", "Record that files of runs were moved."),
    "gc": CommandEntry("tracker.cli.gc", "Remove deleted runs and pruned checkpoints for good."),
    "sync": CommandEntry("tracker.cli.journals", "Send the journals of processes that died."),
    "db": CommandEntry("tracker.cli.db", "Manage the database: upgrade, current, check."),
    "plugins": CommandEntry("tracker.cli.plugins", "List the installed plugins, and why one does not work."),
    "doctor": CommandEntry("tracker.cli.doctor", "Check the installation, and say how to solve problems."),
}


class Failed(click.ClickException):
    """A TrackerError as the command line shows it."""

    def show(self, file: Any = None) -> None:
        lines = [printable(line) for line in without_passwords(self.message).split("\n")]
        click.echo("tracker: " + "\n".join(lines), file=file, err=file is None)


class Misused(Failed):
    """A TrackerError about the command line's arguments."""

    exit_code = 2


class Lazily(MutableMapping[str, click.Command]):
    """Commands by name, each imported on use."""

    def __init__(self, entries: Mapping[str, CommandEntry]) -> None:
        self._entries = entries
        self._added: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name in self._added:
            return self._added[name]
        return cast(click.Command, getattr(import_module(self._entries[name].module), name))

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._added[name] = command

    def __delitem__(self, name: str) -> None:
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._added})

    def __len__(self) -> int:
        return len({**self._entries, **self._added})

    def short_help(self, name: str) -> str:
        """The command's line in the help, without importing it."""
        return self[name].get_short_help_str(80) if name in self._added else self._entries[name].help


class Commands(click.Group):
    """The commands in the order of COMMANDS, then those of plugins; TrackerErrors of all are made presentable.

    Plugins are loaded only if the name is no built-in command, or to list all.
    """

    def __init__(self, **settings: Any) -> None:
        self._lazily = Lazily(COMMANDS)
        super().__init__(commands=self._lazily, **settings)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or self._of_plugins().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self._of_plugins()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazily.short_help(name)) for name in self.commands])
        if found := self._of_plugins():
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in found.items()])

    def _of_plugins(self) -> Mapping[str, click.Command]:
        from tracker.cli.plugin_commands import plugin_commands

        return plugin_commands(frozenset(self.commands))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidValue as error:
            raise Misused(str(error)) from None
        except RunNotFound as error:
            raise Failed(str(error) if error.hint else f"{error}; `tracker runs` lists what there is") from None
        except TrackerError as error:
            raise Failed(str(error)) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, OSError):
            raise
        except Exception as error:
            if ctx.invoked_subcommand in self.commands:
                raise
            # Name the plugin instead of showing a traceback.
            logging.getLogger("tracker").debug("the command failed", exc_info=True)
            problem = f"{type(error).__name__}: {error}"
            raise Failed(f"the command {ctx.invoked_subcommand} of a plugin failed: {problem}") from error
        finally:
            sys.stdout.flush()  # a closed pipe is noticed here, where click handles it silently


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="callback-tracker", prog_name="tracker")
def cli() -> None:
    """Show and manage recorded trainings.

    RUN is a run's id, a unique prefix of it, or a run's name. Exit codes: 0 success, 1 the operation failed, 2 wrong
    usage. Data goes to stdout, messages to stderr. In JSON and CSV, numbers that JSON does not have are written as
    "NaN", "Infinity" and "-Infinity".
    """
    context, logger, handler = click.get_current_context(), logging.getLogger("tracker"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tracker: %(message)s"))
    logger.addHandler(handler)
    context.call_on_close(lambda: logger.removeHandler(handler))
    context.obj = handler


def main() -> None:
    """The console script."""
    cli(prog_name="tracker")

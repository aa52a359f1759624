"""The installed command `tracker`: how it starts, ends, and behaves in a pipe."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from e2e.cli_lab import COMMAND, installed, invoke, record

import tracker
from tracker.cli.main import COMMANDS, cli


def test_help_is_quick() -> None:
    """`tracker --help` lists all commands without importing database, arrays or tables."""
    code = (
        "import sys; sys.argv = ['tracker', '--help']\n"
        "from tracker.cli.main import main\n"
        "try: main()\n"
        "finally: print([m for m in ('sqlalchemy', 'alembic', 'numpy', 'rich', 'lark') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    *lines, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert {line.split()[0] for line in lines[lines.index("Commands:") + 1 :]} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_explains_itself(name: str) -> None:
    """Every command of the list can be imported, and has a help text."""
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert cli.commands[name].name == name
    assert len(done.stdout.splitlines()) > 6


@pytest.mark.parametrize("arguments", [["nonsense"], ["runs", "--nonsense"], ["show"], []])
def test_bad_usage_exits_with_2(arguments: list[str]) -> None:
    """Unknown commands and options and missing arguments exit with 2, with nothing on stdout."""
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage: " in done.stderr


def test_version_is_that_of_the_package() -> None:
    """`tracker --version` says which Tracker this is."""
    assert installed("--version").stdout == f"tracker, version {tracker.__version__}\n"


def test_installed_command_reads_a_store(store_url: str) -> None:
    """The console script does what the functions do, with the exit codes of the contract."""
    run_id = record("real", [0.5, 0.25])
    done = installed("runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith(run_id)
    failed = installed("show", "nope")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "tracker: run 'nope' not found; `tracker runs` lists what there is\n"
    misused = installed("runs", "--filter", "(")
    assert misused.returncode == 2
    assert "Traceback" not in misused.stderr


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_a_reader_that_goes_away_is_no_error(store_url: str, format_: str) -> None:
    """`tracker history … | head -1` ends quietly, however much was still to come."""
    with tracker.start_run(name="long") as run:
        for step in range(20_000):
            run.log({"x": 1.0}, step=step)
    command = f"{COMMAND} history long x --format {format_} | head -c 5"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert len(done.stdout) == 5
    assert done.stderr == ""


def test_a_reader_that_never_listens_is_no_error(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output small enough to wait in a buffer until the end is no complaint either."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    record("small")
    done = subprocess.run(["bash", "-c", f"{COMMAND} runs | true"], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""

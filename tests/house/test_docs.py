"""The docs name what there is: commands, arguments, settings, files."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path
from typing import get_args

import click
import pytest

import tracker
from tracker import settings
from tracker.cli.main import cli
from tracker.client.run import Run
from tracker.domain.extras import Extra
from tracker.domain.ports import RunStore
from tracker.hooks import Hooks
from tracker.plugins import HOOKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DOCS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def commands() -> list[str]:
    found = []
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            found += [f"{name} {sub}" for sub in command.commands]
        else:
            found.append(name)
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme(command: str) -> None:
    """A reader of the README finds each command."""
    first, _, second = command.partition(" ")
    assert re.search(rf"tracker {first}\b.*\b{second}", README)


def test_readme_names_no_command_that_is_not_there() -> None:
    """Each `tracker …` in a code block is a command."""
    blocks = "\n".join(re.findall(r"```(?:console|bash|sh)\n(.*?)```", README, re.S))
    named = set(re.findall(r"^\$? ?(?:\.venv/bin/)?tracker ([a-z]+)", blocks, re.M))
    assert named
    assert named <= set(cli.commands)


def test_hints_on_installing_come_from_one_place() -> None:
    """Messages take the command from `how_to_install`, whose extras are those of pyproject.toml."""
    files = [path for folder in ("tracker", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if re.search(r"pip install|callback-tracker\[", path.read_text())] == [
        "extras.py"
    ]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(get_args(Extra)) <= set(declared)
    named = re.findall(r"'(?:callback-tracker|\.)\[([a-z,-]+)\]", README)
    assert named
    assert {extra for extras in named for extra in extras.split(",")} <= set(declared)


def test_every_setting_is_in_the_readme() -> None:
    """Each TRACKER_* variable that the code reads is documented, and no other is."""
    source = (ROOT / "tracker" / "settings.py").read_text()
    read = set(re.findall(r'env(?:\.get\(|\[)"(TRACKER_[A-Z_]+)"', source))
    assert read
    assert set(re.findall(r"TRACKER_[A-Z]+(?:_[A-Z]+)*", README)) == read
    assert read == settings.VARIABLES, "what is not there is told to be a typing mistake"


@pytest.mark.parametrize(
    "name", [n for n in vars(Run) if not n.startswith("_") and n not in ("disown", "end", "preempted")]
)
def test_every_run_method_is_in_the_readme(name: str) -> None:
    """Each thing to do with a run is documented."""
    assert f"run.{name}" in README


@pytest.mark.parametrize(
    "name", [n for n in dir(RunStore) if not n.startswith("_") and callable(getattr(RunStore, n, None))]
)
def test_every_store_method_is_in_the_readme(name: str) -> None:
    """Each thing to ask of a store is documented, but for what clients and tools ask alone."""
    if name not in ("append", "close", "progress"):
        assert f"store.{name}(" in README


def test_start_run_arguments_are_in_the_readme() -> None:
    """Each argument of start_run is documented."""
    for name in inspect.signature(tracker.start_run).parameters:
        assert re.search(rf"\b{name}\b", README), name


def test_callback_arguments_are_in_the_readme() -> None:
    """Each argument of TrackerCallback has a row with its default; the source is read, as Keras takes long to import."""
    source = ast.parse((ROOT / "plugins/tracker_keras/callback.py").read_text())
    init = next(one for one in ast.walk(source) if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    defaults = [*init.args.defaults, *(one for one in init.args.kw_defaults if one is not None)]
    names = [*init.args.args[1:], *init.args.kwonlyargs]
    rows = {f"{name.arg}={ast.unparse(default)}" for name, default in zip(names, defaults, strict=True)}
    assert "run=None" in rows
    table = README[README.index("| `TrackerCallback(") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+=\w+)` \|", table, re.M)) == rows


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_in_the_readme(hook: str) -> None:
    """A plugin's author finds each hook, with its arguments."""
    arguments = ", ".join(list(inspect.signature(getattr(Hooks, hook)).parameters)[1:])
    assert f"| `{hook}({arguments})` |" in README


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_paths_in_the_docs_exist(document: Path) -> None:
    """A path that a document names is there."""
    folders = r"(?:tracker|plugins|migrations|tests|docker)"
    for path in re.findall(rf"`({folders}/[\w./*-]*)`", document.read_text()):
        assert list(ROOT.glob(path.rstrip("/"))), path


def test_every_package_is_in_the_architecture() -> None:
    """ARCHITECTURE.md says what each package and module at the top of `tracker` is for."""
    for path in (ROOT / "tracker").iterdir():
        if path.name.startswith("__") or path.name == "py.typed":
            continue
        assert re.search(rf"\b{path.name}\b" if path.suffix else rf"\b{path.name}/", ARCHITECTURE), path.name

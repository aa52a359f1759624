"""The house's own rules: sizes, imports, what the package is and carries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tracker

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("tracker", "plugins", "migrations")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_module_is_one_idea(path: Path) -> None:
    """A module has at most 400 lines and says at its head what it is."""
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "tracker")], ids=shown)
def test_nothing_inside_imports_the_package_root(path: Path) -> None:
    """`import tracker` inside tracker/ would tie every module to every other."""
    roots = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(name.name == "tracker" for name in node.names))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "tracker"
            and path.name == "__init__.py"
            and path.parent.name != "tracker"
        )
    ]
    assert roots == []


def _modules() -> dict[str, Path]:
    found = {}
    for path in SOURCES:
        inside = path.relative_to(ROOT)
        parts = inside.parts if inside.parts[0] == "tracker" else inside.parts[1:]
        found[".".join(parts).removesuffix(".py").removesuffix(".__init__")] = path
    return found


def _imports(path: Path, modules: Collection[str]) -> set[str]:
    """Our modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
            found |= inside or {node.module}
    return found & set(modules)


def test_no_circles() -> None:
    """No module needs itself by way of others, not even for its types or within a function."""
    modules = _modules()
    graph = {name: _imports(path, modules) for name, path in modules.items()}
    graph["tracker.domain.errors"] -= {"tracker.domain.store_url"}  # InvalidStoreUrl hides its argument by itself
    graph["tracker_keras"] = set()  # it only names what is imported when it is used
    graph.pop("tracker")
    TopologicalSorter(graph).prepare()


def test_one_seam_to_keras() -> None:
    """One module reads the frame of Keras' `fit()` and wraps it; all others ask it."""
    touches = re.compile(r"_getframe|f_locals|f_back|keras\.Model\.fit = ")
    plugins = [path for path in SOURCES if path.is_relative_to(ROOT / "plugins") and "tracker_system" not in path.parts]
    assert [path.name for path in plugins if touches.search(path.read_text())] == ["instrumentation.py"]


def test_public_names_are_there() -> None:
    """What `__all__` promises can be imported, and nothing else is public."""
    public = {name for name, value in vars(tracker).items() if not name.startswith("_") and not _is_module(value)}
    assert public - {"annotations"} == set(tracker.__all__)


def _is_module(value: object) -> bool:
    return isinstance(value, type(sys))


def test_import_is_light() -> None:
    """`import tracker` pulls in no database, array, web or training library."""
    heavy = "sqlalchemy alembic numpy rich click lark keras tensorflow mlflow platformdirs asyncio pluggy psutil"
    code = f"import sys, tracker; print(*[m for m in {heavy!r}.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_console_script() -> None:
    """The distribution installs the command `tracker`."""
    (script,) = [e for e in entry_points(group="console_scripts") if e.name == "tracker"]
    assert script.load().__module__ == "tracker.cli.main"


def test_wheel_carries_all_packages(tmp_path: Path) -> None:
    """A wheel has every module of ours, the migrations included, and nothing of the tests."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("callback_tracker-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in SOURCES:
        relative = path.relative_to(ROOT)
        inside = relative if relative.parts[0] == "tracker" else relative.relative_to(relative.parts[0])
        assert inside.as_posix() in names
    assert not [name for name in names if name.startswith("tests")]


def test_no_server_imports_an_orm() -> None:
    """SQLAlchemy's takes 0.1 s, and nothing needs it."""
    code = "import sys, tracker.server.app, tracker.store.store; print('sqlalchemy.orm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

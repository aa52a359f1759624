"""The built wheel in a fresh environment with one extra alone, at the lowest and the newest versions that are allowed.

`make test` tries one environment; `make installs` tries them all, which takes long and fetches much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
USES = Path(__file__).with_name("uses")
UV = Path(sys.executable).with_name("uv")
EXTRAS = sorted(path.stem.removeprefix("use_").replace("_", "-") for path in USES.glob("*.py"))
GRID = [(extra, versions, python) for extra in EXTRAS for versions in ("lowest-direct", "highest") for python in ("3.11", "3.13")]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The whole grid where it is asked for, else what is quick."""
    if "place" in metafunc.fixturenames:
        quick = [("core", "lowest-direct", sys.executable)]
        grid = GRID if metafunc.config.getoption("all_installs") else quick
        metafunc.parametrize("place", grid, ids=lambda place: "-".join(Path(part).name for part in place))


def uv(*arguments: str | Path) -> None:
    """Run uv; what it says when it fails is the test's failure."""
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_an_extra_alone_does_what_it_is_for(wheel: Path, place: tuple[str, str, str], tmp_path: Path) -> None:
    """With only its own dependencies, an extra's use runs from start to end."""
    extra, versions, python = place
    named = [] if extra == "core" else ["--extra", extra]
    # Only of pyproject.toml are the dependencies direct ones; of a wheel they would not be lowered.
    pins, venv = tmp_path / "pins.txt", tmp_path / "venv"
    uv("pip", "compile", "--quiet", "--python", python, "--resolution", versions, *named, "-o", pins, "pyproject.toml")
    uv("venv", "--quiet", "--python", python, venv)
    brackets = "" if extra == "core" else f"[{extra}]"
    wanted = f"callback-tracker{brackets} @ {wheel.as_uri()}"
    uv("pip", "install", "--quiet", "--python", venv, "--constraint", pins, wanted)
    (tmp_path / "work").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "PYTHON"))}
    done = subprocess.run(
        [venv / "bin" / "python", USES / f"use_{extra.replace('-', '_')}.py"],
        cwd=tmp_path / "work",
        env=clean | {"TRACKER_HOME": str(tmp_path / "home"), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{pins.read_text()}"
    assert "works" in done.stdout

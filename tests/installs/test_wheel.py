"""The built wheel in a fresh environment with one extra alone, at the lowest and the newest versions that are allowed.

`make test` tries one environment; `make installs` tries them all, which takes long and fetches much.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    """Run uv; what it says when it fails is the test's failure. It fetches no interpreter."""
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr


def interpreter(version: str) -> str:
    """The executable of a Python `version`, as "3.13", or of one that is given by its path."""
    if Path(version).is_absolute():
        return version
    for candidate in _candidates(f"python{version}"):
        # A shim of pyenv is a script, and one for a version that is not chosen here only fails.
        asked = subprocess.run([candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.strip()
    raise AssertionError(f"no python{version} on PATH, and pyenv knows none: install one (pyenv install {version})")


def _candidates(name: str) -> Iterator[str]:
    if (found := shutil.which(name)) is not None:
        yield found
    if (pyenv := shutil.which("pyenv")) is not None:
        asked = subprocess.run([pyenv, "whence", "--path", name], capture_output=True, text=True)
        yield from reversed(asked.stdout.splitlines())  # the newest last


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--quiet", "--out-dir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_an_extra_alone_does_what_it_is_for(
    wheel: Path, place: tuple[str, str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With only its own dependencies, an extra's use runs from start to end."""
    extra, versions, python = place
    python = interpreter(python)
    named = [] if extra == "core" else ["--extra", extra]
    # Only of pyproject.toml are the dependencies direct ones; of a wheel they would not be lowered.
    pins, venv = tmp_path / "pins.txt", tmp_path / "venv"
    uv("pip", "compile", "--quiet", "--python", python, "--resolution", versions, *named, "-o", pins, "pyproject.toml")
    uv("venv", "--quiet", "--python", python, venv)
    brackets = "" if extra == "core" else f"[{extra}]"
    wanted = f"callback-tracker{brackets} @ {wheel.as_uri()}"
    uv("pip", "install", "--quiet", "--python", venv, "--constraint", pins, wanted)
    (tmp_path / "work").mkdir()
    given = [request.getfixturevalue("empty_postgres_url")] if extra == "postgres" else []
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "PYTHON"))}
    done = subprocess.run(
        [venv / "bin" / "python", USES / f"use_{extra.replace('-', '_')}.py", *given],
        cwd=tmp_path / "work",
        env=clean | {"TRACKER_HOME": str(tmp_path / "home"), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{pins.read_text()}"
    assert "works" in done.stdout

"""`import tracker_keras` costs nothing, and says what is missing where Keras is."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_importing_the_package_imports_no_keras() -> None:
    """The backend can still be chosen after `import tracker_keras`."""
    done = python("import sys, tracker_keras; print('keras' in sys.modules, dir(tracker_keras)[-1])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "False"


def test_without_keras_the_error_says_what_to_install() -> None:
    """Where Keras is not installed, asking for the callback names it and the command that brings it."""
    done = python("import sys; sys.modules['keras'] = None\nfrom tracker_keras import TrackerCallback")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "needs keras" in last
    assert "pip install 'callback-tracker[keras]'" in last


def test_a_name_that_is_not_there() -> None:
    """A misspelt name is an ordinary ImportError that names it."""
    done = python("from tracker_keras import TrackerCalback")
    assert done.returncode == 1
    assert "TrackerCalback" in done.stderr.strip().splitlines()[-1]

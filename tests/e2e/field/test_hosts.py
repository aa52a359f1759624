"""The same training leaves the same record in every kind of process: script, module, child, notebook, odd folders."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from draws import EVERYTHING, SEED
from e2e.field.hosts import HOSTS, ODD, trained, wrong

pytestmark = pytest.mark.timeout(600)
NAMES = [name for name in HOSTS if name != "script"]
TODAY = random.Random(SEED).choice(NAMES)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a plain script."""
    found, lies = trained(HOSTS["script"], tmp_path_factory.mktemp("host"))
    assert lies == []
    return found


@pytest.mark.parametrize("name", NAMES if EVERYTHING else [TODAY])
def test_any_process(name: str, reference: dict[str, Any], tmp_path: Path) -> None:
    """However the process was started, and whatever surrounds it."""
    assert not (lines := wrong(reference, HOSTS[name], tmp_path)), lines


def test_everything_odd_at_once(reference: dict[str, Any], tmp_path: Path) -> None:
    """A module in a folder with every special character, without HOME, in the locale C, with few files."""
    assert not (lines := wrong(reference, ODD, tmp_path)), lines

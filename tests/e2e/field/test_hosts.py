"""The same training leaves the same record in every kind of process: script, module, child, notebook, odd folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from draws import daily
from e2e.field.hosts import HOSTS, trained, wrong

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a plain script."""
    found, lies = trained(HOSTS["script"], tmp_path_factory.mktemp("host"))
    assert lies == []
    return found


@pytest.mark.parametrize("name", daily([name for name in HOSTS if name != "script"], "host"))
def test_any_process(name: str, reference: dict[str, Any], tmp_path: Path) -> None:
    """However the process was started, and whatever surrounds it."""
    assert not (lines := wrong(reference, HOSTS[name], tmp_path)), lines

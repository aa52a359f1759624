"""Keras' scenarios, recorded once a backend for all tests that read the records."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from e2e.keras_lab import BACKENDS, SEED, Lab, begin, lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says what draws the same conditions again."""
    report = yield
    if report.failed:
        report.sections.append(("Drawn", f"FIELD_SEED={SEED} draws the same conditions again"))
    return report


@pytest.fixture(params=BACKENDS)
def keras(request: pytest.FixtureRequest) -> Lab:
    """What was recorded with one of the backends."""
    return lab(request.param)


@pytest.fixture(scope="session", autouse=True)
def labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Begin to record beside the first tests, if a test wants the records; the workers of a session share them."""
    folder, shared = tmp_path_factory.getbasetemp(), hasattr(request.config, "workerinput")
    wanted = {item.callspec.params["keras"] for item in request.session.items if "keras" in item.fixturenames}
    begin(folder.parent if shared else folder, sorted(wanted), shared=shared)

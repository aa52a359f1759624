"""What tests of Keras share: the records of its scenarios."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab, backends, lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that read Keras' scenarios do so for the backend of the day."""
    if "keras" in metafunc.fixturenames:
        metafunc.parametrize("keras", backends(metafunc.module.__name__), indirect=True)


@pytest.fixture
def keras(request: pytest.FixtureRequest) -> Lab:
    """What was recorded with a backend of the trainings in the test's module."""
    made = lab(request.param)
    made.record(request.path.stem)
    return made

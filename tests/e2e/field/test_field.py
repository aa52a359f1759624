"""The same training leaves the same record, however `fit()` is called, and also if it dies and is resumed.

FIELD_SEED=n draws the pairs of another day again; FIELD_PAIRS=n draws so many.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.field.trials import Field, Trial, trials
from e2e.keras_lab import backends

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="session")
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Field]:
    """The records of all trials with a backend that this session asks for, made in one process at the first call."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [one.params["trial"] for one in asked if one is not None and isinstance(one.params.get("trial"), Trial)]
    made: dict[str, Field] = {}

    def of(backend: str) -> Field:
        if backend not in made:
            made[backend] = Field(tmp_path_factory.mktemp(f"field-{backend}"), backend, wanted)
        return made[backend]

    return of


@pytest.mark.parametrize("trial", [one for backend in backends("field") for one in trials(backend)], ids=str)
def test_the_record_is_that_of_the_training(field: Callable[[str], Field], trial: Trial) -> None:
    """Epochs, rates, events, checkpoints, histograms, parameters and problems are those of the reference."""
    assert not (wrong := field(trial.backend).wrong(trial)), wrong


@pytest.mark.parametrize(
    "trial", [one for backend in backends("field") for one in trials(backend, resumed=True)], ids=str
)
def test_a_resumed_training_is_one_that_never_died(field: Callable[[str], Field], trial: Trial) -> None:
    """Killed in the middle of an epoch and started again, it leaves the record of the one that was not killed."""
    assert not (wrong := field(trial.backend).wrong(trial)), wrong

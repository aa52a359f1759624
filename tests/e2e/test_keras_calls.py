"""What is recorded of a fit does not depend on how `fit()` was called."""

from __future__ import annotations

import pytest
from e2e.keras_lab import BACKENDS, Lab, lab


@pytest.fixture(params=BACKENDS)
def keras(request: pytest.FixtureRequest) -> Lab:
    """The records of all scenarios with one backend."""
    return lab(request.param)


def test_verbose_and_place_change_nothing(keras: Lab) -> None:
    """Whatever `verbose` is and wherever our callback stands: each epoch's rate, its state, and no problems."""
    runs = keras.said("called_with_verbose")["runs"]
    assert len(runs) == 15
    for name, facts in runs.items():
        run = keras.run(name)
        assert keras.values(run.id, "learning_rate") == pytest.approx(facts["rates"]), name
        assert keras.values(run.id, "loss") == pytest.approx(facts["loss"]), name
        (state,) = [one for one in keras.store.checkpoints(run.id) if one.status == "published"]
        assert (state.role, state.epoch, state.step) == ("state", 3, 16), name
        kinds = [event.kind for event in keras.store.events(run.id)]
        assert (kinds.count("learning_rate_changed"), kinds.count("weights_restored")) == (3, 1), name
        assert facts["said"] == [], name

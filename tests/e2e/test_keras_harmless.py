"""Whatever fails in tracking, the training does not notice."""

from __future__ import annotations

import pytest
from e2e.keras_lab import Lab

SCENARIOS = ("harm",)


def test_errors_do_not_reach_fit(keras: Lab) -> None:
    """With a run that fails at every call `fit()` and `evaluate()` give exactly what they give without us."""
    assert keras.said("errors")["unharmed"] is True


def test_errors_are_said_once_and_counted(keras: Lab) -> None:
    """The first error of each kind of work is on the log with its traceback; the count tells of all."""
    facts = keras.said("errors")
    told = [said for said in facts["said"] if "Traceback" in said]
    kinds = [said.splitlines()[0] for said in told]
    assert any("start_fit is broken" in said for said in told)
    assert any("while logging a batch" in said for said in told)
    assert any("log_epoch is broken" in said for said in told)
    assert len(kinds) <= 2 * len(set(kinds))  # there were two callbacks
    early, late = facts["errors"]
    assert early >= 1
    assert late >= 2 * 4 + 2
    assert any("errors of tracking in all" in said for said in facts["said"])


def test_a_store_that_is_away(keras: Lab) -> None:
    """Training against a store that does not answer takes its normal time, and says where the points are kept."""
    facts = keras.said("store_away")
    assert facts["epochs"] == 3
    assert facts["seconds"] < 20
    assert any("still in the journal" in said for said in facts["said"])


def test_only_the_chief_records(keras: Lab) -> None:
    """Of a multi-worker training the chief's record alone is kept: the task `chief`, else worker 0."""
    facts = keras.said("workers")
    chiefs = {"worker 0", "chief"} if keras.backend == "tensorflow" else {name for name in facts if "opens" not in name}
    for name in (name for name in facts if "opens" not in name):
        assert len(keras.store.fits(facts[name])) == (1 if name in chiefs else 0), name
        assert facts[f"{name} opens a run"] is (name in chiefs)


@pytest.mark.parametrize("argument", ["run", "log_batches", "log_batches as a flag"])
def test_arguments_that_cannot_be_meant_are_refused(keras: Lab, argument: str) -> None:
    """A run that is none, or a number of steps that is none, is refused with the value and what would be right."""
    message = keras.said("misuse")[argument]
    assert argument.split()[0] in message
    assert "limit:" in message

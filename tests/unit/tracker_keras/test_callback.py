"""The arguments of TrackerCallback."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.domain.errors import InvalidValue


@pytest.mark.parametrize("given", [
    {"checkpoint": 0}, {"checkpoint": -1}, {"checkpoint": True}, {"checkpoint": "step"}, {"checkpoint": 1.5},
    {"resume": "auto"}, {"resume": None},
])  # fmt: skip
def test_arguments_that_cannot_be_meant(given: dict[str, Any]) -> None:
    """They are refused by name, with what is allowed."""
    from tracker_keras import TrackerCallback

    ((name, _),) = given.items()
    with pytest.raises(InvalidValue, match=rf"{name}: .*limit: "):
        TrackerCallback(**given)

"""The arguments of our ModelCheckpoint."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.domain.errors import InvalidValue


@pytest.mark.parametrize(("given", "field"), [
    ({"keep_last": 0}, "keep_last"),
    ({"keep_last": True}, "keep_last"),
    ({"keep_best": -1}, "keep_best"),
    ({"keep_best": 1.5}, "keep_best"),
    ({"save_freq": 0}, "save_freq"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], field: str) -> None:
    """The error names the argument and its limit."""
    from tracker_keras import ModelCheckpoint

    with pytest.raises(InvalidValue, match=rf"^{field}: .*from 1 on") as raised:
        ModelCheckpoint("m.keras", **given)
    assert raised.value.field == field


def test_what_keras_refuses_is_refused() -> None:
    """With Keras' own errors."""
    from tracker_keras import ModelCheckpoint

    with pytest.raises(ValueError, match=r"\.weights\.h5"):
        ModelCheckpoint("m.keras", save_weights_only=True)
    with pytest.raises(ValueError, match="save_freq"):
        ModelCheckpoint("m.keras", save_freq="batch")

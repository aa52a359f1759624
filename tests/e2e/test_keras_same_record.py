"""The same training leaves the same record, whenever its files are copied and shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from draws import EVERYTHING
from e2e.keras_lab import backends, training

SCRIPT = Path(__file__).with_name("keras_same_record.py")
TRAININGS = 3 if EVERYTHING else 2


@pytest.mark.parametrize("backend", backends(__name__))
def test_checkpoints_are_a_function_of_the_training(backend: str, tmp_path: Path) -> None:
    """Rows, their order, what is the best, and the timeline are equal, though a busy disk delays each copy otherwise."""
    file = tmp_path / "facts.json"
    done = training([SCRIPT, str(TRAININGS), file], tmp_path, backend, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    for how, (first, *others) in json.loads(file.read_text()).items():
        assert len(others) == TRAININGS - 1
        for other in others:
            for part in first:
                assert other[part] == first[part], (how, part)
        rows: list[Any] = first["rows"]
        every = [row for row in rows if row[4] == "every.weights.h5"]
        assert [row[:2] for row in every] == [[(step - 1) // 4, step] for step in range(3, 17, 3)]
        assert [row[6]["mid_epoch"] for row in every] == [True, True, True, None, True]
        each = [row for row in rows if row[4] == "each.weights.h5"]
        assert [row[:2] for row in each] == [[epoch, 4 * epoch + 4] for epoch in range(4)]
        assert all(row[6]["mid_epoch"] is None for row in each), "saved after the last batch"
        assert all(row[6]["best_by"] == "mae" for row in rows if row[4] == "best.keras")
        assert (len(first["best"]) >= 1, first["problems"]) == (True, {})

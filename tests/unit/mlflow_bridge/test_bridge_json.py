"""Points of metrics as MLflow's JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tracker.mlflow_bridge.metric_json import encode_metrics


@pytest.mark.parametrize("run_id", [None, 'r"1'])
@pytest.mark.parametrize("size", [0, 1, 3, 8192, 20_000])
def test_points_are_mlflows_metrics(size: int, run_id: str | None) -> None:
    """Every point is an object of MLflow's names, exact to the bit, in order, however many there are."""
    steps, ms = np.arange(size) - 5, 1_700_000_000_000 + np.arange(size)
    values = np.random.default_rng(size).standard_normal(size) * 1e-9
    values[1::100], values[2::100], values[3::100] = math.nan, math.inf, -math.inf

    def refuse(name: str) -> None:
        raise AssertionError(name)

    points = json.loads(encode_metrics("a/lösung", steps, ms, values, run_id), parse_constant=refuse)
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    wanted = [
        {
            "key": "a/lösung",
            "value": "NaN" if value != value else names.get(value, value),
            "timestamp": time,
            "step": step,
        }
        for step, time, value in zip(steps.tolist(), ms.tolist(), values.tolist(), strict=True)
    ]
    assert points == [one if run_id is None else {**one, "run_id": run_id} for one in wanted]

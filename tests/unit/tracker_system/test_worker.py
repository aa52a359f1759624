"""Which worker this process is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tracker_system.worker import worker_name


def config(kind: str, index: int, *others: str) -> str:
    value: dict[str, Any] = {"cluster": {key: ["a:1", "b:1"] for key in ("worker", *others)}}
    return json.dumps(value | {"task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"TF_CONFIG": config("worker", 0)}, ""),
        ({"TF_CONFIG": config("worker", 1)}, "worker-1"),
        ({"TF_CONFIG": config("chief", 0, "chief")}, ""),
        ({"TF_CONFIG": config("worker", 0, "chief")}, "worker-0"),
        ({"TF_CONFIG": config("evaluator", 0)}, "evaluator-0"),
        ({"TF_CONFIG": "{"}, ""),
        ({"TF_CONFIG": "[]", "RANK": "2"}, "worker-2"),
        ({"RANK": "0"}, ""),
        ({"SLURM_PROCID": "3"}, "worker-3"),
        ({"RANK": "x"}, ""),
    ],
)
def test_the_chief_has_no_name(environment: dict[str, str], name: str) -> None:
    """Launchers say in the environment which worker a process is; the chief, and who is alone, has no name."""
    assert worker_name(environment) == name

"""The OpenAPI document says all that the server answers, and no request makes it fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.server_lab import Server, batch, points, start_of

from tracker.domain import frames

ALL_KINDS = batch(
    "r",
    1,
    start_of(),
    points(1, x=float("nan"), y=1.0),
    points(2, x=float("inf"), y=-2.5),
    frames.Params(1, 0, {"width": 64, "name": "x", "nested": [1, {"a": None}]}),
    frames.Tags(1, {"team": "blue"}),
    frames.EventLogged(1, "noted", 1, None, 0, {"why": ["so"]}),
    frames.HistogramLogged(1, "h", "step", 1, 0, [0.0, 0.5, 1.0], [3, 1]),
    frames.DatasetLogged(1, "train", "ab", "code", "{}", None, None, {"mlflow.data.context": "train"}),
    frames.FitStarted(3000, 1, 1, 0, 1, 0, 0, 10, 10, 32, None, "host"),
    frames.EpochEnded(3000, 0, 1, 0.5, {"val_loss": float("-inf")}, 10),
    frames.CheckpointLogged(1, 0, None, 1, ".keras", {"x": float("nan")}, True, {"a": 1}, frames.Staged("a", "b", 3), "0" * 64, "file:///x"),
)  # fmt: skip
"""A run that has something of every kind."""


@pytest.fixture
def server(store_url: str) -> Any:
    with Server(store_url) as started:
        assert started.post(ALL_KINDS).status == 200
        assert started.ask("PUT", "/api/v1/runs/r/artifacts/a.txt", b"text").status == 201
        yield started


@pytest.mark.timeout(120)
def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """Thousands of odd requests: no 5xx, no status, type, header or shape that the document does not have.

    That valid data is accepted is not asked: a filter is a language, which no schema describes.
    """
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.run_id" = "r"\n"query.key" = "x"\n')
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/api/v1/openapi.json", "--max-time", "15",
         "--phases", "coverage,fuzzing", "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color"],
        capture_output=True, text=True, timeout=100, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "SCHEMATHESIS_HOOKS": "e2e.server_schema_hooks"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.end() == 0
    assert "Traceback" not in server.errors


def test_document_has_every_route(server: Server) -> None:
    """Each thing that a store offers has its path."""
    paths = server.get("/api/v1/openapi.json")["paths"]
    assert {"/api/v1/batches", "/api/v1/runs", "/api/v1/runs:find", "/api/v1/experiments", "/healthz", "/readyz"} < set(
        paths
    )
    kinds = "progress params tags metrics fits epochs events checkpoints histograms history artifacts stop restore"
    assert {f"/api/v1/runs/{{run_id}}/{kind}" for kind in kinds.split()} < set(paths)
    assert set(paths["/api/v1/runs/{run_id}"]) == {"get", "delete"}


def test_document_says_who_may_ask(server: Server) -> None:
    """Every operation says what comes without a token and without the role, and the document how a token is sent."""
    document = server.get("/api/v1/openapi.json")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403"} < set(operation["responses"]), (method, path)
            assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    assert {one["scheme"] for one in document["components"]["securitySchemes"].values()} == {"bearer", "basic"}
    assert "/metrics" in document["paths"]

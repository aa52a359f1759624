"""The table of roles: what each role may do, and that all that MLflow's own application answers stands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tracker.domain.access import ROLES, Role, may
from tracker.server.roles import Rules

MLFLOW = "/api/2.0/mlflow"
AJAX = "/ajax-api/2.0/mlflow"

CASES: list[tuple[str, str, Role]] = [
    ("GET", "/", "viewer"),
    ("HEAD", "/api/v1/runs/r", "viewer"),
    ("OPTIONS", f"{MLFLOW}/experiments/delete", "viewer"),
    ("GET", "/metrics", "viewer"),
    ("GET", "/static-files/static/js/main.js", "viewer"),
    ("GET", f"{AJAX}/artifacts/list", "viewer"),
    ("GET", "/get-artifact", "viewer"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/x", "viewer"),
    ("POST", f"{MLFLOW}/runs/search", "viewer"),
    ("POST", f"{AJAX}/experiments/search", "viewer"),
    ("POST", f"{AJAX}/experiments/search-datasets", "viewer"),
    ("POST", f"{AJAX}/logged-models/search", "viewer"),
    ("POST", "/graphql", "viewer"),
    ("POST", "/api/v1/batches", "writer"),
    ("PUT", "/api/v1/runs/r/artifacts/a/b", "writer"),
    ("DELETE", "/api/v1/runs/r", "writer"),
    ("POST", "/api/v1/runs/r/stop", "writer"),
    ("POST", f"{MLFLOW}/runs/create", "writer"),
    ("POST", f"{MLFLOW}/runs/log-batch", "writer"),
    ("POST", f"{AJAX}/runs/delete", "writer"),
    ("POST", f"{AJAX}/experiments/set-experiment-tag", "writer"),
    ("POST", f"{MLFLOW}/logged-models", "writer"),
    ("PATCH", f"{MLFLOW}/logged-models/m-1/tags", "writer"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/x", "writer"),
    ("POST", f"{MLFLOW}/registered-models/create", "writer"),
    ("POST", f"{MLFLOW}/experiments/delete", "admin"),
    ("POST", f"{AJAX}/experiments/restore", "admin"),
    ("DELETE", f"{MLFLOW}/registered-models/delete", "admin"),
    ("DELETE", f"{MLFLOW}/model-versions/delete", "admin"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/x", "admin"),
    ("GET", f"{MLFLOW}/gateway/secrets/list", "admin"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke", "admin"),
    ("POST", "/ajax-api/3.0/jobs/", "admin"),
    # What is nowhere in the table, and what only looks like something that is.
    ("POST", "/nothing", "admin"),
    ("GET", "/nothing", "admin"),
    ("GET", "//api/v1/runs", "admin"),
    ("GET", "/API/v1/runs", "admin"),
    ("POST", "/api/v1/runs/r/stop/", "admin"),
    ("POST", "/api/v1/runs/a/b/stop", "admin"),
    ("POST", f"{MLFLOW}/runs/search/", "admin"),
    ("POST", f"{MLFLOW}/runs/search\n", "admin"),
    ("GET", "/api/v1x", "admin"),
    ("BREW", "/api/v1/runs", "admin"),
]


@pytest.mark.parametrize(("method", "path", "role"), CASES)
def test_role_that_is_needed(method: str, path: str, role: Role) -> None:
    """Reading needs a viewer, recording a writer, deleting experiments and models and whatever is unknown an admin."""
    rules = Rules()
    assert rules.of(method, path).role == role
    assert rules.of(method, path).role == role  # the second time from memory


def test_roles_include_those_below() -> None:
    """Each role may do what those before it may, and no more."""
    assert [[may(role, needed) for needed in ROLES] for role in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_memory_of_paths_is_bounded() -> None:
    """However many paths are asked for, few are remembered, and the answers stay right."""
    rules = Rules()
    for number in range(10_000):
        assert rules.of("GET", f"/api/v1/runs/{number}").role == "viewer"
        assert rules.of("DELETE", f"/nothing/{number}").role == "admin"
    assert len(rules._seen) < 10_000


_ALL_RULES = """
import json
import mlflow.server
from mlflow.server.fastapi_app import app
found = [(method, rule.rule) for rule in mlflow.server.app.url_map.iter_rules() for method in rule.methods]
for included in app.routes:
    if router := getattr(included, "original_router", None):
        prefix = included.include_context.prefix
        found += [(method, prefix + route.path) for route in router.routes for method in route.methods]
print(json.dumps(found))
"""


def test_all_that_mlflow_answers_is_in_the_table() -> None:
    """Every method of every route of MLflow's application fits a line of the table: none is left to the default."""
    done = subprocess.run(
        [sys.executable, "-c", _ALL_RULES],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    found = {(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])}
    assert len(found) > 400
    rules = Rules()
    unknown = [
        (method, path)
        for method, path in sorted(found)
        if method not in ("HEAD", "OPTIONS") and not rules.of(method, path).label
    ]
    assert unknown == []
    # What changes something never goes by a viewer's role, but for searches, which come as POST.
    reading = {
        path.rpartition("/")[2]
        for method, path in found
        if method not in ("GET", "HEAD", "OPTIONS") and rules.of(method, path).role == "viewer"
    }
    assert reading <= {
        "search", "search-datasets", "graphql", "get-latest-versions", "presigned-download-url", "ui-telemetry",
        "metrics", "batchGetInfos", "calculate-filter-correlation",
    }  # fmt: skip

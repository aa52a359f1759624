"""Allowlist of MLflow's application: which requests reach it, and which are refused before it.

Other paths are not found. The dangerous ones run code, or contact other servers, at a client's request.
"""

from __future__ import annotations

import re

from tracker.server.mlflow import mlflow_errors

_API = r"/(?:ajax-)?api"
_V2 = _API + r"/2\.0/mlflow/"
_V3 = _API + r"/3\.0/mlflow/"

_DANGEROUS = re.compile(
    rf"(?:{_API}/\d\.0/mlflow/(?:assistant|demo|gateway|gateway-proxy|genai|jobs|scorer|users|webhooks|issues/invoke"
    rf"|prompt-optimization|runs/create-promptlab-run|scorers/online-configs?)(?:/.*)?"
    rf"|{_API}/3\.0/jobs(?:/.*)?"
    r"|/gateway(?:/.*)?|/signup|/v1/traces)\Z",
    re.IGNORECASE,
)

_REACHED = re.compile(
    rf"(?:{_V2}(?:registered-models|model-versions|logged-models|traces|experiments|runs|get-trace-artifact)(?:/.*)?"
    rf"|{_V3}(?:traces|datasets|scorers|issues|label-schemas|review-queues|mcp-servers|get-trace-artifact|workspaces"
    rf"|logged-models|registered-models|model-versions)(?:/.*)?"
    r"|/graphql|/model-versions/get-artifact)\Z"
)

_OURS = re.compile(
    rf"(?:{_API}/(?!v1/).*|/gateway(?:/.*)?|/graphql|/signup|/v1/traces|/get-artifact|/model-versions/.*)\Z",
    re.IGNORECASE,
)


def is_ours(path: str) -> bool:
    """Whether the path is one of MLflow's, allowed or not."""
    return _OURS.match(path) is not None


def is_reached(method: str, path: str) -> bool:
    """Whether MLflow's application may answer it."""
    plain = "//" not in path and not any(name in (".", "..") for name in path.split("/"))
    if path == "/graphql" and method != "POST":
        return False  # it fails there, with a traceback on the log
    return plain and _REACHED.match(path) is not None and _DANGEROUS.match(path) is None


def refusal(method: str, path: str) -> mlflow_errors.ErrorBody:
    """The response to a refused request. For optional features that the UI checks, it says that they are absent."""
    if _DANGEROUS.match(re.sub("/+", "/", path)) and method not in ("GET", "HEAD"):
        return mlflow_errors.refusal("PERMISSION_DENIED", f"{path[:200]} is switched off on this server")
    return mlflow_errors.refusal("ENDPOINT_NOT_FOUND", f"this server has no {path[:200]}")

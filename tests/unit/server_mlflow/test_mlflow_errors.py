"""Errors as MLflow's clients get them."""

from __future__ import annotations

import json

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from tracker.domain.errors import ExperimentNotFound, InvalidValue, RunNotFound, StoreUnavailable, TrackerError
from tracker.server.group_commit import Busy
from tracker.server.mlflow.mlflow_errors import STATUS, document, error_answer
from tracker.server.problem_details import Refused


@pytest.mark.parametrize("code", STATUS)
def test_codes(code: str) -> None:
    """Each code has the status, the SQLSTATE and the class that MLflow gives it."""
    theirs = MlflowException("why", ErrorCode.Value(code))
    assert json.loads(document(code, "why")) == json.loads(theirs.serialize_as_json())
    assert STATUS[code] == theirs.get_http_status_code()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RunNotFound("r"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (ExperimentNotFound("e"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (InvalidValue("key", "too long"), 400, "INVALID_PARAMETER_VALUE"),
        (StoreUnavailable("away"), 503, "TEMPORARILY_UNAVAILABLE"),
        (Busy("full"), 503, "TEMPORARILY_UNAVAILABLE"),
        (Refused(413, "too much"), 413, "BAD_REQUEST"),
        (Refused(503, "too many", headers={"Retry-After": "1"}), 503, "TEMPORARILY_UNAVAILABLE"),
        (TrackerError("else"), 400, "BAD_REQUEST"),
        (ZeroDivisionError("of ours"), 500, "INTERNAL_ERROR"),
    ],
)
def test_what_is_told(error: Exception, status: int, code: str) -> None:
    """Each error is one of MLflow's codes; who is to come again is told when; the inside of the server is not told."""
    answer = error_answer(error)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (status, code)
    assert (dict(answer.headers).get(b"retry-after") is not None) == (status == 503)
    assert b"of ours" not in answer.body


def test_half_a_pair_of_surrogates() -> None:
    """A message with what UTF-8 has no bytes for is told all the same."""
    assert json.loads(document("BAD_REQUEST", "\ud800"))["message"] == "\\ud800"

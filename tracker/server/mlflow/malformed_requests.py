"""Answers 400 to requests that MLflow's application cannot parse; MLflow itself answers 500."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from tracker.server.mlflow import mlflow_errors

log = logging.getLogger("tracker.server")

_READERS = ("mlflow.server.", "mlflow.utils.", "mlflow.entities.", "mlflow.protos.", "google.protobuf.", "graphql.")
"""The modules of MLflow's application that turn a request into a call of a store."""
_ERRORS = (TypeError, AttributeError, ValueError, LookupError, AssertionError)


def install(flask_app: Any) -> None:
    """Make MLflow's `flask_app` answer 400 if its parsing of a request failed."""
    from flask import Response, request
    from graphql import GraphQLError
    from mlflow.exceptions import MlflowException
    from werkzeug.exceptions import HTTPException

    def answer_of(error: Exception) -> Any:
        if isinstance(error, HTTPException):  # a form's missing field is also a KeyError
            return error
        if not _in_a_reader(error.__traceback__):
            raise error
        log.warning("MLflow cannot read the request for %s: %s: %s", request.path, type(error).__name__, error)
        message = f"the request has a value of a wrong type or form: {error}"
        said = mlflow_errors.refusal("INVALID_PARAMETER_VALUE", message)
        return Response(said.body, said.status, content_type="application/json")

    def mlflow_answer(error: Any) -> Any:
        return Response(error.serialize_as_json(), error.get_http_status_code(), content_type="application/json")

    # Most of MLflow's routes answer their own errors; some do not.
    flask_app.register_error_handler(MlflowException, mlflow_answer)
    for kind in (*_ERRORS, GraphQLError):
        flask_app.register_error_handler(kind, answer_of)


def _in_a_reader(trace: TracebackType | None) -> bool:
    """Whether the error was raised in one of `_READERS`, or in the standard library called from one."""
    names = []
    while trace is not None:
        names.append(f"{trace.tb_frame.f_globals.get('__name__', '')}.")
        trace = trace.tb_next
    for name in reversed(names):
        if name.startswith(_READERS):
            return True
        if name.partition(".")[0] not in sys.stdlib_module_names:
            return False
    return False

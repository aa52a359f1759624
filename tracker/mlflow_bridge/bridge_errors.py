"""Translates Tracker's errors into MLflow's codes, and the messages that its clients and its UI match on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracker.domain.errors import (
    ExperimentDeleted,
    ExperimentExists,
    InvalidValue,
    ModelNotFound,
    NotFound,
    ParamConflict,
    RunDeleted,
    RunNotFound,
    StoreError,
    TrackerError,
)
from tracker.mlflow_bridge.bridge_entities import BridgeError


def mlflow_error(error: TrackerError, *, lone: bool = False) -> Exception:
    """`error` as MLflow's clients get it; a StoreError (the store does not answer) stays as it is.

    `lone` is for a call that logs one parameter: MLflow has another message for its conflict.
    """
    match error:
        case StoreError():
            return error
        case RunNotFound():
            # The UI chooses its page for a missing run by the end of this text.
            return BridgeError("RESOURCE_DOES_NOT_EXIST", f"Run with id={error.run_id} not found")
        case ModelNotFound():
            return BridgeError("RESOURCE_DOES_NOT_EXIST", f"Logged model with ID '{error.model_id}' not found.")
        case NotFound():
            return BridgeError("RESOURCE_DOES_NOT_EXIST", str(error))
        case RunDeleted():
            state = "must be in the 'active' state. Current state is deleted."
            return BridgeError("INVALID_PARAMETER_VALUE", f"The run {error.run_id} {state}")
        case ExperimentExists():
            hint = " It is deleted: restore it, or take another name." if error.deleted else ""
            return BridgeError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={error.name}) already exists.{hint}")
        case ParamConflict():
            return BridgeError("INVALID_PARAMETER_VALUE", _conflict(error, lone))
        case InvalidValue() | ExperimentDeleted():
            return BridgeError("INVALID_PARAMETER_VALUE", str(error))
        case _:
            return BridgeError("BAD_REQUEST", str(error))


@contextmanager
def as_bridge_errors(*, lone: bool = False) -> Iterator[None]:
    """Context manager that turns Tracker's errors into BridgeError; see `mlflow_error`."""
    try:
        yield
    except TrackerError as error:
        raise mlflow_error(error, lone=lone) from error


def _conflict(error: ParamConflict, lone: bool) -> str:
    if lone:
        return (
            f"Changing param values is not allowed. Param with key='{error.key}' was already logged with "
            f"value='{error.old}' for run ID='{error.run_id}'. Attempted logging new value '{error.new}'."
        )
    conflict = {"key": error.key, "old_value": error.old, "new_value": error.new}
    return (
        f"Changing param values is not allowed. Params were already logged='{[conflict]}' for run ID='{error.run_id}'."
    )

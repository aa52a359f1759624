"""What MLflow's store has and ours does not keep: empty where the UI lists, else refused with 501.

MLflow's defaults raise a bare NotImplementedError, which its server makes a 500 of, and its client retries that for
minutes; abstract methods without a body answer None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from mlflow.exceptions import MlflowNotImplementedException
from mlflow.store.entities.paged_list import PagedList

Store = TypeVar("Store", bound=type[Any])

_PAGED = frozenset(
    """search_datasets search_issues query_trace_metrics list_label_schemas list_review_queues list_review_queue_items
    list_budget_policies list_gateway_guardrails search_mcp_servers search_mcp_server_versions
    search_mcp_access_endpoints""".split()
)
_LISTED = frozenset(
    """batch_get_traces batch_get_trace_infos find_completed_sessions list_scorers list_scorers_across_experiments
    list_scorer_versions get_online_scoring_configs get_active_online_scorers list_secret_infos list_gateway_endpoints
    list_gateway_model_definitions list_endpoint_bindings list_endpoint_guardrail_configs
    get_dataset_experiment_ids""".split()
)
_TUPLES = frozenset({"search_traces", "_load_dataset_records"})
_ZERO = frozenset({"sum_gateway_trace_cost"})
# Called by MLflow's handlers, though its interface does not name them.
_UNNAMED = ("deprecated_start_trace_v2", "deprecated_end_trace_v2")
# Defaults that only call what is overridden, or that only say that something is not there.
KEPT = frozenset(
    """search_runs log_metric_async log_param_async set_tag_async log_batch_async end_async_logging
    flush_async_logging shut_down_async_logging log_spans_async delete_traces set_model_versions_tags
    supports_workspaces supports_trace_archival resolve_trace_archival_config""".split()
)


class NotKept(MlflowNotImplementedException, NotImplementedError):  # type: ignore[misc]
    """Tracker keeps no such thing. Callers in MLflow that ask for NotImplementedError find it; servers answer 501."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Tracker's store does not offer {name.replace('_', ' ').strip()}")


def completed(store: Store) -> Store:
    """A class decorator: every public method of MLflow's store that `store` does not define answers as said above."""
    for name, value in _inherited(store):
        if name in vars(store) or name in KEPT or not callable(value):
            continue
        setattr(store, name, _answer(name))
    for name in _UNNAMED:
        setattr(store, name, _answer(name))
    return store


def _inherited(store: type[Any]) -> list[tuple[str, Any]]:
    """Names of MLflow's interface: public ones, and the private ones that are meant to be overridden."""
    wanted = ("_delete_traces", "_load_dataset_records")
    return [
        (name, value)
        for name, value in inspect.getmembers_static(store)
        if (not name.startswith("_") or name in wanted) and not isinstance(value, (property, staticmethod))
    ]


def _answer(name: str) -> Callable[..., Any]:
    def empty_page(self: Any, *_: Any, **__: Any) -> Any:
        return PagedList([], None)

    def empty_list(self: Any, *_: Any, **__: Any) -> Any:
        return []

    def nothing(self: Any, *_: Any, **__: Any) -> Any:
        return ([], None)

    def zero(self: Any, *_: Any, **__: Any) -> Any:
        return 0.0

    def refused(self: Any, *_: Any, **__: Any) -> Any:
        raise NotKept(name)

    if name in _TUPLES:
        answer: Callable[..., Any] = nothing
    elif name in _PAGED:
        answer = empty_page
    elif name in _LISTED:
        answer = empty_list
    else:
        answer = zero if name in _ZERO else refused
    answer.__name__ = name
    return answer

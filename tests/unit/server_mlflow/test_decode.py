"""Reading requests of MLflow's API: the quick way and the patient way see the same, and mistakes are told in its words."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.server.mlflow.decode import decoder, query_decoder
from tracker.server.mlflow.requests import FinalizeModel, GetHistoryInterval, LogBatch, LogMetric, SearchRuns, UpdateRun

texts = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1), min_size=1, max_size=20)
int64 = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["NaN", "Infinity", "-Infinity"])


@given(
    run=texts,
    metrics=st.lists(st.tuples(texts, numbers, int64, int64), max_size=5),
    tags=st.dictionaries(texts, st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
)
def test_both_ways_see_the_same(run: str, metrics: list[tuple[str, float, int, int]], tags: dict[str, str]) -> None:
    """camelCase names, numbers as text, null and unknown fields change nothing."""
    decode = decoder(LogBatch)
    plain = {
        "run_id": run,
        "metrics": [{"key": k, "value": v, "timestamp": t, "step": s} for k, v, t, s in metrics],
        "tags": [{"key": k, "value": v} for k, v in tags.items()],
    }
    odd = {
        "runId": run,
        "params": None,
        "unknown": {"deep": [1]},
        "metrics": [
            {"key": k, "value": str(v), "timestamp": str(t), "step": str(s), "modelId": None} for k, v, t, s in metrics
        ],
        "tags": [{"key": k, "value": v, "other": 1} for k, v in tags.items()],
    }
    assert decode(json.dumps(odd).encode()) == decode(json.dumps(plain).encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["run_id", "runId", "metrics", "key", "value", "timestamp", "step", "tags", "params"])
                | st.text(),
                inner,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(body: Any) -> None:
    """Nothing but BridgeError is raised, whatever is sent."""
    for kind in (LogBatch, LogMetric, SearchRuns, UpdateRun):
        with suppress(BridgeError):
            decoder(kind)(json.dumps(body).encode())


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but BridgeError is raised by what is no JSON, or by any query."""
    for decode in (decoder(LogMetric), query_decoder(GetHistoryInterval)):
        with pytest.raises(BridgeError):
            decode(body)


def test_nul() -> None:
    """NUL may stand in values, where the store replaces it, and in nothing that is looked up."""
    body = b'{"run_id":"r","tags":[{"key":"k","value":"a\\u0000b"}]}'
    assert decoder(LogBatch)(body).tags[0].value == "a\x00b"
    for body in (b'{"run_id":"a\\u0000"}', b'{"run_id":"r","tags":[{"key":"a\\u0000"}]}'):
        with pytest.raises(BridgeError, match="Invalid value"):
            decoder(LogBatch)(body)
    with pytest.raises(BridgeError, match="'metric_key'"):
        query_decoder(GetHistoryInterval)(b"run_ids=a&metric_key=a%00")


def test_numbers_of_words() -> None:
    """Enumerations come as words or as protobuf's numbers; an unknown word is none."""
    decode = decoder(UpdateRun)
    assert decode(b'{"run_id":"r","status":3}').status == "FINISHED"
    assert decode(b'{"run_id":"r","status":"KILLED"}').status == "KILLED"
    assert decode(b'{"run_id":"r","status":"BOGUS"}') == decode(b'{"run_id":"r"}')
    assert decoder(SearchRuns)(b'{"run_view_type":"2"}').run_view_type == "DELETED_ONLY"
    with pytest.raises(BridgeError, match="'status'"):
        decode(b'{"run_id":"r","status":9}')
    with pytest.raises(BridgeError, match="'status'"):
        decoder(FinalizeModel)(b'{"model_id":"m","status":"BOGUS"}')


def test_queries() -> None:
    """Parameters for lists may be repeated, of others the first counts, unknown ones are passed over."""
    found = query_decoder(GetHistoryInterval)(b"run_ids=a&run_ids=b%2F&metric_key=k+1&metric_key=z&max_results=7&x=1")
    assert (found.run_ids, found.metric_key, found.max_results) == (["a", "b/"], "k 1", 7)


def test_the_uuid_stands_for_the_id() -> None:
    """`run_uuid` is read where `run_id` is missing, in either spelling."""
    for body in (b'{"run_uuid":"r"}', b'{"runUuid":"r"}', b'{"run_id":"r"}', b'{"run_id":"r","run_uuid":"other"}'):
        assert decoder(UpdateRun)(body).run_id == "r"

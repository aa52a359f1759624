"""The OpenAPI 3.1 document, generated from the operations and the records' types."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from tracker.domain.records import History
from tracker.domain.vocabulary import Axis
from tracker.server.operations import JSON, MSGPACK, Operation
from tracker.server.problem_details import TYPE, Problem

_REF = "#/components/schemas/{name}"
_EVERYWHERE = (400, 401, 403, 503)
"""A wrong parameter, no token, a wrong host, origin or role, an unavailable store."""
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access token."},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user, and an access token as the password."},
}
_NAME = r"(?!\.{1,2}(/|$))[^/\\:\x00-\x1f\x7f-\x9f]{1,60}"
_PATTERNS = {
    "run_id": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
    "path": f"^{_NAME}(/{_NAME}){{0,3}}$",
    "checkpoint_id": "^[0-9]{1,9}$",
}
"""Schemas of parameters in the path. That of files is stricter than the rule, which counts bytes."""
_NUMBER = {
    "description": "A float; those that JSON has no number for are strings.",
    "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
}


class _History(msgspec.Struct):
    """The points of a series in step order, by column."""

    key: str
    axis: Axis
    steps: list[int]
    ms: list[int]
    values: list[float]
    fits: list[int] | None
    superseded: list[bool] | None


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of `operations`."""
    answers, answered = _schemas({_plain(one.answers) for one in operations if one.answers is not None} | {Problem})
    bodies, taken = _schemas({one.takes for one in operations if one.takes is not None})
    schemas = answers | bodies
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        path = one.path.replace(":path}", "}")
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, path, schemas)
    components = taken | {name.lstrip("_"): _with_numbers(schema) for name, schema in answered.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tracker",
            "version": version("callback-tracker"),
            "description": "Runs of trainings. Times are milliseconds since the Unix epoch; epochs count from 0.",
        },
        "paths": _renamed(paths),
        # No scheme is needed if the server has no tokens and is reached from its own machine only.
        "security": [{}, {"bearer": []}, {"basic": []}],
        "components": {"schemas": {**_renamed(components), "Number": _NUMBER}, "securitySchemes": _SCHEMES},
    }


def _schemas(types: Collection[Any]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The schema of each type, and those of the named types within."""
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    return dict(zip(ordered, schemas, strict=True)), components


def _plain(answers: Any) -> Any:
    return _History if answers is History else answers


def _operation(one: Operation, path: str, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(one.status).phrase}
    if one.answers is not None:
        answer["content"] = {
            JSON: {"schema": schemas[_plain(one.answers)]},
            MSGPACK: {"schema": {"type": "string", "format": "binary"}},
        }
        if path in ("/healthz", "/readyz"):
            del answer["content"][MSGPACK]
    elif one.content is not None:
        answer["content"] = one.content
    # A path whose parameter has a line break matches no route.
    failures = {*_EVERYWHERE, *one.failures, *((404,) if "{" in path else ())}
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": _identifier(one, path),
        "parameters": [*_path_parameters(path), *_query_parameters(one), *one.headers],
        "responses": {str(one.status): answer, **one.also}
        | {str(status): _failure(status) for status in sorted(failures)},
    }
    if one.takes is not None:
        found["requestBody"] = {"required": True, "content": {MSGPACK: {"schema": schemas[one.takes]}}}
    elif one.body is not None:
        found["requestBody"] = one.body
    return found


def _identifier(one: Operation, path: str) -> str:
    return one.method.lower() + re.sub(r"\W+(\w)", lambda found: "_" + found[1], path.replace("/api/v1", "")).rstrip(
        "}"
    )


def _failure(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    if status == 503:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return answer


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": _PATTERNS[name]}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    _, components = msgspec.json.schema_components([one.query], ref_template=_REF)
    (schema,) = components.values()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _never_null(part)}
        for name, part in schema["properties"].items()
    ]


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` without null: a query parameter is left out instead."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    plain = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    return plain | (kinds[0] if kinds else {})


def _with_numbers(schema: Any) -> Any:
    if schema == {"type": "number"}:
        return {"$ref": _REF.format(name="Number")}
    if isinstance(schema, dict):
        return {key: _with_numbers(value) for key, value in schema.items()}
    return [_with_numbers(value) for value in schema] if isinstance(schema, list) else schema


def _renamed(value: Any) -> Any:
    """`value` with references to History in place of those to the type that stands for it."""
    if isinstance(value, dict):
        return {key: _renamed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    return value.replace("/_History", "/History") if isinstance(value, str) else value

"""Decodes requests into structs as MLflow's server does, with MLflow's error messages.

The fast path accepts what MLflow's clients write. Other requests are decoded again by a lenient path: camelCase names,
numbers as text, null for a missing value, unknown fields. If that fails too, the error names the first wrong field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Struct
from msgspec import inspect as kinds

from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.server.mlflow.requests import NUMBERED

S = TypeVar("S", bound=Struct)

DOCS = " See the API docs for more information about request parameters."
_NUL = rb"\u0000"
"""NUL as an escape in JSON."""
_FREE = ("value", "source", "schema", "profile")
_DEEPEST = 100
"""Maximum nesting of objects and lists; no request of MLflow's has more than five levels."""


Decode = Callable[..., S]
"""Called with the bytes, and with the parts of the path that are fields, which take precedence."""


def decoder(kind: type[S]) -> Decode[S]:
    """A decoder of JSON bodies as `kind`. It raises BridgeError INVALID_PARAMETER_VALUE."""
    quick = msgspec.json.Decoder(kind).decode

    def decode(body: bytes, **of_path: str) -> S:
        if of_path or _NUL in body:
            return fitted(kind, {**json_object(body), **of_path})
        try:
            return quick(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return fitted(kind, json_object(body))

    return decode


def query_decoder(kind: type[S]) -> Decode[S]:
    """A decoder of query strings as `kind`; parameters for lists may be repeated, of others the first counts."""
    known = {field.name: isinstance(_inner(field.type), kinds.ListType) for field in _fields(kind)}

    def decode(query: bytes, **of_path: str) -> S:
        given: dict[str, Any] = {}
        for name, value in pairs(query):
            many = known.get(name)
            if many:
                given.setdefault(name, []).append(value)
            elif many is not None:
                given.setdefault(name, value)
        return fitted(kind, {**given, **of_path})

    return decode


def pairs(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query string, in order."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def invalid(message: str) -> BridgeError:
    """The error for an invalid request."""
    return BridgeError("INVALID_PARAMETER_VALUE", message)


def missing(name: str) -> BridgeError:
    """The error for a required field that is missing or empty."""
    return invalid(f"Missing value for required parameter '{name}'.{DOCS}")


def unfit(name: str, value: object) -> BridgeError:
    """The error for a value that is not of its field's type or range."""
    try:
        shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        shown = "…"
    if len(shown) > 500:
        shown = f"{shown[:500]}…"
    hint = f" Hint: Value was of type '{type(value).__name__}'."
    return invalid(f"Invalid value {shown} for parameter '{name}' supplied: {hint}{DOCS}")


def fitted(kind: type[S], given: Mapping[str, Any]) -> S:
    """`given` as a `kind`, as leniently as MLflow; BridgeError for the first field that does not fit."""
    return msgspec.convert(_struct(kind, given, "", 0), kind)


def json_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; any other body counts as an empty object, as in MLflow."""
    try:
        found = json.loads(body)
        if isinstance(found, str):  # old clients encode twice
            found = json.loads(found)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class _Unfit(Exception):
    """A value that is not of its field's type."""


@cache
def _fields(kind: type[Struct]) -> tuple[kinds.Field, ...]:
    info = kinds.type_info(kind)
    assert isinstance(info, kinds.StructType)
    return info.fields


@cache
def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _inner(kind: kinds.Type) -> kinds.Type:
    """The type of a given value, without None and UNSET."""
    if not isinstance(kind, kinds.UnionType):
        return kind
    rest = [one for one in kind.types if not isinstance(one, kinds.NoneType)]
    if any(isinstance(one, kinds.FloatType) for one in rest):
        return kinds.FloatType()
    return rest[0]


def _struct(kind: type[Struct], given: Mapping[str, Any], where: str, depth: int) -> dict[str, Any]:
    """The fields of `kind` that are given, each of its type."""
    found: dict[str, Any] = {}
    values = dict(_spelled(kind, given))
    if "run_id" not in values and "run_uuid" in values:
        values["run_id"] = values["run_uuid"]
    for field in _fields(kind):
        value = values.get(field.name)
        if field.required and (value is None or value == ""):
            raise missing(where + field.name)
        if value is None:
            continue
        try:
            taken = _value(_inner(field.type), value, where + field.name, depth)
        except _Unfit:
            raise unfit(where + field.name, value) from None
        if taken is not UNSET:
            found[field.name] = taken
        elif field.required:
            raise missing(where + field.name)
    return found


def _spelled(kind: type[Struct], given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each given field, in one of its two spellings but not in both."""
    names = [field.name for field in _fields(kind)]
    if "run_id" in names:
        names.append("run_uuid")
    for name in names:
        other = _camel(name)
        if name in given:
            if other != name and other in given:
                raise invalid(f"Request specifies both '{name}' and '{other}'; provide only one of them.")
            yield name, given[name]
        elif other in given:
            yield name, given[other]


def _value(kind: kinds.Type, value: Any, where: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise _Unfit
    match kind:
        case kinds.StrType():
            return _text(value, where)
        case kinds.IntType():
            return _within(_integer(value), kind)
        case kinds.FloatType():
            return _number(value)
        case kinds.BoolType():
            if not isinstance(value, bool):
                raise _Unfit
            return value
        case kinds.LiteralType():
            return _word(NUMBERED[str(kind.values[0])], value)
        case kinds.ListType():
            if not isinstance(value, list):
                raise _Unfit
            inner = _inner(kind.item_type)
            return [_value(inner, one, f"{where}[{index}]", depth + 1) for index, one in enumerate(value)]
        case kinds.StructType():
            if not isinstance(value, dict):
                raise _Unfit
            return _struct(kind.cls, value, f"{where}.", depth + 1)
    raise _Unfit


def _text(value: Any, where: str) -> str:
    """Text without NUL, which not every database can store, except in free text: there the store replaces it."""
    if not isinstance(value, str) or ("\x00" in value and where.rpartition(".")[2] not in _FREE):
        raise _Unfit
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise _Unfit from None
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise _Unfit
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal():
        return int(value)
    raise _Unfit


def _within(value: int, kind: kinds.IntType) -> int:
    if (kind.ge is not None and value < kind.ge) or (kind.le is not None and value > kind.le):
        raise _Unfit
    return value


def _number(value: Any) -> float | str:
    """A float in JSON: a number, or the string for NaN and the infinities."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Unfit
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise _Unfit from None
    if math.isfinite(found):
        return found
    return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"


def _word(words: Sequence[str], value: Any) -> Any:
    """One of an enumeration's words; an unknown word counts as none, as in protobuf."""
    if isinstance(value, str) and not value.removeprefix("-").isdecimal():
        return value if value in words else UNSET
    number = _integer(value)
    if not 1 <= number <= len(words):
        raise _Unfit
    return words[number - 1]

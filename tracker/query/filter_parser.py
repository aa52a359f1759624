"""The filter language: parses text to a syntax tree. MLflow's run filters are a subset with the same meaning.

    metrics.val_loss.best < 0.3 AND (params.optimizer = 'adam' OR tags.team ILIKE 'vision%') AND NOT status = 'failed'

Fields are `metrics.KEY` (the last value; `.best`, `.min` and `.max` after the key ask for those), `params.KEY`,
`tags.KEY` and attributes, bare or as `attributes.NAME`. A key with spaces, quotes, parentheses or comparison signs
is written in backticks or double quotes; a `.best` inside them is part of the key.

Strings are in single or double quotes and hold the text between them, as in MLflow: `'it''s'` has two quotes in it,
and a backslash is a backslash. `E'it\\'s'` is Tracker's: a backslash keeps the next character, so any text can be
written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from tracker.domain.errors import InvalidFilter, did_you_mean
from tracker.domain.vocabulary import RUN_STATUSES
from tracker.query.filter_grammar import explained, literal, make_parser, operator, unquoted
from tracker.query.filter_tree import (
    NUMBER_ATTRIBUTES,
    TEXT_ATTRIBUTES,
    And,
    Compare,
    Field,
    In,
    IsNan,
    IsNull,
    Kind,
    Node,
    Not,
    Operator,
    Or,
    OrderTerm,
    Stat,
    Value,
)
from tracker.query.like import matcher

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_LENGTH = 10_000
MAX_DEPTH = 20
"""Maximum height of a tree of AND, OR and NOT: databases bound the nesting of expressions, SQLite's parser most."""
MAX_PARENTHESES = 100
MAX_COMPARISONS = 500

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}  # fmt: skip
_ALIASES = {
    "run name": "name", "run_name": "name", "id": "run_id", "start_time": "started_ms", "created": "started_ms",
    "end_time": "ended_ms",
}  # fmt: skip
_STATUS = Field("attribute", "status")
_BEST_EPOCH, _BEST_VALUE = Field("attribute", "best_epoch"), Field("attribute", "best_value")
# Fields that are a tag or a metric in MLflow and an attribute in Tracker, or the other way round.
_SAME = {
    Field("tag", "mlflow.runName"): Field("attribute", "name"),
    Field("tag", "tracker.status"): _STATUS,
    Field("tag", "tracker.best_metric"): Field("attribute", "best_metric"),
    Field("tag", "tracker.best_epoch"): _BEST_EPOCH,
    Field("tag", "tracker.best_value"): _BEST_VALUE,
    Field("metric", "tracker.best_epoch"): _BEST_EPOCH,
    Field("metric", "tracker.best_value"): _BEST_VALUE,
    Field("attribute", "user_id"): Field("tag", "mlflow.user"),
}
_NUMBERS_AS_TEXT = {_BEST_EPOCH, _BEST_VALUE}
"""Numbers that are also tags, which compare with texts."""
_MLFLOW_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_STATS: tuple[str, ...] = get_args(Stat)


def parse_filter(text: str) -> Node | None:
    """The tree of a filter, None for a blank one. InvalidFilter names the position and what was expected there.

    In the tree aliases are resolved (`created` is `started_ms`, `tags.mlflow.runName` is `name`), and conditions on the
    status are In over Tracker's statuses, without any for a word that is no status.
    """
    return cast("Node", _parse(text, "filter")) if text.strip() else None


def parse_order(terms: Iterable[str]) -> tuple[OrderTerm, ...]:
    """Parse terms like `metrics.loss.best DESC`; of several terms of one field the first counts. InvalidFilter."""
    parsed: dict[Field, OrderTerm] = {}
    for text in [terms] if isinstance(terms, str) else terms:
        term = cast("OrderTerm", _parse(text, "order"))
        parsed.setdefault(term.field, term)
    return tuple(parsed.values())


def quoted(text: str) -> str:
    """`text` as a literal of the filter language, whatever it contains."""
    if "'" not in text and "\\" not in text:
        return f"'{text}'"
    return "E'" + re.sub(r"(['\\])", r"\\\1", text) + "'"


class _Problem(Exception):
    """A problem in a filter, and its position."""

    def __init__(self, position: int | None, problem: str) -> None:
        self.position = position or 0
        self.problem = problem


@lru_cache(maxsize=512)
def _parse(text: str, start: Literal["filter", "order"]) -> Node | OrderTerm:
    from lark.exceptions import UnexpectedInput

    if len(text) > MAX_LENGTH:
        raise InvalidFilter(text[: MAX_LENGTH + 1], MAX_LENGTH, f"longer than {MAX_LENGTH} characters")
    if bad := _UNSTORABLE.search(text):
        raise InvalidFilter(text, bad.start(), f"{bad.group()!r}, which no text in a store has")
    try:
        return cast("Node | OrderTerm", _parser().parse(text, start=start))
    except _Problem as error:
        raise InvalidFilter(text, error.position, error.problem) from None
    except UnexpectedInput as error:
        raise explained(_parser(), start, text, error) from None


@cache
def _parser() -> Lark:
    return make_parser(_Builder())


class _Part(NamedTuple):
    """A node, the positions of its comparisons, its height, and how deep it is nested in parentheses."""

    node: Node
    places: list[int]
    height: int = 0
    parentheses: int = 0


class _Builder:
    """Called by the parser, bottom up, with the parts of each rule.

    Conditions come as _Part, values as (value, position), fields as (field, position, as it was written).
    """

    def filter(self, parts: list[_Part]) -> Node:
        node, places, *_ = parts[0]
        if len(places) > MAX_COMPARISONS:
            raise _Problem(places[MAX_COMPARISONS], f"more than {MAX_COMPARISONS} comparisons")
        return node

    def any(self, parts: list[_Part]) -> _Part:
        return _joined(Or, parts)

    def all(self, parts: list[_Part]) -> _Part:
        return _joined(And, parts)

    def negation(self, parts: list[Any]) -> _Part:
        part: _Part = parts[1]
        if isinstance(part.node, Not):
            return part._replace(node=part.node.part, height=part.height - 1)
        return _bounded(part._replace(node=Not(part.node), height=part.height + 1))

    def group(self, parts: list[Any]) -> _Part:
        token, part = parts
        if part.parentheses == MAX_PARENTHESES:
            raise _Problem(token.start_pos, f"more than {MAX_PARENTHESES} parentheses inside each other")
        return cast("_Part", part._replace(parentheses=part.parentheses + 1))

    def comparison(self, parts: list[Any]) -> _Part:
        (field, start, name), *signs, (value, where) = parts
        op = cast("Operator", operator(signs))
        value = _number(field, value)
        _check(field, name, op, signs[0], [(value, where)])
        if field == _STATUS:
            return _Part(_statuses(op, (value,)), [start])
        return _Part(Compare(field, op, _as(field, value)), [start])

    def membership(self, parts: list[Any]) -> _Part:
        (field, start, name), *words = parts
        values = [(_number(field, part[0]), part[1]) for part in words if isinstance(part, tuple)]
        negated = words[0].type == "NOT"
        _check(field, name, "=", words[0], values)
        if field == _STATUS:
            return _Part(_statuses("!=" if negated else "=", [value for value, _ in values]), [start])
        return _Part(In(field, tuple(_as(field, value) for value, _ in values), negated), [start])

    def presence(self, parts: list[Any]) -> _Part:
        (field, start, _), *negated, what = parts
        if what.type == "NULL":
            return _Part(IsNull(field, bool(negated)), [start])
        if field.kind != "metric":
            raise _Problem(what.start_pos, "only metrics can be NaN; IS NULL asks whether a field is missing")
        return _Part(IsNan(field, bool(negated)), [start])

    def order(self, parts: list[Any]) -> OrderTerm:
        (field, where, _), *direction = parts
        if field.kind == "dataset":
            raise _Problem(where, "runs cannot be ordered by their datasets")
        return OrderTerm(field, bool(direction) and direction[0].lower() == "desc")

    def field(self, parts: list[Token]) -> tuple[Field, int, str]:
        first, where, name = parts[0], parts[0].start_pos or 0, "".join(parts)
        if first.type != "ENTITY":
            return _attribute(unquoted(first), where), where, name
        kind = _KINDS[first.strip("`.").lower().rstrip("`")]
        key, stat = unquoted(parts[1]), parts[2][1:] if len(parts) == 3 else "last"
        if len(parts) == 3 and kind != "metric":
            raise _Problem(parts[2].start_pos, f"only metrics have {parts[2]}")
        if kind == "metric" and parts[1].type == "KEY":
            head, _, tail = key.rpartition(".")
            key, stat = (head, tail) if head and tail in _STATS else (key, "last")
        if kind == "attribute":
            return _attribute(key, parts[1].start_pos or 0), where, name
        if kind == "dataset" and key not in ("name", "digest", "context"):
            raise _Problem(parts[1].start_pos, "datasets have name, digest and context")
        field = Field(kind, key, cast("Stat", stat))
        return _SAME.get(field, field), where, name

    def value(self, parts: list[Token]) -> tuple[Value, int]:
        return literal(parts[0]), parts[0].start_pos or 0


def _attribute(name: str, where: int) -> Field:
    key = _ALIASES.get(name.lower(), name.lower())
    field = Field("attribute", key)
    if key in NUMBER_ATTRIBUTES | TEXT_ATTRIBUTES or field in _SAME:
        return _SAME.get(field, field)
    if key.rstrip(".") in _KINDS:
        raise _Problem(where + len(name), f"expected a key right after {name.rstrip('.') + '.'!r}")
    known = sorted(NUMBER_ATTRIBUTES | TEXT_ATTRIBUTES | set(_ALIASES) - {"run name"})
    near = did_you_mean(name.lower(), known) or f"; did you mean 'metrics.{name[:40]}'?"
    expected = f"expected metrics.x, params.x, tags.x or one of {', '.join(known)}"
    raise _Problem(where, f"unknown attribute {name[:40]!r}{near} {expected}")


def _check(field: Field, name: str, op: Operator, sign: Token, values: Iterable[tuple[Value, int]]) -> None:
    """Refuse comparisons without a meaning: a text for a number, LIKE on a number, an order of a field without one."""
    if "LIKE" in op and field.is_number:
        raise _Problem(sign.start_pos, f"{name} is a number and LIKE compares text; expected =, !=, <, <=, > or >=")
    if op[0] in "<>" and (field == _STATUS or field.kind == "dataset"):
        raise _Problem(sign.start_pos, f"{name} has no order; expected =, !=, LIKE, ILIKE or IN")
    for value, where in values:
        if isinstance(value, str) and field.is_number:
            raise _Problem(where, f"{name} is a number; expected a number, found a text")
        if not isinstance(value, str) and ("LIKE" in op or not (field.is_number or field.kind == "param")):
            raise _Problem(where, f"{name} is compared as text; expected a text in quotes, found a number")


def _number(field: Field, value: Value) -> Value:
    """The value, as a number if it is the text of one and the field is one that MLflow's clients see as text."""
    if field in _NUMBERS_AS_TEXT and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _as(field: Field, value: Value) -> Value:
    return float(value) if field.kind in ("metric", "param") and not isinstance(value, str) else value


def _statuses(op: Operator, values: Iterable[Value]) -> In:
    """The condition as the statuses that meet it; each has Tracker's name and MLflow's, in any case."""
    chosen = set()
    for status in RUN_STATUSES:
        words = (status, status.upper(), _MLFLOW_STATUS.get(status, "KILLED"))
        for value in map(str, values):
            if "LIKE" in op:
                meets = any(map(matcher(value, ignore_case="ILIKE" in op), words))
            else:
                meets = value.upper() in words
            if meets:
                chosen.add(status)
    negated = op.startswith(("!=", "NOT"))
    return In(_STATUS, tuple(status for status in RUN_STATUSES if (status in chosen) != negated))


def _joined(kind: type[And] | type[Or], parts: list[_Part]) -> _Part:
    nodes: list[Node] = []
    height = 0
    for part in parts:
        same = isinstance(part.node, kind)
        nodes.extend(part.node.parts if isinstance(part.node, (And, Or)) and same else (part.node,))
        height = max(height, part.height if same else part.height + 1)
    places = [place for part in parts for place in part.places]
    return _bounded(_Part(kind(tuple(nodes)), places, height, max(part.parentheses for part in parts)))


def _bounded(part: _Part) -> _Part:
    if part.height > MAX_DEPTH:
        raise _Problem(part.places[0], f"AND, OR and NOT inside each other more than {MAX_DEPTH} deep")
    return part

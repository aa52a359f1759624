"""Filters of experiments and logged models: comparisons joined by AND, as MLflow's (mlflow/utils/search_utils.py).

They are a part of the language of run filters, read by its grammar. There are few of either, so they are compared in
Python; runs are searched in the database (`tracker.query.filter_parser`).
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from tracker.domain.deadlines import check_deadline
from tracker.mlflow_bridge.mlflow_limits import refuse
from tracker.query.filter_grammar import literal, make_parser, operator, unquoted
from tracker.query.like import matcher

if TYPE_CHECKING:
    from lark import Lark, Token

MOST_CHARACTERS = 10_000
_EXPECTED = {
    "filter": "comparisons separated by 'AND' (e.g. \"name = 'first' AND tags.team = 'vision'\")",
    "order": "a field, and ASC or DESC after it",
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operators.eq, "!=": operators.ne, "<": operators.lt, "<=": operators.le, ">": operators.gt, ">=": operators.ge,
}  # fmt: skip
NUMBER_OPS = ("<", "<=", ">", ">=", "=", "!=")


@dataclass(frozen=True, slots=True)
class Condition:
    """`entity.key op value`; entity is "" if none is given. `value` is text, a number, a tuple, or None for IS NULL."""

    entity: str
    key: str
    op: str
    value: str | int | float | tuple[str, ...] | None = None

    def number(self) -> float:
        """The value as a number; BridgeError for a text."""
        if not isinstance(self.value, (int, float)):
            refuse(f"Expected a number to compare {self.key!r} with, found {self.value!r}")
        return self.value

    def text(self) -> str:
        """The value as text; BridgeError for a number, which has no quotes."""
        if not isinstance(self.value, str):
            refuse(f"Expected a quoted string value for {self.key!r} (e.g. 'my-value'). Got value {self.value}")
        return self.value

    def holds(self, found: Any) -> bool:
        """Whether `found op value` is true. NaN differs from all values.

        QueryTimeout once the caller's deadline has passed.
        """
        check_deadline()
        if self.op in _COMPARE:
            return _COMPARE[self.op](found, self.value)
        if self.op.endswith("IN"):
            assert isinstance(self.value, tuple)
            return (str(found) in self.value) != self.op.startswith("NOT")
        matches = matcher(self.text(), ignore_case="ILIKE" in self.op)
        return matches(str(found)) != self.op.startswith("NOT")


@lru_cache(maxsize=256)
def conditions(text: str) -> tuple[Condition, ...]:
    """The comparisons of a filter; BridgeError if it is invalid."""
    if len(text) > MOST_CHARACTERS:
        refuse(f"Invalid filter string: longer than {MOST_CHARACTERS} characters")
    return _parse(text, "filter", "Invalid clause(s) in filter string") if text.strip() else ()


def order_term(text: str) -> tuple[str, bool]:
    """The field, and whether ascending, of an order term like `name DESC`."""
    entity, key, ascending = _parse(text, "order", "Invalid order_by clause")
    return f"{entity}.{key}" if entity else key, ascending


def _parse(text: str, start: str, refusal: str) -> Any:
    from lark.exceptions import UnexpectedInput

    try:
        return _parser().parse(text, start=start)
    except UnexpectedInput as error:
        position = error.pos_in_stream or 0
        refuse(f"{refusal}: {text[position : position + 100] or text[-100:]}; expected {_EXPECTED[start]}")


@cache
def _parser() -> Lark:
    return make_parser(_Builder())


class _Builder:
    """Makes conditions from what the grammar of run filters reads. MLflow has no OR, NOT and parentheses here."""

    def filter(self, parts: list[tuple[Condition, ...]]) -> tuple[Condition, ...]:
        return parts[0]

    def any(self, parts: list[Any]) -> NoReturn:
        refuse(f"Invalid clause(s) in filter string: OR; expected {_EXPECTED['filter']}")

    def all(self, parts: list[tuple[Condition, ...]]) -> tuple[Condition, ...]:
        return tuple(one for part in parts for one in part)

    def negation(self, parts: list[Any]) -> NoReturn:
        refuse(f"Invalid clause(s) in filter string: NOT; expected {_EXPECTED['filter']}")

    def group(self, parts: list[Any]) -> NoReturn:
        refuse(f"Invalid clause(s) in filter string: parentheses; expected {_EXPECTED['filter']}")

    def comparison(self, parts: list[Any]) -> tuple[Condition, ...]:
        (entity, key), *signs, value = parts
        return (Condition(entity.lower(), key, operator(signs), literal(value)),)

    def membership(self, parts: list[Any]) -> tuple[Condition, ...]:
        (entity, key), *words = parts
        values = tuple(literal(one) for one in words if one.type not in ("NOT", "LPAR"))
        if any(isinstance(one, float) for one in values):
            refuse("While parsing a list in the query, expected a non-empty list of string values")
        op = "NOT IN" if words[0].type == "NOT" else "IN"
        return (Condition(entity.lower(), key, op, tuple(map(str, values))),)

    def presence(self, parts: list[Any]) -> tuple[Condition, ...]:
        (entity, key), *negated, what = parts
        if what.type == "NAN":
            refuse(f"Invalid clause(s) in filter string: NaN; expected {_EXPECTED['filter']}")
        return (Condition(entity.lower(), key, "IS NOT NULL" if negated else "IS NULL"),)

    def order(self, parts: list[Any]) -> tuple[str, str, bool]:
        (entity, key), *direction = parts
        return entity, key, not direction or direction[0].lower() == "asc"

    def field(self, parts: list[Token]) -> tuple[str, str]:
        """Entity, empty if none is given, and key."""
        if parts[0].type == "ENTITY":
            return parts[0].rstrip(".").strip("`"), "".join((unquoted(parts[1]), *parts[2:]))
        if parts[0].type != "NAME":
            return "", unquoted(parts[0])
        entity, dot, key = parts[0].partition(".")
        return (entity, key) if dot else ("", entity)

    def value(self, parts: list[Token]) -> Token:
        return parts[0]


def ordered(things: Iterable[Any], keys: Sequence[tuple[Callable[[Any], Any], bool]]) -> list[Any]:
    """`things` sorted by the keys, the first one first; each with whether it ascends. None and NaN are always last."""
    found = list(things)
    for key, ascending in reversed(keys):
        there = [one for one in found if not _missing(key(one))]
        gone = [one for one in found if _missing(key(one))]
        found = sorted(there, key=key, reverse=not ascending) + gone
    return found


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))

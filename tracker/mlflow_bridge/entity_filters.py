"""Filters of experiments and logged models: comparisons joined by AND, as MLflow's (mlflow/utils/search_utils.py).

There are few of either, so they are read and compared in Python; runs are searched in the database.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tracker.domain.deadlines import check_deadline
from tracker.mlflow_bridge.mlflow_limits import refuse
from tracker.query.like import matcher

MOST_CHARACTERS = 10_000
_CONDITION = re.compile(
    r"""\s*(?:(?P<entity>[A-Za-z]+)\.)?
    (?P<key>`[^`]+`|"[^"]+"|[^\s'"`()<>=!,]+)\s*
    (?:(?P<null>IS\s+(?:NOT\s+)?NULL)\b
      |(?P<op><=|>=|!=|<>|==|=|<|>|(?:NOT\s+)?I?LIKE\b|(?:NOT\s+)?IN\b)\s*
       (?P<value>'[^']*(?:''[^']*)*'|"[^"]*"|\([^()]*\)|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])))\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_AND = re.compile(r"AND\b\s*", re.IGNORECASE)
_LISTED = re.compile(r"\s*(?:'([^']*)'|\"([^\"]*)\"|([+-]?\d+))\s*(?:,|$)")
_ORDER = re.compile(r"\s*(`[^`]+`|\"[^\"]+\"|[^\s`\"]+)(?:\s+(ASC|DESC))?\s*\Z", re.IGNORECASE)
_SAME_OP = {"<>": "!=", "==": "="}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
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
    found: list[Condition] = []
    place = 0
    while text[place:].strip():
        if found:
            joined = _AND.match(text, place)
            if joined is None:
                refuse(f"Invalid clause(s) in filter string: {text[place : place + 100]}; expected AND or the end")
            place = joined.end()
        one = _CONDITION.match(text, place)
        if one is None:
            refuse(
                f"Invalid clause(s) in filter string: {text[place : place + 100]}; expected comparisons separated by "
                "'AND' (e.g. \"name = 'first' AND tags.team = 'vision'\")"
            )
        found.append(_condition(one))
        place = one.end()
    return tuple(found)


def _condition(one: re.Match[str]) -> Condition:
    entity, key = (one["entity"] or "").lower(), _bare(one["key"])
    if one["null"]:
        return Condition(entity, key, " ".join(one["null"].upper().split()))
    op = " ".join(one["op"].upper().split())
    op = _SAME_OP.get(op, op)
    value = one["value"]
    if value.startswith("("):
        if not op.endswith("IN"):
            refuse(f"Invalid filter string: {op} compares with one value, found a list")
        return Condition(entity, key, op, _listed(value))
    if op.endswith("IN"):
        refuse(f"Invalid filter string: {op} takes a list of quoted strings in parentheses, found {value[:100]}")
    if value[0] in "'\"":
        return Condition(entity, key, op, value[1:-1])
    return Condition(entity, key, op, int(value) if re.fullmatch(r"[+-]?\d{1,18}", value) else float(value))


def _listed(text: str) -> tuple[str, ...]:
    inner, place, values = text[1:-1], 0, []
    while place < len(inner):
        one = _LISTED.match(inner, place)
        if one is None:
            refuse(f"Invalid list in filter string: {text[:100]}; expected quoted strings")
        values.append(next(value for value in one.groups() if value is not None))
        place = one.end()
    if not values:
        refuse("While parsing a list in the query, expected a non-empty list of string values")
    return tuple(values)


def _bare(text: str) -> str:
    return text[1:-1] if text[0] in '`"' else text


def order_term(text: str) -> tuple[str, bool]:
    """The field, and whether ascending, of an order term like `name DESC`."""
    one = _ORDER.match(text)
    if one is None:
        refuse(f"Invalid order_by clause '{text}'. Could not be parsed.")
    return _bare(one[1]), (one[2] or "ASC").upper() == "ASC"


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

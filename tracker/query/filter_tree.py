"""The syntax tree of filters and order terms, as `tracker.query.filter_parser` makes it. Frozen, comparable, hashable.

A node is true or false for a run, never unknown: everything but IsNull is false where the run has no such field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["metric", "param", "tag", "attribute", "dataset"]
Stat = Literal["last", "best", "min", "max"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE"]
Value = str | int | float

NUMBER_ATTRIBUTES = frozenset({"started_ms", "ended_ms", "best_epoch", "best_value"})
TEXT_ATTRIBUTES = frozenset({"status", "name", "run_id", "experiment", "best_metric", "artifact_uri"})


@dataclass(frozen=True, slots=True)
class Field:
    """What is compared: a metric's `stat`, a parameter, a tag, or the attribute of this name."""

    kind: Kind
    key: str
    stat: Stat = "last"

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers only."""
        return self.kind == "metric" or (self.kind == "attribute" and self.key in NUMBER_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op value`. A parameter compares as text with a str and as a number with a number.

    NaN differs from every number: `!=` is true, all else is false. Text compares by code points; LIKE is
    case-sensitive, ILIKE is not, `%` stands for any characters, `_` for one, and nothing escapes them. A comparison of
    data sets, and In too, is true if any one of the run's meets it, not always the same one.
    """

    field: Field
    op: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class In:
    """The field is one of `values`; with `negated` it exists and is none of them."""

    field: Field
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    """The run has no such field. NaN is a value."""

    field: Field
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNan:
    """The metric's value is NaN; with `negated` it is a number."""

    field: Field
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """True where `part` is false."""

    part: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more parts, none of them an And."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more parts, none of them an Or."""

    parts: tuple[Node, ...]


Node = And | Or | Not | Compare | In | IsNull | IsNan


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """Order by a field. Numbers come first, then NaN or text, then runs without it, in both directions."""

    field: Field
    descending: bool = False

"""Converts order terms to sort keys, and a run's position among them to a page token."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, FromClause, Row, and_, case, func, literal, or_, select, tuple_

from tracker.domain.errors import InvalidPageToken
from tracker.query.filter_tree import NUMBER_ATTRIBUTES, Field, IsNan, IsNull, OrderTerm
from tracker.store.search.filter_sql import ATTRIBUTES, Clause, by_code, table_of
from tracker.store.tables import HEAD, experiments, runs

Value = int | float | str | None

NUMBER, NOT_A_NUMBER, MISSING = 0, 1, 2
"""Ranks: numbers come before NaN or text, and these before missing values, in both directions."""


class OrderRules(Enum):
    """Tracker's or MLflow's order. In Tracker's, numeric parameters sort as numbers, and ties go newest first.

    In MLflow's, parameters sort as text, the three statuses that it calls KILLED are equal, and ties go by latest start
    and then by run id.
    """

    OURS = "ours"
    MLFLOW = "mlflow"

    @property
    def tie(self) -> Key:
        """The key that orders runs of one start."""
        return Key(runs.c.id, True, int) if self is OrderRules.OURS else Key(runs.c.uid, False, str)

    def rest(self, row: Row[Any]) -> tuple[Value, Value]:
        """The values of the last two keys for a run that ties with others in the terms."""
        return row.started_ms, row.id if self is OrderRules.OURS else row.uid

    def sorted(self, rows: Iterable[Row[Any]]) -> list[Row[Any]]:
        """Runs that tie in the terms, in order."""
        if self is OrderRules.OURS:
            return sorted(rows, key=lambda row: (row.started_ms, row.id), reverse=True)
        return sorted(rows, key=lambda row: (-row.started_ms, row.uid))


EXPERIMENT = select(experiments.c.name).where(experiments.c.id == runs.c.experiment_id).scalar_subquery()
"""The name of a run's experiment."""


@dataclass(frozen=True)
class Key:
    """One expression to sort by; `type` is that of its values, which are None only if an earlier key implies it."""

    expression: ColumnElement[Any]
    descending: bool
    type: type


@dataclass(frozen=True)
class Sort:
    """The keys of a search, of which the last differs for any two runs, and the outer joins that they need."""

    keys: tuple[Key, ...]
    joins: tuple[tuple[FromClause, Clause], ...] = ()

    @classmethod
    def by(cls, terms: Sequence[OrderTerm], dialect: str, rules: OrderRules) -> Sort:
        """The keys of the terms, then the latest start, then the tie-breaker."""
        keys: list[Key] = []
        joins: list[tuple[FromClause, Clause]] = []
        for number, term in enumerate(terms):
            if term.field.kind == "attribute":
                keys += _attribute_keys(term, dialect, rules)
                continue
            rows = table_of(term.field.kind, f"sorted_{number}")
            joins.append((rows, and_(rows.c.run_id == runs.c.id, rows.c.key == term.field.key)))
            keys += _row_keys(term, rows, dialect, rules)
        if all(term.field != _STARTED for term in terms):
            keys.append(Key(runs.c.started_ms, True, int))
        return cls((*keys, rules.tie), tuple(joins))

    @property
    def order(self) -> list[ColumnElement[Any]]:
        """The expressions for ORDER BY."""
        return [key.expression.desc() if key.descending else key.expression.asc() for key in self.keys]

    def after(self, place: Sequence[Value]) -> Clause:
        """The condition on runs that come after `place`."""
        first, *rest = self.keys
        if len(rest) == 1 and first.descending and rest[0].descending and None not in place:
            return tuple_(first.expression, rest[0].expression) < tuple_(*map(literal, place))
        # Flat, though each key is compared many times: SQLite's parser refuses it nested for many terms.
        equal: list[Clause] = []
        either: list[Clause] = []
        for key, value in zip(self.keys, place, strict=True):
            if value is None:
                continue  # it is None for all runs that tie in the earlier keys
            either.append(and_(*equal, key.expression < value if key.descending else key.expression > value))
            equal.append(key.expression == value)
        clause = or_(*either)
        # Redundant, but in a form that an index on the first key can begin with.
        start = first.expression <= place[0] if first.descending else first.expression >= place[0]
        return and_(start, clause) if place[0] is not None else clause


@dataclass(frozen=True)
class RankGroup:
    """Runs of one rank: ordered by an indexed column, or all tied and selected by `leaf`."""

    rank: int
    column: str | None = None
    leaf: IsNan | IsNull | None = None


def rank_groups(field: Field, rules: OrderRules) -> tuple[RankGroup, ...]:
    """The ranks of the field in order; none if no index has them."""
    missing = RankGroup(MISSING, leaf=IsNull(field))
    match field:
        case Field("metric", _, "last"):
            return RankGroup(NUMBER, "last_value"), RankGroup(NOT_A_NUMBER, leaf=IsNan(field)), missing
        case Field("metric", _, "best"):
            return RankGroup(NUMBER, "best_value"), missing
        case Field("param") if rules is OrderRules.OURS:
            return RankGroup(NUMBER, "number"), RankGroup(NOT_A_NUMBER, "head"), missing
        case Field("param" | "tag"):
            return RankGroup(NOT_A_NUMBER, "head"), missing
        case Field("attribute", "name" | "run_id" as key):
            return (RankGroup(NUMBER, ATTRIBUTES[key]),)
        case Field("attribute", "status") if rules is OrderRules.OURS:
            return (RankGroup(NUMBER, "status"),)
        case Field("attribute", "ended_ms"):
            return RankGroup(NUMBER, "ended_ms"), missing
    return ()


def has_rank(field: Field) -> bool:
    """Whether the first of the field's sort keys is a rank; no run lacks the other fields."""
    if field.kind != "attribute":
        return True
    return field.key != "experiment" and bool(runs.c[ATTRIBUTES[field.key]].nullable)


def normal(terms: Sequence[OrderTerm]) -> tuple[OrderTerm, ...]:
    """The terms without a last one that says latest start first, because every order ends with that."""
    newest = OrderTerm(_STARTED, descending=True)
    return tuple(terms[:-1] if terms and terms[-1] == newest else terms)


_STARTED = Field("attribute", "started_ms")
_KILLED = case((runs.c.status.in_(("interrupted", "preempted", "lost")), "killed"), else_=runs.c.status)


def _attribute_keys(term: OrderTerm, dialect: str, rules: OrderRules) -> list[Key]:
    key = term.field.key
    column: ColumnElement[Any] = EXPERIMENT if key == "experiment" else runs.c[ATTRIBUTES[key]]
    if key == "status" and rules is OrderRules.MLFLOW:
        column = _KILLED
    if key in NUMBER_ATTRIBUTES:
        value = Key(column, term.descending, float if key == "best_value" else int)
    else:
        value = Key(by_code(_head(column) if key == "artifact_uri" else column, dialect), term.descending, str)
    if not has_rank(term.field):
        return [value]
    return [Key(case((column.is_(None), MISSING), else_=NUMBER), False, int), value]


def _row_keys(term: OrderTerm, rows: FromClause, dialect: str, rules: OrderRules) -> list[Key]:
    if term.field.kind == "metric":
        value = rows.c[f"{term.field.stat}_value"]
        ranks = [(value.is_not(None), NUMBER)]
        if term.field.stat == "last":
            ranks.append((rows.c.last_step.is_not(None), NOT_A_NUMBER))
        return [Key(case(*ranks, else_=MISSING), False, int), Key(value, term.descending, float)]
    text = by_code(rows.c.head, dialect)
    if term.field.kind == "tag" or rules is OrderRules.MLFLOW:
        return [Key(case((text.is_(None), MISSING), else_=NOT_A_NUMBER), False, int), Key(text, term.descending, str)]
    number = rows.c.number
    rank = case((number.is_not(None), NUMBER), (text.is_not(None), NOT_A_NUMBER), else_=MISSING)
    words = case((number.is_(None), text))
    return [Key(rank, False, int), Key(number, term.descending, float), Key(words, term.descending, str)]


def _head(column: ColumnElement[Any]) -> ColumnElement[Any]:
    # Page tokens hold sort keys: their size must not depend on a stored text.
    return func.substr(column, 1, HEAD)


_DIGEST = 8


def write_token(query: bytes, place: Sequence[Value]) -> str:
    """A token of a position in the results of `query`, which encodes filter, experiments and order."""
    payload = msgspec.msgpack.encode(place)
    digest = hashlib.blake2b(query + b"\0" + payload, digest_size=_DIGEST).digest()
    return base64.urlsafe_b64encode(digest + payload).decode().rstrip("=")


def read_token(token: str, query: bytes, keys: Sequence[Key]) -> list[Value]:
    """The position that `write_token` wrote for the same query; InvalidPageToken for anything else."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        place: list[Value] = msgspec.msgpack.decode(raw[_DIGEST:], type=list[int | float | str | None])
    except (binascii.Error, ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
        raise InvalidPageToken from error
    if write_token(query, place) != token or len(place) != len(keys) or not all(map(_fits, keys, place)):
        raise InvalidPageToken
    return place


def _fits(key: Key, value: Value) -> bool:
    """Whether a key may have the value: of its type, and accepted by databases."""
    if isinstance(value, int) and value >= 2**63:
        return False
    return value is None or (isinstance(value, key.type) and "\0" not in str(value))

"""Compiles filter trees to SQL: one condition on `runs` for each node.

Every condition is true or false, never NULL, so that NOT is the complement: other tables are asked with EXISTS, and
nullable columns of `runs` are tested for NULL first.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, reduce
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from tracker.domain.catalogue import AddressAlias
from tracker.query.filter_tree import (
    NUMBER_ATTRIBUTES,
    And,
    Compare,
    In,
    IsNan,
    IsNull,
    Kind,
    Node,
    Not,
    Or,
    Value,
)
from tracker.store.addresses import Addresses
from tracker.store.catalogue_tables import datasets, run_datasets
from tracker.store.database.dialect import text_of_json
from tracker.store.tables import HEAD, experiments, params, runs, series, tags

Clause = ColumnElement[bool]
Leaf = Compare | In | IsNull | IsNan

ATTRIBUTES = {
    "name": "name", "run_id": "uid", "status": "status", "artifact_uri": "artifact_uri", "best_metric": "best_metric",
    "best_epoch": "best_epoch", "best_value": "best_value", "started_ms": "started_ms", "ended_ms": "ended_ms",
}  # fmt: skip
"""Attributes and their columns in `runs`; `experiment` is in another table."""

_ROWS: dict[Kind, FromClause] = {"metric": series, "param": params, "tag": tags}
_TABLES: dict[Kind, FromClause] = {**_ROWS, "attribute": runs}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_INT64 = 2**63
_ID = re.compile(r"(\{experiment\}|\{run\})")
CONTEXT = "mlflow.data.context"
"""The tag that says what a run used a data set for: training, evaluation …"""

_used, _dataset = run_datasets.alias("used"), datasets.alias("dataset_used")


@cache
def table_of(kind: Kind, role: str) -> FromClause:
    """An alias of the table of such fields, cached because making one takes as long as a short query."""
    return _TABLES[kind].alias(f"{kind}_{role}")


def unindexed(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """The column, written so that SQLite uses no index on it: without statistics it often picks a bad one."""
    return UnaryExpression(column, operator=custom_op("+")) if dialect == "sqlite" else column


def by_code(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """Text that compares and sorts by code points; SQLite does that by itself."""
    return column.collate("C") if dialect == "postgresql" else column


def among(column: ColumnElement[Any], ids: Select[Any] | CompoundSelect[Any], dialect: str) -> Clause:
    """Whether the column is one of some ids, which are selected first: PostgreSQL would read all rows otherwise."""
    if dialect == "postgresql":
        return column == any_(func.array(ids.scalar_subquery()))
    return column.in_(ids)


class Conditions:
    """Builds conditions for one database, given by SQLAlchemy's name of its dialect.

    Those on `artifact_uri` apply to the address as it is shown: to a server's clients with `alias`, else to readers.
    """

    def __init__(self, dialect: str, addresses: Addresses, alias: AddressAlias | None = None) -> None:
        self._dialect = dialect
        self._addresses = addresses
        self._alias = alias

    def of(self, node: Node) -> Clause:
        """The condition on `runs` that the node states."""
        match node:
            case And(parts):
                return and_(*self.together(parts, and_))
            case Or(parts):
                return or_(*self.together(parts, or_))
            case Not(part):
                return not_(self.of(part))
        if node.field.kind == "attribute":
            return self.attribute(node, runs)
        if node.field.kind == "dataset":
            used = self.uses(node).where(_used.c.run_id == runs.c.id)
            there = exists(used.offset(0) if self._dialect == "postgresql" else used)
            return there if has_row(node) else not_(there)
        found = self._found([node], and_)
        return found if has_row(node) else not_(found)

    def together(self, parts: Iterable[Node], join: Callable[..., Clause]) -> list[Clause]:
        """The conditions of parts that `join` will combine; parts about one key share one lookup of its row."""
        clauses: list[Clause] = []
        leaves: dict[tuple[str, str], list[Leaf]] = {}
        for part in parts:
            if not isinstance(part, (And, Or, Not)) and part.field.kind in _ROWS and has_row(part):
                leaves.setdefault((part.field.kind, part.field.key), []).append(part)
            else:
                clauses.append(self.of(part))
        return [*clauses, *(self._found(about, join) for about in leaves.values())]

    def _found(self, leaves: Sequence[Leaf], join: Callable[..., Clause]) -> Clause:
        """Whether the run's row of the leaves' common key meets them; a run has at most one row of each key."""
        field = leaves[0].field
        rows = table_of(field.kind, "probed")
        described = join(*(and_(true(), *self.row(leaf, rows)) for leaf in leaves))
        return self.probe(rows, [rows.c.key == field.key, described])

    def probe(self, rows: FromClause, clauses: Sequence[Clause], run: ColumnElement[int] | None = None) -> Clause:
        """Whether the run has a row that meets the clauses; `run` is the key of the row's run."""
        found = select(literal(1)).where((rows.c.run_id if run is None else run) == runs.c.id, *clauses)
        # PostgreSQL would make it a join and read all such rows for one page of runs; an OFFSET prevents that.
        return exists(found.offset(0) if self._dialect == "postgresql" else found)

    def uses(self, leaf: Leaf) -> Select[Any]:
        """The uses (column `run_id`) of data sets that meet the leaf; a run may have many.

        Each leaf is tested on its own: two of them may hold for different data sets of one run.
        """
        uses: Select[Any] = select(_used.c.run_id)
        if leaf.field.key == "context":
            text = text_of_json(_used.c.tags, CONTEXT, self._dialect)
        else:
            uses = uses.join(_dataset, _dataset.c.id == _used.c.dataset_id)
            text = _dataset.c[leaf.field.key]
        return uses.where(
            text.is_not(None) if isinstance(leaf, (IsNull, IsNan)) else self._value(leaf, text, None, None)
        )

    def row(self, leaf: Leaf, rows: FromClause) -> list[Clause]:
        """The leaf's conditions on the row of its key; of IS NULL and NaN, only that the row exists."""
        if leaf.field.kind == "metric":
            return self._metric(leaf, rows)
        if isinstance(leaf, (IsNull, IsNan)):
            return []
        text = rows.c.text if leaf.field.kind == "param" else rows.c.value
        number = rows.c.number if leaf.field.kind == "param" else None
        return [self._value(leaf, text, rows.c.head, number)]

    def _metric(self, leaf: Leaf, rows: FromClause) -> list[Clause]:
        value = rows.c[f"{leaf.field.stat}_value"]
        last = leaf.field.stat == "last"
        # NULL means NaN if there is a last point, else no value; the other statistics are never NaN.
        there = rows.c.last_step.is_not(None) if last else value.is_not(None)
        match leaf:
            case IsNull():
                return [there]
            case IsNan(negated=True):
                return [value.is_not(None)]
            case IsNan():
                return [value.is_(None), there] if last else [false()]
        equal = _numbers(leaf, value)
        return [or_(value.is_(None), not_(equal)), there] if _negative(leaf) else [equal]

    def _value(
        self, leaf: Compare | In, text: ColumnElement[Any], head: Any, number: ColumnElement[Any] | None
    ) -> Clause:
        """The leaf as a condition on a text column, and where it has them, its indexed first characters and number."""
        values = leaf.values if isinstance(leaf, In) else (leaf.value,)
        texts = [value for value in values if isinstance(value, str)]
        either: list[Clause] = []
        if texts or number is None:
            either.append(self._texts(leaf, texts, text, head))
        if len(texts) < len(values) and number is not None:
            either.append(and_(number.is_not(None), _numbers(leaf, number)))
        return not_(or_(*either)) if _negative(leaf) else or_(*either)

    def _texts(self, leaf: Compare | In, values: Sequence[str], text: ColumnElement[Any], head: Any) -> Clause:
        op = "=" if isinstance(leaf, In) else leaf.op.removeprefix("NOT ").replace("!=", "=")
        if op == "=":
            whole = text.in_(values) if len(values) != 1 else text == values[0]
            if head is None:
                return whole
            start = head.in_([v[:HEAD] for v in values]) if len(values) != 1 else head == values[0][:HEAD]
            return start if all(len(value) < HEAD for value in values) else and_(start, whole)
        pattern = values[0]
        if op == "LIKE":
            return and_(*self._begins(head, literal_start(pattern)), self._like(text, pattern))
        if op == "ILIKE":
            return self._ilike(text, pattern)
        return COMPARE[op](by_code(text, self._dialect), pattern)  # type: ignore[no-any-return]

    def _begins(self, head: Any, start: str) -> list[Clause]:
        """The condition of a LIKE pattern's literal start on the indexed characters, in a form that indexes support."""
        if head is None or not start:
            return []
        head, start = by_code(head, self._dialect), start[:HEAD]
        return [head >= start, head < start + "\U0010ffff"]

    def _like(self, text: ColumnElement[Any], pattern: str) -> Clause:
        if self._dialect != "sqlite":
            return text.like(_no_escapes(pattern))
        # SQLite's LIKE ignores case, its GLOB does not.
        return text.op("GLOB", is_comparison=True)(_glob(pattern))

    def _ilike(self, text: ColumnElement[Any], pattern: str) -> Clause:
        if self._dialect != "sqlite":
            return text.ilike(_no_escapes(pattern))
        if pattern.isascii():
            return text.like(pattern)
        return func.tracker_lower(text).op("GLOB", is_comparison=True)(_glob(pattern.lower()))

    def attribute(self, leaf: Leaf, table: FromClause) -> Clause:
        """The leaf as a condition on a column of `table`: of `runs`, or of an alias in a candidate set."""
        key = leaf.field.key
        column: ColumnElement[Any]
        if key == "experiment":
            if isinstance(leaf, (IsNull, IsNan)):
                return true() if leaf.negated else false()
            theirs = select(experiments.c.id).where(self._value(leaf, experiments.c.name, None, None))
            column = table.c.experiment_id
            return among(unindexed(column, self._dialect) if table is runs else column, theirs, self._dialect)
        column = table.c[ATTRIBUTES[key]]
        if table is runs and key != "started_ms":
            column = unindexed(column, self._dialect)
        if key == "artifact_uri":
            column = self._addresses.shown_in_sql(column)
            if self._alias is not None:
                kept, shown = _filled_in(self._alias.kept, table), _filled_in(self._alias.shown, table)
                start = func.substr(column, 1, len(self._alias.kept)) if self._alias.begins else column
                column = case((start == kept, shown), else_=column)
        if isinstance(leaf, IsNull):
            return column.is_not(None) if leaf.negated else column.is_(None)
        assert not isinstance(leaf, IsNan)
        if key not in NUMBER_ATTRIBUTES:
            meets = self._value(leaf, column, None, None)
        else:
            meets = _numbers(leaf, column) if key == "best_value" else _wholes(leaf, column)
            meets = not_(meets) if _negative(leaf) else meets
        return and_(column.is_not(None), meets) if runs.c[ATTRIBUTES[key]].nullable else meets


def _filled_in(template: str, table: FromClause) -> ColumnElement[str]:
    """The text that the template (see `AddressAlias`) makes of a row of `table`."""
    ids = {"{experiment}": cast(table.c.experiment_id, Text), "{run}": table.c.uid}
    pieces = [ids[piece] if piece in ids else literal(piece) for piece in _ID.split(template)]
    return reduce(operator.add, pieces)


def has_row(leaf: Leaf) -> bool:
    """Whether the leaf needs a row that exists, not a missing one."""
    return leaf.negated if isinstance(leaf, IsNull) else True


def _negative(leaf: Compare | In) -> bool:
    return leaf.negated if isinstance(leaf, In) else leaf.op in ("!=", "NOT LIKE", "NOT ILIKE")


def _numbers(leaf: Compare | In, column: ColumnElement[Any]) -> Clause:
    """The leaf, without its negation, as a condition on a column of floats."""
    if isinstance(leaf, In):
        return column.in_([float(v) for v in leaf.values if not isinstance(v, str) and not math.isnan(v)])
    value = float(leaf.value)
    return false() if math.isnan(value) else COMPARE[leaf.op.replace("!=", "=")](column, value)


def _wholes(leaf: Compare | In, column: ColumnElement[Any]) -> Clause:
    """The leaf, without its negation, as a condition on a column of integers, equal only to whole 64-bit numbers."""
    if isinstance(leaf, In):
        return column.in_([int(v) for v in leaf.values if _is_int64(v)])
    op, value = leaf.op.replace("!=", "="), float(leaf.value) if isinstance(leaf.value, str) else leaf.value
    if _is_int64(value):
        return COMPARE[op](column, int(value))  # type: ignore[no-any-return]
    if op == "=" or math.isnan(value):
        return false()
    if not -_INT64 <= value < _INT64:
        return true() if (value > 0) == (op[0] == "<") else false()
    return column <= math.floor(value) if op[0] == "<" else column >= math.ceil(value)


def _is_int64(value: Value) -> bool:
    if isinstance(value, str) or not -_INT64 <= value < _INT64:
        return False
    return isinstance(value, int) or value.is_integer()


def literal_start(pattern: str) -> str:
    """The text of a LIKE pattern before the first wildcard."""
    return pattern.partition("%")[0].partition("_")[0]


def _no_escapes(pattern: str) -> str:
    """A LIKE pattern in which a backslash is a backslash."""
    return pattern.replace("\\", "\\\\")


def _glob(pattern: str) -> str:
    """A LIKE pattern as a pattern of SQLite's GLOB."""
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern)

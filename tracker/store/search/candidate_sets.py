"""Candidate sets of a search: conditions that hold for few runs according to an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, select

from tracker.query.filter_tree import And, Compare, Field, In, IsNan, IsNull, Node, Not, Or
from tracker.store.search.filter_sql import COMPARE, Conditions, Leaf, has_row, literal_start, table_of

_ATTRIBUTES = {
    "name": "name", "run_id": "uid", "status": "status", "started_ms": "started_ms", "ended_ms": "ended_ms",
    "experiment": None,
}  # fmt: skip
"""Attributes that an index finds runs by, and the column that orders their count."""
RUN_ID = Field("attribute", "run_id")


@dataclass(frozen=True)
class CandidateSet:
    """A set of run ids that contains every match: the union of `rows`, at most as many as the rows of `counted`.

    `counted` has the order of the index to count in, because PostgreSQL may read the table otherwise. The set is
    exactly the runs that meet the nodes `exactly`, which need not be tested again.
    """

    counted: tuple[Select[Any], ...]
    rows: tuple[Select[Any], ...]
    exactly: tuple[Node, ...] = ()


def candidate_sets(conditions: Conditions, parts: Sequence[Node]) -> list[CandidateSet]:
    """The candidate sets of a search for all of the parts; parts about one field make one set."""
    found: list[CandidateSet] = []
    leaves: dict[Field, list[Leaf]] = {}
    for part in parts:
        if isinstance(part, Or):
            found += _either(conditions, part)
        elif isinstance(part, (And, Not)):
            continue
        elif part.field.kind == "dataset":
            if has_row(part):
                uses = conditions.uses(part)
                found.append(CandidateSet((uses,), (uses,), (part,)))
        elif _findable(part):
            leaves.setdefault(part.field, []).append(part)
    return [*found, *(_of_field(conditions, field, about) for field, about in leaves.items())]


def _either(conditions: Conditions, node: Or) -> list[CandidateSet]:
    """The union of the first candidate set of each part, if every part has one."""
    firsts = []
    exactly = True
    for part in node.parts:
        wanted = part.parts if isinstance(part, And) else (part,)
        if not (found := candidate_sets(conditions, wanted)):
            return []
        firsts.append(found[0])
        exactly = exactly and found[0].exactly == wanted
    counted = tuple(rows for first in firsts for rows in first.counted)
    return [CandidateSet(counted, tuple(rows for first in firsts for rows in first.rows), (node,) if exactly else ())]


def _of_field(conditions: Conditions, field: Field, leaves: Sequence[Leaf]) -> CandidateSet:
    if field.kind == "attribute":
        table = table_of("attribute", "probed")
        ids = (
            select(table.c.id.label("run_id"))
            .select_from(table)
            .where(*(conditions.attribute(leaf, table) for leaf in leaves))
        )
        column = _ATTRIBUTES[field.key]
        return CandidateSet((ids.order_by(table.c[column]) if column else ids,), (ids,), tuple(leaves))
    rows = table_of(field.kind, "probed")
    key, ids = rows.c.key == field.key, select(rows.c.run_id).select_from(rows)
    # Conditions that no index supports are left out of the count: the rows of the key bound the size.
    known = [clause for leaf in leaves if _narrow(leaf) for clause in conditions.row(leaf, rows)]
    asked = [clause for leaf in leaves for clause in conditions.row(leaf, rows)]
    counted = ids.where(key, *known).order_by(_indexed(leaves[0], rows))
    return CandidateSet((counted,), (ids.where(key, *asked),), tuple(leaves))


def _findable(leaf: Leaf) -> bool:
    """Whether the leaf's runs can be found by rows that exist."""
    if leaf.field.kind == "attribute":
        return leaf.field.key in _ATTRIBUTES and _narrow(leaf)
    return has_row(leaf)


def _narrow(leaf: Leaf) -> bool:
    """Whether an index on (key, value) finds the rows."""
    if leaf.field.kind == "metric" and leaf.field.stat not in ("last", "best"):
        return False
    match leaf:
        case Compare(op=op, value=str(value)):
            # Ids are compared as ranges to find those with one beginning.
            is_range = leaf.field == RUN_ID and op in COMPARE
            return op == "=" or is_range or (op == "LIKE" and bool(literal_start(value)))
        case Compare(op=op):
            return op in COMPARE
        case In(negated=negated) | IsNan(negated=negated):
            return not negated
        case IsNull(negated=False):
            return leaf.field.kind == "attribute"
    return False


def _indexed(leaf: Leaf, rows: FromClause) -> ColumnElement[Any]:
    """The column after the key in the index on the leaf's field."""
    if leaf.field.kind == "metric":
        return rows.c.best_value if leaf.field.stat == "best" else rows.c.last_value
    number = isinstance(leaf, Compare) and not isinstance(leaf.value, str)
    return rows.c.number if number else rows.c.head

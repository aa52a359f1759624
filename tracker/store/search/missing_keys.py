"""Warns of metrics, parameters and tags in a search that no run of its experiments has, mostly typing errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import get_args

from sqlalchemy import Connection, exists, literal, select

from tracker.domain.vocabulary import RUN_STATUSES
from tracker.query.filter_parser import parse_filter, parse_order
from tracker.query.filter_tree import And, Field, In, IsNull, Kind, Node, Not, Or, Stat
from tracker.store.database.typed_rows import typed
from tracker.store.search.filter_sql import has_row, table_of
from tracker.store.search.scope import Scope
from tracker.store.tables import runs

_NEWEST = 200
"""How many of the newest runs are searched for names that may have been meant."""
_KINDS: dict[Kind, str] = {"metric": "metrics", "param": "params", "tag": "tags"}
_WORDS: dict[Kind, str] = {"metric": "metric", "param": "parameter", "tag": "tag"}
_STATUSES = f"{', '.join(RUN_STATUSES[:-1])} and {RUN_STATUSES[-1]}"
_PLAIN = re.compile(r"[^\s'\"`()<>=!,;]+")


def warnings_of(
    connection: Connection, filter: str, order_by: Iterable[str], experiments: Iterable[str] | None, *, found: bool
) -> list[str]:
    """A sentence for each key that no run of these experiments has, with the name that may have been meant.

    A condition on the status that no status meets is reported too. `found`: the search found a run, so the fields that
    every match must have exist. Experiments without a run give no warnings about keys.
    """
    tree = parse_filter(filter)
    said = [f"no run status matches the condition: the statuses are {_STATUSES}"] if _meets_no_status(tree) else []
    wanted = _wanted(tree, found) + [term.field for term in parse_order(order_by)]
    fields = list(dict.fromkeys(field for field in wanted if field.kind in _KINDS))
    return said + (_missing(connection, fields, experiments) if fields else [])


def _missing(connection: Connection, fields: Iterable[Field], experiments: Iterable[str] | None) -> list[str]:
    scope = Scope.named(connection, experiments)
    if scope.ids == ():
        return []
    where = scope.where(connection.dialect.name, in_order=False)
    asked = []
    for field in fields:
        rows = table_of(field.kind, "probed")
        runs_with = select(literal(1)).select_from(rows.join(runs, runs.c.id == rows.c.run_id))
        asked.append(exists(runs_with.where(rows.c.key == field.key, *where)))
    there = connection.execute(select(*asked)).one()
    missing = [field for field, is_there in zip(fields, there, strict=True) if not is_there]
    if not missing:
        return []
    newest = select(runs.c.id).where(*where).order_by(runs.c.started_ms.desc()).limit(_NEWEST)
    ids = connection.execute(newest).scalars().all()
    if not ids:
        return []
    keys: dict[Kind, list[str]] = {}
    for kind in _KINDS:
        rows = table_of(kind, "probed")
        theirs = connection.execute(select(rows.c.key).distinct().where(rows.c.run_id.in_(ids)))
        keys[kind] = sorted(key for (key,) in typed(theirs, tuple[str], f"{kind}s", ("key",)))
    whose = "no run" if experiments is None else "no run of these experiments"
    return [f"{whose} has the {_WORDS[field.kind]} {field.key!r}{_meant(field, keys)}" for field in missing]


def _meets_no_status(node: Node | None) -> bool:
    match node:
        case And(parts) | Or(parts):
            return any(map(_meets_no_status, parts))
        case Not(part):
            return _meets_no_status(part)
        case In(field, (), False):
            return field.key == "status" and field.kind == "attribute"
    return False


def _wanted(node: Node | None, found: bool) -> list[Field]:
    """The fields that a filter needs, without those that `found` runs must have."""
    parts = node.parts if isinstance(node, And) else () if node is None else (node,)
    fields: list[Field] = []
    for part in parts:
        if found and not isinstance(part, (And, Or, Not)) and has_row(part):
            continue
        fields += _fields(part)
    return fields


def _fields(node: Node) -> Iterator[Field]:
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _fields(part)
        case Not(part):
            yield from _fields(part)
        case IsNull(negated=False):
            return  # asking for a missing field is no mistake
        case _:
            yield node.field


def _meant(field: Field, keys: dict[Kind, list[str]]) -> str:
    for kind, known in keys.items():
        if kind != field.kind and field.key in known:
            return f"; did you mean {_written(kind, field.key)}?"
    candidates = {key: _written(field.kind, key, field.stat) for key in keys[field.kind]}
    if field.kind == "metric":
        candidates |= {
            f"{key}.{stat}": _written("metric", key, stat) for key in keys["metric"] for stat in get_args(Stat)
        }
    near = get_close_matches(field.key, candidates, n=1, cutoff=0.6)
    return f"; did you mean {candidates[near[0]]}?" if near else ""


def _written(kind: Kind, key: str, stat: Stat = "last") -> str:
    """The field as it is written in a filter."""
    quoted = key if _PLAIN.fullmatch(key) else "`" + key.replace("`", "``") + "`"
    return f"{_KINDS[kind]}.{quoted}" + ("" if stat == "last" else f".{stat}")

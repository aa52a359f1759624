"""The run search: a page of runs that match a filter, in order, found without reading the rest.

A page token holds the sort keys of the last run of its page, and the next page begins after them, so that runs which
come and go between pages neither repeat nor hide others. Three ways lead to the same page:

- *driven*: some condition holds for few runs, as an index tells; those are fetched and sorted;
- *walked*: ordered by a metric or a parameter's number, its index is walked until the page is full, the rest of the
  filter probed run by run; then come the runs whose value is no number;
- *sorted*: everything else. In order of start alone this walks an index too.

SQLite keeps no statistics, and PostgreSQL's do not know how far a walk must go to fill a page, so the choice is made
here, by counting in the indexes as far as it pays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, exists, func, literal, select, union_all

from tracker.domain.errors import ExperimentNotFound, InvalidPageToken, InvalidValue
from tracker.domain.limits import check_experiment
from tracker.query.filters import parse_filter, parse_order
from tracker.query.syntax import And, Comparison, Field, In, IsNan, IsNull, Node, OrderTerm
from tracker.store.conditions import Clause, Conditions, Driver, table_of, unindexed
from tracker.store.sorting import (
    EXPERIMENT,
    MISSING,
    NOT_A_NUMBER,
    NUMBER,
    Sort,
    Value,
    normal,
    read_token,
    write_token,
)
from tracker.store.tables import experiments, runs

MAX_LIMIT = 50_000
_MOST_DRIVERS = 8

_Found = tuple[tuple[Value, ...], Row[Any]]
"""A run and its place: the values of the sort keys."""


def search(
    connection: Connection,
    filter: str = "",
    *,
    experiments: Iterable[str] | None = None,
    order_by: Iterable[str] = (),
    limit: int = 100,
    page_token: str | None = None,
) -> tuple[list[Row[Any]], str | None]:
    """One page of runs, and the token of the next page or None after the last.

    Rows have the columns of `runs` and `experiment`, its name. Deleted runs and those of deleted experiments are left
    out; `experiments` None means all. The order is newest first, also among runs that `order_by` leaves equal; text
    sorts by its first 200 characters. Raises InvalidFilter, InvalidPageToken, ExperimentNotFound, InvalidValue.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidValue("limit", repr(limit), limit=f"a whole number from 1 to {MAX_LIMIT}")
    node, terms = parse_filter(filter), normal(parse_order(order_by))
    ids = _experiment_ids(connection, experiments)
    found = _Search(connection, node, ids)
    query = repr((node, terms, ids)).encode()
    place = None if page_token is None else read_token(page_token, query, found.sort(terms).keys)
    page = [] if ids == [] else found.page(terms, place, limit + 1)
    token = write_token(query, page[limit - 1][0]) if len(page) > limit else None
    return [row for _, row in page[:limit]], token


def _experiment_ids(connection: Connection, names: Iterable[str] | None) -> list[int] | None:
    if names is None:
        return None
    wanted = {check_experiment(name): None for name in ([names] if isinstance(names, str) else names)}
    statement = select(experiments.c.name, experiments.c.id).where(
        experiments.c.name.in_(wanted), experiments.c.deleted_ms.is_(None)
    )
    found = {name: number for name, number in connection.execute(statement)}
    for name in wanted:
        if name not in found:
            raise ExperimentNotFound(name)
    return sorted(found.values())


class _Search:
    """A filter over some experiments, asked in one database."""

    def __init__(self, connection: Connection, node: Node | None, experiment_ids: list[int] | None) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._conditions = Conditions(self._dialect)
        self._parts = node.parts if isinstance(node, And) else () if node is None else (node,)
        self._experiment_ids = experiment_ids

    def sort(self, terms: Sequence[OrderTerm]) -> Sort:
        return Sort.by(terms, self._dialect)

    def page(self, terms: Sequence[OrderTerm], place: Sequence[Value] | None, count: int) -> list[_Found]:
        """At most `count` runs after `place`."""
        driver = self._driver(self._drivers(bool(terms)), count)
        if driver is None and len(terms) == 1 and _has_index(terms[0].field):
            return list(itertools.islice(self._walked(terms[0], place, count), count))
        return self._sorted(self.sort(terms), place, count, driver=driver)

    def _drivers(self, sorting: bool) -> list[Driver]:
        drivers = [driver for part in self._parts for driver in self._conditions.drivers(part)]
        ids = self._experiment_ids
        # One experiment's runs in order of start are an index: nothing better to drive with.
        if ids is not None and (sorting or len(ids) > 1):
            of_experiments = select(runs.c.id).where(runs.c.experiment_id.in_(ids))
            drivers.append(Driver((of_experiments,), (of_experiments,)))
        return drivers[:_MOST_DRIVERS]

    def _driver(self, drivers: Sequence[Driver], count: int) -> Driver | None:
        """The smallest driver, if it is small enough to be faster than a walk."""
        if not drivers:
            return None
        total = self._connection.execute(select(func.max(runs.c.id))).scalar() or 0
        # A walk passes total / size runs for each that it finds, a driven search fetches all: here they cost the same.
        enough = math.isqrt(total * count // 2) + 1
        counts = [
            select(func.count()).select_from(rows.limit(enough).subquery()).scalar_subquery()
            for driver in drivers
            for rows in driver.counted
        ]
        each = iter(self._connection.execute(select(*counts)).one())
        sizes = [sum(itertools.islice(each, len(driver.counted))) for driver in drivers]
        size, driver = min(zip(sizes, drivers, strict=True), key=lambda pair: pair[0])
        return driver if size < enough else None

    def _sorted(
        self,
        sort: Sort,
        place: Sequence[Value] | None,
        count: int,
        *,
        driver: Driver | None = None,
        also: Sequence[Clause] = (),
    ) -> list[_Found]:
        source: FromClause = runs
        for rows, on in sort.joins:
            source = source.outerjoin(rows, on)
        keys = [key.expression.label(f"key_{i}") for i, key in enumerate(sort.keys)]
        clauses = [*map(self._conditions.of, self._parts), *also]
        if place is not None:
            clauses.append(sort.after(place))
        if driver is not None:
            clauses.append(runs.c.id.in_(union_all(*driver.rows) if len(driver.rows) > 1 else driver.rows[0]))
        statement = self._select(source, keys, clauses, in_order=driver is None).order_by(*sort.order).limit(count)
        return [(tuple(row[-len(keys) :]), row) for row in self._connection.execute(statement)]

    def _select(
        self, source: FromClause, keys: Sequence[ColumnElement[Any]], clauses: Sequence[Clause], *, in_order: bool
    ) -> Select[Any]:
        """Live runs of the experiments; `in_order` where their order of start may be what leads to them."""
        ids = self._experiment_ids
        if ids is None:
            gone = experiments.c.deleted_ms.is_not(None)
            where = ~exists(select(literal(1)).where(experiments.c.id == runs.c.experiment_id, gone))
        elif in_order and len(ids) == 1:
            where = runs.c.experiment_id == ids[0]
        else:
            where = unindexed(runs.c.experiment_id, self._dialect).in_(ids)
        columns = (*runs.c, EXPERIMENT.label("experiment"), *keys)
        return select(*columns).select_from(source).where(runs.c.deleted_ms.is_(None), where, *clauses)

    def _walked(self, term: OrderTerm, place: Sequence[Value] | None, count: int) -> list[_Found]:
        rank = NUMBER if place is None else place[0]
        found = self._numbers(term, place, count) if rank == NUMBER else []
        if len(found) == count or self._asks_for_numbers(term.field):
            return found
        if rank != MISSING:
            found += self._not_numbers(term, place if rank == NOT_A_NUMBER else None, count - len(found))
        if len(found) < count:
            rest = place if rank == MISSING else None
            found += self._equal(term, MISSING, None, IsNull(term.field), rest, count - len(found))
        return found

    def _numbers(self, term: OrderTerm, place: Sequence[Value] | None, count: int) -> list[_Found]:
        """Runs with a number, by it: first the rest of those equal to the last page's last, then a walk."""
        found: list[_Found] = []
        start = None if place is None else place[1]
        if start is not None:
            found = self._equal_to(term, start, place, count)
        need = count - len(found)
        if not need:
            return found
        # One more, to see whether the last number's runs are all here: a long row of equal ones is not walked through
        # to find the newest, but asked for by itself.
        walk = self._walk(term, start, need + 1)
        last = walk[-1].number if len(walk) > need else None
        whole = [row for row in walk if row.number != last]
        for number, rows in itertools.groupby(whole, key=lambda row: row.number):
            for row in sorted(rows, key=lambda row: (row.started_ms, row.id), reverse=True):
                found.append((self._place(term, NUMBER, number, row), row))
        if last is not None and len(found) < count:
            found += self._equal_to(term, last, None, count - len(found))
        return found

    def _walk(self, term: OrderTerm, start: Value, count: int) -> Sequence[Row[Any]]:
        rows = table_of(term.field)
        number = rows.c.number if term.field.kind == "param" else rows.c[f"{term.field.stat}_value"]
        clauses = [rows.c.key == term.field.key]
        if start is None:
            clauses.append(number.is_not(None))
        else:
            clauses.append(number < start if term.descending else number > start)
        for part in self._parts:
            if isinstance(part, (Comparison, In, IsNan)) and part.field == term.field:
                clauses += self._conditions.row(part, rows)[1:]
            else:
                clauses.append(self._conditions.of(part))
        source = rows.join(runs, runs.c.id == rows.c.run_id)
        statement = self._select(source, [number.label("number")], clauses, in_order=False)
        return self._connection.execute(
            statement.order_by(number.desc() if term.descending else number.asc()).limit(count)
        ).all()

    def _not_numbers(self, term: OrderTerm, place: Sequence[Value] | None, count: int) -> list[_Found]:
        """NaN of metrics, texts of parameters."""
        if term.field.kind == "metric":
            return self._equal(term, NOT_A_NUMBER, None, IsNan(term.field), place, count)
        sort = self.sort((term,))
        return self._sorted(sort, place, count, also=[sort.keys[0].expression == NOT_A_NUMBER])

    def _equal_to(self, term: OrderTerm, number: Value, place: Sequence[Value] | None, count: int) -> list[_Found]:
        if number is None:
            raise InvalidPageToken
        return self._equal(term, NUMBER, number, Comparison(term.field, "=", number), place, count)

    def _equal(
        self, term: OrderTerm, rank: int, number: Value, leaf: Node, place: Sequence[Value] | None, count: int
    ) -> list[_Found]:
        """Runs that the term leaves equal and the leaf describes, newest first, after `place`."""
        driver = self._driver(self._conditions.drivers(leaf), count)
        tail = None if place is None else place[-2:]
        also = [self._conditions.of(leaf)]
        found = self._sorted(self.sort(()), tail, count, driver=driver, also=also)
        return [(self._place(term, rank, number, row), row) for _, row in found]

    def _place(self, term: OrderTerm, rank: int, number: Value, row: Row[Any]) -> tuple[Value, ...]:
        text = (None,) if term.field.kind == "param" else ()
        return (rank, number, *text, row.started_ms, row.id)

    def _asks_for_numbers(self, field: Field) -> bool:
        """Whether the filter lets nothing through for which the field is no number."""
        for part in self._parts:
            match part:
                case Comparison(field=asked, op="=" | "<" | "<=" | ">" | ">=", value=int() | float()) if asked == field:
                    return True
                case IsNan(field=asked, negated=True) if asked == field:
                    return True
        return False


def _has_index(field: Field) -> bool:
    return field.kind == "param" or (field.kind == "metric" and field.stat in ("last", "best"))

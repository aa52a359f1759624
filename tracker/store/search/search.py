"""The run search: finds a page of runs that match a filter, in order, without reading the rest.

A page token holds the sort keys of the last run of its page, and the next page begins after them, so that runs that are
added or removed between pages neither repeat nor hide others. Three strategies give the same page:

- *from candidates*: some condition holds for few runs, according to an index; those are fetched and sorted;
- *walked*: ordered by one metric, parameter or tag, its index is walked until the page is full, with the rest of the
  filter probed run by run; then come the runs with NaN, and those without the value;
- *sorted*: everything else. In order of start alone this walks an index too.

SQLite keeps no statistics, and PostgreSQL's do not say how far a walk must go to fill a page. So this module chooses,
by counting index entries up to a limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    String,
    and_,
    func,
    literal,
    select,
    union_all,
)

from tracker.domain.catalogue import AddressAlias, Lifecycle
from tracker.domain.errors import InvalidPageToken, InvalidValue
from tracker.query.filter_parser import parse_filter, parse_order
from tracker.query.filter_tree import And, Compare, Field, In, IsNan, Node, Or, OrderTerm
from tracker.store import addresses
from tracker.store.search.candidate_sets import RUN_ID, CandidateSet, candidate_sets
from tracker.store.search.filter_sql import Clause, Conditions, among, by_code, table_of
from tracker.store.search.scope import Scope
from tracker.store.search.sorting import (
    EXPERIMENT,
    NUMBER,
    OrderRules,
    RankGroup,
    Sort,
    Value,
    has_rank,
    normal,
    rank_groups,
    read_token,
    write_token,
)
from tracker.store.tables import runs

MAX_LIMIT = 50_000
MAX_TERMS = 20
_MOST_CANDIDATE_SETS = 8
_PLAIN = {"max_parallel_workers_per_gather": "0", "jit": "off"}

_Found = tuple[tuple[Value, ...], Row[Any]]
"""The values of a run's sort keys, and its row."""


def search(
    connection: Connection,
    filter: str = "",
    experiments: Iterable[str] | None = None,
    order_by: Iterable[str] = (),
    limit: int = 100,
    page_token: str | None = None,
    alias: AddressAlias | None = None,
) -> tuple[list[Row[Any]], str | None]:
    """One page of runs, and the token of the next page or None after the last.

    Rows have the columns of `runs`, the experiment's name as `experiment`, and then the sort keys. Deleted runs and
    those of deleted experiments are left out; `experiments` None means all. The order is newest first, also among runs
    that `order_by` leaves equal; text sorts by its first 200 characters. Conditions on `artifact_uri` apply to the
    address that `alias` shows. Raises InvalidFilter, InvalidPageToken, ExperimentNotFound, InvalidValue.
    """
    wanted = _parsed(filter, order_by, limit)
    return _page(connection, wanted, Scope.named(connection, experiments), OrderRules.OURS, limit, page_token, alias)


def search_like_mlflow(
    connection: Connection,
    experiment_ids: Iterable[int],
    filter: str = "",
    *,
    lifecycle: Lifecycle = "active",
    order_by: Iterable[str] = (),
    limit: int = 100,
    page_token: str | None = None,
    alias: AddressAlias | None = None,
) -> tuple[list[Row[Any]], str | None]:
    """`search` in the experiments with these ids, in MLflow's order; unknown ids are ignored.

    `lifecycle` says which runs; one of a deleted experiment is deleted. See `OrderRules` for the order.
    """
    wanted = _parsed(filter, order_by, limit)
    return _page(
        connection, wanted, Scope.of(connection, experiment_ids, lifecycle), OrderRules.MLFLOW, limit, page_token, alias
    )


def find_runs(connection: Connection, text: str, limit: int, deleted: bool) -> list[Row[Any]]:
    """The run with the id `text`, deleted or not, else runs whose id begins with it or whose name it is, newest first.

    `deleted` says which. Rows are those of `search`.
    """
    exactly = _rows(Scope.everywhere(connection, "all").columns).where(runs.c.uid == text)
    if rows := connection.execute(exactly).all():
        return list(rows)
    # Ids are ASCII and sort as bytes (see `runs.uid`), so those that begin with `text` sort before `text` and 0x7f.
    begins = And((Compare(RUN_ID, ">=", text), Compare(RUN_ID, "<", text + "\x7f")))
    named = Or((begins, Compare(Field("attribute", "name"), "=", text)))
    scope = Scope.everywhere(connection, "deleted" if deleted else "active")
    found = _Search(connection, named, scope, OrderRules.OURS, None).page((), None, limit)
    return [row for _, row in found]


_Wanted = tuple[Node | None, tuple[OrderTerm, ...]]


def _parsed(filter: str, order_by: Iterable[str], limit: int) -> _Wanted:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidValue("limit", repr(limit), limit=f"a whole number from 1 to {MAX_LIMIT}")
    node, terms = parse_filter(filter), normal(parse_order(order_by))
    if len(terms) > MAX_TERMS:
        raise InvalidValue("order_by", f"{len(terms)} fields", limit=f"{MAX_TERMS} fields")
    return node, terms


def _page(
    connection: Connection,
    wanted: _Wanted,
    scope: Scope,
    rules: OrderRules,
    limit: int,
    page_token: str | None,
    alias: AddressAlias | None = None,
) -> tuple[list[Row[Any]], str | None]:
    node, terms = wanted
    found = _Search(connection, node, scope, rules, alias)
    query = repr((node, terms, scope.asked, scope.lifecycle, rules.value)).encode()
    place = None if page_token is None else read_token(page_token, query, found.sort(terms).keys)
    page = [] if scope.ids == () else found.page(terms, place, limit + 1)
    token = write_token(query, page[limit - 1][0]) if len(page) > limit else None
    return [row for _, row in page[:limit]], token


class _Search:
    """A search with one filter over some experiments."""

    def __init__(
        self, connection: Connection, node: Node | None, scope: Scope, rules: OrderRules, alias: AddressAlias | None
    ) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._conditions = Conditions(self._dialect, addresses.of(connection.dialect), alias)
        self._parts = node.parts if isinstance(node, And) else () if node is None else (node,)
        self._scope = scope
        self._rules = rules

    def sort(self, terms: Sequence[OrderTerm]) -> Sort:
        return Sort.by(terms, self._dialect, self._rules)

    def page(self, terms: Sequence[OrderTerm], place: Sequence[Value] | None, count: int) -> list[_Found]:
        """At most `count` runs after `place`."""
        candidates = self._smallest(self._candidate_sets(bool(terms)), count)
        if candidates is None and len(terms) == 1 and rank_groups(terms[0].field, self._rules):
            return self._walked(terms[0], place, count)
        if candidates is None and len(terms) > 1:
            candidates = self._first_by_one_term(terms[0], place, count)
        return self._sorted(self.sort(terms), place, count, candidates=candidates)

    def _candidate_sets(self, sorting: bool) -> list[CandidateSet]:
        found = candidate_sets(self._conditions, self._parts)
        ids = self._scope.ids
        table = table_of("attribute", "probed")
        if self._scope.lifecycle == "deleted":
            # Two indexes find them, in no common order.
            gone = select(table.c.id).where(table.c.deleted_ms.is_not(None))
            hidden = select(table.c.id).where(table.c.experiment_id.in_(self._scope.hidden))
            sets = (gone.order_by(table.c.started_ms), hidden.order_by(table.c.experiment_id))
            found.append(CandidateSet(sets, (gone, hidden)))
        # An index has one experiment's runs in order of start: no candidate set is better.
        if ids is not None and (sorting or len(ids) > 1):
            theirs = select(table.c.id).where(table.c.experiment_id.in_(ids))
            in_index_order = table.c.started_ms if len(ids) == 1 else table.c.experiment_id
            found.append(CandidateSet((theirs.order_by(in_index_order),), (theirs,)))
        return found[:_MOST_CANDIDATE_SETS]

    def _smallest(self, found: Sequence[CandidateSet], count: int) -> CandidateSet | None:
        """The smallest candidate set, if it is small enough to be faster than a walk."""
        if not found:
            return None
        total = self._total()
        # A walk reads total / size runs for each match, a search from candidates fetches all matches: here both cost
        # the same.
        enough = math.isqrt(total * count // 2) + 1
        counts = [
            # Only a constant is selected, so that an index suffices.
            select(func.count())
            .select_from(rows.with_only_columns(literal(1)).limit(enough).subquery())
            .scalar_subquery()
            for candidates in found
            for rows in candidates.counted
        ]
        each = iter(self._connection.execute(select(*counts)).one())
        sizes = [sum(itertools.islice(each, len(candidates.counted))) for candidates in found]
        size, candidates = min(zip(sizes, found, strict=True), key=lambda pair: pair[0])
        return candidates if size < enough else None

    def _total(self) -> int:
        """The approximate number of runs. The statement also prepares PostgreSQL's transaction for small results."""
        columns: list[ColumnElement[Any]] = [func.max(runs.c.id)]
        if self._dialect == "postgresql":
            # Starting parallel workers and compiling take longer than a page.
            columns += [func.set_config(name, value, True) for name, value in _PLAIN.items()]
        return self._connection.execute(select(*columns)).scalar() or 0

    def _sorted(
        self,
        sort: Sort,
        place: Sequence[Value] | None,
        count: int,
        *,
        candidates: CandidateSet | None = None,
        also: Sequence[Clause] = (),
    ) -> list[_Found]:
        source: FromClause = runs
        for rows, on in sort.joins:
            source = source.outerjoin(rows, on)
        keys = [key.expression.label(f"key_{i}") for i, key in enumerate(sort.keys)]
        known = () if candidates is None else candidates.exactly
        clauses = [*self._conditions.together((part for part in self._parts if part not in known), and_), *also]
        if place is not None:
            clauses.append(sort.after(place))
        if candidates is not None:
            ids = union_all(*candidates.rows) if len(candidates.rows) > 1 else candidates.rows[0]
            clauses.append(among(runs.c.id, ids, self._dialect))
        statement = self._select(source, keys, clauses, in_order=candidates is None).order_by(*sort.order).limit(count)
        return [(tuple(row[-len(keys) :]), row) for row in self._connection.execute(statement)]

    def _select(
        self, source: FromClause, keys: Sequence[ColumnElement[Any]], clauses: Sequence[Clause], *, in_order: bool
    ) -> Select[Any]:
        """Runs in scope; `in_order` allows an index on their order of start."""
        where = self._scope.where(self._dialect, in_order=in_order)
        return _rows(self._scope.columns).add_columns(*keys).select_from(source).where(*where, *clauses)

    def _first_by_one_term(self, term: OrderTerm, place: Sequence[Value] | None, count: int) -> CandidateSet | None:
        """Runs among which are the next `count` by this term and others after it; None if its index does not say so."""
        first = _first_rank(term, place)
        found: list[Select[Any]] = []
        for group in rank_groups(term.field, self._rules):
            if group.rank < first:
                continue
            if group.column is None:
                break
            start = _value(term, place) if place is not None and group.rank == first else None
            walk = self._walk(term, group, start, count)
            count -= len(walk)
            rows = table_of(term.field.kind, "probed")
            value = rows.c[group.column]
            ordered = by_code(value, self._dialect) if isinstance(value.type, String) else value
            low, high = (start, None if count else walk[-1].value)[:: -1 if term.descending else 1]
            clauses = [value.is_not(None), *self._in_group(group, term.field, rows)]
            clauses += [] if low is None else [ordered >= low]
            clauses += [] if high is None else [ordered <= high]
            found.append(select(_run_of(rows).label("run_id")).where(*clauses))
            if not count:
                return CandidateSet((), tuple(found))
        return None

    def _walked(self, term: OrderTerm, place: Sequence[Value] | None, count: int) -> list[_Found]:
        first = _first_rank(term, place)
        found: list[_Found] = []
        for group in rank_groups(term.field, self._rules):
            if len(found) < count and group.rank >= first:
                start = place if group.rank == first else None
                step = self._equal if group.column is None else self._in_order
                found += step(term, group, start, count - len(found))
        return found

    def _in_order(self, term: OrderTerm, group: RankGroup, place: Sequence[Value] | None, count: int) -> list[_Found]:
        """Runs ordered by their value: first the rest of those equal to the last page's last, then a walk."""
        start = None if place is None else _value(term, place)
        found = [] if place is None else self._equal(term, group, place, count, value=start)
        need = count - len(found)
        if not need:
            return found
        # One more, to see whether all runs of the last value are here. Many equal runs are not walked through to find
        # the newest, but have a query of their own.
        walk = self._walk(term, group, start, need + 1)
        last = walk[-1].value if len(walk) > need else None
        for value, rows in itertools.groupby(walk, key=attrgetter("value")):
            if value != last:
                equal = list(rows)
                if len(equal) > 1:
                    equal = self._rules.sorted(equal)
                found += [(self._place(term, group, value, row), row) for row in equal]
        if last is not None and len(found) < count:
            found += self._equal(term, group, None, count - len(found), value=last)
        return found

    def _walk(self, term: OrderTerm, group: RankGroup, start: Value, count: int) -> Sequence[Row[Any]]:
        rows = table_of(term.field.kind, "walked")
        value = rows.c[str(group.column)]
        clauses = self._in_group(group, term.field, rows)
        if start is None:
            clauses.append(value.is_not(None))
        else:
            ordered = by_code(value, self._dialect) if isinstance(start, str) else value
            clauses.append(ordered < start if term.descending else ordered > start)
        here = [part for part in self._parts if isinstance(part, (Compare, In, IsNan)) and part.field == term.field]
        of_row = self._conditions.attribute if term.field.kind == "attribute" else self._conditions.row
        for part in here:
            found = of_row(part, rows)
            clauses += found if isinstance(found, list) else [found]
        clauses += self._conditions.together((part for part in self._parts if part not in here), and_)
        source = rows.join(runs, runs.c.id == _run_of(rows))
        statement = self._select(source, [value.label("value")], clauses, in_order=False)
        order = by_code(value, self._dialect) if isinstance(value.type, String) else value
        return self._connection.execute(
            statement.order_by(order.desc() if term.descending else order.asc()).limit(count)
        ).all()

    def _equal(
        self, term: OrderTerm, group: RankGroup, place: Sequence[Value] | None, count: int, *, value: Value = None
    ) -> list[_Found]:
        """Runs that tie in the term, newest first, after `place`."""
        if group.leaf is not None:
            found = candidate_sets(self._conditions, [group.leaf])
            clause = self._conditions.of(group.leaf)
        elif value is None:
            raise InvalidPageToken
        else:
            rows = table_of(term.field.kind, "probed")
            clauses = [*self._in_group(group, term.field, rows), rows.c[str(group.column)] == value]
            ids = select(_run_of(rows)).where(*clauses)
            found = [CandidateSet((ids.order_by(rows.c[str(group.column)]),), (ids,))]
            clause = self._conditions.probe(rows, clauses, _run_of(rows))
        candidates = self._smallest(found, count)
        tail = None if place is None else place[-2:]
        also = [clause] if candidates is None else []
        equal = self._sorted(self.sort(()), tail, count, candidates=candidates, also=also)
        return [(self._place(term, group, value, row), row) for _, row in equal]

    def _in_group(self, group: RankGroup, field: Field, rows: FromClause) -> list[Clause]:
        not_numbers = field.kind == "param" and group.column == "head" and self._rules is OrderRules.OURS
        if field.kind == "attribute":
            return []
        return [rows.c.key == field.key, *([rows.c.number.is_(None)] if not_numbers else [])]

    def _place(self, term: OrderTerm, group: RankGroup, value: Value, row: Row[Any]) -> tuple[Value, ...]:
        """The values of the run's sort keys."""
        values: tuple[Value, ...] = (value,)
        if term.field.kind == "param" and self._rules is OrderRules.OURS:
            values = (value, None) if group.column == "number" else (None, value)
        rank = (group.rank,) if has_rank(term.field) else ()
        return (*rank, *values, *self._rules.rest(row))


@cache
def _rows(columns: tuple[ColumnElement[Any], ...]) -> Select[Any]:
    """The columns selected of every run, cached because building them takes as long as a short query."""
    return select(*columns, EXPERIMENT.label("experiment"))


def _run_of(rows: FromClause) -> ColumnElement[int]:
    """The key of the run that a row belongs to, or is."""
    column: ColumnElement[int] = rows.c.run_id if "run_id" in rows.c else rows.c.id
    return column


def _first_rank(term: OrderTerm, place: Sequence[Value] | None) -> int:
    first = place[0] if place is not None and has_rank(term.field) else NUMBER
    if not isinstance(first, int):
        raise InvalidPageToken
    return first


def _value(term: OrderTerm, place: Sequence[Value]) -> Value:
    return next((value for value in place[has_rank(term.field) : -2] if value is not None), None)

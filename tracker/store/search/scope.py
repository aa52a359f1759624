"""Scope of a search: its experiments, and whether deleted runs are included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, literal, or_, select, true

from tracker.domain.catalogue import Lifecycle
from tracker.domain.errors import ExperimentNotFound, InvalidValue
from tracker.domain.limits import check_experiment
from tracker.store.database.dialect import possible_ids
from tracker.store.search.filter_sql import Clause, unindexed
from tracker.store.tables import experiments, runs

MAX_EXPERIMENTS = 10_000

_deleted_ms = select(experiments.c.deleted_ms).where(experiments.c.id == runs.c.experiment_id).scalar_subquery()
_plain = tuple(runs.c)
_with_hidden = tuple(
    func.coalesce(column, _deleted_ms).label(column.key) if column is runs.c.deleted_ms else column for column in runs.c
)


@dataclass(frozen=True)
class Scope:
    """Runs in the stage `lifecycle` of the experiments `ids`, of which those in `hidden` are deleted.

    `ids` None means all experiments, for active runs those that are not deleted. `asked` has the ids that the caller
    asked for, so that a page token stays valid while experiments are added and removed.
    """

    asked: tuple[int, ...] | None
    ids: tuple[int, ...] | None
    hidden: tuple[int, ...] = ()
    lifecycle: Lifecycle = "active"

    @classmethod
    def named(cls, connection: Connection, names: Iterable[str] | None) -> Scope:
        """The active runs of the experiments with these names, None for all; ExperimentNotFound."""
        if names is None:
            return cls(None, None)
        wanted = {check_experiment(name): None for name in ([names] if isinstance(names, str) else names)}
        if len(wanted) > MAX_EXPERIMENTS:
            raise InvalidValue("experiments", f"{len(wanted)} names", limit=f"{MAX_EXPERIMENTS} names, or None for all")
        statement = select(experiments.c.name, experiments.c.id).where(
            experiments.c.name.in_(wanted), experiments.c.deleted_ms.is_(None)
        )
        found: dict[str, int] = dict(connection.execute(statement).all())
        for name in wanted:
            if name not in found:
                known = select(experiments.c.name).where(experiments.c.deleted_ms.is_(None)).limit(MAX_EXPERIMENTS)
                raise ExperimentNotFound(name, connection.execute(known).scalars().all())
        ids = tuple(sorted(found.values()))
        return cls(ids, ids)

    @classmethod
    def everywhere(cls, connection: Connection, lifecycle: Lifecycle) -> Scope:
        """The runs in that lifecycle stage of all experiments."""
        if lifecycle == "active":
            return cls(None, None)
        gone = select(experiments.c.id).where(experiments.c.deleted_ms.is_not(None)).order_by(experiments.c.id)
        return cls(None, None, tuple(connection.execute(gone).scalars()), lifecycle)

    @classmethod
    def of(cls, connection: Connection, ids: Iterable[int], lifecycle: Lifecycle) -> Scope:
        """The runs in that lifecycle stage of the experiments with these ids; unknown ids are ignored."""
        asked = tuple(sorted(set(ids)))
        if len(asked) > MAX_EXPERIMENTS:
            raise InvalidValue("experiment_ids", f"{len(asked)} ids", limit=f"{MAX_EXPERIMENTS} ids")
        statement = select(experiments.c.id, experiments.c.deleted_ms)
        known = experiments.c.id.in_(possible_ids(asked))
        rows = connection.execute(statement.where(known).order_by(experiments.c.id)).all()
        hidden = tuple(row.id for row in rows if row.deleted_ms is not None)
        shown = tuple(row.id for row in rows if lifecycle != "active" or row.deleted_ms is None)
        return cls(asked, shown, hidden, lifecycle)

    @property
    def columns(self) -> tuple[ColumnElement[Any], ...]:
        """Columns of `runs`; `deleted_ms` falls back to the experiment's."""
        return _plain if self.lifecycle == "active" else _with_hidden

    def where(self, dialect: str, *, in_order: bool) -> list[Clause]:
        """The conditions on `runs`; `in_order` allows an index on the order of start."""
        return [*self._of_lifecycle(), self._of_experiments(dialect, in_order)]

    def _of_lifecycle(self) -> list[Clause]:
        gone = runs.c.deleted_ms.is_not(None)
        if self.lifecycle == "deleted":
            return [or_(gone, runs.c.experiment_id.in_(self.hidden)) if self.hidden else gone]
        return [runs.c.deleted_ms.is_(None)] if self.lifecycle == "active" else []

    def _of_experiments(self, dialect: str, in_order: bool) -> Clause:
        if self.ids is None and self.lifecycle != "active":
            return true()
        if self.ids is None:
            gone = experiments.c.deleted_ms.is_not(None)
            theirs = select(literal(1)).where(experiments.c.id == runs.c.experiment_id, gone)
            # PostgreSQL would make it a join, expect one run of all, and read and sort them; an OFFSET prevents that.
            return ~exists(theirs.offset(0) if dialect == "postgresql" else theirs)
        if in_order and len(self.ids) == 1:
            return runs.c.experiment_id == self.ids[0]
        return unindexed(runs.c.experiment_id, dialect).in_(self.ids)

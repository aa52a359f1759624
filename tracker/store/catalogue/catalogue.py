"""The catalogue: what clients without a journal, MLflow's clients and its UI, read and change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection, Engine

from tracker.store.catalogue.experiments import ExperimentCatalogue
from tracker.store.catalogue.inputs import InputCatalogue
from tracker.store.catalogue.models import ModelCatalogue
from tracker.store.catalogue.runs import RunCatalogue


class Catalogue:
    """Its parts. The arguments are those of `CataloguePart`."""

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], int],
        before_change: Callable[[], None],
        sweep: Callable[[], None],
        reading_points: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        given = (engine, clock, before_change, sweep, reading_points)
        self.experiments = ExperimentCatalogue(*given)
        self.runs = RunCatalogue(*given)
        self.inputs = InputCatalogue(*given)
        self.models = ModelCatalogue(*given)

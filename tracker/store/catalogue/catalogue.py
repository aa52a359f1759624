"""The catalogue: what clients without a journal, MLflow's clients and its UI, read and change."""

from __future__ import annotations

from tracker.store.catalogue.base import StoreAccess
from tracker.store.catalogue.experiments import ExperimentCatalogue
from tracker.store.catalogue.inputs import InputCatalogue
from tracker.store.catalogue.models import ModelCatalogue
from tracker.store.catalogue.runs import RunCatalogue


class Catalogue:
    """The parts of the catalogue."""

    def __init__(self, access: StoreAccess) -> None:
        self.experiments = ExperimentCatalogue(access)
        self.runs = RunCatalogue(access)
        self.inputs = InputCatalogue(access)
        self.models = ModelCatalogue(access)

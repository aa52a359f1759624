"""Logs data after the fact, with explicit axis, step, fit and time: read from files, or computed in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tracker.client.histograms import histogram_between
from tracker.client.images import ImageLog
from tracker.client.validation import Validation
from tracker.domain.datasets import CONTEXT, check_dataset
from tracker.domain.frames import DatasetLogged, Frame, Params, Points
from tracker.domain.limits import check_step
from tracker.domain.vocabulary import Axis


class LateLog:
    """Records data with an explicit step, time (`ms`) and fit (its number, 0 for none), from any thread.

    `write` takes a frame and the number of its points. Refused data is logged and counted; nothing raises.
    """

    def __init__(
        self,
        intake: Validation,
        images: ImageLog,
        keep: Callable[[bytes, str], None],
        write: Callable[[Frame, int], object],
    ) -> None:
        self._intake = intake
        self._images = images
        self.file = keep
        """Stores bytes as an artifact: `file(data, path)`."""
        self._write = write

    def points(self, axis: Axis, step: int, metrics: Mapping[str, Any], *, fit: int, ms: int) -> None:
        """Metrics at an epoch or a step of the run."""
        number = self._intake.checked(lambda: check_step("step", step))
        values = self._intake.at_epoch(metrics) if axis == "epoch" else self._intake.at_step(metrics)
        if number is not None and values:
            self._write(Points(ms, axis, number, fit, values), len(values))

    def bins(self, axis: Axis, step: int, key: str, edges: Any, counts: Any, *, fit: int, ms: int) -> None:
        """A distribution, as `Run.log_bins` takes it."""

        def write() -> None:
            self._write(histogram_between(key, edges, counts, step=step, axis=axis, fit=fit, ms=ms), 0)

        self._intake.checked(write)

    def image(self, png: bytes, key: str, step: int, *, ms: int) -> None:
        """An image, as `Run.log_image` takes it."""
        self._images.add(png, key, step, ms, at_once=True)

    def params(self, params: Mapping[str, Any], *, fit: int, ms: int) -> None:
        """Parameters, as `Run.log_params` takes them."""
        if good := self._intake.params(params):
            self._write(Params(ms=ms, fit=fit, values=good), 0)

    def dataset(
        self,
        name: str,
        digest: str,
        *,
        context: str,
        source_type: str,
        source: str,
        schema: str | None = None,
        profile: str | None = None,
        ms: int,
    ) -> None:
        """A data set that the run used as `context` ("train", "validation"); MLflow's fields, see `DatasetLogged`."""

        def write() -> None:
            tags = {CONTEXT: context}
            item = DatasetLogged(ms, name, digest, source_type, source, schema, profile, tags)
            self._write(check_dataset(item), 0)

        self._intake.checked(write)

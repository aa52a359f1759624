"""Records into one run, with axis, step, fit and time given: the part that `Run` and `FitRecorder` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from tracker.client.artifact_log import ArtifactLog
from tracker.client.background import Background
from tracker.client.checkpoint_log import CheckpointInfo, CheckpointLog, Hold
from tracker.client.clock import now_ms
from tracker.client.earlier_records import EarlierRecords
from tracker.client.histograms import histogram_between
from tracker.client.images import ImageLog
from tracker.client.plugin_events import PluginEvents
from tracker.client.position import Position
from tracker.client.run_writer import RunWriter
from tracker.client.validation import Validation, as_mapping
from tracker.client.values import in_frames
from tracker.domain.datasets import CONTEXT, check_dataset
from tracker.domain.frames import DatasetLogged, EpochEnded, EventLogged, Frame, Params, Points, Tags
from tracker.domain.limits import as_detail, check_key, check_step
from tracker.domain.vocabulary import Axis


class RunRecorder:
    """Records data of a run from any thread, at once or after the fact.

    `fit` is the number of a fit, 0 for none; `ms` the time of the record. Data that cannot be recorded is refused,
    logged and counted; nothing raises. `earlier` reads what earlier processes recorded; None if the run has no store.
    """

    def __init__(
        self, writer: RunWriter, position: Position, events: PluginEvents, earlier: EarlierRecords | None = None
    ) -> None:
        self.writer = writer
        self.position = position
        self.events = events
        self.earlier = earlier
        self.validation = Validation(writer.report)
        self.background = Background(writer.report)
        self.files = ArtifactLog(self.validation, writer.stage, self.write)
        self.images = ImageLog(self.validation, self.files.file, self.tags, self.in_background)
        self._checkpoints = CheckpointLog(self.validation, lambda: writer.staging, self.write, position.moment)
        self._tagged: set[str] = set()

    def write(self, frame: Frame) -> None:
        """Write a frame without points."""
        self.writer.write(frame, 0)

    def write_checked(self, make: Callable[[], Frame]) -> None:
        """Write the frame that `make` returns, unless it raises."""
        self.validation.checked(lambda: self.write(make()))

    def in_background(self, work: Callable[[], None], *, pause: float = 0.0) -> Future[None]:
        """See `Run.in_background`."""
        return self.background.do(work, pause=pause)

    # -- metrics -------------------------------------------------------------------------------------------------

    def points(self, axis: Axis, step: int, metrics: Mapping[str, Any], *, fit: int, ms: int) -> None:
        """Metrics at an epoch or a step of the run."""
        number = self.validation.checked(lambda: check_step("step", step))
        values = self.validation.at_epoch(metrics) if axis == "epoch" else self.validation.at_step(metrics)
        if number is not None and values:
            self.writer.write(Points(ms, axis, number, fit, values), len(values))

    def epoch(
        self, epoch: int, metrics: Mapping[str, Any], *, seconds: float | None, step: int | None, fit: int
    ) -> None:
        """An epoch that ended, after `step` optimizer steps of the run, and its metrics."""
        values = self.validation.at_epoch(metrics)
        frame = EpochEnded(ms=now_ms(), epoch=epoch, fit=fit, seconds=seconds, values=values, step=step)
        self.position.next_epoch = max(self.position.next_epoch, epoch + 1)
        self.writer.write(frame, len(values))
        self.events.put("epoch_ended", epoch=epoch, metrics=values)

    def bins(self, axis: Axis, step: int, key: str, edges: Any, counts: Any, *, fit: int, ms: int) -> None:
        """A distribution, as `Run.log_bins` takes it."""
        self.write_checked(lambda: histogram_between(key, edges, counts, step=step, axis=axis, fit=fit, ms=ms))

    # -- parameters, tags, events --------------------------------------------------------------------------------

    def params(self, params: Mapping[str, Any], *, fit: int, ms: int) -> None:
        """Parameters, as `Run.log_params` takes them."""
        for part in in_frames(self.validation.params(params)):
            self.write(Params(ms=ms, fit=fit, values=part))

    def tags(self, tags: Mapping[str, Any], *, overwrite: bool = True) -> None:
        """Tags, as `Run.set_tags` takes them."""
        good = self.validation.tags(tags)
        if not overwrite:
            good = {key: value for key, value in good.items() if key not in self._tagged}
        self._tagged |= good.keys()
        for part in in_frames(good):
            self.write(Tags(ms=now_ms(), values=part))

    def event(self, kind: str, detail: Mapping[str, Any], *, epoch: int | None, step: int | None, fit: int) -> None:
        """An event on the run's timeline, now."""

        def record() -> None:
            frame = EventLogged(
                ms=self.position.moment(),
                kind=check_key("event", kind),
                epoch=None if epoch is None else check_step("epoch", epoch),
                step=None if step is None else check_step("step", step),
                fit=fit,
                detail=as_detail(f"detail of event {kind!r}", dict(as_mapping("detail", detail))),
            )
            self.writer.write(frame, 0)

        self.validation.checked(record)

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

        def frame() -> DatasetLogged:
            return check_dataset(
                DatasetLogged(ms, name, digest, source_type, source, schema, profile, {CONTEXT: context})
            )

        self.write_checked(frame)

    # -- files ---------------------------------------------------------------------------------------------------

    def file(self, data: bytes, path: str) -> None:
        """Bytes as the artifact `path`."""
        self.files.file(data, path)

    def image(self, png: bytes, key: str, step: int, *, ms: int) -> None:
        """An image, as `Run.log_image` takes it; for work in the background."""
        self.images.add(png, key, step, ms, at_once=True)

    def checkpoint(self, local_path: str | os.PathLike[str], info: CheckpointInfo, *, hold: Hold | None = None) -> bool:
        """Copy a checkpoint and record it; True if it will be published.

        `hold` takes a function that writes the row, to be called later; None: the row is written now.
        """
        return self._checkpoints.add(local_path, info, self._checkpoint_saved, hold)

    def keep_checkpoints(self, last: int | None, best: int | None) -> None:
        """See `Run.keep_checkpoints`."""
        self._checkpoints.bound(last, best)

    def _checkpoint_saved(self, info: CheckpointInfo) -> None:
        if info.role == "model":
            self.events.put("checkpoint_saved", checkpoint=info)

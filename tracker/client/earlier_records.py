"""Reads runs from journals that are not shipped yet: their progress, and state checkpoints to resume from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracker.client.delivery import READ_BYTES
from tracker.client.journal import HEADER_BYTES, adopt, folder, header_of
from tracker.client.journal_reader import JournalReader
from tracker.client.staging import Staging
from tracker.client.sync import headers_in
from tracker.domain.errors import InvalidValue, JournalError
from tracker.domain.frames import (
    CheckpointLogged,
    EpochEnded,
    FitEnded,
    FitStarted,
    Frame,
    Points,
    RunEnded,
    RunStarted,
)
from tracker.domain.ports import ArtifactHome, RunStore
from tracker.domain.records import Checkpoint, Fit
from tracker.domain.run_progress import Progress
from tracker.domain.vocabulary import RunStatus
from tracker.wire.frame_checks import check_item
from tracker.wire.frame_codec import JournalHeader


@dataclass(frozen=True, eq=False, kw_only=True)
class EarlierRecords:
    """Access to what earlier processes recorded of a run: in its store, and in the journals on this machine.

    `is_continued`: the run existed when this process opened it. `is_unknown`: the store did not answer then, so that
    nobody knows. `connect` opens the store, which the caller closes, and the home of the run's files; it raises
    StoreError. `recorded` reads the journals; `flush` waits until everything logged by this process is stored.
    """

    run_id: str
    is_continued: bool
    is_unknown: bool
    connect: Callable[[], tuple[RunStore, ArtifactHome]]
    recorded: Callable[[], Recorded | None]
    flush: Callable[[], object]


@dataclass
class Recorded:
    """A run as recorded in the journals on this machine.

    `progress` is None if the journals begin too late to know it. `is_whole`: the run began in them, so nothing of it is
    elsewhere. `states` are its checkpoints of role "state" whose bytes are next to a journal (their `uri` is that of
    the file there), or were stored.
    """

    id: str
    experiment: str
    name: str
    artifact_uri: str
    started_ms: int
    last_ms: int = 0
    status: RunStatus = "lost"
    progress: Progress | None = None
    is_whole: bool = False
    fits: dict[int, Fit] = field(default_factory=dict)
    states: list[Checkpoint] = field(default_factory=list)


def recorded_runs(
    home: Path, is_ours: Callable[[JournalHeader], bool], *, experiment: str | None = None
) -> Sequence[Recorded]:
    """The runs of the journals below `home` whose header passes `is_ours`, of one experiment or all, newest first."""
    runs: dict[str, Recorded] = {}
    for path, header in headers_in(folder(home)):
        if is_ours(header):
            _read(path, header, runs, experiment)
    return sorted(runs.values(), key=lambda run: run.started_ms, reverse=True)


def _read(path: Path, header: JournalHeader, runs: dict[str, Recorded], experiment: str | None) -> None:
    is_live = _is_live(path)
    try:
        with path.open("rb") as file:
            reader = JournalReader(file.fileno(), header_of(path, file.read(HEADER_BYTES))[1])
            if (frames := reader.read(1)) and isinstance(first := frames[0][1], RunStarted):
                if experiment is not None and first.experiment != experiment:
                    return
                known = runs.get(header.run_id)
                run = known or Recorded(
                    header.run_id, first.experiment, first.name, first.artifact_uri, first.ms,
                    progress=header.began, is_whole=header.began == Progress(),
                )  # fmt: skip
                runs[header.run_id] = run
                run.status = "running" if is_live else "lost"
                fold = _Fold(run, path.with_suffix(".files"))
                while frames:
                    for _, frame in frames:
                        fold.add(frame)
                    frames = reader.read(READ_BYTES)
                fold.finish()
    except (OSError, JournalError):
        return  # shipped meanwhile, or not a journal: `sync` reports it


def _is_live(path: Path) -> bool:
    """Whether the process that writes the journal lives, or another process is shipping it."""
    try:
        adopted = adopt(path)
    except (JournalError, OSError):
        return False
    if adopted is not None:
        adopted[0].close()
    return adopted is None


class _Fold:
    """Adds the frames of one journal, in order, to its `Recorded` run."""

    def __init__(self, run: Recorded, files: Path) -> None:
        self._run = run
        self._files = files
        self._states: dict[str, Checkpoint] = {}
        self._open: int | None = None

    def add(self, frame: Frame) -> None:
        """Add the next frame; one that no store would take is skipped, as its journal may be anybody's."""
        run = self._run
        try:
            check_item("frame", frame)
        except InvalidValue:
            return
        run.last_ms = max(run.last_ms, frame.ms)
        match frame:
            case FitStarted():
                self._fit_started(frame)
            case FitEnded(number=number, outcome=outcome) if number in run.fits:
                run.fits[number] = replace(run.fits[number], outcome=outcome, ended_ms=frame.ms)
                self._open = None
            case RunEnded(status=status):
                run.status = status
            case EpochEnded(epoch=epoch, step=step) if (now := run.progress) is not None:
                run.progress = replace(now, next_epoch=max(now.next_epoch, epoch + 1), steps=max(now.steps, step or 0))
            case Points(axis="step", step=step) if (now := run.progress) is not None:
                run.progress = replace(now, next_step=max(now.next_step, step + 1), steps=max(now.steps, step))
            case CheckpointLogged(role="state"):
                self._state(frame)
            case _:
                pass

    def finish(self) -> None:
        """End of the journal: a fit that is still open is lost, and states are added to the run."""
        run = self._run
        if self._open is not None and run.status != "running":
            run.fits[self._open] = replace(run.fits[self._open], outcome="lost")
        run.states += self._states.values()

    def _fit_started(self, frame: FitStarted) -> None:
        run, before = self._run, self._run.progress
        if before is None and frame.number == 1:
            run.is_whole = True
        begun = frame.epochs is None or frame.epochs > frame.first_epoch
        if before is not None and not begun:
            run.progress = replace(before, fits=frame.number)
        else:
            next_step = min(before.next_step, frame.first_step) if before is not None else frame.first_step
            run.progress = Progress(
                fits=frame.number,
                phase=frame.phase,
                next_epoch=frame.first_epoch,
                next_step=next_step,
                steps=frame.first_step - 1,
                phase_epoch=frame.phase_epoch,
                phase_step=frame.phase_step,
            )
        run.fits[frame.number] = Fit(
            number=frame.number,
            outcome=None,
            first_epoch=frame.first_epoch,
            epochs=frame.epochs,
            resumed_from=frame.resumed_from,
            started_ms=frame.ms,
            ended_ms=None,
            phase=frame.phase,
            first_step=frame.first_step,
        )
        self._open = frame.number

    def _state(self, frame: CheckpointLogged) -> None:
        staging = Staging(self._files)
        if not frame.uri and staging.dropped(frame.file.name):
            return
        file = staging.find(frame.file.name)
        uri = file.as_uri() if file is not None else frame.uri
        if not uri:
            return  # its file is not stored yet, or lost
        self._states[frame.file.name] = Checkpoint(
            id=0,
            epoch=frame.epoch,
            step=frame.step,
            format=frame.format,
            size=frame.file.size,
            sha256=frame.sha256 or frame.file.sha256,
            metrics=frame.metrics,
            is_best=False,
            state=frame.state,
            uri=uri,
            fit=frame.fit,
            ms=frame.ms,
            role="state",
        )

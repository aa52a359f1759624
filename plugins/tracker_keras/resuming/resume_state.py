"""Finds the newest state checkpoint of a run, and the position of a `fit()` among the script's trainings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from tracker import compose
from tracker.artifacts import checkpoint_download
from tracker.artifacts.local import LocalArtifacts
from tracker.client.earlier_records import EarlierRecords
from tracker.domain.errors import ArtifactError, InvalidValue, RunNotFound, StoreError, StoreUnavailable
from tracker.domain.limits import shortened
from tracker.domain.run_progress import Progress
from tracker.settings import Settings

if TYPE_CHECKING:
    from tracker.domain.ports import ArtifactHome
    from tracker.domain.records import Checkpoint, Fit


def followed_run() -> EarlierRecords | None:
    """The run of TRACKER_RUN_ID, the same in all workers; None if it is not set.

    A worker other than the chief reads it and records nothing. The chief's journals may be on another machine, and all
    workers must find the same, so they are not read.
    """
    settings = Settings.from_environment()
    if settings.run_id is None:
        return None
    url = compose.store_url(settings.store, settings.token)
    root = compose.artifact_root(settings.artifacts, url)
    return EarlierRecords(
        run_id=settings.run_id,
        is_continued=True,
        is_unknown=False,
        connect=lambda: (compose.open_store(url), compose.open_artifacts(root, url)),
        recorded=lambda: None,
        flush=lambda: None,
    )


log = logging.getLogger("tracker")
_UNFINISHED = (None, "failed", "interrupted", "preempted", "lost")


@dataclass(eq=False)
class ScriptPosition:
    """Position of a script among its trainings, in a run with state checkpoints.

    A script's trainings are counted from 0: the same script, started again, finds the training of a state by its
    number. A training that died is not complete, and the next `fit()` resumes it.
    """

    index: int = -1
    is_complete: bool = True
    models: WeakSet[Any] = field(default_factory=WeakSet)
    """The models that were trained; more than one cannot be restored."""
    newest: Checkpoint | None = None
    phase: int = 0
    """The run's current phase."""
    ended: bool = False
    """Whether the fit that saved the newest state ended normally."""
    _left: tuple[int, int] | None = None
    """The phase that the run's last fit left unfinished, and the steps that the run had when it began."""
    _home: ArtifactHome | None = None
    _run: EarlierRecords | None = None

    def enter(self, run: EarlierRecords, model: Any, *, asks: bool) -> None:
        """The next `fit()` begins. With `asks` the run's state is looked up; raises StoreError if that fails."""
        if asks and run.is_unknown:
            raise StoreUnavailable(
                "the store did not answer as the run was opened, so whether this training goes on cannot be known; "
                "start again when it does, or train from the beginning with resume=False"
            )
        died = not self.is_complete
        if not died:
            self.index += 1
        self.is_complete = False
        if asks and (died or (run.is_continued and self._home is None)):
            if died:
                run.flush()
            self._ask(run)
        self.models.add(model)

    def _ask(self, run: EarlierRecords) -> None:
        self._run, left = run, run.recorded()
        fits: dict[int, Fit] = {}
        states: list[Checkpoint] = []
        progress = Progress()
        try:
            store, self._home = run.connect()
            with closing(store), suppress(RunNotFound):  # the chief may not have created the run yet
                states += [one for one in store.checkpoints(run.run_id) if one.role == "state"]
                fits = {one.number: one for one in store.fits(run.run_id)}
                progress = store.progress(run.run_id)
        except StoreError:
            # The journals have the end of the run. If they have no state, an earlier one may be in the store.
            if left is None or not (left.is_whole or left.states):
                raise
        if left is not None:
            fits |= left.fits
            states += left.states
            if left.progress is not None and left.progress.fits >= progress.fits:
                progress = left.progress
        # BackupAndRestore restores its own states, which have no "place".
        self.newest = _newest([one for one in states if "place" in one.state])
        if self.newest is not None:
            check_state(self.newest.state, StatePosition)
        if self.newest is None and progress.next_epoch > 0:
            log.warning(
                "resume: run %s has %d epochs and no state to resume from; this training starts from the beginning",
                run.run_id,
                progress.next_epoch,
            )
        trained = [one for _, one in sorted(fits.items()) if one.epochs is None or one.epochs > one.first_epoch]
        self.phase = progress.phase
        outcomes = {one.number: one.outcome for one in trained}
        self.ended = self.newest is not None and outcomes.get(self.newest.fit) not in _UNFINISHED
        if trained and trained[-1].outcome in _UNFINISHED:
            self._left = trained[-1].phase, progress.phase_step

    def steps_to_begin_with(self) -> int | None:
        """The run's steps at the begin of this training, if it died before it saved a state; else None."""
        left, self._left = self._left, None
        if left is None:
            return None
        phase = 1 + self.index
        if self.newest is not None:
            phase = self.newest.state["phase"] + self.index - self.newest.state["place"]
        return left[1] if left[0] == phase else None

    def fetch(self, target: Path) -> Path:
        """Fetch the newest state's file to `target`, verified. Raises StoreError or ArtifactError."""
        assert self.newest is not None
        newest = self.newest
        try:
            if newest.id == 0 and newest.uri.startswith("file:"):  # it is still next to its journal
                return checkpoint_download.fetch(LocalArtifacts(Path("/")), newest, self._run_id, target)
        except ArtifactError:
            # It may have been shipped meanwhile, so that the store has it now.
            assert self._run is not None
            self._ask(self._run)
            if self.newest is None or self.newest.sha256 != newest.sha256:
                raise
        if self._home is None:
            raise StoreUnavailable(
                f"the newest state is at {self.newest.uri}, which does not answer; start again once it does"
            )
        return checkpoint_download.fetch(self._home, self.newest, self._run_id, target)

    @property
    def _run_id(self) -> str:
        assert self._run is not None
        return self._run.run_id


class StatePosition(msgspec.Struct):
    """The position of a saved state among the script's trainings: these fields are in every version's states."""

    place: int
    phase: int


def check_state(state: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    """InvalidValue unless the state of a checkpoint, which is from a store that others can write to, has the fields."""
    try:
        msgspec.convert(state, kind)
    except msgspec.ValidationError as error:
        raise InvalidValue(
            "resume",
            f"the state was not saved by Tracker: {shortened(str(error))}",
            limit="a state of this training; resume=False trains from the beginning",
        ) from error


def _newest(states: Sequence[Checkpoint]) -> Checkpoint | None:
    """The newest published state; the journal's, if both store and journal have it."""
    there = [one for one in states if one.status == "published"]
    return max(there, key=lambda one: (one.fit, one.ms, one.id == 0), default=None)


def position_of(run: EarlierRecords) -> ScriptPosition:
    """The position of this process's script in `run`."""
    return _of_runs.setdefault(run, ScriptPosition())


_of_runs: WeakKeyDictionary[EarlierRecords, ScriptPosition] = WeakKeyDictionary()

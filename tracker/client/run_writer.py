"""One writer of one run: its journal, its shipper, and the count of its problems."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from tracker.client.delivery import Delivery
from tracker.client.journal import Journal
from tracker.client.shipper import Shipper
from tracker.client.staging import Staging
from tracker.domain.errors import TrackerError
from tracker.domain.frames import Frame, RunEnded, Staged

log = logging.getLogger("tracker")

Write = Callable[[Frame, int], object]
MOST_SAID = 30
"""How many different problems of a run are logged."""


class RunWriter:
    """Writes a run's frames to disk and store. Without a journal (mode `disabled`) it discards them.

    `write` is the hot path: it is the journal's `append`, and is replaced when the run ends or in a forked child, so
    that the common call needs to test for neither.
    """

    def __init__(
        self,
        run_id: str,
        journal: Journal | None,
        delivery: Delivery | None = None,
        shipper: Shipper | None = None,
    ) -> None:
        self.run_id = run_id
        self._journal = journal
        self._delivery = delivery
        self._shipper = shipper
        self.ended = False
        """Whether the run ended here, or belongs to the parent process."""
        # Re-entrant: a signal handler may end the run while the same thread is ending it.
        self._ending = threading.RLock()
        self.problems: Counter[str] = Counter()
        self._said: set[str] = set()
        self.write: Write = self._ignore if journal is None else journal.append
        if journal is not None:
            journal.on_refusal = self._report_refusal

    @property
    def stop_requested(self) -> bool:
        """Whether the store returned a request to stop."""
        return self._delivery is not None and self._delivery.stop_requested

    @property
    def all_problems(self) -> dict[str, int]:
        """How often something could not be recorded, by kind; `refused` counts what store or artifact home refused."""
        refused = self._delivery.refused if self._delivery else 0
        return {**self.problems, **({"refused": refused} if refused else {})}

    @property
    def left(self) -> int:
        """How many of the points and files that were logged are neither stored yet nor refused."""
        return self._points_left + self._files_left

    @property
    def _points_left(self) -> int:
        if self._journal is None:
            return 0
        settled = self._delivery.delivered_points + self._delivery.refused_points if self._delivery else 0
        return max(self._journal.points - settled, 0)

    @property
    def _files_left(self) -> int:
        return self._journal.staging.count if self._journal is not None else 0

    def report(self, kind: str, problem: object, mistake: str = "", *, error: BaseException | None = None) -> None:
        """Count a problem, and log it if it is the first of its kind, or the first time of this mistake.

        `error` is a bug; its traceback is logged too.
        """
        self.problems[kind] += 1
        if (mistake := mistake or kind) in self._said or len(self._said) > MOST_SAID:
            return
        self._said.add(mistake)
        if len(self._said) > MOST_SAID:
            log.warning("run %s: there are more problems than the %d above; further ones are counted in "
                        "run.problems, not logged", self.run_id, MOST_SAID)  # fmt: skip
        else:
            log.warning("run %s: %s (logged once, then counted)", self.run_id, problem, exc_info=error)

    def stage(self, source: bytes | str, path: str) -> Staged | None:
        """Stage a file (a local path) or bytes to be published; None in mode `disabled`. Raises JournalError."""
        from pathlib import Path

        staging = self.staging
        return None if staging is None else staging.keep(Path(source) if isinstance(source, str) else source, path)

    @property
    def staging(self) -> Staging | None:
        """The journal's staging folder; None if nothing is recorded, or the run has ended."""
        return None if self._journal is None or self.ended else self._journal.staging

    def flush(self, timeout: float) -> int:
        """Wait until everything is stored, `timeout` seconds at most; return how many points and files are not."""
        if self._shipper is not None and not self.ended and not self._shipper.drain(timeout):
            self._log_what_is_left()
        return self.left

    def end(self, frame: RunEnded, timeout: float) -> int:
        """Write the last frame, wait as `flush` does, and close; only the first call does anything.

        The wait ends early when the store is known to be away. What is left stays in the journal, is shipped as long
        as this process lives, and by `sync` afterwards.
        """
        with self._ending:
            if self.ended:
                return self.left
            # In this order, since a signal may interrupt it: when `ended` is set the last frame must be on disk.
            self.write(frame, 0)
            self.ended = True
            self.write = self._refuse
        if self._journal is None:
            return 0
        is_stored = True
        if self._shipper is not None:
            is_stored = self._shipper.drain(timeout, closing=True, give_up_when_away=True)
        else:
            self._leave_offline()
        self._sum_up()
        if not is_stored:
            self._log_what_is_left()
        return self.left

    def disown(self) -> None:
        """In a forked child: neither write nor end the parent's run."""
        self.write = self._ignore_in_child
        self.ended = True
        self._shipper = None
        if self._journal is not None:
            self._journal.disown()

    def _report_refusal(self, error: Exception) -> None:
        assert self._journal is not None
        if isinstance(error, OSError):
            self.report(
                "disk",
                f"the disk of {self._journal.path.parent} takes nothing ({error.strerror}); "
                "points are kept in memory up to 8 MiB, what is over that is lost and counted",
            )
        elif isinstance(error, TrackerError):
            self.report(type(error).__name__, error)
        else:
            self.report(type(error).__name__, f"something cannot be recorded: {error}")

    def _ignore(self, frame: Frame, points: int = 0) -> None:
        return None

    def _refuse(self, frame: Frame, points: int = 0) -> None:
        self.report("ended", "something was logged after the run ended; it is not recorded")

    def _ignore_in_child(self, frame: Frame, points: int = 0) -> None:
        self.report("forked", "a forked child logged to its parent's run; only the parent's process records")

    def _leave_offline(self) -> None:
        assert self._journal is not None
        try:
            self._journal.sync()
        except OSError as error:
            self.report("disk", f"cannot force {self._journal.path} to disk: {error}")
        self._journal.close()

    def _sum_up(self) -> None:
        assert self._journal is not None
        if lost := self._journal.dropped:
            log.error("run %s: %d log calls were lost because the disk of %s was full",
                      self.run_id, lost, self._journal.path.parent)  # fmt: skip
        if waiting := self._journal.pending:
            log.error("run %s: %d log calls are in memory only, and lost with this process unless the disk of %s takes "
                      "them before it ends", self.run_id, waiting, self._journal.path.parent)  # fmt: skip
        if problems := self.all_problems:
            kinds = ", ".join(f"{kind}: {count}" for kind, count in problems.items())
            log.warning("run %s: %d problems in all (%s)", self.run_id, sum(problems.values()), kinds)

    def _log_what_is_left(self) -> None:
        assert self._journal is not None
        assert self._shipper is not None
        assert self._delivery is not None
        late = next(iter(self._delivery.late.copy().values()), None)
        reason = self._shipper.last_error or self._journal.disk_error or late or "the timeout was reached"
        points, files = self._points_left, self._files_left
        some = [f"{points} points"] * bool(points)
        some += [f"{files} files ({self._journal.staging.waiting} bytes)"] * bool(files)
        log.warning(
            "run %s: %s are still in the journal %s (%s); "
            "they are shipped once the store takes them, at the latest by `tracker sync`",
            self.run_id, " and ".join(some) or "parameters, events or other records", self._journal.path, reason,
        )  # fmt: skip

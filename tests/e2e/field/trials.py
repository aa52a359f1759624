"""Trials: which trainings are made, what each is compared with, and the processes that make them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draws import EVERYTHING, SEED
from e2e.field.conditions import CONDITIONS, computed, pairs
from e2e.field.record import differences, record, shown
from e2e.field.truths import untrue
from e2e.keras_lab import training

import tracker

PAIRS = int(os.environ.get("FIELD_PAIRS") or 60)
"""How many pairs of each kind, where everything is tried."""
SOME = {("tensorflow", False): (3, 1), ("jax", False): (10, 2), ("tensorflow", True): (1, 1), ("jax", True): (3, 2)}
"""Of each backend, resumed or not, how many conditions alone and how many pairs: some two minutes."""
TESTS = Path(__file__).parents[2]

RESUMED = ("fits.*", "events.*.resumed.*", "events.*.fit_*", "events.None.reopened.*", "events.None.run_failed.*")
"""What says that a training was resumed."""


@dataclass(frozen=True)
class Trial:
    """A training under some conditions; `resumed`: one that dies and goes on, against one that never died."""

    backend: str
    conditions: tuple[str, ...]
    resumed: bool = False

    def __str__(self) -> str:
        return f"{self.backend}{', resumed' if self.resumed else ''}: {' + '.join(self.conditions) or 'reference'}"

    @property
    def plan(self) -> str:
        """As the laboratory calls it."""
        return "killed" if self.resumed else "once"

    @property
    def reference(self) -> Trial:
        """What it is compared with."""
        return Trial(self.backend, tuple(computed(self.conditions)))

    @property
    def may(self) -> Iterator[str]:
        """Which parts of the record may differ."""
        yield from RESUMED if self.resumed else ()
        for name in self.conditions:
            yield from CONDITIONS[name].may
            yield from CONDITIONS[name].may_resumed if self.resumed else ()


def trials(backend: str, *, resumed: bool = False) -> list[Trial]:
    """Conditions alone, and some pairs: of both as many as FIELD says."""
    alone = [(name,) for name, one in CONDITIONS.items() if backend in one.backends and (one.resumes or not resumed)]
    singly, paired = SOME[backend, resumed] if not EVERYTHING else (len(alone), PAIRS)
    chosen = random.Random(f"{SEED} {backend} {resumed}").sample(alone, min(singly, len(alone)))
    names = [(), *(one for one in alone if one in chosen), *pairs(SEED, paired, backend, resumed=resumed)]
    return [Trial(backend, one, resumed) for one in names]


class Field:
    """The records that one process made of these trials, and of what they are compared with."""

    def __init__(self, folder: Path, backend: str, wanted: Iterable[Trial]) -> None:
        mine = [one for one in wanted if one.backend == backend]
        plans = {self._name(trial): trial for one in mine for trial in (one.reference, one)}
        given = [[name, trial.conditions, trial.plan] for name, trial in plans.items()]
        (folder / "trials.json").write_text(json.dumps(given))
        done = training(
            ["-m", "e2e.field.laboratory", "trials.json", "told.json"],
            folder,
            backend,
            PYTHONPATH=str(TESTS),
        )
        assert done.returncode == 0, done.stderr[-4000:]
        self.told: dict[str, Any] = json.loads((folder / "told.json").read_text())
        self._store = f"sqlite:///{folder / 'tracker.db'}"

    def wrong(self, trial: Trial) -> str:
        """What is wrong with a trial's record, in lines; empty if nothing is."""
        told = self.told[self._name(trial)]
        if "crashed" in told:
            return str(told["crashed"])
        with closing(tracker.open_store(self._store)) as store:
            found = record(store, told)
            lines = list(untrue(store, told))
            outcome = found.get(f"fits.{2 if trial.resumed else 1}.outcome")
            if len(trial.conditions) == 1 and outcome != CONDITIONS[trial.conditions[0]].outcome:
                lines.append(f"the fit is {outcome!r}")
            expected = record(store, self.told[self._name(trial.reference)])
            if differ := differences(expected, found, trial.may):
                lines.append(shown(differ))
        return "\n".join(lines)

    @staticmethod
    def _name(trial: Trial) -> str:
        return f"{trial.plan} {' + '.join(trial.conditions)}"

"""Settings from the environment, read once into one frozen value and passed on as an argument."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tracker.domain.errors import InvalidValue
from tracker.domain.limits import BLOCK_POINTS
from tracker.domain.vocabulary import DEFAULT_EXPERIMENT

log = logging.getLogger("tracker")

Mode = Literal["online", "offline", "disabled"]
MODES: tuple[Mode, ...] = ("online", "offline", "disabled")
DEFAULT_STORE = "sqlite:///tracker.db"
SYSTEM_INTERVAL_S = 15.0
LEAST_INTERVAL_S, MOST_INTERVAL_S = 0.1, 86_400.0
CHECKPOINT_BUDGET = 2 * 1024**3
LEAST_BLOCK, MOST_BLOCK = 8, 32_768
_UNITS = {
    "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
}  # fmt: skip

VARIABLES = frozenset(
    """TRACKER_STORE TRACKER_ARTIFACTS TRACKER_HOME TRACKER_MODE TRACKER_TOKEN TRACKER_EXPERIMENT TRACKER_RUN_NAME
    TRACKER_RUN_ID TRACKER_PLUGINS TRACKER_SYSTEM_INTERVAL TRACKER_GIT_DIFF TRACKER_CHECKPOINT_BUDGET
    TRACKER_BLOCK_POINTS""".split()
)
_OF_KUBERNETES = re.compile(
    r"TRACKER_(?:\w+_)?(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)"
)
"""Variables that Kubernetes sets in containers for a service whose name begins with `tracker`."""
_unknown_said: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Values of the `TRACKER_*` variables (see the README for each)."""

    store: str = field(default=DEFAULT_STORE, repr=False)
    artifacts: str | None = None
    home: Path
    mode: Mode = "online"
    experiment: str = DEFAULT_EXPERIMENT
    run_name: str | None = None
    run_id: str | None = None
    token: str | None = field(default=None, repr=False)
    plugins: str = ""
    system_interval_s: float = SYSTEM_INTERVAL_S
    git_diff: bool = True
    checkpoint_budget: int = CHECKPOINT_BUDGET

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environment` (default: the process's); an empty variable counts as unset.

        Unknown TRACKER_* variables of the process are logged, once each. Raises InvalidValue for an unknown
        TRACKER_MODE, and for an invalid number or switch.
        """
        env = os.environ if environment is None else environment
        if environment is None:
            _warn_of_unknown()
        mode = env.get("TRACKER_MODE") or "online"
        if mode not in MODES:
            raise InvalidValue("TRACKER_MODE", f"{mode!r} is not a mode", limit=", ".join(MODES))
        return cls(
            store=env.get("TRACKER_STORE") or DEFAULT_STORE,
            artifacts=env.get("TRACKER_ARTIFACTS") or None,
            home=Path(env["TRACKER_HOME"]).absolute() if env.get("TRACKER_HOME") else _state_folder(),
            mode=mode,
            experiment=env.get("TRACKER_EXPERIMENT") or DEFAULT_EXPERIMENT,
            run_name=env.get("TRACKER_RUN_NAME") or None,
            run_id=env.get("TRACKER_RUN_ID") or None,
            token=env.get("TRACKER_TOKEN") or None,
            plugins=env.get("TRACKER_PLUGINS") or "",
            system_interval_s=_seconds("TRACKER_SYSTEM_INTERVAL", env.get("TRACKER_SYSTEM_INTERVAL")),
            git_diff=_switch("TRACKER_GIT_DIFF", env.get("TRACKER_GIT_DIFF")),
            checkpoint_budget=_bytes("TRACKER_CHECKPOINT_BUDGET", env.get("TRACKER_CHECKPOINT_BUDGET")),
        )

    def allows_plugin(self, name: str) -> bool:
        """Whether TRACKER_PLUGINS allows the plugin: it is `off`, names to allow, or names with `-` to exclude."""
        words = [word.strip() for word in self.plugins.split(",") if word.strip()]
        if [word.lower() for word in words] == ["off"]:
            return False
        only = [word for word in words if not word.startswith("-")]
        return f"-{name}" not in words and (not only or name in only)


def block_points() -> int:
    """The value of TRACKER_BLOCK_POINTS of the process: how many points a compressed block has, 0 for no blocks.

    Not part of `Settings`, because it belongs to whoever writes to a database. Raises InvalidValue.
    """
    env = os.environ
    text = (env.get("TRACKER_BLOCK_POINTS") or str(BLOCK_POINTS)).strip()
    count = int(text) if text.isascii() and text.isdigit() else -1
    if count and not LEAST_BLOCK <= count <= MOST_BLOCK:
        raise InvalidValue(
            "TRACKER_BLOCK_POINTS", f"{text!r}", limit=f"{LEAST_BLOCK} to {MOST_BLOCK}, or 0 for rows only"
        )
    return count


def unknown_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Unknown variables that begin with `TRACKER_`, each with the setting of the most similar name, if any."""
    from difflib import get_close_matches

    for name in sorted(environment):
        if name.startswith("TRACKER_") and name not in VARIABLES and not _OF_KUBERNETES.fullmatch(name):
            yield name, next(iter(get_close_matches(name, VARIABLES, n=1, cutoff=0.75)), None)


def _warn_of_unknown() -> None:
    for name, near in unknown_variables(os.environ):
        if name not in _unknown_said:
            _unknown_said.add(name)
            log.warning(
                "%s is not a setting of Tracker, so it changes nothing%s",
                name,
                f"; did you mean {near}?" if near else "",
            )


def _seconds(name: str, text: str | None) -> float:
    if not text:
        return SYSTEM_INTERVAL_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_INTERVAL_S <= seconds <= MOST_INTERVAL_S:
        raise InvalidValue(name, f"{text!r}", limit=f"{LEAST_INTERVAL_S:g} to {MOST_INTERVAL_S:g} seconds")
    return seconds


def _bytes(name: str, text: str | None) -> int:
    if not text:
        return CHECKPOINT_BUDGET
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE | re.ASCII)
    unit = _UNITS.get(found[2].lower() or "b") if found else None
    count = int(float(found[1]) * unit) if found and unit else -1
    if not 0 <= count < 2**53:
        raise InvalidValue(name, f"{text!r}", limit="a number of bytes, or one with a unit: 500MB, 2GiB (kB to TB)")
    return count


def _switch(name: str, text: str | None) -> bool:
    if (text or "on").lower() not in ("on", "off"):
        raise InvalidValue(name, f"{text!r}", limit="on or off")
    return (text or "on").lower() == "on"


def _state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("tracker", appauthor=False)

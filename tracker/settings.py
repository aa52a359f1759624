"""The environment, read once into one frozen value and handed down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tracker.domain.errors import InvalidValue

Mode = Literal["online", "offline", "disabled"]
MODES: tuple[Mode, ...] = ("online", "offline", "disabled")
DEFAULT_STORE = "sqlite:///tracker.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `TRACKER_*` variables say (see the README for each)."""

    store: str = DEFAULT_STORE
    artifacts: str | None = None
    home: Path
    mode: Mode = "online"
    run_id: str | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environment` (default: the process's); an empty variable counts as unset.

        Raises InvalidValue for a TRACKER_MODE that is none.
        """
        env = os.environ if environment is None else environment
        mode = env.get("TRACKER_MODE") or "online"
        if mode not in MODES:
            raise InvalidValue("TRACKER_MODE", f"{mode!r} is no mode", limit=", ".join(MODES))
        return cls(
            store=env.get("TRACKER_STORE") or DEFAULT_STORE,
            artifacts=env.get("TRACKER_ARTIFACTS") or None,
            home=Path(env["TRACKER_HOME"]).absolute() if env.get("TRACKER_HOME") else _state_folder(),
            mode=mode,
            run_id=env.get("TRACKER_RUN_ID") or None,
            token=env.get("TRACKER_TOKEN") or None,
        )


def _state_folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("tracker", appauthor=False)

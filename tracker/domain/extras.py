"""Optional dependencies: what an extra is called, and the command that installs it."""

from __future__ import annotations

from typing import Literal

Extra = Literal["demo", "images", "keras", "mlflow", "pandas", "postgres", "server", "system", "tensorboard"]


def how_to_install(extra: Extra) -> str:
    """The command that adds `extra` to the Tracker that is installed.

    It needs no address: pip keeps the installed Tracker, wherever it came from, and fetches what the extra adds.
    """
    return f"pip install 'callback-tracker[{extra}]'"

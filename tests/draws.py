"""How much the tests draw, and by what: some each day in `make test`, everything in `make field`."""

from __future__ import annotations

import datetime
import os

EVERYTHING = os.environ.get("FIELD") == "all"
SEED = int(os.environ.get("FIELD_SEED") or datetime.date.today().toordinal())
"""Other conditions every day, or those that FIELD_SEED says; a failed test prints it."""


def examples(everything: int) -> int:
    """How many of a random test's examples to try: a quarter of them, or everything."""
    return everything if EVERYTHING else max(everything // 4, 1)

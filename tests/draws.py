"""How much the tests draw, and by what: some each day in `make test`, everything in `make field`."""

from __future__ import annotations

import datetime
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

EVERYTHING = os.environ.get("FIELD") == "all"
SEED = int(os.environ.get("FIELD_SEED") or datetime.date.today().toordinal())
"""Other conditions every day, or those that FIELD_SEED says; a failed test prints it."""


def examples(everything: int) -> int:
    """How many of a random test's examples to try: a quarter of them, or everything."""
    return everything if EVERYTHING else max(everything // 4, 1)


def moments() -> Iterator[int]:
    """0, 1, 2 and so on; or every third of them, another third each day."""
    return itertools.count() if EVERYTHING else itertools.count(SEED % 3, 3)


def databases(what: str) -> Sequence[str]:
    """The database of the day of `any_url` or `any_empty_url`, which a test gives them (`indirect`); or all."""
    return daily(("sqlite", "postgresql"), what)


def daily(values: Sequence[T], what: str) -> Sequence[T]:
    """One of the values, another one another day and for another `what`; or all."""
    return values if EVERYTHING else [random.Random(f"{SEED} {what}").choice(values)]

"""All conditions by name, and the script under some of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from e2e.field.calls import CALLS
from e2e.field.condition import Condition
from e2e.field.inputs import INPUTS
from e2e.field.models import MODELS
from e2e.field.other_callbacks import OTHERS

if TYPE_CHECKING:
    from e2e.field.reference import Script

CONDITIONS: dict[str, Condition] = {**CALLS, **INPUTS, **MODELS, **OTHERS}


def script_under(names: Iterable[str], *, computing: bool = False) -> Script:
    """The reference's script, changed by each of these conditions; with `computing` only in what is computed."""
    from e2e.field.reference import Script

    script = Script()
    for name in names:
        condition = CONDITIONS[name]
        for change in (condition.computes, None if computing else condition.changes):
            if change is not None:
                change(script)
    return script


def computed(names: Iterable[str]) -> list[str]:
    """Those of the conditions that change what is computed."""
    return [name for name in names if CONDITIONS[name].computes is not None]


def pairs(seed: int, count: int, backend: str, *, resumed: bool = False) -> list[tuple[str, str]]:
    """So many pairs of conditions of different groups, the same for the same seed."""
    draw = random.Random(f"{seed} {backend} {resumed}")
    known = [name for name, one in CONDITIONS.items() if backend in one.backends and (one.resumes or not resumed)]
    found: set[tuple[str, str]] = set()
    while len(found) < count:
        one, other = sorted(draw.sample(known, 2), key=known.index)
        if CONDITIONS[one].group != CONDITIONS[other].group:
            found.add((one, other))
    return sorted(found)

"""What a condition is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2e.field.reference import Script

Change = Callable[["Script"], None]
BOTH = ("tensorflow", "jax")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way to train that is not the reference's.

    `changes` is how the training is called, and must leave the record as it is, but for `may` (patterns of the record's
    paths, as narrow as they can be). `computes` changes what is computed, in the reference too: what is compared is the
    record, not floating point. Of one `group` a training has one at most.
    """

    group: str
    changes: Change | None = None
    computes: Change | None = None
    may: tuple[str, ...] = ()
    backends: tuple[str, ...] = BOTH
    resumes: bool = True
    """Whether a training that dies in the middle can go on as if it had never died."""
    may_resumed: tuple[str, ...] = ()
    """What else may differ if it died."""
    outcome: str = "stopped_early"
    """How the fit ends: the reference is stopped by EarlyStopping."""

"""`--fail-if`: a condition on a metric, judged against the baseline."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tracker.domain.errors import InvalidValue
from tracker.query.comparison import Comparison
from tracker.query.text_format import number

GRAMMAR = "METRIC (>|>=|<|<=) [+|-]NUMBER[%]"

_CONDITION = re.compile(
    r"\s*(?P<key>\S.*?)\s*(?P<op>>=|<=|>|<)\s*(?P<sign>[+-]?)\s*"
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<percent>%?)\s*",
    re.DOTALL,
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FailCondition:
    """`key` compared with `amount`: a difference from the baseline if `relative`, then also in per cent of it."""

    text: str
    key: str
    op: str
    amount: float
    relative: bool
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a condition; InvalidValue if it is malformed."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise InvalidValue("--fail-if", f"{text!r} is not a condition", limit=GRAMMAR)
        if found["percent"] and not found["sign"]:
            amount = found["number"]
            raise InvalidValue("--fail-if", f"{text!r}: {amount}% of what? Write +{amount}% for more than the baseline")
        return cls(
            text=text.strip(),
            key=_unquoted(found["key"]),
            op=found["op"],
            amount=float(found["sign"] + found["number"]),
            relative=bool(found["sign"]),
            percent=bool(found["percent"]),
        )

    def threshold(self, baseline: float) -> float:
        """The value that a run is compared with. Per cent are of the baseline's absolute value, so that + always means
        larger."""
        if not self.relative:
            return self.amount
        return baseline + (abs(baseline) * self.amount / 100 if self.percent else self.amount)

    def failures(self, comparison: Comparison) -> Sequence[str]:
        """A sentence for each run after the first for which the condition holds, or cannot be judged."""
        values = comparison.metrics.get(self.key, {})
        first, *others = zip((run.id for run in comparison.runs), comparison.labels, strict=True)
        baseline = values.get(first[0])
        if self.relative and (lack := _lack(self.key, baseline)):
            return [f"{self.text} cannot be judged: {first[1]}, the baseline, has {lack}"]
        limit = self.threshold(math.nan if baseline is None else baseline)
        found = []
        for run_id, label in others:
            value = values.get(run_id)
            if value is None or (lack := _lack(self.key, value)):
                found.append(f"{self.text} cannot be judged: {label} has {_lack(self.key, value)}")
            elif math.isnan(limit):
                found.append(f"{self.text} cannot be judged: the baseline is {number(baseline or 0.0)}")
            elif _OPERATORS[self.op](value, limit):
                found.append(f"{self.text} holds for {label}: {self._reason(value, limit, baseline)}")
        return found

    def _reason(self, value: float, limit: float, baseline: float | None) -> str:
        text = f"{number(value)} {self.op} {number(limit)}"
        if not self.relative or baseline is None:
            return text
        change = f", {(value - baseline) / abs(baseline):+.2%}" if baseline else ""
        return f"{text} (baseline {number(baseline)}{change})"


def _unquoted(key: str) -> str:
    return key[1:-1] if len(key) > 2 and key[0] == key[-1] and key[0] in "`\"'" else key


def _lack(key: str, value: float | None) -> str:
    """Why a run has no number to compare; empty if it has one."""
    return f"no {key}" if value is None else f"{key} NaN" if math.isnan(value) else ""

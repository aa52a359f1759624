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
from tracker.query.texts import number

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
class Condition:
    """`key` compared with `amount`: a difference from the baseline if `relative`, then also in per cent of it."""

    text: str
    key: str
    op: str
    amount: float
    relative: bool
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """The condition that `text` writes; InvalidValue if it is none."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise InvalidValue("--fail-if", f"{text!r} is no condition", limit=GRAMMAR)
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
        """The value that a run is compared with. Per cent are of the baseline's size, so that + always means larger."""
        if not self.relative:
            return self.amount
        return baseline + (abs(baseline) * self.amount / 100 if self.percent else self.amount)

    def failures(self, comparison: Comparison) -> Sequence[str]:
        """A sentence for each run after the first for which the condition holds, or cannot be judged."""
        values = comparison.metrics.get(self.key, {})
        first, *others = comparison.runs
        labels = dict(zip((run.id for run in comparison.runs), comparison.labels, strict=True))
        if self.relative and not _is_number(values.get(first.id)):
            return [
                f"{self.text} cannot be judged: {labels[first.id]}, the baseline, has {_lack(self.key, values.get(first.id))}"
            ]
        found = []
        for run in others:
            value, limit = values.get(run.id), self.threshold(values.get(first.id, math.nan))
            if value is None or not _is_number(value) or math.isnan(limit):
                found.append(f"{self.text} cannot be judged: {labels[run.id]} has {_lack(self.key, value)}")
            elif _OPERATORS[self.op](value, limit):
                found.append(
                    f"{self.text} holds for {labels[run.id]}: {_reason(value, limit, values.get(first.id), self)}"
                )
        return found


def _unquoted(key: str) -> str:
    return key[1:-1] if len(key) > 2 and key[0] == key[-1] and key[0] in "`\"'" else key


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _lack(key: str, value: float | None) -> str:
    return f"no {key}" if value is None else f"{key} NaN"


def _reason(value: float, limit: float, baseline: float | None, condition: Condition) -> str:
    text = f"{number(value)} {condition.op} {number(limit)}"
    if not condition.relative or baseline is None:
        return text
    change = f"{(value - baseline) / abs(baseline):+.2%}" if baseline else f"{value - baseline:+.4g}"
    return f"{text} (baseline {number(baseline)}, {change})"

"""Figures as Markdown: medians over rounds with their range, ratios, verdicts, tables; and parts of one document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

Row = Sequence[str]
Result = Mapping[str, Any]
"""What one round measured; {"failed": why} where it failed."""


def replace_part(document: Path, title: str, text: str) -> None:
    """Write `text`, which begins with `# title`, in the place of the document's part of that title, or at its end."""
    old = document.read_text() if document.exists() else ""
    parts = [part for part in re.split(r"^(?=# )", old, flags=re.MULTILINE) if part.strip()]
    new = text.rstrip() + "\n"
    places = [index for index, part in enumerate(parts) if part.splitlines()[0] == f"# {title}"]
    if places:
        parts[places[0]] = new
    else:
        parts.append(new)
    document.write_text("\n".join(part.rstrip() + "\n" for part in parts))


def good(rounds: Iterable[Result]) -> list[Result]:
    """The rounds that did not fail."""
    return [result for result in rounds if "failed" not in result]


def median_of(rounds: Iterable[Result], field: str) -> float | None:
    """The median over the good rounds; None without any."""
    values = [float(result[field]) for result in good(rounds)]
    return median(values) if values else None


def spread(rounds: Sequence[Result], field: str, *, digits: int = 1, leads: bool = False) -> str:
    """The median with its range. Where nothing was measured, the figure that leads its row says why."""
    values = sorted(float(result[field]) for result in good(rounds))
    if not values:
        return f"not measured: {rounds[0]['failed']}" if rounds and leads else ""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({values[0]:,.{digits}f} to {values[-1]:,.{digits}f})"


def times(value: float | None, by: float | None) -> str:
    """A ratio."""
    if value is None or not by:
        return ""
    ratio = value / by
    return f"{ratio:,.0f} ×" if ratio >= 9.95 else f"{ratio:.2g} ×"


def number(value: float | None) -> str:
    """A whole number."""
    return "" if value is None else f"{value:,.0f}"


def lost(rounds: Sequence[Result]) -> str:
    """Points that were not found afterwards, in all rounds."""
    return f"{sum(result['lost'] for result in good(rounds)):,}" if good(rounds) else ""


def verdict(what: str, value: float | None, limit: float, unit: str, *, at_least: bool = False) -> str:
    """A sentence that holds a figure against its target; "" where there is none."""
    if value is None:
        return ""
    met = value >= limit if at_least else value <= limit
    shown = f"{value:,.0f}" if limit >= 1000 else f"{value:.2f}" if limit < 10 else f"{value:.1f}"
    bound = f"{limit:,.0f}" if limit == int(limit) else f"{limit:g}"
    sign = "≥" if at_least else "≤"
    return f"{what[0].upper()}{what[1:]}: {shown} {unit}, target {sign} {bound}: **{'met' if met else 'not met'}**."


def section(*parts: str) -> str:
    """Parts with a blank line between, without those that are empty."""
    return "\n\n".join(filter(None, parts))


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)

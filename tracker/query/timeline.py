"""Describes the events of a run in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracker.domain.records import Event
from tracker.query.quantity_format import size
from tracker.query.text_format import number, value_text

Detail = Mapping[str, Any]

_WORDS: Mapping[str, Callable[[Detail], str]] = {
    "fit_started": lambda d: f"fit {d['fit']} started" + (f", to epoch {d['epochs'] - 1}" if d.get("epochs") else ""),
    "fit_ended": lambda d: f"fit {d['fit']} ended: {d['outcome'].replace('_', ' ')}",
    "learning_rate_changed": lambda d: f"learning rate {_change(d)}" + (f", by {d['by']}" if d.get("by") else ""),
    "best_improved": lambda d: f"{d['metric']} improved {_change(d)}",
    "early_stopped": lambda d: (
        f"stopped early: best{_by(d.get('monitor'))} was {_value(d['best'])} in epoch {d['best_epoch']}{_patience(d)}"
    ),
    "checkpoint_saved": lambda d: f"checkpoint saved{_best_so_far(d)}: {size(d['size'])}",
    "weights_restored": lambda d: f"weights of epoch {d['epoch']} restored",
    "nan_detected": lambda d: f"{d['metric']} is {d['value']}" + (f", stopped by {d['by']}" if d.get("by") else ""),
    "reopened": lambda d: "opened again" + (f" by {d['script']}" if d.get("script") else "") + _where(d),
    "resumed": lambda d: f"resumed after epoch {d['epoch']}",
    "stop_requested": lambda d: "asked to stop",
    "stopped": lambda d: f"stopped {'on' if d['by'] == 'request' else 'by'} {d['by']}",
    "run_failed": lambda d: f"{d['type']}: {d['message']}",
    "state_missing": lambda d: f"no state to resume from after {d['steps']} steps",
    "evaluated": lambda d: "evaluated: " + _listed(d["metrics"]),
}

_ROUTINE = "checkpoint_saved"
_REPEATED = ("best_improved", "learning_rate_changed")


def described(event: Event) -> str:
    """What happened, in words; events of unknown kinds or details by their name and detail."""
    try:
        return _WORDS[event.kind]({"epoch": event.epoch, **event.detail})
    except (KeyError, TypeError, AttributeError):
        detail = _listed(event.detail)
        return event.kind.replace("_", " ") + (f": {detail}" if detail else "")


def condensed(events: Sequence[Event], most: int) -> tuple[Sequence[Event], int, Sequence[Event]]:
    """The first and the last events, `most` in all, and how many are left out between them.

    Saved checkpoints are left out first, then improvements and learning-rate changes from their middle: they come with
    nearly every epoch, and would hide what happened once.
    """
    surplus = len(events) - most
    if surplus <= 0:
        return events, 0, ()
    routine = [i for i, event in enumerate(events) if event.kind == _ROUTINE]
    repeated = [i for i, event in enumerate(events) if event.kind in _REPEATED]
    more = surplus - len(routine)
    if more <= 0:
        hidden = set(routine[:surplus])
        gap = min(hidden)
    elif more <= len(repeated):
        begin = (len(repeated) - more) // 2
        hidden = {*routine, *repeated[begin : begin + more]}
        gap = repeated[begin]
    else:
        once = [i for i, event in enumerate(events) if event.kind not in (_ROUTINE, *_REPEATED)]
        gap = once[most // 2]
        hidden = {*range(len(events))} - {*once[: most // 2], *once[len(once) - (most - most // 2) :]}
    shown = [i for i in range(len(events)) if i not in hidden]
    return [events[i] for i in shown if i < gap], surplus, [events[i] for i in shown if i > gap]


def _where(detail: Detail) -> str:
    """The commit and the host of a process."""
    commit = f" at commit {detail['commit'][:8]}" if detail.get("commit") else ""
    return commit + (f" on {detail['host']}" if detail.get("host") else "")


def _patience(detail: Detail) -> str:
    return f", patience {_value(detail['patience'])}" if detail.get("patience") is not None else ""


def _best_so_far(detail: Detail) -> str:
    """Of which metrics a checkpoint was the best so far."""
    if detail["is_best"]:
        text = f", the best so far{_by(detail.get('metric'))}"
        return text if detail.get("best_by") in (None, detail.get("metric")) else f"{text} and{_by(detail['best_by'])}"
    return f", the best so far{_by(detail['best_by'])}" if detail.get("best_by") else ""


def _by(metric: str | None) -> str:
    return f" by {metric}" if metric else ""


def _change(detail: Detail) -> str:
    """The change from one value to another; the first value has no earlier one."""
    return (
        f"to {_value(detail['to'])}"
        if detail.get("from") is None
        else f"{_value(detail['from'])} → {_value(detail['to'])}"
    )


def _listed(values: Detail) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    return number(value) if isinstance(value, float) else value_text(value)

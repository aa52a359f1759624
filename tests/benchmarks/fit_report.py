"""What was measured of `fit()` → Markdown."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from figures import Result, section, table, verdict
from runner import Results

Variants = Mapping[str, Results]
BESIDE = {
    "alone": "no other callback",
    "stock": "ModelCheckpoint (best only), EarlyStopping, LearningRateScheduler, TensorBoard (`histogram_freq=1`)",
}


def fit(variants: Variants) -> str:
    """`fit()` with the callback against none, with and without other callbacks."""
    return section(
        "## `fit()` with `TrackerCallback` against none",
        "Target: ≤ 1 %, epoch logging, with Keras' four callbacks in both and with none. The demo's digits MLP, "
        "validation each epoch, into SQLite; pairs in the order A B B A in one process, TensorFlow on one thread; "
        "weights, optimizer and seeds put back before each fit, the run opened and finished outside the clock. *Inside "
        "our hooks* is what they hold the training thread, those around other callbacks' hooks included.",
        *(_fit(variant, results["tracker"][0]) for variant, results in variants.items()),
    )


def _fit(variant: str, result: Result) -> str:
    title = f"### Beside {BESIDE[variant]}"
    if "failed" in result:
        return f"{title}\n\nNot measured: {result['failed']}"
    pairs = result["pairs"]
    ratios = [tracked / plain - 1 for plain, tracked in pairs]
    plain = median(first for first, _ in pairs)
    inside = median(result["inside_ms"])
    hooks = ", ".join(f"`{name}` {ms:.2f}" for name, ms in result["inside_by_hook_ms"].items() if ms >= 0.005)
    rows = [
        (
            f"`fit()` without, seconds ({result['epochs']} epochs of {result['steps']} steps)",
            _range([p for p, _ in pairs]),
        ),
        ("`fit()` with, seconds", _range([t for _, t in pairs])),
        (f"**more by, median of {len(pairs)} pairs**", f"**{median(ratios):+.2%}** ({_interval(ratios)})"),
        ("the same of pairs without and without: the noise", _interval([b / a - 1 for a, b in result["nulls"]])),
        ("**inside our hooks**", f"**{inside:.2f} ms a fit, {inside / plain / 10:.2f} % of it**"),
        ("of these, ms", hooks),
        ("CPU of our background threads", f"{median(result['background_ms']):.1f} ms a fit"),
    ]
    return section(
        title,
        table(("", result["backend"]), rows),
        verdict("median of the pairs", median(ratios) * 100, 1.0, "%"),
        verdict("inside our hooks", inside / plain / 10, 1.0, "%"),
    )


def batches(variants: Variants) -> str:
    """What logging every batch costs a step."""
    title = "## A step with `log_batches=1`"
    result = variants["all"]["tracker"][0]
    if "failed" in result:
        return f"{title}\n\nNot measured: {result['failed']}"
    seconds, steps = result["seconds"], result["steps"]
    bare, hook, epochs, logged = (seconds[name] for name in ("bare", "hook", "epochs", "batches"))
    charged = [(b - a) / steps * 1e6 for a, b in zip(bare, hook, strict=True)]
    ours = [(d - b - (c - a)) / steps * 1e6 for a, b, c, d in zip(bare, hook, epochs, logged, strict=True)]
    rows = [
        ("a step without any batch hook, µs", f"{median(bare) / steps * 1e6:,.0f}"),
        ("what Keras charges for having a batch hook, one that does nothing, µs", _of(charged)),
        (
            "**inside our batch hook, µs**",
            f"**{median(result['inside_p50_us']):.1f}** median, {median(result['inside_us']):.1f} mean",
        ),
        ("what `log_batches=1` adds to both, by the whole fits, µs", _of(ours)),
        ("CPU of our background threads for it, µs a step", f"{result['background_us']:.0f}"),
    ]
    return section(
        title,
        "Target: ≤ 5 µs a step, besides what Keras charges for there being a batch hook. The digits MLP in batches of "
        f"8, {steps} steps a fit, {len(bare)} rounds in turn: no callback, a hook that does nothing, `TrackerCallback`, "
        "`TrackerCallback(log_batches=1)`. The median of the hook is what it takes; whole fits tell no more than their "
        "noise allows.",
        table(("", result["backend"]), rows),
        verdict("inside our batch hook, median", median(result["inside_p50_us"]), 5.0, "µs"),
    )


def checkpoints(variants: Variants) -> str:
    """How long a checkpoint holds the training."""
    names = {
        "stock": "stock ModelCheckpoint alone",
        "observed": "stock, with `TrackerCallback`",
        "ours": "`tracker_keras.ModelCheckpoint`, with `TrackerCallback`",
    }
    rows: list[tuple[str, ...]] = []
    verdicts: list[str] = []
    for variant, results in variants.items():
        result = results["tracker"][0]
        if "failed" in result:
            rows.append((variant, f"not measured: {result['failed']}"))
            continue
        size = f"{result['bytes'] / 1e6:.1f} MB"
        by_name: dict[str, Any] = result["contenders"]
        stock = median(by_name["stock"]["held_ms"])
        for name, shown in names.items():
            held, count = by_name[name]["held_ms"], len(by_name[name]["held_ms"])
            beside = sum(by_name[name]["background_ms"]) / count
            seconds = median(by_name[name]["seconds"])
            ratio = median(held) / stock
            cpu = f"{median(by_name[name]['held_cpu_ms']):.0f}"
            rows.append((size, shown, _range(held, 0), f"{ratio:.2f} ×", cpu, f"{seconds:.2f}", f"{beside:.0f}"))
            if name != "stock":
                verdicts.append(verdict(f"{size}, {shown}", ratio, 1.1, "×"))
    head = (
        "file",
        "",
        "training held as an epoch ends, ms",
        "÷ stock",
        "of it CPU, ms",
        "`fit()`, seconds",
        "our threads' CPU, ms each",
    )
    return section(
        "## A checkpoint an epoch",
        "Target: held ≤ 1.1 × what stock ModelCheckpoint holds. All that callbacks do at an epoch's end, saving, "
        "logging and all; copying, hashing and storing the file continue during the next epoch.",
        table(head, rows),
        *verdicts,
    )


def _range(values: Iterable[float], digits: int = 3) -> str:
    values = sorted(values)
    return f"{median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def _of(values: Sequence[float]) -> str:
    low, high = _bounds(values)
    return f"{median(values):.0f} (95 % interval {low:.0f} to {high:.0f})"


def _interval(values: Sequence[float]) -> str:
    low, high = _bounds(values)
    return f"95 % interval {low:+.2%} to {high:+.2%}"


def _bounds(values: Sequence[float], draws: int = 4000) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    dice = random.Random(7)
    medians = sorted(median(dice.choices(values, k=len(values))) for _ in range(draws))
    return medians[draws * 25 // 1000], medians[draws * 975 // 1000]

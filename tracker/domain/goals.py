"""Whether a metric is better when it is smaller or when it is larger."""

from __future__ import annotations

import re
from typing import Literal

Goal = Literal["min", "max"]
GoalSource = Literal["inferred", "keras", "declared"]

# A later goal of equal or higher rank replaces an earlier one: declared, else Keras', else from the name.
GOAL_RANK: dict[GoalSource, int] = {"inferred": 0, "keras": 1, "declared": 2}

_SMALLER = re.compile(
    r"(^|[/_.\-])(loss|error|err|mse|mae|rmse|mape|msle|nll|bce|cross_?entropy|crossentropy|perplexity|ppl|wer|cer|divergence|"
    r"false_positives|false_negatives|hinge|poisson|deviance|fid)($|[/_.\-\d])|(loss|error|crossentropy)$"
)
_LARGER = re.compile(
    r"(^|[/_.\-])(acc|accuracy|auc|auroc|precision|recall|f1|fbeta|iou|dice|map|ndcg|mrr|bleu|rouge|r2|psnr|ssim|"
    r"true_positives|true_negatives|similarity|sensitivity|specificity|score)($|[/_.\-\d@])|accuracy$"
)


def infer_goal(key: str) -> Goal | None:
    """The goal inferred from a metric's name; None if the name says nothing or contradicts itself.

    Keras names a metric after its class in snake case; `val_` and `batch/` prefixes do not matter.
    """
    name = key.lower()
    smaller, larger = bool(_SMALLER.search(name)), bool(_LARGER.search(name))
    if smaller == larger:
        return None
    return "min" if smaller else "max"

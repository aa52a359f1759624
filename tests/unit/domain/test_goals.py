"""The goals that names give away."""

from __future__ import annotations

import pytest

from tracker.domain.goals import infer_goal


@pytest.mark.parametrize("key", ["loss", "val_loss", "batch/loss", "mse", "val_mae", "mean_squared_error", "binary_crossentropy",
                                 "kl_divergence", "head_loss", "root_mean_squared_error", "perplexity", "val_head_a_loss"])  # fmt: skip
def test_smaller_is_better(key: str) -> None:
    """Losses and errors."""
    assert infer_goal(key) == "min"


@pytest.mark.parametrize("key", ["accuracy", "val_accuracy", "sparse_categorical_accuracy", "acc", "auc", "auc_1", "precision", "recall@5",
                                 "f1_score", "top_k_categorical_accuracy", "cosine_similarity", "val_head_accuracy"])  # fmt: skip
def test_larger_is_better(key: str) -> None:
    """Scores."""
    assert infer_goal(key) == "max"


@pytest.mark.parametrize(
    "key", ["learning_rate", "seconds", "system/cpu", "gap", "", "lossless", "accelerate", "loss_accuracy", "mapping"]
)
def test_unknown(key: str) -> None:
    """A name that says nothing, or contradicts itself, gives no goal."""
    assert infer_goal(key) is None

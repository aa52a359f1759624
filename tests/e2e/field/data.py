"""The numbers that are trained on, and how often."""

from __future__ import annotations

import numpy as np

EPOCHS, BATCH, STEPS = 8, 5, 4
WEIGHTS = np.array([[1.0], [-2.0], [0.5]], dtype="float32")
_numbers = np.random.default_rng(0)
X = _numbers.normal(size=(20, 3)).astype("float32")
Y = (X @ WEIGHTS > 0).astype("float32")
XV = _numbers.normal(size=(8, 3)).astype("float32")
YV = (XV @ WEIGHTS > 0).astype("float32")

"""The state of Python's and NumPy's random generators, as arrays for a file."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def drawn_so_far() -> Arrays:
    """The state of the global generators of `random` and `numpy.random`.

    A NumPy generator of another kind is left out. Keras' own seed generators are variables of the model.
    """
    version, words, gauss = random.getstate()
    found: Arrays = {
        "python": np.asarray(words, dtype=np.uint32),
        "python_more": np.asarray([version, np.nan if gauss is None else gauss], dtype=np.float64),
    }
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    if kind == "MT19937":
        found["numpy"] = np.array(keys, dtype=np.uint32)
        found["numpy_more"] = np.asarray([position, has_gauss, cached], dtype=np.float64)
    return found


def put_back(found: Mapping[str, Any]) -> None:
    """Restore the generators' state from `found`."""
    if "python" in found:
        version, gauss = found["python_more"].tolist()
        words = tuple(int(word) for word in found["python"])
        random.setstate((int(version), words, None if np.isnan(gauss) else gauss))
    if "numpy" in found:
        position, has_gauss, cached = found["numpy_more"].tolist()
        np.random.set_state(("MT19937", found["numpy"], int(position), int(has_gauss), cached))

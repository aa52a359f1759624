"""`images`: an array is an image."""

from __future__ import annotations

import numpy as np

import tracker

with tracker.start_run() as run:
    run.log_image(np.linspace(0, 1, 12).reshape(3, 4), "samples/first", step=1)
assert run.problems == {}, run.problems
print("works")

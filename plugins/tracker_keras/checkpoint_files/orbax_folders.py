"""A step that OrbaxCheckpoint saved, as a folder that `keras.models.load_model` takes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def step_alone(step: Path, written: Callable[[], object]) -> Iterator[Path]:
    """A folder with the folder `step` in it and nothing else, for the length of the block.

    Keras takes the folder of all steps, not that of one. `written` returns when Orbax, which writes in the background,
    is done with it. The files are linked: Orbax never writes into them again, and only takes their names away.
    """
    written()
    with tempfile.TemporaryDirectory(prefix=f".{step.parent.name}-", dir=step.parent.parent) as folder:
        shutil.copytree(step, Path(folder, step.name), copy_function=_link)
        yield Path(folder)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

"""Makes a folder that `keras.models.load_model` accepts from one step of an OrbaxCheckpoint."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_step(step: Path, written: Callable[[], object]) -> Iterator[Path]:
    """Yield a temporary folder that contains only the folder `step`.

    Keras loads the folder that contains the steps, not that of one. `written` waits until Orbax has written the step in
    the background. The files are hard-linked: Orbax never changes them again, it only deletes their names.
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

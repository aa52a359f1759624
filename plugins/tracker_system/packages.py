"""Which packages are installed."""

from __future__ import annotations

import functools
import os
import re
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

_FOLDER = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.(?:dist-info|egg-info)")


@functools.cache
def installed_packages() -> str:
    """The packages on the path of modules as lines `name==version`, sorted: what pip calls a requirements file.

    Their folders' names say both; to read the metadata of hundreds would cost a training a tenth of a second.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = sorted(os.listdir(folder or "."))
        except OSError:  # a zip file, or not there
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                name, version = _of(Path(folder or ".") / entry)
                # What is first on the path is what is imported.
                found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), f"{name}=={version}")
    return "".join(f"{line}\n" for _, line in sorted(found.items()))


def _of(path: Path) -> tuple[str, str]:
    if match := _FOLDER.fullmatch(path.name):
        return match["name"].replace("_", "-"), match["version"]
    try:
        metadata = PathDistribution(path).metadata
        return metadata["Name"] or path.stem, metadata["Version"] or "?"
    except Exception:  # broken, or a file of another kind
        return path.stem, "?"

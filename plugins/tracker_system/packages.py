"""Lists the installed packages."""

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
    """The packages on `sys.path` as sorted lines `name==version`, in pip's requirements format.

    Name and version are taken from the folders' names; reading the metadata of hundreds would take 0.1 s.
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
                # The first one on the path is imported.
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

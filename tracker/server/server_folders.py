"""Messages without the folders of the machine that the server runs on: they help nobody who reads them over HTTP."""

from __future__ import annotations

import os
import re
import site
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_STORE = re.compile(r"\b(?:sqlite|postgresql)(?:\+\w+)?:///?\S+?(?=: |[;,]? |[\"']|\Z)")
_SHORTEST = 2
"""Of folders that are hidden; `/` is none."""
_hidden: set[str] = set()
_compiled: list[re.Pattern[str]] = []


def hide(folders: Iterable[Path]) -> None:
    """Leave these out of messages too."""
    _hidden.update(str(folder.absolute()) for folder in folders)
    _compiled.clear()


def without_folders(text: str) -> str:
    """`text` with `…` for each folder of the server in it, and without the address of the store: folder, user, host.

    What follows a folder stays, since it names the run and the file.
    """
    if "/" not in text:
        return text
    if not _compiled:
        _compiled.append(_expression())
    return _compiled[0].sub("…", _STORE.sub("the store", text))


def _expression() -> re.Pattern[str]:
    own = {sys.prefix, sys.base_prefix, os.getcwd(), str(Path.home()), str(Path(__file__).parents[2])}
    folders = _hidden | own | set(site.getsitepackages()) | {site.getusersitepackages()}
    folders |= {os.path.realpath(folder) for folder in folders}
    folders |= {quote(folder) for folder in folders}
    longest_first = sorted((one for one in folders if len(one) > _SHORTEST), key=len, reverse=True)
    return re.compile(rf"(?:file://|(?<![\w/.~-]))(?:{'|'.join(map(re.escape, longest_first))})(?![\w.-])")

"""File names for texts that may hold any character: readable, and different for different texts.

Letters and digits of any script, `_`, `-`, `.` and spaces stay as they are. Every other character is written as `=` and
two hexadecimal digits for each of its bytes in UTF-8. So no name holds a character that MLflow's clients or pages
misread (`+`, `%`, `#`, `?`, `:`, `~`).
"""

from __future__ import annotations

import re
from hashlib import sha256

MOST_BYTES = 150
"""Maximum bytes of a name: with the text put around it, it is still a valid file name everywhere."""
_DIGITS = 16
_OURS = re.compile(r"\.(?=(?:md|json|pb)\Z)")
"""The dot of an ending that our own files have: no folder name may end so."""

_NO_BEGINNING = re.compile(r" |\.(?:part-|artifact\.uploading\.)")
"""Beginnings that file names must not have; see `check_artifact_path`."""


def file_name(text: str, *, separator: str | None = None) -> str:
    """`text` as one file name; with `separator`, its parts between slashes are joined by it.

    A name that is too long is cut, and ends in `==` and a digest of the whole text.
    """
    parts = text.split("/") if separator is not None else [text]
    return _bounded((separator or "").join(map(_escaped, parts)), text)


def folder_path(text: str) -> str:
    """`text` as a path of folders, one for each part between slashes."""
    return "/".join(_OURS.sub("=2E", _bounded(_escaped(part), part)) for part in text.split("/"))


def _escaped(text: str) -> str:
    keeps = "_-. " if text.strip(". ") else ""  # `.` and `..` are no names
    name = "".join(char if char.isalnum() or char in keeps else _hexadecimal(char) for char in text) or "="
    return _hexadecimal(name[0]) + name[1:] if _NO_BEGINNING.match(name) else name


def _hexadecimal(char: str) -> str:
    return "".join(f"={byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _bounded(name: str, text: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= MOST_BYTES:
        return name
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{data[: MOST_BYTES - _DIGITS - 2].decode('utf-8', 'ignore')}=={digest}"

"""Texts of any characters as file names: each its own, readable, and allowed below a run's artifacts."""

from __future__ import annotations

import itertools

import pytest

from tracker.domain.file_names import MOST_BYTES, file_name, folder_path
from tracker.domain.limits import check_artifact_path

ODD = [
    "日本", "中国", "q?", "q!", "q_", "q", "a+b", "a=b", "a=2Bb", "a b", "a~b", "a/b", "a//b", "/a", "a", "a/", "", ".", "..", "...",
    " ", "a.", "%2e", "%23", "#1", "é", "e\u0301", "a\\b", "file:", "C:", "😀", "a.md", "a=2Emd", "x" * 150, "x" * 151, "x" * 250,
    "x" * 249 + "y", "ö" * 200, "ö" * 199 + "ü", "?" * 250, "?" * 249 + "!",
]  # fmt: skip


@pytest.mark.parametrize("name", [folder_path, lambda text: file_name(text, separator="~")])
def test_each_text_has_a_name_of_its_own(name: object) -> None:
    """Also those that differ in special characters only, or far behind; every name can be an artifact's."""
    assert callable(name)
    names = {text: name(text) for text in ODD}
    assert [pair for pair in itertools.combinations(ODD, 2) if names[pair[0]] == names[pair[1]]] == []
    for one in names.values():
        assert check_artifact_path(f"images/{one}/5.md") == f"images/{one}/5.md"
        assert not set("+%#?:") & set(one)
        assert all(len(part.encode()) <= MOST_BYTES + 2 for part in one.split("/"))


def test_names_can_be_read() -> None:
    """What a file name may hold stays, in any script."""
    assert folder_path("layer_1/weights-2.5 all") == "layer_1/weights-2.5 all"
    assert folder_path("層/Größe: α") == "層/Größe=3A α"
    assert file_name("a/b+c", separator="~") == "a~b=2Bc"
    assert folder_path("notes/5.md") == "notes/5=2Emd"

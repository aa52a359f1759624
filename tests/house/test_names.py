"""Names: one class a name, the field's own words, and a glossary that says what they mean."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TERMS = re.findall(r"^\*\*([\w ]+)\*\*: ", GLOSSARY, re.M)
MODULES = sorted(path for folder in ("tracker", "plugins") for path in (ROOT / folder).rglob("*.py"))
RETIRED = {
    "absent", "anew", "beside", "brought", "door", "elsewhere", "genuine", "hear", "heard", "heed", "held", "manner",
    "spoken", "standing", "surroundings", "tails", "tell", "telling", "told", "unnumbered", "whereabouts", "words",
}  # fmt: skip
"""Words that a reader had to learn here, and for which the field has others."""
SHARED = {"Run"}
"""`tracker.Run` is what a script records with, `records.Run` what a store has of it: both are public."""


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _parts(name: str) -> set[str]:
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_no_two_classes_have_one_name() -> None:
    """A name says which class is meant, wherever it is read."""
    classes = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in classes.items() if len(where) > 1 and name not in SHARED} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_the_fields_own(path: Path) -> None:
    """No module, class or function is named by a retired word."""
    names = [path.stem, path.parent.name]
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names += [node.name for node in ast.walk(_tree(path)) if isinstance(node, kinds)]
    assert [name for name in names if _parts(name) & RETIRED] == []


def test_the_glossary_is_sorted_and_says_each_term_once() -> None:
    """Thirty terms or so, each found where one looks for it."""
    assert sorted(set(TERMS)) == TERMS
    assert len(TERMS) == GLOSSARY.count("\n**")


@pytest.mark.parametrize("term", TERMS)
def test_the_code_uses_the_glossarys_terms(term: str) -> None:
    """A term that no module and no page says is none of ours."""
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *MODULES]
    said = re.compile(rf"\b{term.replace(' ', '[ _]')}", re.I)
    assert any(said.search(path.read_text()) for path in pages)


def test_files_that_the_glossary_names_are_there() -> None:
    """Paths in backticks exist."""
    for path in re.findall(r"`(tracker/[\w/.]+)`", GLOSSARY):
        assert (ROOT / path).exists(), path

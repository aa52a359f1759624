"""Looking into a run's folders and removing from them, as the server's MLflow routes do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker.artifacts.local import LocalArtifacts
from tracker.domain.errors import InvalidValue
from tracker.domain.ports import Folders
from tracker.domain.records import Entry


@pytest.fixture
def home(tmp_path: Path) -> LocalArtifacts:
    """A home with a run that has files, folders and links."""
    made = LocalArtifacts(tmp_path / "files")
    (tmp_path / "source").write_bytes(b"12345")
    for path in ("top", "a/one", "a/b/two"):
        made.put("r", path, tmp_path / "source")
    (tmp_path / "files" / "r" / "out").symlink_to(tmp_path)
    (tmp_path / "files" / "r" / "a" / "secret").symlink_to(tmp_path / "source")
    return made


def test_entries(home: LocalArtifacts) -> None:
    """What lies directly in a folder, with sizes, without links; nothing where no folder is."""
    assert isinstance(home, Folders)
    folder = Entry(path="a", is_dir=True, size=None)
    assert list(home.entries("r")) == [folder, Entry(path="top", is_dir=False, size=5)]
    assert [entry.path for entry in home.entries("r", "a")] == ["a/b", "a/one"]
    for run, path in (("r", "top"), ("r", "never"), ("never", "")):
        assert list(home.entries(run, path)) == []
    with pytest.raises(InvalidValue):
        home.entries("r", "out")


def test_delete(home: LocalArtifacts, tmp_path: Path) -> None:
    """A file, a folder, all of it; what is not there is no error, and what a link leads to stays."""
    home.delete("r", "a")
    assert list(home.list("r")) == ["top"]
    home.delete("r", "never/was")
    with pytest.raises(InvalidValue):
        home.delete("r", "out/source")
    home.delete("r", "out")
    home.delete("r")
    home.delete("r")
    assert not (tmp_path / "files" / "r").exists()
    assert (tmp_path / "source").read_bytes() == b"12345"

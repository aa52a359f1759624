"""Who is about to write over a file waits for its copy, for as long as it may."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from tracker_keras.checkpoint_files import pending_copies
from tracker_keras.checkpoint_files.pending_copies import Stamp, Work


class Pending:
    """Copies that are made when the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[None]] = []

    def __call__(self, work: Work) -> Future[None]:
        self.futures.append(Future())
        return self.futures[-1]


def test_nothing_pending_is_no_wait(tmp_path: Path) -> None:
    """A file that nobody copies is free, whether it is there or not."""
    assert pending_copies.wait_for(tmp_path / "m.keras", 0)


def test_waits_for_the_file_and_for_what_is_below(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file, its folder, and the file under another name wait; another file does not. Too long is said."""
    pending, path = Pending(), tmp_path / "folder" / "m.keras"
    path.parent.mkdir()
    path.touch()
    (link := tmp_path / "link").symlink_to(path.parent)
    pending_copies.keep(path, lambda: None, pending)
    for place in (path, path.parent, link / "m.keras"):
        assert not pending_copies.wait_for(place, 0.01)
    assert "training goes on" in caplog.text
    assert pending_copies.wait_for(path.with_name("m.keras2"), 0)
    threading.Timer(0.05, pending.futures[0].set_result, [None]).start()
    assert pending_copies.wait_for(path, 30)
    assert pending_copies.wait_for(path, 0)


def test_a_copy_that_came_too_late_holds_nobody(tmp_path: Path) -> None:
    """A run that has ended cancels what it is given."""
    pending = Pending()
    pending_copies.keep(tmp_path / "m.keras", lambda: None, pending)
    pending.futures[0].cancel()
    assert pending_copies.wait_for(tmp_path / "m.keras", 0)


def test_a_stamp_tells_a_file_from_its_successor(tmp_path: Path) -> None:
    """Written again, replaced and deleted files are others; what no local path names has no stamp."""
    path = tmp_path / "m.keras"
    path.write_text("one")
    first = Stamp.of(path)
    assert first == Stamp.of(path)
    path.write_text("longer")
    second = Stamp.of(path)
    other = tmp_path / "other"
    other.write_text("longer")
    other.replace(path)
    third = Stamp.of(path)
    assert len({first, second, third, None}) == 4
    assert Stamp.of("gs://bucket/m.keras") is Stamp.of("a\0b") is None

"""What a ModelCheckpoint remembers beside its files, which of them it deletes, and how it replaces them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from e2e.children import eventually, run_child

from tracker.domain.goals import Goal
from tracker_keras.checkpoint_files import atomic_replace as replacing_module
from tracker_keras.checkpoint_files.atomic_replace import release, replacing, sweep
from tracker_keras.checkpoint_files.saved_files import Ledger, fields_of


def ledger(folder: Path, goal: Goal | None = "min", *, monitor: str = "loss", shape: str = "s") -> Ledger:
    """A ledger of `m-{epoch}.keras` there."""
    return Ledger(home=Ledger.home_of(f"{folder}/m-{{epoch}}.keras"), monitor=monitor, goal=goal, shape=shape)


def wrote(book: Ledger, *values: float | None) -> list[str]:
    """Write a file for each value; return the names of those that are left after the last."""
    folder = book.home.parent
    for number, value in enumerate(values):
        (path := folder / f"m-{number}.keras").write_text(str(value))
        book.add(path, value)
    return sorted(path.name for path in folder.glob("m-*"))


@pytest.mark.parametrize(("pattern", "home"), [
    ("m.keras", ".m.keras.saved.json"),
    ("runs/{epoch}/m-{loss:.2f}.keras", "runs/.{epoch}_m-{loss:.2f}.keras.saved.json"),
    ("runs/m.weights.h5", "runs/.m.weights.h5.saved.json"),
])  # fmt: skip
def test_where_it_lies(pattern: str, home: str) -> None:
    """In the deepest folder that is always the same."""
    assert Ledger.home_of(pattern) == Path(home).absolute()


@pytest.mark.parametrize(("goal", "last", "best", "left"), [
    ("min", 1, None, [1, 4]),
    ("min", 2, 2, [1, 2, 3, 4]),
    ("max", 1, 1, [0, 4]),
    ("min", None, 3, [1, 2, 3, 4]),
    (None, 2, None, [3, 4]),
    ("min", None, None, [0, 1, 2, 3, 4]),
])  # fmt: skip
def test_which_stay(tmp_path: Path, goal: Goal | None, last: int | None, best: int | None, left: list[int]) -> None:
    """The last and the best; the newest and the best in any case; a file without a value is never the best."""
    book = ledger(tmp_path, goal)
    wrote(book, 5, 1, 3, 4, None)
    book.prune(last, best)
    assert sorted(path.name for path in tmp_path.glob("m-*")) == [f"m-{number}.keras" for number in left]


def test_a_file_that_somebody_else_wrote_over_stays(tmp_path: Path) -> None:
    """Only what is as it was written is deleted."""
    book = ledger(tmp_path)
    wrote(book, 5, 1, 3)
    (tmp_path / "m-0.keras").write_text("somebody else's")
    book.prune(1, 1)
    assert (tmp_path / "m-0.keras").exists()


def test_another_process_goes_on(tmp_path: Path) -> None:
    """With the best, if its file is as it was; with the files, where asked; also after the folder was moved."""
    (tmp_path / "a").mkdir()
    run_child(f"""
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from unit.tracker_keras.test_saved_files import ledger, wrote
        before = ledger(Path({str(tmp_path / "a")!r}))
        wrote(before, 5, 1)
        before.best = 1.0
        before.write()
        own = ledger(Path({str(tmp_path / "a")!r})).load(even_own=False, with_files=True)
        assert own is None, "this is no other process"
    """)
    (tmp_path / "a").rename(tmp_path / "b")
    after = ledger(tmp_path / "b")
    assert after.load(even_own=False, with_files=True) == 1.0
    assert [(Path(one.path).name, one.value) for one in after.files] == [("m-0.keras", 5), ("m-1.keras", 1)]
    assert ledger(tmp_path / "b", monitor="acc").load(even_own=False, with_files=True) is None
    assert ledger(tmp_path / "b", "max").load(even_own=False, with_files=True) is None
    assert ledger(tmp_path / "b", shape="t").load(even_own=False, with_files=True) is None
    (tmp_path / "b" / "m-1.keras").unlink()
    assert ledger(tmp_path / "b").load(even_own=False, with_files=True) is None, "the best is gone"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"monitor": "loss", "goal": "min", "shape": "s", "files": [1]}', "\0"]
)
def test_a_damaged_ledger_is_none(tmp_path: Path, text: str) -> None:
    """It is begun anew."""
    book = ledger(tmp_path)
    book.home.write_text(text)
    assert book.load(even_own=True, with_files=True) is None
    book.write()
    assert json.loads(book.home.read_text())["files"] == []


def fail(path: Path) -> None:
    """Write half a file."""
    path.write_text("fo")
    raise OSError("no room")


@pytest.mark.parametrize("swaps", [True, False])
def test_a_file_takes_anothers_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool) -> None:
    """The old one is there until the block ends, also if it fails; its permissions stay, and nothing is left beside."""
    if not swaps:
        monkeypatch.setattr(replacing_module, "_renameat2", lambda: None)
    path = tmp_path / "m-0.5.weights.h5"
    for text in ("one", "two", "three"):
        with replacing(path) as beside:
            assert beside.name.endswith(".weights.h5")
            beside.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
        path.chmod(0o640)
    with pytest.raises(OSError, match="no room"), replacing(path) as beside:
        fail(beside)
    assert path.read_text() == "three"
    assert path.stat().st_mode & 0o777 == 0o640
    eventually(lambda: os.listdir(tmp_path) == [path.name])


def test_the_spare_file_is_written_over_unless_somebody_has_it(tmp_path: Path) -> None:
    """One that is read, or has another name, keeps what it says; after the training there is none."""
    path, link = tmp_path / "m.keras", tmp_path / "kept"
    written = []

    def put(text: str) -> None:
        with replacing(path, keeps_spare=True) as beside:
            beside.write_text(text)
            written.append(beside.stat().st_ino)
        eventually(lambda: path not in replacing_module._replaced)

    for text in ("0", "1", "2", "3"):
        put(text)
    assert written[0] == written[2] != written[1] == written[3]
    with path.open() as reader:
        put("4")
        put("5")
        assert reader.read() == "3"
    os.link(path, link)
    put("6")
    put("7")
    assert (path.read_text(), link.read_text()) == ("7", "5")
    assert len(os.listdir(tmp_path)) == 3
    release(path)
    eventually(lambda: sorted(os.listdir(tmp_path)) == ["kept", "m.keras"])


def test_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    """That of processes that live, and of other hosts, stays."""
    host = os.uname().nodename
    dead = tmp_path / f".m.saving-{host}-999999999-0.keras"
    mine = tmp_path / f".m.saving-{host}-{os.getpid()}-0.keras"
    elsewhere = tmp_path / ".m.saving-elsewhere-999999999-0.keras"
    for path in (dead, mine, elsewhere):
        path.touch()
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])


def test_placeholders() -> None:
    """Their names, without formats and attributes."""
    assert fields_of("{epoch:02d}-{val_loss:.2f}-{a.b}-{c[0]}{{no}}.keras") == {"epoch", "val_loss", "a", "c"}

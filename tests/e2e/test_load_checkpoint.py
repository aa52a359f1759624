"""`tracker.load_checkpoint`: a verified file on this machine, from every kind of store."""

from __future__ import annotations

import os
import sqlite3
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import run_child
from e2e.server_lab import Server

import tracker
from tracker.artifacts import folder_unpacking
from tracker.artifacts.local import path_of
from tracker.domain.errors import ArtifactError, CheckpointNotFound, InvalidRecord, InvalidValue, RunNotFound
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(120)
CONTENT = os.urandom(1000)


def content(epoch: int) -> bytes:
    return CONTENT + bytes([epoch])


def trained(losses: Sequence[float] = (0.5, 0.2, 0.4), *, name: str = "net", suffix: str = ".keras") -> str:
    """A run with a checkpoint of each epoch, which are files of that ending; its id."""
    with tracker.start_run(name=name) as run:
        for epoch, loss in enumerate(losses):
            run.log_epoch(epoch, {"val_loss": loss})
            file = Path(f"saved{suffix}")
            file.write_bytes(content(epoch))
            assert run.log_checkpoint(file, epoch=epoch, metrics={"val_loss": loss})
    return run.id


def left(folder: Path) -> list[str]:
    """Files that were on their way and stayed."""
    return [str(path) for path in folder.rglob(".part-*")]


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
def test_best_latest_and_each_epoch(any_url: str, monkeypatch: pytest.MonkeyPatch, home: Path, suffix: str) -> None:
    """From SQLite and PostgreSQL the bytes of the epoch come back, in a file whose ending Keras knows."""
    monkeypatch.setenv("TRACKER_STORE", any_url)
    run_id = trained(suffix=suffix)
    for which, epoch in (("best", 1), ("latest", 2), (0, 0), ("2", 2)):
        path = tracker.load_checkpoint(run_id, which)
        assert path.read_bytes() == content(epoch)
        assert path.name.endswith(suffix)
        assert path.is_relative_to(home)
    assert tracker.load_checkpoint("net").read_bytes() == content(1)
    with closing(tracker.open_store()) as store:
        assert tracker.load_checkpoint(run_id[:30], store=store) == tracker.load_checkpoint(run_id, store=any_url)
        assert store.get_run(run_id)  # an open store stays open


def test_to_a_file_and_into_a_folder(store_url: str, tmp_path: Path) -> None:
    """`to` names the file, which is replaced, or a folder, where runs and epochs do not get mixed up."""
    run_id = trained()
    target = tmp_path / "mine.keras"
    target.write_bytes(b"old")
    assert tracker.load_checkpoint(run_id, to=target) == target
    assert target.read_bytes() == content(1)
    inside = tracker.load_checkpoint(run_id, 2, to=str(tmp_path))
    assert inside == tmp_path / f"{run_id}-epoch-2.keras"
    assert inside.read_bytes() == content(2)
    with pytest.raises(ArtifactError, match="No such file"):
        tracker.load_checkpoint(run_id, to=tmp_path / "nowhere" / "mine.keras")


def test_damage_is_never_handed_out(store_url: str, tmp_path: Path, home: Path) -> None:
    """Bytes that are not those recorded are refused, and nothing of them is left; so are bytes that are gone."""
    run_id = trained()
    with closing(tracker.open_store()) as store:
        best = store.checkpoints(run_id)[1]
    stored = path_of(best.uri)
    stored.write_bytes(content(1)[:-1] + b"!")
    target = tmp_path / "kept.keras"
    target.write_bytes(b"as it was")
    for to in (None, target):
        with pytest.raises(ArtifactError, match=f"damaged.*{best.sha256}"):
            tracker.load_checkpoint(run_id, to=to)
    assert target.read_bytes() == b"as it was"
    stored.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        tracker.load_checkpoint(run_id)
    assert not left(tmp_path)


def test_a_damaged_copy_is_fetched_anew(store_url: str) -> None:
    """The copy in the cache serves without the store's file, and is verified each time."""
    run_id = trained()
    copy = tracker.load_checkpoint(run_id)
    with closing(tracker.open_store()) as store:
        stored = path_of(store.checkpoints(run_id)[1].uri)
    copy.write_bytes(b"flipped")
    assert tracker.load_checkpoint(run_id) == copy
    assert copy.read_bytes() == content(1)
    stored.unlink()
    assert tracker.load_checkpoint(run_id).read_bytes() == content(1)


def test_what_there_is_not(store_url: str) -> None:
    """Errors name the epochs that there are, what was pruned, and runs that a name could mean."""
    with tracker.start_run(name="net") as run:
        run.keep_checkpoints(last=1)
        for epoch in range(3):
            Path("saved.keras").write_bytes(content(epoch))
            run.log_checkpoint("saved.keras", epoch=epoch, is_best=epoch == 0)
    with pytest.raises(CheckpointNotFound, match=r"of epoch 1: it was pruned.*bytes are gone; .*epochs 0, 2"):
        tracker.load_checkpoint(run.id, 1)
    with pytest.raises(CheckpointNotFound, match=r"of epoch 9: there are those of the epochs 0, 2"):
        tracker.load_checkpoint(run.id, 9)
    with pytest.raises(RunNotFound):
        tracker.load_checkpoint("nobody")
    trained(name="net")
    with pytest.raises(InvalidValue, match="could be any of"):
        tracker.load_checkpoint("net")


def test_the_best_is_one_that_still_counts(store_url: str) -> None:
    """A superseded checkpoint is no longer the best, but can be loaded by its id."""
    with tracker.start_run() as run:
        for first, losses in ((0, (0.5, 0.3, 0.1)), (2, (0.4,))):
            with run.start_fit(initial_epoch=first, epochs=3) as fit:
                for epoch, loss in enumerate(losses, first):
                    fit.log_epoch(epoch, {"val_loss": loss})
                    Path("saved.keras").write_bytes(content(10 * first + epoch))
                    fit.log_checkpoint("saved.keras", epoch, metrics={"val_loss": loss})
    assert tracker.load_checkpoint(run.id).read_bytes() == content(1)
    assert tracker.load_checkpoint(run.id, 2).read_bytes() == content(22)
    assert tracker.load_checkpoint(run.id, "id:3").read_bytes() == content(2)


def test_over_http_with_a_token(store_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server gives the same bytes to who has a token, from the environment or in the URL."""
    with SqlRunStore.open(store_url) as opened:
        token = opened.tokens.create("ci", "writer")
    with Server(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        monkeypatch.setenv("TRACKER_TOKEN", token)
        run_id = trained()
        assert tracker.load_checkpoint(run_id).read_bytes() == content(1)
        monkeypatch.delenv("TRACKER_TOKEN")
        url = server.url.replace("://", f"://ci:{token}@")
        assert tracker.load_checkpoint("net", 0, to=tmp_path, store=url).read_bytes() == content(0)
        with closing(tracker.open_store(url)) as store:
            assert tracker.load_checkpoint("net", "latest", store=store).read_bytes() == content(2)
            with SqlRunStore.open(store_url) as opened:
                path_of(opened.checkpoints(run_id)[0].uri).write_bytes(b"damaged")
            with pytest.raises(ArtifactError, match="damaged"):
                tracker.load_checkpoint(run_id, 0, to=tmp_path, store=store)
    assert not left(tmp_path)


def test_a_folder_comes_back_as_a_folder(store_url: str, tmp_path: Path) -> None:
    """A checkpoint that was a folder is one again, with what was in it; a copy that was changed is put right."""
    saved = tmp_path / "saved"
    (saved / "inner" / "empty").mkdir(parents=True)
    (saved / "checkpoint_metadata.json").write_text("{}")
    (saved / "inner" / "weights").write_bytes(CONTENT)
    with tracker.start_run() as run:
        assert run.log_checkpoint(saved, epoch=0, is_best=True)

    def files(folder: Path) -> dict[str, bytes]:
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    copy = tracker.load_checkpoint(run.id)
    assert copy.is_dir()
    assert files(copy) == files(saved)
    assert (copy / "inner" / "empty").is_dir()
    (copy / "inner" / "weights").write_bytes(CONTENT[::-1])
    (copy / "more").write_text("not ours")
    assert files(tracker.load_checkpoint(run.id)) == files(saved)
    elsewhere = tracker.load_checkpoint(run.id, to=tmp_path / "again")
    assert files(elsewhere) == files(saved)
    assert not left(tmp_path)


def test_many_unpack_at_once(tmp_path: Path) -> None:
    """Who unpacks the same archive at the same time, each gets it whole."""
    archive, folder = tmp_path / "saved.dir.zip", tmp_path / "folder"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(20):
            opened.writestr(f"inner/{number}", CONTENT)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(folder_unpacking.unpack, archive, folder) for _ in range(16)]
        assert {one.result() for one in done} == {folder}
    assert len(list((folder / "inner").iterdir())) == 20
    assert not left(tmp_path)


@pytest.mark.parametrize("name", ["../out", "/out", "inner/../../out", "a\\..\\out", "link"])
def test_an_archive_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    """An archive that names a place outside of its folder, or a link, is refused before anything is written."""
    archive, folder = tmp_path / "bad.zip", tmp_path / "inner" / "folder"
    folder.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("first", "harmless")
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o120777 if name == "link" else 0o100644) << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(ArtifactError):
        folder_unpacking.unpack(archive, folder)
    assert sorted(tmp_path.rglob("*")) == [archive, folder.parent]
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(ArtifactError, match="cannot unpack"):
        folder_unpacking.unpack(archive, folder)


def test_keras_loads_what_comes_back(store_url: str) -> None:
    """`keras.models.load_model` takes the path as it is, and gives the model that was saved."""
    run_child(
        """
        os.environ["KERAS_BACKEND"] = "jax"
        import keras, numpy
        with tracker.start_run(name="real") as run:
            for epoch in range(2):
                model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
                model.save("model.keras")
                run.log_checkpoint("model.keras", epoch=epoch, is_best=epoch == 0)
                if epoch == 0:
                    best = model
        loaded = keras.models.load_model(tracker.load_checkpoint("real"))
        for ours, theirs in zip(loaded.get_weights(), best.get_weights(), strict=True):
            numpy.testing.assert_array_equal(ours, theirs)
        """,
        backend="jax",
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [("format", "/../../../victim.bashrc"), ("format", ".x/../../victim"), ("sha256", "../" * 8 + "victim")],
)
def test_a_store_that_others_wrote_names_no_file_of_ours(
    store_url: str, tmp_path: Path, column: str, value: str
) -> None:
    """What a row says becomes part of file names here: it is refused unless it is what a row can say."""
    run_id = trained()
    with sqlite3.connect(tmp_path / "tracker.db") as database:
        database.execute(f"UPDATE checkpoints SET {column} = ?", (value,))
    before = sorted(tmp_path.parent.rglob("*victim*"))
    with pytest.raises(InvalidRecord, match=column):
        tracker.load_checkpoint(run_id, "latest")
    with pytest.raises((InvalidRecord, ArtifactError)):
        tracker.load_checkpoint(run_id, "latest", to=f"{tmp_path}/")
    assert sorted(tmp_path.parent.rglob("*victim*")) == before

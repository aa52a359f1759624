"""The file of a state, and the room that it needs."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import numpy as np
import pytest

from tracker.domain.errors import InvalidValue


@pytest.mark.parametrize(("width", "layers"), [(1, 1), (4, 40), (300, 3)])
def test_what_is_asked_for_is_enough(tmp_path: Path, width: int, layers: int) -> None:
    """The room that is asked for before a state is written is no less than what Keras' file then takes."""
    import keras

    from tracker_keras.resuming.state_file import room_for, variables_of

    model = keras.Sequential([keras.layers.Input((3,)), *(keras.layers.Dense(width) for _ in range(layers))])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    file = tmp_path / "state.weights.h5"
    model.save_weights(file)
    assert file.stat().st_size <= room_for(variables_of(model))


def test_a_forked_child_cannot_keep_the_file(tmp_path: Path) -> None:
    """A child that was forked while Keras wrote has the file's lock until it runs its program; we write all the same."""
    import keras

    from tracker_keras.resuming.state_file import add_arrays, read_arrays

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    file = tmp_path / "state.weights.h5"
    model.save_weights(file)
    with file.open() as childs:
        fcntl.flock(childs, fcntl.LOCK_EX)
        add_arrays(file, {"one": np.arange(3)}, [])
    assert read_arrays(file)[0]["one"].tolist() == [0, 1, 2]


def test_a_disk_that_is_full_is_not_written_to(tmp_path: Path) -> None:
    """HDF5 takes the process with it when the disk is full, so it is not called then; the error says how much is free."""
    from tracker_keras.resuming.state_file import add_arrays, require_room

    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(InvalidValue, match="bytes free") as refused:
        require_room(tmp_path, free)
    assert str(free)[:3] in str(refused.value)
    file = tmp_path / "state.weights.h5"
    huge = np.broadcast_to(np.zeros(1), (2 * free // 8,))  # of one number in memory
    with pytest.raises(InvalidValue, match="bytes free"):
        add_arrays(file, {"huge": huge}, [])
    assert not file.exists()


@pytest.mark.parametrize("how", ["a link", "a link's dataset", "raw bytes"])
def test_a_state_reads_no_other_file(tmp_path: Path, how: str) -> None:
    """HDF5 files can name other files as their content: a state that does so is refused."""
    import h5py

    from tracker_keras.resuming.state_file import GROUP, add_arrays, read_arrays

    file, secret = tmp_path / "state.weights.h5", tmp_path / "secret"
    secret.write_bytes(b"key")
    h5py.File(file, "w").close()
    add_arrays(file, {"one": np.arange(3)}, [])
    with h5py.File(file, "a") as opened:
        group = opened[GROUP]["arrays"]
        if how == "raw bytes":
            group.create_dataset("theirs", (3,), np.uint8, external=[(str(secret), 0, 3)])
        elif how == "a link":
            group["theirs"] = h5py.ExternalLink(str(secret), "/x")
        else:
            layout = h5py.VirtualLayout((3,), np.uint8)
            layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
            group.create_virtual_dataset("theirs", layout)
    with pytest.raises(InvalidValue, match="theirs .* is the content of another file"):
        read_arrays(file)


def test_a_state_that_tracker_did_not_save_is_refused_by_field() -> None:
    """The state in a checkpoint's row may be anybody's: the field that is wrong is named before an epoch is trained."""
    from tracker_keras.resuming.resume_state import StatePosition, check_state

    check_state({"place": 0, "phase": 1, "more": []}, StatePosition)
    for state, field in (({"place": "0", "phase": 1}, "place"), ({"place": 0}, "phase")):
        with pytest.raises(InvalidValue, match=rf"^resume: the state was not saved by Tracker: .*{field}"):
            check_state(state, StatePosition)

"""Images and distributions of a run: what is kept, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tracker import compose
from tracker.api import start_run
from tracker.client.run import Run
from tracker.domain.ports import RunStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with compose.open_store(f"sqlite:///{tmp_path / 'tracker.db'}") as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path, store: RunStore) -> Iterator[Run]:
    """A run that is open."""
    with start_run(name="drawn", store=f"sqlite:///{tmp_path / 'tracker.db'}") as opened:
        yield opened


def kept(store: RunStore, run: Run) -> dict[str, Path]:
    """The run's images by `key@step`; `…~small` is the copy that a grid shows."""
    run.flush()
    found = {}
    for path in (Path(store.get_run(run.id).artifact_uri.removeprefix("file://")) / "images").glob("*"):
        key, _, step, _, _, rest = path.name.split("+", 5)
        found[f"{key}@{step}" + ("~small" if "+compressed" in rest else "")] = path
    return found


COLOURS = np.arange(4 * 5 * 3, dtype="uint8").reshape(4, 5, 3)
GOOD = {
    "gray": (COLOURS[:, :, 0], "L"),
    "one channel": (COLOURS[:, :, :1], "L"),
    "colours": (COLOURS, "RGB"),
    "floats": (COLOURS / 255, "RGB"),
    "half precision": ((COLOURS[:, :, 0] > 30).astype("float16"), "L"),
    "a mask": (COLOURS[:, :, 0] > 30, "L"),
    "transparent": (np.dstack([COLOURS, COLOURS[:, :, 0]]), "RGBA"),
}


def test_images_are_kept_as_they_are(run: Run, store: RunStore) -> None:
    """Bytes and floats of one, three and four channels come back pixel by pixel; a later change is not seen."""
    for key, (array, _) in GOOD.items():
        given = array.copy()
        run.log_image(given, f"all/{key}", step=3)
        given[...] = 0
    found = kept(store, run)
    for key, (array, mode) in GOOD.items():
        with Image.open(found[f"all~{key}@3"]) as image, Image.open(found[f"all~{key}@3~small"]) as small:
            assert (image.format, image.mode, small.format, max(small.size)) == ("PNG", mode, "WEBP", 256)
            pixels = np.asarray(image)
        expected = array if array.dtype == np.uint8 else np.rint(array.astype("float64") * 255)
        assert np.array_equal(pixels, expected.reshape(pixels.shape)), key
    assert store.tags(run.id)["mlflow.loggedImages"] == "True"


def test_each_key_has_images_of_its_own(run: Run, store: RunStore) -> None:
    """Keys that differ in special characters only, or are long, are told apart in the names of the files."""
    keys = ["日本", "中国", "q?", "q!", "a+b", "a=b", "a/b", "a~b", "100%", "x" * 250]
    for key in keys:
        run.log_image(COLOURS, key, step=0)
    names = {name.removesuffix("@0") for name in kept(store, run) if not name.endswith("~small")}
    assert len(names) == len(keys)
    assert {"日本", "中国", "q=3F", "q=21", "a=2Bb", "a=3Db", "a~b", "a=7Eb", "100=25"} < names


def test_the_bytes_of_a_png_file_are_kept(run: Run, store: RunStore) -> None:
    """They are stored as they come."""
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "PNG")
    run.log_image(file.getvalue(), "file", step=0)
    assert kept(store, run)["file@0"].read_bytes() == file.getvalue()


@pytest.mark.parametrize(
    ("array", "key", "step", "problem"),
    [
        (np.zeros((2, 2, 2)), "two channels", 0, "shape (2, 2, 2)"),
        (np.zeros(4), "a line", 0, "shape (4,)"),
        (np.zeros((0, 4)), "empty", 0, "shape (0, 4)"),
        (np.broadcast_to(np.uint8(0), (8192, 8192)), "huge", 0, "16777216"),
        (np.full((2, 2), 1.5), "bright", 0, "1.5"),
        (np.full((2, 2), np.nan), "nan", 0, "nan"),
        (np.zeros((2, 2), dtype="int64"), "integers", 0, "int64"),
        (b"not a picture", "bytes", 0, "not a PNG"),
        ("a text", "text", 0, "shape ()"),
        (np.zeros((2, 2)), "a\nb", 0, "control"),
        (np.zeros((2, 2)), "x" * 251, 0, "250"),
        (np.zeros((2, 2)), "step", -1, "-1"),
    ],
)
def test_what_is_no_image_is_refused(
    run: Run, store: RunStore, caplog: pytest.LogCaptureFixture, array: Any, key: str, step: int, problem: str
) -> None:
    """It is said with what is wrong, counted, and kept from training; the next image is kept."""
    run.log_image(array, key, step=step)
    assert problem in caplog.text
    assert sum(run.problems.values()) == 1
    run.log_image(COLOURS, "good", step=0)
    assert set(kept(store, run)) == {"good@0", "good@0~small"}


def test_bins_that_are_counted_already(run: Run, store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """Edges and counts come back as they were; what is no distribution is refused alone."""
    run.log_bins("good", [0.0, 0.5, 0.5, 2.0], np.array([3.0, 0.0, 1.0]), step=4, axis="epoch")
    for edges, counts in (
        ([0.0, 1.0], [1, 2]),
        ([0.0, float("nan")], [1]),
        ([1.0, 0.0], [1]),
        ([0.0, 1.0], [-1]),
        ([0.0], []),
    ):
        run.log_bins("bad", edges, counts, step=0)
    run.flush()
    (only,) = store.histograms(run.id)
    assert (only.key, only.axis, only.step) == ("good", "epoch", 4)
    assert (list(only.edges), list(only.counts)) == ([0.0, 0.5, 0.5, 2.0], [3, 0, 1])
    assert run.problems == {"histogram 'bad'": 5}
    assert "counts and one edge more" in caplog.text

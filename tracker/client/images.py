"""Logs images of a run in MLflow's format for images with a key and a step, so that MLflow's UI shows them.

Each image is two files of the run: the image itself, and a small copy for the image grid. Their names are
`images/<key, '/' as '~'>+step+<step>+timestamp+<ms>+<uuid>.png`, and the same with `+compressed.webp` at the end.
Characters of the key that MLflow's UI would misread are escaped (`tracker/domain/file_names.py`).
"""

from __future__ import annotations

import io
import struct
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any

from tracker.client.clock import now_ms
from tracker.client.validation import Validation
from tracker.domain.errors import InvalidValue
from tracker.domain.extras import how_to_install
from tracker.domain.file_names import file_name
from tracker.domain.limits import check_key, check_step

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

MOST_PIXELS = 4096 * 4096
SMALL_SIDE = 256
"""The longer side of the small copy, in pixels; smaller images are enlarged."""
WAITING_BYTES = 128 * 1024 * 1024
"""Bytes that may wait for compression in the background; beyond that, images are compressed at once."""
SHOWN_TAG = "mlflow.loggedImages"
"""The tag that tells MLflow's UI that a run has images."""

_PNG = b"\x89PNG\r\n\x1a\n"


class ImageLog:
    """Logs a run's images, from any thread; invalid ones are refused, logged and counted.

    `keep` stores bytes as an artifact; `do` does work in the background, for which the run's end waits.
    """

    def __init__(
        self,
        validation: Validation,
        keep: Callable[[bytes, str], None],
        tag: Callable[[Mapping[str, Any]], None],
        do: Callable[[Callable[[], None]], Future[None]],
    ) -> None:
        self._validation = validation
        self._keep = keep
        self._tag = tag
        self._do = do
        self._lock = Lock()
        self._waiting = 0
        self._is_tagged = False

    def add(self, image: Any, key: str, step: int, ms: int | None = None, *, at_once: bool = False) -> None:
        """Copy `image`, an array or the bytes of a PNG file; compress and store it in the background.

        `at_once`: for callers that already are in the background, in work for which the run's end waits.
        """

        def take() -> None:
            shown = file_name(check_key("image", key), separator="~")
            name = f"images/{shown}+step+{check_step('step', step)}+timestamp+{ms or now_ms()}+{uuid.uuid4()}"
            given = _checked_png(image) if isinstance(image, bytes) else _pixels(image)
            _need_pillow()
            if at_once:
                self._store(given, name)
            else:
                self._later(given, name)

        self._validation.checked(take)

    def _later(self, given: bytes | np.ndarray, name: str) -> None:
        size = len(given) if isinstance(given, bytes) else given.nbytes
        with self._lock:
            waits = self._waiting + size <= WAITING_BYTES
            self._waiting += size if waits else 0

        def work() -> None:
            try:
                self._validation.checked(lambda: self._store(given, name))
            finally:
                with self._lock:
                    self._waiting -= size if waits else 0

        if waits:
            self._do(work)
        else:
            work()

    def _store(self, given: bytes | np.ndarray, name: str) -> None:
        full, small = _files(given)
        self._keep(full, f"{name}.png")
        self._keep(small, f"{name}+compressed.webp")
        if not self._is_tagged:
            self._is_tagged = True
            self._tag({SHOWN_TAG: "True"})


def _pixels(array: Any) -> np.ndarray:
    """A copy of the image as uint8 of shape (height, width) or (height, width, 3 or 4)."""
    import numpy as np

    given = np.asarray(array)
    limit = f"(height, width) or (height, width, 1, 3 or 4), at most {MOST_PIXELS} pixels"
    height, width = given.shape[:2] if given.ndim in (2, 3) else (0, 0)
    if not 0 < height * width <= MOST_PIXELS or (given.ndim == 3 and given.shape[2] not in (1, 3, 4)):
        raise InvalidValue("image", f"an array of shape {given.shape}", limit=limit)
    if given.ndim == 3 and given.shape[2] == 1:
        given = given[:, :, 0]
    if given.dtype == np.uint8:
        return given.copy()
    if given.dtype != np.bool_ and not np.issubdtype(given.dtype, np.floating):
        raise InvalidValue("image", f"an array of {given.dtype}", limit="uint8, or floats from 0 to 1")
    values = given.astype(np.float32)
    if not ((values >= 0) & (values <= 1)).all():
        problem = f"floats from {values.min():g} to {values.max():g}"
        raise InvalidValue("image", problem, limit="0 to 1, or uint8 from 0 to 255")
    return np.rint(values * 255).astype(np.uint8)


def _checked_png(data: bytes) -> bytes:
    width, height = struct.unpack(">II", data[16:24]) if data.startswith(_PNG) and len(data) > 24 else (0, 0)
    if not 0 < width * height <= MOST_PIXELS:
        problem = f"{len(data)} bytes that are not a PNG file, or one of {width} x {height} pixels"
        raise InvalidValue("image", problem, limit=f"a PNG file of at most {MOST_PIXELS} pixels")
    return data


def _need_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        problem = "needs Pillow, which is not installed here"
        raise InvalidValue("log_image", problem, limit=how_to_install("images")) from None


def _files(given: bytes | np.ndarray) -> tuple[bytes, bytes]:
    """The image as a PNG file, and its small copy as a WebP file."""
    import PIL.Image

    if isinstance(given, bytes):
        with PIL.Image.open(io.BytesIO(given), formats=["PNG"]) as image:
            return given, _small(image)
    drawn = PIL.Image.fromarray(given)
    full = io.BytesIO()
    drawn.save(full, "PNG")
    return full.getvalue(), _small(drawn)


def _small(image: Image) -> bytes:
    from PIL.Image import Resampling

    scale = SMALL_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    shown = image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGBA" if "A" in image.mode else "RGB")
    # Images of weights have one pixel a weight: NEAREST keeps their edges sharp when enlarged.
    small = io.BytesIO()
    shown.resize(size, Resampling.BOX if scale < 1 else Resampling.NEAREST).save(small, "WEBP", quality=90)
    return small.getvalue()

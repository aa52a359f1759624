"""Long histories in temporary files: read in one snapshot in bounded pieces, sent at the client's pace.

Neither memory nor a transaction is held while a slow client reads a history of millions of points.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

from sqlalchemy import Connection

from tracker.domain.deadlines import clock_stopped_for
from tracker.domain.errors import StoreUnavailable
from tracker.domain.vocabulary import UNNUMBERED, Axis
from tracker.store.engine import passing_by
from tracker.store.points.block_codec import SeriesRows, joined
from tracker.store.points.history import find_series
from tracker.store.points.series_rows import read_pieces
from tracker.store.points.supersession import fit_starts, visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE = 65_536
"""Rows that are read at a time."""
_TYPES = {"steps": "<i8", "ms": "<i8", "values": "<f8", "fits": "<i8", "superseded": "|b1"}


class SpooledHistory:
    """The `count` points of a series, by column in unnamed temporary files. Closing it frees the disk space.

    Columns are those of `History`: `steps` and `ms` int64, `values` float64; of a raw one also `fits` int64 and
    `superseded` bool.
    """

    def __init__(self, key: str, axis: Axis, *, raw: bool = False) -> None:
        self.key = key
        self.axis = axis
        self.count = 0
        self.columns = tuple(_TYPES) if raw else ("steps", "ms", "values")
        self._files: dict[str, IO[bytes]] = {name: _file() for name in self.columns}
        self._is_by_time = True
        self._last: tuple[int, int, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def add(self, **columns: NDArray[Any]) -> None:
        """Append points, one array (n,) a column. StoreUnavailable if the disk is full."""
        if not len(columns["steps"]):
            return
        self._note_order(columns["ms"], columns["steps"], columns["values"])
        self._write(columns)
        self.count += len(columns["steps"])

    def column(self, name: str, start: int = 0, end: int | None = None) -> NDArray[Any]:
        """The points from the `start`th to before the `end`th, as a column (n,)."""
        import numpy as np

        kind = np.dtype(_TYPES[name])
        count = max(min(self.count if end is None else end, self.count) - start, 0)
        return np.frombuffer(os.pread(self._files[name].fileno(), count * kind.itemsize, start * kind.itemsize), kind)

    def sort_by_time(self) -> None:
        """Order the points by time, then step, then value; in memory, 32 bytes a point, unless they are in order."""
        if self._is_by_time:
            return
        import numpy as np

        columns = {name: self.column(name) for name in self.columns}
        order = np.lexsort((columns["values"], columns["steps"], columns["ms"]))
        for file in self._files.values():
            file.seek(0)
        self._write({name: column[order] for name, column in columns.items()})
        self._is_by_time = True

    def _note_order(self, ms: NDArray[np.int64], steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        import numpy as np

        if self._last is not None:
            one, other, third = self._last
            ms, steps, values = np.append([one], ms), np.append([other], steps), np.append([third], values)
        same_ms, same_step = ms[1:] == ms[:-1], steps[1:] == steps[:-1]
        fits = (ms[1:] > ms[:-1]) | (same_ms & (steps[1:] > steps[:-1]))
        fits |= same_ms & same_step & (values[1:] >= values[:-1])
        self._is_by_time = self._is_by_time and bool(np.all(fits))
        self._last = int(ms[-1]), int(steps[-1]), float(values[-1])

    def _write(self, columns: dict[str, NDArray[Any]]) -> None:
        import numpy as np

        try:
            for name, file in self._files.items():
                rest = np.ascontiguousarray(columns[name], dtype=_TYPES[name]).data.cast("B")
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            raise _no_room(error) from error


def spool(
    connection: Connection,
    run_id: str,
    key: str,
    *,
    raw: bool,
    first_step: int | None,
    last_step: int | None,
    turn: AbstractContextManager[object],
) -> SpooledHistory:
    """The points of a series as `history` has them, in order of their steps. RunNotFound, SeriesNotFound.

    `turn` is held while a piece is read.
    """
    found = find_series(connection, run_id, key)
    starts = fit_starts(connection, found.run, found.axis)
    pieces = read_pieces(
        connection, found.id, AT_ONCE, first_step=first_step, last_step=last_step, started_ms=found.started_ms
    )
    with _kept(SpooledHistory(key, found.axis, raw=raw)) as spooled, passing_by(connection):
        for points in _whole_steps(_in_turn(pieces, turn)):
            seen = visible(points, starts)
            if raw:
                spooled.add(steps=points.steps, ms=points.ms, values=points.values, fits=points.fits, superseded=~seen)
            else:
                spooled.add(steps=points.steps[seen], ms=points.ms[seen], values=points.values[seen])
    return spooled


def _in_turn(pieces: Iterator[SeriesRows], turn: AbstractContextManager[object]) -> Iterator[SeriesRows]:
    while True:
        with clock_stopped_for(turn):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _whole_steps(pieces: Iterable[SeriesRows]) -> Iterator[SeriesRows]:
    """The same rows, split between steps of numbered points, so that no row supersedes one of an earlier piece."""
    import numpy as np

    carried: SeriesRows | None = None
    for piece in pieces:
        if carried is not None:
            piece = joined([carried, piece])
            carried = None
        if not len(piece.steps):
            continue
        at = int(np.searchsorted(piece.steps, piece.steps[-1]))
        if np.all(piece.fits[at:] == UNNUMBERED):
            yield piece
            continue
        carried = piece[at:]
        if at:
            yield piece[:at]
    if carried is not None:
        yield carried


@contextmanager
def _kept(spooled: SpooledHistory) -> Iterator[SpooledHistory]:
    """Close it if the block fails."""
    try:
        yield spooled
    except BaseException:
        spooled.close()
        raise


def _file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="tracker-history-", dir=_folder(), buffering=0)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"a long history finds no room in the folder for temporary files: {error}")


def _folder() -> str | None:
    """TMPDIR, else /var/tmp, as SQLite does: /tmp is memory on some machines."""
    if os.environ.get("TMPDIR") or not os.access("/var/tmp", os.W_OK | os.X_OK):
        return None
    return "/var/tmp"

"""Reads TensorBoard's event files below some folders while they grow, with TensorBoard's own reader."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker_tensorboard.event_writer import OWN_SUFFIX

_TENSORFLOW = re.compile(r"events\.out\.tfevents\.\d+\..+\.(?P<pid>\d+)\.(?P<count>\d+)\.v2\Z")
_HEAD_AND_TAIL = 16
"""Bytes of a record that are not its event: length and two checksums."""

Sizes = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """Where events come from: a folder below the log_dir (`train`; empty for itself), and a file or writer in it."""

    folder: str
    name: str
    in_run_numbers: bool = False
    """Whether its epochs and batches are counted as the run's already."""


Handle = Callable[[EventSource, Any], None]
"""Handles one event (an `event_pb2.Event`) of a source."""


@dataclass(slots=True)
class _File:
    path: str
    source: EventSource
    skip: int
    offset: int = 0
    records: Any = field(default=None)


class EventFiles:
    """The event files below `roots` (absolute paths); only later events are read, but all of the files `new`.

    Files that this process writes without TensorFlow are left out: their events are passed on directly.
    """

    def __init__(self, roots: Mapping[str, bool], new: Iterable[str]) -> None:
        """`roots` say of each log_dir whether epochs and batches are counted as the run's there."""
        self._roots = dict(roots)
        self._skip = {path: size for path, size in self.sizes().items() if path not in set(new)}
        self._files: dict[str, _File] = {}

    def sizes(self) -> Sizes:
        """The existing event files and their sizes in bytes."""
        return {path: size for root in self._roots for path, size in _walk(root)}

    def read(self, handle: Handle, until: Sizes | None = None) -> None:
        """Pass each new event to `handle`, up to these sizes of the files (default: everything)."""
        for path, size in (self.sizes() if until is None else until).items():
            file = self._files.get(path)
            if size <= (file.offset if file else self._skip.get(path, 0)):
                continue
            if file is None:
                file = self._files[path] = _File(path, self._source(path), self._skip.get(path, 0))
            for event in _events(file, None if until is None else size):
                handle(file.source, event)
            if until is not None and file.offset < size:  # the reader gave up: once more, behind what it has read
                file.records, file.skip, file.offset = None, max(file.offset, file.skip), 0
                for event in _events(file, size):
                    handle(file.source, event)

    def _source(self, path: str) -> EventSource:
        root = max((one for one in self._roots if path.startswith(one + os.sep)), key=len)
        folder = os.path.relpath(os.path.dirname(path), root).replace(os.sep, "/")
        return EventSource(folder="" if folder == "." else folder, name=path, in_run_numbers=self._roots[root])


def newest_of_this_process(folder: str, count: int) -> list[str]:
    """The `count` event files in `folder` that TensorFlow opened last in this process."""
    found: list[tuple[int, str]] = []
    for path, _ in _walk(folder):
        match = _TENSORFLOW.match(os.path.basename(path))
        if match and int(match["pid"]) == os.getpid() and os.path.dirname(path) == folder:
            found.append((int(match["count"]), path))
    return [path for _, path in sorted(found, reverse=True)[:count]]


def _walk(root: str) -> Iterator[tuple[str, int]]:
    own = f".{os.getpid()}."
    for folder, _, names in os.walk(root):
        for name in names:
            is_own = name.endswith(OWN_SUFFIX) and own in name
            if "tfevents" in name and not name.endswith(".profile-empty") and not is_own:
                path = os.path.join(folder, name)
                try:
                    yield path, os.stat(path).st_size
                except OSError:  # somebody cleans up
                    continue


def _events(file: _File, until: int | None) -> Iterator[Any]:
    """The events of `file` from where reading stopped; one that is not whole yet comes another time.

    To stop at a size is for the last time: the reader takes a file for read to the end until it grows again.
    """
    from tensorboard import data_compat
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2

    if file.records is None:
        # A reader that came to the end while somebody wrote may stay there for good; this one opens the file anew when
        # it has grown.
        file.records = RawEventFileLoader(file.path, detect_file_replacement=True)
    for record in file.records.Load():
        file.offset += len(record) + _HEAD_AND_TAIL
        if file.offset > file.skip:
            yield data_compat.migrate_event(event_pb2.Event.FromString(record))
        if until is not None and file.offset >= until:
            return

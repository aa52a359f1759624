"""Writes TensorBoard's event files without TensorFlow, on a thread for each file."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

log = logging.getLogger("tracker")

OWN_SUFFIX = ".tracker"
"""Ends the names of the files that are written here."""
WAITING_BYTES = 256 * 1024 * 1024
"""Bytes of events that may wait to be written; beyond that, `add` blocks."""

Make = Callable[[], Any]
"""Makes an event (an `event_pb2.Event`)."""

_numbers = count()


class EventWriter:
    """One event file in `folder`, created with its first event.

    `on_event` is called with each event, on the writer's thread. If the disk is full, events are lost and the training
    continues; this is logged once.
    """

    def __init__(self, folder: str, on_event: Callable[[Any], None]) -> None:
        self._folder = folder
        self._on_event = on_event
        self._queue: deque[tuple[Make, int]] = deque()
        self._waiting = 0
        self._is_idle = True
        self._is_closed = False
        self._has_failed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, make: Make, size: int) -> None:
        """Write the event that `make` returns, of about `size` bytes; it is called on the writer's thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting <= WAITING_BYTES)
            if self._is_closed:
                return
            self._queue.append((make, size))
            self._waiting += size
            self._is_idle = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracker-events", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all added events are written."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle)

    def close(self) -> None:
        """Write all added events, and close the file."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        file: Any = None
        try:
            while (next_one := self._next(file)) is not None:
                make, size = next_one
                try:
                    event = make()
                    self._on_event(event)
                    file = file or self._open()
                    file.write(event.SerializeToString())
                except Exception as error:
                    self._fail(error)
                finally:
                    with self._changed:
                        self._waiting -= size
                        self._changed.notify_all()
        finally:
            if file is not None:
                file.close()

    def _next(self, file: Any) -> tuple[Make, int] | None:
        with self._changed:
            if not self._queue and file is not None:
                try:
                    file.flush()
                except OSError as error:
                    self._fail(error)
            self._is_idle = not self._queue
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._is_closed)
            return self._queue.popleft() if self._queue else None

    def _open(self) -> Any:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        os.makedirs(self._folder, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        file = RecordWriter(open(os.path.join(self._folder, name + OWN_SUFFIX), "xb"))  # noqa: SIM115
        file.write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        return file

    def _fail(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("TensorBoard's events in %s cannot be written: %s (logged once)", self._folder, error)

"""The server's log on standard error: a line a request and a line a message, as key=value or JSON.

No line has a query, a header or a body, since they may contain secrets.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from tracker.server.problem_details import ERROR, IDENTITY, REQUEST_ID

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")
_EVERY_S = 0.2
_LONGEST_PATH = 500
_MOST_WAITING = 10_000
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines request every few seconds: logged at level debug only."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./:@-]{1,500}\Z")
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f]+\Z")


_Answered = tuple[float, str, str, int, float, int, str, Mapping[str, Any]]
"""Time in seconds since the epoch, and the arguments of `Log.answered`."""


class Log:
    """Writes lines to the file descriptor `target`. A thread writes those of requests, several at a time."""

    def __init__(self, level: str = "info", format_: Format = "text", *, target: int = 2) -> None:
        self._level = getattr(logging, level.upper())
        self.format = format_
        self._target = target
        self._waiting: deque[_Answered] = deque(maxlen=_MOST_WAITING)
        self._dropped = 0
        self._second = (0, "")
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def answered(
        self, method: str, path: str, status: int, seconds: float, size: int, id_: str, scope: Mapping[str, Any]
    ) -> None:
        """Queue the line of a request; the thread writes it soon. `scope` has its identity and its error."""
        level = logging.ERROR if status >= 500 else logging.DEBUG if path in _QUIET else logging.INFO
        if level >= self._level:
            self._dropped += len(self._waiting) == _MOST_WAITING
            self._waiting.append((time.time(), method, path, status, seconds, size, id_, scope))

    @contextmanager
    def running(self, *, requests: bool = True) -> Iterator[Log]:
        """Write queued lines and records of the server's loggers until the block ends; then all is written.

        Without `requests` no thread is started: for a process that will fork.
        """
        handler = _Handler(self)
        loggers = [logging.getLogger(name) for name in ("tracker", "uvicorn", "py.warnings", "")]
        before = [(one.handlers, one.level, one.propagate) for one in loggers]
        for one in loggers:
            one.handlers, one.propagate = [handler], False
            one.setLevel(self._level if one.name == "tracker" else max(self._level, logging.WARNING))
        thread = threading.Thread(target=self._run, name="tracker-log", daemon=True)
        if requests:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            if requests:
                thread.join()
            for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
                one.handlers, one.propagate = handlers, propagate
                one.setLevel(level)
            self.flush()

    def say(self, message: str) -> None:
        """Write a line of the server's own, whatever the level."""
        self.flush()
        self._write([self._line(time.time(), "info", {"message": message})])

    def record(self, record: logging.LogRecord) -> None:
        """Write a line for a record of a logger, with the id of its request."""
        more: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if request_id := REQUEST_ID.get():
            more["id"] = request_id
        trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
        if trace and self.format == "json":
            more["traceback"] = trace
        self.flush()
        line = self._line(record.created, record.levelname.lower(), more)
        self._write([line, *(trace.splitlines() if self.format == "text" else ())])

    def flush(self) -> None:
        """Write the lines that are queued by now."""
        lines = []
        while self._waiting:
            try:
                one = self._waiting.popleft()
            except IndexError:  # another thread was faster
                break
            lines.append(self._request_line(one))
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(self._line(time.time(), "warning", {"message": f"{dropped} lines of requests were dropped"}))
        if lines:
            self._write(lines)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.flush()

    def _request_line(self, one: _Answered) -> str:
        at, method, path, status, seconds, size, id_, scope = one
        level = "error" if status >= 500 else "info"
        identity, client, error = scope.get(IDENTITY), scope.get("client"), scope.get(ERROR, "")
        user, origin = identity.name if identity is not None else "", client[0] if client else ""
        if self.format == "json":
            more = {"method": method, "path": plain_path(path), "status": status, "ms": round(seconds * 1000, 2),
                    "bytes": size, "id": id_, "from": origin, "user": user, "error": error}  # fmt: skip
            return self._line(at, level, {"event": "request", **more})
        return (
            f"{self._moment(at)} level={level} event=request method={_quoted(method)} path={plain_path(path)} "
            f"status={status} ms={seconds * 1000:.2f} bytes={size} id={id_} from={origin}"
            + (f" user={user}" if user else "")
            + (f" error={error}" if error else "")
        )

    def _line(self, at: float, level: str, more: Mapping[str, Any]) -> str:
        if self.format == "json":
            return json.dumps({"time": self._moment(at), "level": level, **more})
        fields = (f"{key}={_quoted(value)}" for key, value in more.items())
        return " ".join([self._moment(at), f"level={level}", *fields])

    def _moment(self, at: float) -> str:
        second = int(at)
        if second != self._second[0]:
            self._second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second[1]}.{int((at - second) * 1000):03d}Z"

    def _write(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._target, data) :]
                except OSError:  # nobody reads it any more
                    return


def plain_path(path: str) -> str:
    """A request's path for the log: escaped and bounded."""
    return path if _PLAIN_PATH.match(path) else quote(path[:_LONGEST_PATH], safe="/:@!$&'()*+,;~")


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=True)


class _Handler(logging.Handler):
    """Hands records to the log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.record(record)
        except Exception:
            self.handleError(record)

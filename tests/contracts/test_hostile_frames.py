"""Every kind of frame with hostile values, from the network and from journals: stored as it is, or refused by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from e2e.sandbox import MARK, OTHERS, TEXTS, everything, watched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_blocks import open_small

from tracker import compose
from tracker.api import load_checkpoint, sync_journals
from tracker.cli.run_data import WholeRun
from tracker.client.journal import Journal, folder
from tracker.domain import frames
from tracker.domain.errors import InvalidValue, RunNotFound
from tracker.domain.frames import Batch, Frame, Points, RunStarted, Staged
from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import decode_batch
from tracker.wire.frame_codec import JournalHeader, encode_frame, seal

pytestmark = pytest.mark.timeout(180)
FILE = Staged("000001", "checkpoints/x.keras", 3, "ab" * 32)
WHOLE: list[Any] = [
    Points(2, "step", 3, 1, {"a": 1.0}), frames.EpochEnded(3, 0, 1, 0.5, {"loss": 0.5}, 10),
    RunStarted(1, "Default", "name", "file:///a/r", "host", 1, "train.py", "c" * 40),
    frames.RunEnded(9, "failed", {"type": "E", "message": "m", "traceback": "t"}),
    frames.Params(4, 1, {"lr": 0.1, "deep": {"on": [True, None]}}), frames.Tags(5, {"team": "x"}),
    frames.EventLogged(6, "thing", 1, 2, 1, {"why": ["so"]}),
    frames.FitStarted(1, 1, 1, 0, 0, 0, 0, 3, 5, 32, None, "host"), frames.FitEnded(8, 1, "completed"),
    frames.MetricDefined(9, "loss", "min", "declared"), frames.MetricMonitored(9, "loss", "declared"),
    frames.HistogramLogged(7, "kernel", "step", 3, 1, [0.0, 0.5, 1.0], [3, 4]),
    frames.ArtifactLogged(7, FILE), frames.CheckpointsKept(9, 3, 2),
    frames.CheckpointLogged(8, 0, 1, 1, ".keras", {"loss": 1.0}, None, {"k": 1}, FILE, "ab" * 32, "file:///a/r/x"),
    frames.DatasetLogged(8, "digits", "d", "local", "{}", None, "{}", {"mlflow.data.context": "training"}),
]  # fmt: skip
"""A valid frame of each kind."""
HOSTILE = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([one for one in OTHERS if one is not None]),
    st.sampled_from(([], {}, [[]] * 3, {MARK: {MARK: []}}, True, None, math.nan, 2**31, 2**64 - 1, [MARK] * 9)),
    st.text(max_size=20),
    st.integers(-(2**63), 2**64 - 1),
)


def plain(frame: Frame) -> Any:
    return msgspec.msgpack.decode(encode_frame(frame))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside, those of keys of mappings too (`("key", name)` last)."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield (*path, key)
        if isinstance(value, dict):
            yield (*path, ("key", key))
        yield from places(value[key], (*path, key))


@st.composite
def hostile_frames(draw: st.DrawFn) -> Any:
    """A frame, as MessagePack has it, with one or two hostile values."""
    found = plain(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(list(places(found))[1:]))
        inner = found
        for step in path:
            inner = inner[step]
        value = deepcopy(draw(HOSTILE))
        if isinstance(last, tuple):
            inner[value if isinstance(value, str) else "x"] = inner.pop(last[1])
        else:
            inner[last] = value
    return found


QUICK = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
_numbers = itertools.count()


def test_every_kind_of_frame_is_here() -> None:
    """A new kind of frame has an example here, and so is tried."""
    assert {type(one) for one in WHOLE} == set(get_args(Frame))


def as_batch(run_id: str, frame: Any) -> bytes:
    """A batch of a run's begin and of the frame, as a client that checks nothing would send it."""
    items, blocks = [[1, plain(WHOLE[2])]], []
    if frame[0] == "p":
        _, ms, axis, step, fit, values = frame
        values = values if isinstance(values, dict) else {"a": values}
        blocks = [{"axis": axis, "fit": fit, "keys": list(values), "numbers": [2], "steps": [step], "ms": [ms],
                   "values": [[one] for one in values.values()]}]  # fmt: skip
    else:
        items.append([2, frame])
    batch = {"run_id": run_id, "writer": "w", "first": 1, "last": 2, "items": items, "blocks": blocks}
    return msgspec.msgpack.encode(batch)


def test_from_the_network(any_url: str) -> None:
    """What the schema takes every database keeps, and every reader reads; what it refuses it names, with the limit."""
    with open_small(any_url) as store:

        @QUICK
        @given(hostile_frames())
        def check(frame: Any) -> None:
            run_id = f"r{next(_numbers)}"
            refused = None
            try:
                batch = decode_batch(as_batch(run_id, frame))
            except InvalidValue as error:
                refused = error
            if refused is None:
                kept(store, batch)
            else:
                assert refused.field
                assert len(str(refused)) < 1000

        check()


def kept(store: SqlRunStore, batch: Batch) -> None:
    """The store takes the batch, and all of it can be read."""
    store.append(batch)
    whole = WholeRun.read(store, batch.run_id)
    store.histograms(batch.run_id)
    store.catalogue.runs.detail(batch.run_id)
    for key in whole.metrics:
        store.history(batch.run_id, key)
    for _, item in batch.items:
        if isinstance(item, frames.Tags):
            assert whole.tags.items() >= item.values.items()
        elif isinstance(item, frames.Params):
            assert whole.params == item.values
        elif isinstance(item, frames.CheckpointLogged) and item.uri:
            [one] = whole.checkpoints
            assert (one.format, one.sha256, one.uri, one.epoch) == (item.format, item.sha256, item.uri, item.epoch)


def foreign_journal(home: Path, store_url: str, run_id: str, payloads: list[bytes]) -> Path:
    """The journal that another program wrote, with the payload of each frame."""
    header = JournalHeader(run_id, "writer", store_url, Path("artifacts").absolute().as_uri(), 1000, 1, "host", 2)
    journal = Journal.create(home, header)
    journal.close()
    with journal.path.open("ab") as file:
        for number, payload in enumerate(payloads, 1):
            file.write(seal(payload, number))
    return journal.path


def test_from_a_journal(store_url: str, home: Path, tmp_path: Path) -> None:
    """The valid frames of a journal with hostile ones among them are stored; the others are counted and set aside."""
    (tmp_path / "secret").write_text("of nobody else")
    before = everything(tmp_path)

    @settings(QUICK, max_examples=4)
    @given(st.lists(hostile_frames(), min_size=12, max_size=12))
    def check(hostile: list[Any]) -> None:
        run_id = f"r{next(_numbers)}"
        payloads = [encode_frame(WHOLE[2])]
        for step, frame in enumerate(hostile):
            payloads += [msgspec.msgpack.encode(frame), encode_frame(Points(5, "step", step, 0, {"good": float(step)}))]
        path = foreign_journal(home, store_url, run_id, payloads)
        with watched(tmp_path) as led:
            [synced] = sync_journals()
            assert synced.error is None
            with closing(compose.open_store(store_url)) as store:
                try:
                    WholeRun.read(store, run_id)
                except RunNotFound:
                    raise AssertionError(synced) from None
                assert store.history(run_id, "good", raw=True).steps.tolist() == list(range(12))
        assert led == []
        assert path.with_name(f"{path.name}.refused").exists() == bool(synced.refused or synced.garbage)
        for left in folder(home).iterdir():
            left.unlink()

    check()
    assert {name: of for name, of in everything(tmp_path).items() if name in before and "tracker.db" not in name} == {
        name: of for name, of in before.items() if "tracker.db" not in name
    }


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_link_beside_a_journal_is_no_file_of_it(store_url: str, home: Path, tmp_path: Path, where: str) -> None:
    """A link next to a journal does not make its reader ship another file."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "000001").write_text("key")
    item = frames.ArtifactLogged(7, Staged("000001", "notes.txt", 3))
    path = foreign_journal(home, store_url, "r", [encode_frame(WHOLE[2]), encode_frame(item)])
    beside = path.with_suffix(".files")
    if where == "folder":
        beside.symlink_to(secrets)
    else:
        beside.mkdir()
        (beside / "000001").symlink_to(secrets / "000001")
    [synced] = sync_journals()
    assert synced.refused == 1
    assert not list(Path("artifacts").rglob("notes.txt"))
    assert (secrets / "000001").read_text() == "key"


@pytest.mark.parametrize("header", [{"run_id": "../r"}, {"run_id": ""}, {"writer": "../w"}, {"writer": "w\n"}])
def test_a_header_that_names_no_run_is_no_journal(store_url: str, home: Path, header: dict[str, str]) -> None:
    """Run and writer become parts of file names: a journal with others is reported, and left as it is."""
    path = foreign_journal(home, store_url, "r", [encode_frame(WHOLE[2])])
    names = {"run_id": "r", "writer": "writer", **header}
    forged = JournalHeader(**names, store=store_url, artifacts="file:///x", created_ms=1, pid=1, host="h", version=2)
    path.write_bytes(seal(encode_frame(forged), 0) + seal(encode_frame(WHOLE[2]), 1))
    before = path.read_bytes()
    [synced] = sync_journals()
    assert synced.error is not None
    assert next(iter(header)) in synced.error
    assert path.read_bytes() == before


OVERSIZED = [
    frames.Params(1, 0, {"big": "x" * 70_000}), frames.Tags(1, {"big": "x" * 1_100_000}),
    frames.Tags(1, {"k" * 251: "v"}), frames.EventLogged(1, "big", None, None, 0, {"x": "x" * 1_100_000}),
    frames.EventLogged(1, "k" * 251, None, None, 0, {}), Points(1, "step", 1, 0, {"k" * 251: 1.0}),
    frames.DatasetLogged(1, "n" * 501, "d", "local", "{}", None, None, {}),
    frames.HistogramLogged(1, "h", "step", 1, 0, [float(one) for one in range(100_002)], [1] * 100_001),
    frames.RunEnded(1, "failed", {"traceback": "x" * 1_100_000}),
    frames.CheckpointLogged(1, 0, 1, 1, ".x" * 20, {}, None, {}, FILE),
]  # fmt: skip


def test_what_is_too_large_in_a_journal_holds_up_nothing(
    store_url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All else ships; each item over its limit is set aside and counted, and the first is named with its limit."""
    payloads = [encode_frame(WHOLE[2])]
    for step, frame in enumerate(OVERSIZED):
        payloads += [encode_frame(frame), encode_frame(Points(5, "step", step, 0, {"good": 1.0}))]
    path = foreign_journal(home, store_url, "r", payloads)
    [synced] = sync_journals()
    assert (synced.error, synced.refused, synced.points) == (None, len(OVERSIZED), len(OVERSIZED))
    assert path.with_name(f"{path.name}.refused").exists()
    assert "frame 2 of" in caplog.text
    assert "parameter 'big': 70002 bytes of JSON (limit: 65536 bytes)" in caplog.text
    with closing(compose.open_store(store_url)) as store:
        assert store.history("r", "good").steps.tolist() == list(range(len(OVERSIZED)))
        assert (store.params("r"), store.tags("r"), store.events("r")) == ({}, {}, [])


def test_a_format_of_a_foreign_writer_names_no_file(store_url: str, home: Path) -> None:
    """What the issue saw: the format of a checkpoint as a path. It does not reach the store."""
    item = frames.CheckpointLogged(8, 0, 1, 1, f"/../../../{MARK}", {}, True, {}, FILE)
    foreign_journal(home, store_url, "r", [encode_frame(WHOLE[2]), encode_frame(item)])
    [synced] = sync_journals()
    assert synced.refused >= 1
    with pytest.raises(LookupError):
        load_checkpoint("r")

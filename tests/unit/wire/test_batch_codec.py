"""Batches as bytes: what is written comes back, and what is not a batch is named."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.client.batch_builder import make_batch
from tracker.domain.errors import InvalidValue
from tracker.domain.frames import (
    Batch,
    CheckpointLogged,
    CheckpointsKept,
    EpochEnded,
    EventLogged,
    HistogramLogged,
    MetricDefined,
    Params,
    Points,
    RunStarted,
    Staged,
    Tags,
)
from tracker.wire.batch_codec import decode_batch, encode_batch

WHOLE = make_batch(
    "r",
    "w",
    [
        (1, RunStarted(1, "Default", "name", "", "host", 1)),
        (2, Points(2, "step", 3, 0, {"a": 1.0, "b": -math.inf})),
        (4, EpochEnded(3, 0, 1, None, {"loss": 0.5}, 10)),
        (5, Params(4, 0, {"lr": 0.1, "nested": {"on": True}, "no": None})),
        (6, Tags(5, {"team": "ü"})),
        (7, EventLogged(6, "thing", 1, None, 0, {"why": ["so"]})),
        (8, HistogramLogged(7, "kernel", "step", 3, 0, [0.0, 0.5, 1.0], [3, 4])),
        (
            9,
            CheckpointLogged(
                8, 0, 1, 1, ".keras", {"loss": 1.0}, None, {}, Staged("1", "p", 3), "ab" * 32, "file:///c"
            ),
        ),
        (10, MetricDefined(9, "loss", "min", "declared")),
        (11, CheckpointsKept(10, 3, None)),
    ],
)


def test_a_batch_comes_back() -> None:
    """Every kind of frame survives the way, infinities and texts included; NaN stays NaN."""
    assert decode_batch(encode_batch(WHOLE)) == WHOLE
    batch = decode_batch(encode_batch(make_batch("r", "w", [(1, Points(1, "time", 0, 0, {"x": math.nan}))])))
    assert math.isnan(batch.blocks[0].values[0][0])


def test_a_heartbeat_is_a_batch() -> None:
    """A batch without frames renews a lease."""
    empty = Batch(run_id="r", writer="w", first=0, last=0)
    assert decode_batch(encode_batch(empty)) == empty


def test_what_cannot_be_sent_is_named() -> None:
    """An integer that no wire takes is the frames' fault, and said before anything is sent."""
    with pytest.raises(InvalidValue, match="frames 1 to 1: cannot be sent"):
        encode_batch(make_batch("r", "w", [(1, EventLogged(1, "x", 2**70, None, 0, {}))]))


def test_points_are_written_by_column() -> None:
    """A point costs its number, step, time and value, and not its key again."""
    points = [(i, Points(1_700_000_000_000 + i, "step", i, 0, {"a_long_metric_name": i / 7})) for i in range(1, 1001)]
    assert len(encode_batch(make_batch("r", "w", points))) < 1000 * 26


def edit(*path: Any, to: Any) -> Callable[[Any], None]:
    """Put `to` at the end of `path`."""

    def change(batch: Any) -> None:
        for step in path[:-1]:
            batch = batch[step]
        batch[path[-1]] = to

    return change


@pytest.mark.parametrize(("change", "field"), [
    (edit("run_id", to="a/b"), "run_id"), (edit("writer", to=""), "writer"), (edit("writer", to="w" * 65), "writer"),
    (edit("first", to=-1), "first"), (edit("last", to=0), "last"), (edit("last", to=5), "items"),
    (edit("items", 0, 1, 2, to="x" * 501), "experiment"), (edit("items", 0, 1, 0, to="nope"), "items[...][1]"),
    (edit("items", 1, 0, to=1), "items"), (edit("items", 2, 1, 3, to={"": 1}), "items[2] key"),
    (edit("items", 3, 1, 2, to={"a\x00": "x"}), "items[3] key"), (edit("items", 5, 1, 6, to=[1.0]), "items[5].edges"),
    (edit("items", 7, 1, 3, to="best"), "items[...][1]"), (edit("items", 6, 1, 12, to="best"), "items[...][1]"),
    (edit("items", 8, 1, 2, to=0), "items[8].last"), (edit("items", 8, 1, 3, to=10**7), "items[8].best"),
    (edit("items", 0, 1, 5, to="h" * 251), "items[0].host"), (edit("items", 0, 1, 4, to="x\n"), "items[0].artifact_uri"),
    (edit("items", 1, 1, 2, to=-1), "items[1].epoch"), (edit("items", 1, 1, 3, to=2**31), "items[1].fit"),
    (edit("items", 2, 1, 3, "lr", to="x" * 70_000), "parameter 'lr'"),
    (edit("items", 2, 1, 3, "lr", to=[[]] * 100_000), "parameter 'lr'"),
    (edit("items", 2, 1, 3, "lr", to=[[]] * 5_000_000), "items[2]"),
    (edit("items", 4, 1, 2, to="k" * 251), "items[4].kind"), (edit("items", 4, 1, 2, to=""), "items[4].kind"),
    (edit("items", 4, 1, 6, to={"why": "x" * 2**20}), "items[4].detail"), (edit("items", 4, 1, 4, to=-1), "items[4].step"),
    (edit("items", 5, 1, 4, to=-1), "items[5].step"), (edit("items", 6, 1, 2, to=-1), "items[6].epoch"),
    (edit("items", 6, 1, 5, to="/../../.bashrc"), "items[6].format"), (edit("items", 6, 1, 5, to=".x" * 17), "items[6].format"),
    (edit("items", 6, 1, 9, 0, to="../other"), "path"), (edit("items", 6, 1, 9, 1, to="/etc/passwd"), "path"),
    (edit("items", 6, 1, 9, 0, to="a/b"), "items[6].file.name"),
    (edit("items", 6, 1, 9, 2, to=-1), "items[6].file.size"), (edit("items", 6, 1, 10, to="AB" * 32), "items[6].sha256"),
    (edit("items", 6, 1, 10, to="g" * 64), "items[6].sha256"), (edit("items", 6, 1, 11, to="u" * 5000), "items[6].uri"),
    (edit("items", 6, 1, 8, to={"s": "x" * 2**20}), "items[6].state"),
    (edit("blocks", 0, "steps", to=[]), "blocks[0]"),
    (edit("blocks", 0, "steps", to=["x"]), "blocks[0].steps"), (edit("blocks", 0, "steps", to=[-1]), "blocks[0].steps"),
    (edit("blocks", 0, "steps", to=[2**63]), "blocks[0].steps"), (edit("blocks", 0, "ms", to=[1, 2]), "blocks[0].ms"),
    (edit("blocks", 0, "values", to=[[1.0]]), "blocks[0].values"), (edit("blocks", 0, "values", 1, to=[]), "blocks[0].values[1]"),
    (edit("blocks", 0, "values", 1, to=["1.0"]), "blocks[0].values"), (edit("blocks", 0, "numbers", to=[12]), "blocks[0].numbers"),
    (edit("blocks", 0, "keys", to=["a", "a"]), "blocks[0].keys"), (edit("blocks", 0, "keys", to=["a", "b" * 251]), "blocks[0] key"),
    (edit("blocks", 0, "axis", to="tick"), "blocks[0].axis"), (edit("blocks", 0, "keys", to=[]), "blocks[0]"),
])  # fmt: skip
def test_what_is_wrong_is_named(change: Callable[[Any], None], field: str) -> None:
    """Each rule that a batch breaks is an InvalidValue with the field that broke it."""
    plain = msgspec.msgpack.decode(encode_batch(WHOLE))
    change(plain)
    with pytest.raises(InvalidValue) as caught:
        decode_batch(msgspec.msgpack.encode(plain))
    assert caught.value.field.startswith(field.partition("[...]")[0]), caught.value


def test_values_that_json_has_no_form_for_become_texts() -> None:
    """Bytes and other things that MessagePack carries are stored as their text."""
    plain = msgspec.msgpack.decode(encode_batch(WHOLE))
    plain["items"][2][1][3] = {"raw": b"\xff", "ext": msgspec.msgpack.Ext(7, b"x"), "big": 2**64 - 1, "nan": math.nan}
    batch = decode_batch(msgspec.msgpack.encode(plain))
    params = batch.items[2][1]
    assert isinstance(params, Params)
    assert (params.values["raw"], params.values["big"], params.values["nan"]) == ("b'\\xff'", str(2**64 - 1), "NaN")
    assert isinstance(params.values["ext"], str)


@given(st.binary(max_size=200))
def test_garbage_is_invalid(data: bytes) -> None:
    """Whatever bytes come, the answer is InvalidValue."""
    with pytest.raises(InvalidValue):
        decode_batch(data)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_batch_is_a_batch_or_invalid(at: int, flip: int) -> None:
    """A byte that was changed on the way never becomes another error."""
    data = bytearray(encode_batch(WHOLE))
    data[at % len(data)] ^= flip
    with suppress(InvalidValue):
        decode_batch(bytes(data))


def test_deep_nesting_is_invalid() -> None:
    """A body that is nested deeper than anything needs is refused."""
    nested: Any = 1
    for _ in range(500):
        nested = {"a": nested}
    plain = msgspec.msgpack.decode(encode_batch(WHOLE))
    plain["items"][2][1][3] = {"x": 0}
    data = msgspec.msgpack.encode(plain).replace(b"\x81\xa1x\x00", b"\x81\xa1x" + b"\x81\xa1a" * 5000 + b"\x00")
    with pytest.raises(InvalidValue):
        decode_batch(data)


def test_an_item_that_says_many_objects_costs_little_memory() -> None:
    """A few hundred bytes on the wire can say millions of empty lists: they are counted before they are made."""
    plain = msgspec.msgpack.decode(encode_batch(WHOLE))
    plain["items"][2][1][3] = {"lr": [[]] * 8_000_000}
    data = msgspec.msgpack.encode(plain)
    del plain
    tracemalloc.start()
    try:
        with pytest.raises(InvalidValue, match=r"items\[2\]: 8000\d+ bytes"):
            decode_batch(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()

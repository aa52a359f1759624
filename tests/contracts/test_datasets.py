"""Data sets that a run's journal names: what every store makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_blocks import open_small

from tracker.domain.errors import InvalidValue
from tracker.domain.frames import Batch, DatasetLogged, RunStarted
from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import decode_batch, encode_batch

STARTED = RunStarted(1000, "Default", "n", "file:///x", "host", 1)
TRAIN = DatasetLogged(1, "train", "ab" * 16, "code", "{}", "{}", "{}", {"mlflow.data.context": "train"})
VALIDATION = DatasetLogged(1, "validation", "cd" * 16, "code", "{}", None, None, {"mlflow.data.context": "validation"})


@pytest.fixture
def store(any_url: str) -> Iterator[SqlRunStore]:
    with open_small(any_url) as opened:
        opened.append(Batch(run_id="r", writer="w", first=1, last=1, items=[(1, STARTED)]))
        yield opened


def test_data_sets_of_a_journal_are_kept_once(store: SqlRunStore) -> None:
    """A batch that comes again, and a data set that is named again, add nothing; filters find the run by its digest."""
    batch = Batch(run_id="r", writer="w", first=2, last=4, items=[(2, TRAIN), (3, VALIDATION), (4, TRAIN)])
    store.append(decode_batch(encode_batch(batch)))
    store.append(batch)
    ((_, train), (_, validation)) = store.catalogue.inputs.uses([0])
    assert (train.dataset.name, train.dataset.digest, train.tags) == ("train", TRAIN.digest, TRAIN.tags)
    assert (validation.dataset.schema, validation.tags) == (None, VALIDATION.tags)
    for filter in (f"dataset.digest = '{TRAIN.digest}'", "dataset.context = 'validation'", "dataset.name LIKE 'tr%'"):
        assert [run.id for run in store.search_runs(filter).runs] == ["r"]
    assert not store.search_runs("dataset.digest = 'none'").runs


@pytest.mark.parametrize(
    "item",
    [
        DatasetLogged(1, "", "ab", "code", "{}", None, None, {}),
        DatasetLogged(1, "n", "a" * 37, "code", "{}", None, None, {}),
        DatasetLogged(1, "n\0", "ab", "code", "{}", None, None, {}),
        DatasetLogged(1, "n", "ab", "code", "{}", "x" * 1_048_576, None, {}),
        DatasetLogged(1, "n", "ab", "code", "{}", None, None, {"": "x"}),
    ],
)
def test_what_no_store_can_hold_is_refused(item: DatasetLogged) -> None:
    """A server names the field of a data set that is over a limit, and so does the client before it writes."""
    with pytest.raises(InvalidValue, match=r"data set's .* 1 to|0 to|NUL"):
        decode_batch(encode_batch(Batch(run_id="r", writer="w", first=1, last=1, items=[(1, item)])))

"""A process whose runs each log something last that can never be recorded: all else of them is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.children import Child

from tracker.api import open_store, sync_journals
from tracker.domain.ports import RunStore

BAD = {
    "a value that is no number": "run.log({'x': 'much'}, step=1)",
    "a value beyond a double": "run.log({'x': 10**400}, step=1)",
    "a metric's key that is too long": "run.log({'k' * 300: 1.0}, step=1)",
    "a key with a control character": "run.log_epoch(1, {'a\\nb': 1.0})",
    "a key that is no text": "run.log({3: 1.0}, step=1)",
    "a key of half a character": "run.log({'a\\udce4': 1.0}, step=1)",
    "a negative step": "run.log({'x': 1.0}, step=-1)",
    "a parameter that is too large": "run.log_params({'p': 'x' * 100_000})",
    "a parameter in a circle": "p = {}; p['p'] = p; run.log_params(p)",
    "params that are no mapping": "run.log_params(7)",
    "a tag's key that is empty": "run.set_tags({'': 'x'})",
    "an event without a name": "run.log_event('')",
    "an event's detail that is too large": "run.log_event('e', text='x' * 3_000_000)",
    "a histogram of no numbers": "run.log_histogram('h', 'text', step=0)",
    "bins without their edges": "run.log_bins('h', [0.0, 1.0], [1, 2, 3], step=0)",
    "a goal that is none": "run.define_metric('loss', goal='up')",
    "an image of a wrong shape": "run.log_image([[[[1]]]], 'i', step=0)",
    "an image that is none": "run.log_image(b'no PNG', 'i', step=0)",
    "a text that is none": "run.log_text({'a': 1}, 'd.json')",
    "a file's name that is too long": "run.log_text('x', 'n' * 300)",
    "a file's name that leads out": "run.log_text('x', '../out')",
    "a file's name of half a character": "run.log_text('x', 'a\\udce4')",
    "a file in the place of a folder": "run.log_text('1', 'notes/first'); run.log_text('2', 'notes')",
    "a folder in the place of a file": "run.log_text('1', 'notes'); run.log_text('2', 'notes/first')",
    "an artifact that is not there": "run.log_artifact('gone.txt')",
    "an artifact that is a pipe": "os.mkfifo('pipe'); run.log_artifact('pipe')",
    "an artifact that leads nowhere": "os.symlink('nowhere', 'link'); run.log_artifact('link')",
    "a checkpoint that is not there": "run.log_checkpoint('gone.keras', epoch=0)",
    "a checkpoint that is an empty folder": "os.mkdir('empty'); run.log_checkpoint('empty', epoch=0)",
    "a checkpoint of no epoch": "open('m.keras', 'w').close(); run.log_checkpoint('m.keras', epoch=-1)",
    "work that fails": "run.in_background(lambda: 1 / 0)",
}


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(open_store(store_url)) as opened:
        yield opened


def training() -> str:
    """A script of one run for each kind of bad item; as it ends it writes down what each run counted as problems."""
    script = "import atexit, json\nruns = {}\n"
    script += "atexit.register(lambda: json.dump({name: dict(run.problems) for name, run in runs.items()}, open('said', 'w')))\n"
    for name, code in BAD.items():
        script += f"""
run = runs[{name!r}] = tracker.start_run(name={name!r}, params={{"lr": 0.5}})
run.log_text("good", "good.txt")
run.log({{"good": 1.0}}, step=0)
run.log_epoch(0, {{"loss": 1.0}})
{code}
"""
    return script


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_what_can_never_be_recorded_costs_itself(
    store: RunStore, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Numbers, parameters, files and the end are stored after the exit and one `sync`; each bad item was counted."""
    monkeypatch.setenv("TRACKER_MODE", mode)
    with Child(training()) as child:
        assert child.end() == 0, child.errors
    monkeypatch.setenv("TRACKER_MODE", "online")
    refused = {synced.run_id: synced.refused for synced in sync_journals()}
    runs = {run.name: run for run in store.search_runs(limit=1000)}
    assert sorted(runs) == sorted(BAD)
    said = json.loads((tmp_path / "said").read_text())
    for name, run in runs.items():
        assert run.status == "finished", name
        assert store.params(run.id) == {"lr": 0.5}, name
        assert list(store.history(run.id, "good").values) == [1.0], name
        assert list(store.history(run.id, "loss").values) == [1.0], name
        assert (Path(run.artifact_uri.removeprefix("file://")) / "good.txt").read_text() == "good", name
        assert sum(said[name].values()) + refused.get(run.id, 0) > 0, name
    assert [path for path in (home / "journals").iterdir() if not path.name.endswith(".refused")] == []

"""`tracker checkpoints`, `restore` and `gc`: what a run kept, and what is removed for good."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from e2e.children import Child, eventually
from e2e.cli_lab import COMMAND, in_terminal, invoke, plain
from e2e.server_lab import Server, on_server

import tracker
from tracker import compose
from tracker.artifacts.local import path_of
from tracker.domain.identity import now_ms
from tracker.domain.records import Checkpoint
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(120)
DAY_S = 24 * 3600


def trained(
    losses: Sequence[float] = (0.5, 0.2, 0.4), *, name: str = "net", keep: int | None = None, size: int = 1000
) -> str:
    """A run with a checkpoint of each epoch, of `size` bytes that no other has; its id."""
    with tracker.start_run("digits", name=name) as run:
        if keep is not None:
            run.keep_checkpoints(last=keep)
        for epoch, loss in enumerate(losses):
            run.log_epoch(epoch, {"val_loss": loss})
            Path("saved.keras").write_bytes(os.urandom(size))
            assert run.log_checkpoint("saved.keras", epoch=epoch, step=5 * (epoch + 1), metrics={"val_loss": loss})
    return run.id


def listed(run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(invoke("checkpoints", run, "--format", "json").stdout)
    return found


def recorded(run_id: str) -> Sequence[Checkpoint]:
    with closing(tracker.open_store()) as store:
        return store.checkpoints(run_id)


# -- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_line_for_each_checkpoint(store_url: str) -> None:
    """The table says of each its epoch as the store counts, the words that mean it, its size and its metrics."""
    trained(keep=1)
    lines = invoke("checkpoints", "net").stdout.splitlines()
    assert lines[0].split() == [
        "id",
        "epoch",
        "step",
        "which",
        "format",
        "size",
        "saved",
        "status",
        "metrics,",
        *"best by val_loss".split(),
    ]
    words = [line.replace("just now", "now").split() for line in lines[1:]]
    assert words == [
        ["1", "0", "5", ".keras", "1.0", "kB", "now", "pruned", "val_loss", "0.5"],
        ["2", "1", "10", "best", ".keras", "1.0", "kB", "now", "kept", "val_loss", "0.2"],
        ["3", "2", "15", "latest", ".keras", "1.0", "kB", "now", "kept", "val_loss", "0.4"],
    ]


def test_states_that_were_replaced_are_counted(store_url: str) -> None:
    """Of the states to resume from the table lists the one that is there; in JSON stand all."""
    with tracker.start_run("digits", name="net") as run:
        for epoch in range(4):
            Path("saved.keras").write_bytes(os.urandom(100))
            run.log_checkpoint("saved.keras", epoch=epoch, role="state")
            assert run.flush() == 0
    done = invoke("checkpoints", "net")
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["3"]
    assert done.stderr == "and 3 states that newer ones replaced: --format csv\n"
    assert [one["status"] for one in listed("net")] == ["pruned"] * 3 + ["published"]


def test_in_a_narrow_terminal_the_deciding_metric_is_seen(store_url: str) -> None:
    """In 80 columns the metric that decides comes first and is whole; when it was saved is left out for it."""
    with tracker.start_run("digits", name="net") as run:
        run.log_epoch(0, {"accuracy": 0.25, "loss": 1.5, "val_loss": 0.75})
        Path("saved.keras").write_bytes(b"x")
        run.log_checkpoint("saved.keras", epoch=0, metrics={"accuracy": 0.25, "loss": 1.5, "val_loss": 0.75})
    assert "kept    val_loss 0.75, accuracy 0." in plain(in_terminal("checkpoints", "net"))
    assert "  val_loss 0.75, accuracy 0.25, l" in invoke("show", "net").stdout


def test_json_and_csv_have_the_records_fields(store_url: str) -> None:
    """JSON is an array of objects with the records' field names, CSV has them as its header."""
    run_id = trained()
    found, records = listed("net"), recorded(run_id)
    assert [one["sha256"] for one in found] == [record.sha256 for record in records]
    assert found[1]["metrics"] == {"val_loss": 0.2}
    header, *rows = invoke("checkpoints", "net", "--format", "csv").stdout.splitlines()
    assert header.split(",") == list(found[0])
    assert len(rows) == 3


def test_tags(store_url: str) -> None:
    """A checkpoint that is tagged is kept and found by its tag; untagged, retention may prune it."""
    run_id = trained()
    done = invoke("checkpoints", "net", "--tag", "0=before tuning")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "tagged epoch 0 of net as before tuning\n")
    assert [one["tag"] for one in listed("net")] == ["before tuning", None, None]
    assert "before tuning" in invoke("checkpoints", "net").stdout
    assert "before tuning" in invoke("show", "net").stdout
    with tracker.start_run("digits", run_id=run_id, resume="must") as run:
        run.keep_checkpoints(last=1)
    assert {one.status for one in recorded(run_id)} == {"published"}
    assert invoke("restore", "net", "--which", "before tuning", "-o", "tagged.keras").exit_code == 0
    assert invoke("checkpoints", "net", "--untag", "before tuning").exit_code == 0
    assert [one.status for one in recorded(run_id)] == ["pruned", "published", "published"]


def test_show_says_what_became_of_them(store_url: str) -> None:
    """The page of a run marks the best, the latest, the state and what was pruned; decisions are not crowded out."""
    run_id = trained([1 / (epoch + 1) for epoch in range(30)], keep=3)
    with tracker.start_run("digits", run_id=run_id, resume="must") as run:
        run.log_checkpoint("saved.keras", epoch=29, role="state")
    page = invoke("show", "net").stdout
    shown = [
        line.split() for line in page[page.index("Checkpoints  best by val_loss") :].splitlines() if "epoch" in line
    ]
    assert shown[-2][:4] == ["epoch", "29", "best,", "latest"]
    assert shown[-1][-4:] == ["state", "to", "resume", "from"]
    assert "and 23 more: --all" in page
    assert invoke("show", "net", "--all").stdout.count("pruned") == 27
    timeline = page[page.index("Timeline") : page.index("Checkpoints")]
    assert "15 events in between" in timeline
    assert timeline.count("checkpoint saved, the best so far by val_loss: 1.0 kB") == 15


def test_every_best_says_by_which_metric(store_url: str) -> None:
    """One rule everywhere, the run's metric; what a callback of another monitor held for the best has a word of its own."""
    losses, accuracies = (0.5, 0.2, 0.4), (0.6, 0.7, 0.9)
    with tracker.start_run("digits", name="net") as run:
        for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
            metrics = {"val_loss": loss, "val_accuracy": accuracy}
            run.log_epoch(epoch, metrics)
            Path("saved.keras").write_bytes(os.urandom(100))
            run.log_checkpoint("saved.keras", epoch=epoch, metrics=metrics, state={"best_by": "val_accuracy"})
    page = invoke("show", "net").stdout
    assert "best epoch 1: val_loss 0.2" in page
    shown = page[page.index("Checkpoints  best by val_loss") :].splitlines()[1:4]
    assert [line.split()[2:4] for line in shown[1:]] == [["best", ".keras"], ["best:val_accuracy,", "latest"]]
    timeline = " ".join(page[page.index("Timeline") : page.index("Checkpoints")].split())
    assert "checkpoint saved, the best so far by val_loss and" in timeline
    assert timeline.endswith("checkpoint saved, the best so far by val_accuracy: 100 B")
    with tracker.start_run("digits", run_id=run.id, resume="must") as again:
        again.log_epoch(3, {"val_loss": 0.1, "val_accuracy": 0.9})
    page = " ".join(invoke("show", "net").stdout.split())
    assert "best epoch 3: val_loss 0.1" in page
    assert "Checkpoints best by val_loss; there is none of epoch 3, the best epoch 0" in page
    for which, epoch, by in (("best", 1, "val_loss"), ("best:val_accuracy", 2, "val_accuracy")):
        done = invoke("restore", "net", "--which", which, "-o", f"{epoch}.keras")
        assert f"the checkpoint of epoch {epoch} of net, the best by {by}: " in done.stderr
        assert tracker.load_checkpoint("net", which).read_bytes() == Path(f"{epoch}.keras").read_bytes()
    done = invoke("restore", "net", "--which", "best:accuracy", "-o", "x.keras")
    assert (done.exit_code, "there is best:val_accuracy, best:val_loss" in done.stderr) == (1, True)


def test_what_cannot_be_listed_or_tagged(store_url: str) -> None:
    """Exit code 1 for what is not there, 2 for what was typed wrong; nothing is changed."""
    trained()
    trained(name="same")
    trained(name="same")
    for code, said, arguments in (
        (1, "not found", ["nobody"]), (2, "could be any of", ["same"]), (2, "WHICH=NAME", ["net", "--tag", "best"]),
        (1, "epochs 0 to 2", ["net", "--tag", "7=x"]), (2, "means something", ["net", "--tag", "0=latest"]),
        (1, "has no tag", ["net", "--untag", "best"]), (2, "control", ["net", "--tag", "0=a\nb"]),
    ):  # fmt: skip
        done = invoke("checkpoints", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert said in done.stderr, arguments
    with tracker.start_run(name="none"):
        pass
    assert invoke("checkpoints", "none").stderr == "none has no checkpoints\n"
    assert invoke("checkpoints", "none", "--format", "json").stdout == "[]\n"


# -- restore --------------------------------------------------------------------------------------------------------


def test_restore_prints_the_path(store_url: str, tmp_path: Path) -> None:
    """The file is where it was asked for, its path on stdout and what it is on stderr."""
    run_id = trained()
    done = invoke("restore", "net", "-o", "best.keras")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'best.keras'}\n")
    assert "epoch 1 of net, the best by val_loss: " in done.stderr
    best = recorded(run_id)[1]
    assert (tmp_path / "best.keras").read_bytes() == path_of(best.uri).read_bytes()
    inside = invoke("restore", "net", "--which", "latest", "-o", f"{tmp_path}/")
    assert inside.stdout == f"{tmp_path / run_id}-epoch-2.keras\n"
    odd = invoke("restore", "net", "-o", "odd.h5")
    assert (odd.exit_code, "ends in .keras" in odd.stderr) == (0, True)


def test_restore_overwrites_only_when_told(store_url: str, tmp_path: Path) -> None:
    """What is there stays without --force, and stays too if the new bytes turn out to be damaged."""
    run_id = trained()
    target = tmp_path / "best.keras"
    target.write_bytes(b"mine")
    done = invoke("restore", "net", "-o", str(target))
    assert (done.exit_code, done.stdout, target.read_bytes()) == (1, "", b"mine")
    assert "--force" in done.stderr
    stored = path_of(recorded(run_id)[1].uri)
    content = stored.read_bytes()
    stored.write_bytes(content[::-1])
    broken = invoke("restore", "net", "-o", str(target), "--force")
    assert (broken.exit_code, broken.stdout, target.read_bytes()) == (1, "", b"mine")
    assert "damaged" in broken.stderr
    stored.write_bytes(content)
    assert invoke("restore", "net", "-o", str(target), "--force").exit_code == 0
    assert target.read_bytes() == content
    assert not list(tmp_path.rglob(".part-*"))


def test_restore_of_what_is_not_there(store_url: str) -> None:
    """Exit code 1 with what there is, 2 for a missing argument or a name of several runs."""
    trained(keep=1)
    for code, said, arguments in (
        (1, "bytes are gone", ["net", "--which", "0", "-o", "x.keras"]), (2, "-o", ["net"]),
        (1, "'nothing'", ["net", "--which", "nothing", "-o", "x"]), (1, "not found", ["nobody", "-o", "x.keras"]),
        (1, "does not exist", ["net", "-o", "nowhere/x.keras"]),
    ):  # fmt: skip
        done = invoke("restore", *arguments)
        assert (done.exit_code, done.stdout) == (code, ""), arguments
        assert said in done.stderr, arguments


def test_a_large_file_has_a_bar_in_a_terminal(store_url: str) -> None:
    """A person who waits sees how far it is; the path is the last that is said."""
    trained([0.5], size=30_000_000)
    shown = plain(in_terminal("restore", "net", "-o", "large.keras"))
    assert "30.0 MB" in shown.replace("/", " ")
    assert "━" in shown
    assert shown.rstrip().endswith("large.keras")


def test_the_same_over_http(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a server with tokens the commands do what they do on the database, but gc, which says why not."""
    with SqlRunStore.open(store_url) as opened:
        token = opened.tokens.create("ci", "writer")
    with Server(store_url) as server:
        for name, value in (("STORE", server.url), ("TOKEN", token)):
            monkeypatch.setenv(f"TRACKER_{name}", value)
        trained(keep=1)
        for arguments in (["net"], ["net", "--format", "json"], ["net", "--tag", "best=paper"], ["net"]):
            through, direct = invoke("checkpoints", *arguments), invoke("checkpoints", *arguments, "--store", store_url)
            assert (through.exit_code, through.stdout) == (direct.exit_code, on_server(direct.stdout, server.url))
        assert invoke("restore", "net", "--which", "paper", "-o", "paper.keras").exit_code == 0
        direct = invoke("checkpoints", "net", "--format", "json", "--store", store_url)
        assert Path("paper.keras").read_bytes() == path_of(json.loads(direct.stdout)[1]["uri"]).read_bytes()
        done = invoke("gc")
        assert (done.exit_code, "the database behind it" in done.stderr) == (2, True)


# -- gc -------------------------------------------------------------------------------------------------------------


def collected(*arguments: str, code: int = 0) -> list[tuple[str, str]]:
    """What `gc` says that it removed or would: kind and id of each."""
    done = invoke("gc", "--format", "json", *arguments)
    assert done.exit_code == code, done.stderr
    return [(one["kind"], one["id"]) for one in json.loads(done.stdout)]


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_deleted_run_goes_with_rows_and_files(any_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After its time only; first said and then done, and nothing of another run is touched."""
    monkeypatch.setenv("TRACKER_STORE", any_url)
    gone, kept = trained(name="gone"), trained(name="kept")
    before = files_below(tmp_path)
    assert invoke("delete", gone).exit_code == 0
    assert collected() == []  # not thirty days ago
    dry = invoke("gc", "--older-than", "0", "--dry-run")
    assert "would remove 1 run: " in dry.stderr
    assert files_below(tmp_path) == before
    assert invoke("show", gone).exit_code == 0
    assert collected("--older-than", "0s") == [("run", gone)]
    assert invoke("show", gone).exit_code == 1
    assert [one["name"] for one in json.loads(invoke("runs", "--format", "json").stdout)] == ["kept"]
    assert {name for name in before - files_below(tmp_path) if gone not in name} == set()
    assert not (tmp_path / "tracker-artifacts" / gone).exists()
    assert tracker.load_checkpoint(kept)
    with SqlRunStore.open(any_url) as store, store._engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM metric_points").scalar()
        assert left == 3  # those of the run that is kept


def test_pruned_files_that_are_still_there(any_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a pruned checkpoint go where nobody removed them when it was pruned; its row stays."""
    monkeypatch.setenv("TRACKER_STORE", any_url)
    with SqlRunStore.open(any_url) as store:
        run_id = trained()
        (pruned, *_) = store.checkpoints(run_id)
        with store._engine.begin() as connection:  # as by a process that was killed right after
            connection.exec_driver_sql("UPDATE checkpoints SET status = 'pruned' WHERE epoch = 0")
        assert collected("--dry-run") == [("checkpoint", run_id)]
        assert path_of(pruned.uri).exists()
        assert collected() == [("checkpoint", run_id)]
        assert not path_of(pruned.uri).exists()
        assert [one.status for one in store.checkpoints(run_id)] == ["pruned", "published", "published"]
        assert collected() == []


def test_unfinished_files_go_after_a_day(store_url: str, tmp_path: Path) -> None:
    """What never arrived goes when it is a day old; younger ones, and those of a living run, stay."""
    run_id, root = trained(), tmp_path / "tracker-artifacts"
    with tracker.start_run() as living:
        living.flush()
        old = [root / ".incoming" / "tracker-put-a", root / run_id / ".part-b", root / living.id / ".part-c"]
        young = root / run_id / ".part-d"
        for path in (*old, young):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"part")
        for path in old:
            os.utime(path, (path.stat().st_mtime - DAY_S - 60,) * 2)
        assert collected() == [("file", "tracker-put-a"), ("file", ".part-b")]
        assert [path.exists() for path in (*old, young)] == [False, False, True, True]


def test_checkpoints_without_a_row(store_url: str, tmp_path: Path) -> None:
    """A file that arrived without its row goes after a day, if it is named as ours are; no other does."""
    run_id, root = trained(), tmp_path / "tracker-artifacts"
    folder = root / run_id / "checkpoints"
    mine, young, strange = folder / f"{'a' * 64}.keras", folder / f"{'b' * 64}.keras", root / "r" / "checkpoints"
    others = [folder / "epoch_1.keras", strange / mine.name, *folder.iterdir()]
    strange.mkdir(parents=True)
    for path in (mine, young, *others[:2]):
        path.write_bytes(b"x")
    for path in (mine, *others):
        os.utime(path, (path.stat().st_mtime - DAY_S - 60,) * 2)
    assert collected("--dry-run") == collected() == [("file", mine.name)]
    assert not mine.exists()
    assert all(path.exists() for path in (young, *others))


def test_copies_that_nobody_asks_for(store_url: str, home: Path) -> None:
    """Copies of load_checkpoint go when they were not asked for in that time."""
    copy = tracker.load_checkpoint(trained())
    assert collected() == []
    os.utime(copy, (copy.stat().st_mtime - 40 * DAY_S,) * 2)
    assert collected("--older-than", "41d") == []
    assert collected() == [("copy", copy.name)]
    assert not copy.exists()


def test_copies_of_another_store_stay(store_url: str, home: Path, tmp_path: Path) -> None:
    """What was loaded from one store is not removed with what another has, whichever is asked first."""
    copy = tracker.load_checkpoint(trained())
    os.utime(copy, (copy.stat().st_mtime - 40 * DAY_S,) * 2)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    compose.open_store(other).close()
    assert collected("--store", other) == []
    assert copy.exists()
    assert collected() == [("copy", copy.name)]


def test_a_living_run_keeps_everything(store_url: str) -> None:
    """A run that is deleted while it trains goes when it is over, not before."""
    with tracker.start_run() as run:
        run.log({"loss": 1.0}, step=0)
        run.log_text("words", "note.txt")
        run.flush()
        assert invoke("delete", run.id).exit_code == 0
        assert collected("--older-than", "0") == []
        assert invoke("show", run.id).exit_code == 0
    assert collected("--older-than", "0") == [("run", run.id)]


def test_files_elsewhere_keep_their_run(store_url: str, tmp_path: Path) -> None:
    """A run whose files are outside of the store's place stays whole until that place is named."""
    with tracker.start_run(artifacts=str(tmp_path / "other")) as run:
        run.log_text("words", "note.txt")
    assert invoke("delete", run.id).exit_code == 0
    done = invoke("gc", "--older-than", "0")
    assert (done.exit_code, "outside of" in done.stdout) == (1, True)
    assert (tmp_path / "other" / run.id / "note.txt").exists()
    assert collected("--older-than", "0", "--artifacts", str(tmp_path / "other")) == [("run", run.id)]
    assert not (tmp_path / "other" / run.id).exists()


def test_restored_at_the_last_moment(any_url: str) -> None:
    """A run that is restored after gc saw it deleted stays, with its rows and files."""
    with tracker.start_run(store=any_url) as run:
        run.log({"loss": 1.0}, step=0)
    with SqlRunStore.open(any_url) as store:
        store.delete_run(run.id)
        before_ms = now_ms() + 1000
        (found,) = store.removal.deleted(before_ms)
        store.restore_run(run.id)
        assert not store.removal.remove(found, before_ms, lambda: pytest.fail("its files"))
        assert store.metrics(run.id)["loss"].count == 1


@pytest.mark.parametrize("committed", [False, True])
def test_killed_between_files_and_rows(store_url: str, tmp_path: Path, committed: bool) -> None:
    """Files that were set aside come back if their run is still there, and go if it is not."""
    run_id, root = trained(), tmp_path / "tracker-artifacts"
    (root / ".removed").mkdir()
    (root / run_id).rename(root / ".removed" / run_id)
    if committed:
        with SqlRunStore.open(store_url) as store:
            store.catalogue.runs.remove(run_id)
    assert collected() == []
    assert (root / run_id).exists() is not committed
    assert not (root / ".removed").exists()
    if not committed:
        assert tracker.load_checkpoint(run_id)


def test_killed_in_the_middle(store_url: str, tmp_path: Path) -> None:
    """After `kill -9` every run is there with its files or gone with them, and running it again removes the rest."""
    kept = trained([0.1])
    runs = [trained([0.1, 0.2], name=f"gone {i}") for i in range(12)]
    with closing(tracker.open_store()) as store:
        for run_id in runs:
            store.delete_run(run_id)
    root = tmp_path / "tracker-artifacts"
    process = subprocess.Popen([COMMAND, "gc", "--older-than", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        eventually(lambda: process.poll() is not None or not (root / runs[1]).exists())
    finally:
        process.kill()
        process.communicate()
    with closing(tracker.open_store()) as store:
        for run_id in runs:
            is_there = bool(store.find_runs(run_id, deleted=True))
            folder = root / run_id if (root / run_id).exists() else root / ".removed" / run_id
            assert not is_there or len(files_below(folder)) == 2, run_id
    assert invoke("gc", "--older-than", "0").exit_code == 0
    assert {path.name for path in root.iterdir()} == {kept}
    with closing(tracker.open_store()) as store:
        assert not [run_id for run_id in runs if store.find_runs(run_id, deleted=True)]
    assert tracker.load_checkpoint(kept)


def test_one_at_a_time(store_url: str) -> None:
    """While another process removes files of this place, a second one says so and changes nothing."""
    run_id = trained()
    assert invoke("delete", run_id).exit_code == 0
    with Child(
        """
        from pathlib import Path
        from tracker.artifacts.trash import Trash
        with Trash(Path("tracker-artifacts")).opened():
            say("has it")
            wait()
        """
    ) as child:
        child.expect("has it")
        done = invoke("gc", "--older-than", "0")
        assert (done.exit_code, "another process" in done.stderr) == (1, True)
        assert invoke("gc", "--older-than", "0", "--dry-run").exit_code == 0
        child.go_on()
        assert child.end() == 0
    assert collected("--older-than", "0") == [("run", run_id)]


def test_deleted_experiments_and_models(any_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A deleted experiment goes with its runs and logged models, and with their files where it has its own place."""
    monkeypatch.setenv("TRACKER_STORE", any_url)
    location = (tmp_path / "place").as_uri()
    with SqlRunStore.open(any_url) as store:
        catalogue = store.catalogue
        experiment = catalogue.experiments.create("old", artifact_location=location)
        uri, model_uri = f"{location}/r1/artifacts", f"{location}/models/m-1/artifacts"
        catalogue.runs.create("r1", experiment, name="r1", started_ms=1, artifact_uri=uri, tags={})
        catalogue.runs.change("r1", status="finished", ended_ms=2)
        catalogue.models.create("m-1", experiment, name="m", artifact_uri=model_uri)
        for one in (uri, model_uri):
            path_of(one).mkdir(parents=True)
            (path_of(one) / "file").write_bytes(b"x")
        catalogue.experiments.delete(experiment)
        assert collected() == []
        assert collected("--older-than", "0") == [("run", "r1"), ("model", "m-1"), ("experiment", str(experiment))]
        assert catalogue.experiments.named("old") is None
    assert files_below(tmp_path / "place") == set()


@pytest.mark.parametrize("span", ["x", "", "1w", "-1", "3.5d", "d"])
def test_spans_that_are_none(store_url: str, span: str) -> None:
    """What is no span of time is bad usage."""
    assert invoke("gc", "--older-than", span).exit_code == 2


def test_gc_of_no_store(empty_store_url: str) -> None:
    """Without a store there is nothing to remove, and none is made."""
    assert invoke("gc").exit_code == 1
    assert not Path("tracker.db").exists()

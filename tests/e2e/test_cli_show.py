"""`tracker show`: one run as a person wants to read it, and whole as JSON."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from e2e.cli_lab import in_terminal, invoke, plain, record

import tracker


def shown(run: str, *arguments: str) -> str:
    done = invoke("show", run, *arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def section(page: str, title: str) -> list[str]:
    """The lines of a section, without their indent."""
    lines = page.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()
    return [line.removeprefix("  ") for line in lines]


def test_page_says_where_the_run_stands(store_url: str) -> None:
    """Name, id, experiment, status, epochs done and planned, how the fit ended, and the best epoch come first."""
    run_id = record("stopped", [0.5, 0.2, 0.3], planned=10, accuracies=[0.1, 0.9, 0.8])
    lines = shown("stopped").splitlines()
    assert lines[0] == "stopped"
    assert lines[1].startswith(f"{run_id}  experiment digits, started ")
    assert lines[3].startswith("finished just now: 3 of 10 epochs in ")
    assert lines[3].endswith("(0.25 s an epoch), stopped early")
    assert lines[4] == "best epoch 1: val_loss 0.2, accuracy 0.9"


def test_page_draws_each_metric(store_url: str) -> None:
    """Each metric has a curve, its first and last value, and its best with the epoch; the axis is named."""
    record("one", [0.8, 0.2, 0.5])
    title, line = section(shown("one"), "Metrics")
    assert title.split() == "epochs 0 to 2 first → last best".split()
    assert line.split() == ["val_loss", "▇▇▇▇▁▁▁▁▄▄▄▄", "0.8", "→", "0.5", "0.2", "@", "1"]


def test_metrics_of_steps_and_of_time_stand_apart(store_url: str) -> None:
    """Batch metrics are drawn over the steps that they were written at, below those of epochs."""
    with tracker.start_run(name="steps") as run:
        run.log_epoch(0, {"val_loss": 0.5})
        for step in range(1, 301):
            run.log({"batch/loss": 1 / step}, step=step)
    lines = section(shown("steps"), "Metrics")
    assert [line.split()[0] for line in lines] == ["epoch", "val_loss", "steps", "batch/loss"]
    assert lines[2].split() == ["steps", "1", "to", "300"]
    curve = lines[3].split()[1]
    assert 30 <= len(curve) <= 40
    assert (curve[0], curve[-1]) == ("▇", "▁")


def test_what_is_no_number_is_drawn_as_a_cross(store_url: str) -> None:
    """NaN and infinities are marked where they are, and the rest keeps its scale."""
    record("nan", [0.8, math.nan, math.inf, 0.4])
    assert section(shown("nan"), "Metrics")[1].split()[1] == "▇▇▇▇××××××××▁▁▁▁"


def test_page_lists_parameters_tags_and_files(store_url: str, tmp_path: Path) -> None:
    """Parameters and tags are rows of key and value, strings unchanged; the artifacts' folder comes last."""
    params = {"optimizer": {"name": "Adam", "beta": 0.9}, "layers": [64, 10], "none": None, "jit": True}
    run_id = record("p", params=params, tags={"team": "vision"})
    page = shown("p")
    listed = " ".join(" ".join(section(page, "Parameters")).split())
    for pair in ("optimizer.name Adam", "optimizer.beta 0.9", "layers [64, 10]", "none null", "jit true"):
        assert pair in listed
    assert section(page, "Tags") == ["team  vision"]
    assert page.splitlines()[-1] == f"Artifacts  {tmp_path / 'tracker-artifacts' / run_id}"


def test_long_names_are_whole_and_families_stand_together(store_url: str) -> None:
    """In 80 columns no parameter's or metric's name is cut, and a family's parameters fill lines below its name."""
    stopping = {"monitor": "val_loss", "patience": 3, "restore_best_weights": True, "start_from_epoch": 0, "verbose": 0}
    params = {"callbacks": {"EarlyStopping": stopping}, "optimizer": dict.fromkeys("abcd", 1), "lr": 0.5, "x": {"y": 1}}
    key = "network_transmit_megabytes_per_second"
    with tracker.start_run(name="long", params=params) as run:
        run.log_epoch(0, {"val_loss": 0.5})
        run.log_system({key: 57460.25})
    page = shown("long")
    assert section(page, "Parameters") == [
        "lr   0.5",
        "x.y  1",
        "callbacks.EarlyStopping: monitor=val_loss, patience=3,",
        "    restore_best_weights=true, start_from_epoch=0, verbose=0",
        "optimizer: a=1, b=1, c=1, d=1",
    ]
    assert f"system/{key}  ▄▄▄▄" in page
    assert "57460" in page
    assert max(map(len, section(page, "Metrics"))) <= 78


def test_timeline_is_in_words(store_url: str) -> None:
    """Events are sentences with their epoch; an unknown kind is shown by its name and detail."""
    with tracker.start_run(name="story") as run:
        run.log_event("learning_rate_changed", epoch=1, **{"from": 0.01, "to": 0.001, "by": "ReduceLROnPlateau"})
        run.log_event("early_stopped", epoch=4, stopped_epoch=4, best_epoch=1, best=0.25, patience=3)
        run.log_event("weights_restored", epoch=1)
        run.log_event("best_improved", epoch=1, metric="val_loss", **{"from": None, "to": 0.5})
        run.log_event("nan_detected", epoch=2, metric="loss", value=math.nan, by="TerminateOnNaN")
        run.log_event("stopped", epoch=3, by="request")
        run.log_event("early_stopped", why="not as ours")
        run.log_event("pruned", epoch=2, ratio=0.5, layers=["a", "b"])
        run.log_event("coffee")
    told = [line.split(maxsplit=2)[2] for line in section(shown("story"), "Timeline")]
    assert told == [
        "epoch 1  learning rate 0.01 → 0.001, by ReduceLROnPlateau",
        "epoch 4  stopped early: best was 0.25 in epoch 1, patience 3",
        "epoch 1  weights of epoch 1 restored",
        "epoch 1  val_loss improved to 0.5",
        "epoch 2  loss is NaN, stopped by TerminateOnNaN",
        "epoch 3  stopped on request",
        "early stopped: why not as ours",
        'epoch 2  pruned: ratio 0.5, layers ["a", "b"]',
        "coffee",
    ]


def test_several_fits_are_listed(store_url: str) -> None:
    """A run of more than one fit lists them with their epochs, outcome and what they continue."""
    with tracker.start_run(name="resumed") as run:
        fit = run.start_fit(epochs=4, batch_size=32)
        for epoch in range(4):
            fit.log_epoch(epoch, {"val_loss": 1 / (epoch + 1)})
        fit.end("completed")
        fit = run.start_fit(initial_epoch=2, epochs=6, batch_size=64)
        fit.log_epoch(2, {"val_loss": 0.1})
        fit.end("stopped_early")
    page = shown("resumed")
    _, first, second = section(page, "Fits")
    assert first.split()[:5] == ["1", "0", "to", "3", "completed"]
    assert second.split()[:6] == ["2", "2", "to", "5", "stopped", "early"]
    assert "after epoch 1" in second
    assert "3 of 6 epochs" in page


def test_checkpoints_are_listed_with_the_best_marked(store_url: str, tmp_path: Path) -> None:
    """Each checkpoint has its epoch, format, size and metrics; of many the newest and the best are shown."""
    (tmp_path / "m.keras").write_bytes(b"x" * 2500)
    with tracker.start_run(name="kept") as run:
        for epoch in range(12):
            run.log_checkpoint("m.keras", epoch=epoch, metrics={"val_loss": epoch + 0.5}, is_best=epoch == 0)
    lines = section(shown("kept"), "Checkpoints")
    assert lines[0].split() == ["epoch", "0", "best", ".keras", "2.5", "kB", "val_loss", "0.5"]
    assert [line.split()[1] for line in lines[:-1]] == ["0", "5", "6", "7", "8", "9", "10", "11"]
    assert lines[-1] == "and 4 more: --all"
    assert len(section(shown("kept", "--all"), "Checkpoints")) == 12


def test_a_failed_run_shows_its_error(store_url: str) -> None:
    """The exception that ended a run is shown on top, its traceback below."""
    run = tracker.start_run(name="crash")
    run.log_epoch(0, {"val_loss": 0.5})
    with pytest.raises(ValueError, match="shapes differ"), run:
        raise ValueError("shapes differ")
    page = shown("crash")
    assert page.splitlines()[3].startswith("failed just now: 1 epoch in ")
    assert page.splitlines()[4] == "ValueError: shapes differ"
    assert section(page, "Traceback")[-1] == "ValueError: shapes differ"


def test_a_lost_run_says_so_and_what_to_do(store_url: str) -> None:
    """A run whose process was killed is shown as lost, with its last sign of life and the command that ships the rest."""
    code = (
        "import os, tracker; r = tracker.start_run(name='gone'); r.log({'a': 1.0}); r.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert invoke("sync").exit_code == 0
    page = shown("gone")
    assert page.splitlines()[3].startswith("lost just now: 1 step in ")
    assert "No sign of life since " in page
    assert "`tracker sync`" in page


def test_a_running_run_says_how_far_it_is(store_url: str) -> None:
    """A run that goes on tells its last sign of life, how far it is, and about how long the rest takes."""
    run = tracker.start_run(name="busy")
    try:
        fit = run.start_fit(epochs=10)
        for epoch in range(4):
            fit.log_epoch(epoch, {"val_loss": 1.0}, seconds=30.0)
        assert run.flush() == 0
        line = shown("busy").splitlines()[3]
    finally:
        run.finish()
    assert line.startswith("running, last sign of life just now: 4 of 10 epochs in ")
    assert line.endswith("(30 s an epoch), about 3 min to go")


def test_a_run_without_anything_has_a_page(store_url: str) -> None:
    """A run that recorded nothing shows its status and where its files would be."""
    run_id = record("bare")
    lines = shown("bare").splitlines()
    assert lines[3].startswith("finished just now, in ")
    assert lines[-1].endswith(run_id)
    assert len(lines) == 6


def test_long_lists_are_cut_and_all_shows_them(store_url: str) -> None:
    """Many parameters, events and metrics are cut with a word on how many are left out; `--all` leaves none out."""
    with tracker.start_run(name="much", params={f"p{i:03d}": i for i in range(100)}) as run:
        for i in range(40):
            run.log_event(f"event{i:02d}")
            run.log_epoch(0, {f"metric{i:02d}": 1.5})
    page = shown("much")
    assert "and 40 more: --all" in page
    assert "… 24 events in between: --all" in page
    assert "and 16 more: --all" in page
    everything = shown("much", "--all")
    assert "--all" not in everything
    for text in ("p099", "event20", "metric39"):
        assert text not in page
        assert text in everything


def test_json_has_everything_under_the_records_field_names(store_url: str, tmp_path: Path) -> None:
    """JSON has run, params, tags, metrics, fits, epochs, events and checkpoints, as the store returns them."""
    (tmp_path / "m.keras").write_bytes(b"x")
    with tracker.start_run(name="j", params={"n": 1, "nan": math.nan}, tags={"a": "b"}) as run:
        fit = run.start_fit(epochs=1)
        fit.log_epoch(0, {"val_loss": math.nan, "loss": 0.5}, seconds=0.5)
        run.log_checkpoint("m.keras", epoch=0)
        fit.end("completed")
    found = json.loads(shown("j", "--format", "json"), parse_constant=lambda name: pytest.fail(name))
    assert list(found) == ["run", "params", "tags", "metrics", "fits", "epochs", "events", "checkpoints"]
    assert (found["run"]["id"], found["run"]["status"]) == (run.id, "finished")
    assert found["params"] == {"n": 1, "nan": "NaN"}
    assert found["tags"] == {"a": "b"}
    assert found["metrics"]["val_loss"]["last"]["value"] == "NaN"
    with closing(tracker.open_store()) as store:
        loss = store.metrics(run.id)["loss"]
        (checkpoint,) = store.checkpoints(run.id)
    point = {"value": 0.5, "step": 0, "ms": loss.last.ms if loss.last else 0}
    known = {"key": "loss", "axis": "epoch", "goal": "min", "count": 1}
    assert found["metrics"]["loss"] == {**known, "last": point, "min": point, "max": point, "best": point}
    assert [(one["number"], one["outcome"], one["epochs"]) for one in found["fits"]] == [(1, "completed", 1)]
    assert found["epochs"][0]["metrics"] == {"loss": 0.5, "val_loss": "NaN"}
    assert {one["kind"] for one in found["events"]} == {"fit_started", "checkpoint_saved", "fit_ended"}
    assert (found["checkpoints"][0]["sha256"], found["checkpoints"][0]["size"]) == (checkpoint.sha256, 1)


@pytest.mark.parametrize("by", ["id", "prefix", "name"])
def test_a_run_is_named_by_id_prefix_or_name(store_url: str, by: str) -> None:
    """RUN is a whole id, a unique begin of one, or a name."""
    run_id = record("known", run_id="abc-1234")
    record("other", run_id="abd-1234")
    text = {"id": run_id, "prefix": "abc", "name": "known"}[by]
    assert shown(text).splitlines()[0] == "known"


def test_a_name_goes_before_a_begin_of_an_id(store_url: str) -> None:
    """A text that is one run's name means that run, also where ids begin with it."""
    record("abc", run_id="zzz")
    record("x", run_id="abc-1")
    record("y", run_id="abc-2")
    assert shown("abc").splitlines()[1].startswith("zzz")


def test_an_ambiguous_run_is_bad_usage_and_lists_the_candidates(store_url: str) -> None:
    """A begin or a name that several runs share exits with 2 and lists their ids and names."""
    record("same", run_id="abc-1")
    record("same", run_id="abd-1")
    for text in ("ab", "same"):
        done = invoke("show", text)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "abc-1  same" in done.stderr
        assert "abd-1  same" in done.stderr


def test_a_name_of_an_experiment_says_how_to_list_its_runs(store_url: str) -> None:
    """Who gives an experiment where a run is asked for gets the command that lists that experiment's runs."""
    with tracker.start_run("night shift", name="first"):
        pass
    done = invoke("show", "night shift")
    assert (done.exit_code, done.stdout) == (1, "")
    (_, command) = done.stderr.split("it is an experiment; its runs are: tracker ")
    assert "first" in invoke(*shlex.split(command)).stdout


@pytest.mark.parametrize("text", ["nope", "", "%", "\x1b[31m"])
def test_an_unknown_run_fails(store_url: str, text: str) -> None:
    """A run that is not there exits with 1 and says how to find those that are."""
    record("there")
    done = invoke("show", text)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "not found; `tracker runs`" in done.stderr
    assert "\x1b" not in done.stderr


HOSTILE = "\x1b[31mred\x1b[0m [bold]b[/bold] [link=http://x]l[/link] :smile: a\nb\tc \x9b31m \u202eevil"


def test_recorded_text_is_shown_and_not_obeyed(store_url: str) -> None:
    """Escapes, line breaks, markup and direction marks in recorded text reach a terminal as visible characters."""
    with tracker.start_run(
        "[red]e[/red]", name="[red]n[/red] :smile:", params={"[b]p": HOSTILE}, tags={"t": HOSTILE}
    ) as run:
        run.log_event("[red]k", epoch=1, **{"[b]": HOSTILE})
    page = in_terminal("show", run.id, columns=300)
    assert "\x1b[31m" not in page
    assert "\x9b" not in page
    assert "\u202e" not in page
    text = plain(page)
    assert text.splitlines()[0] == "[red]n[/red] :smile:"
    assert "experiment [red]e[/red]" in text
    visible = r"\x1b[31mred\x1b[0m [bold]b[/bold] [link=http://x]l[/link] :smile: a\nb\tc \x9b31m \u202eevil"
    assert text.count(visible) == 3


def test_recorded_text_in_json_is_escaped_but_the_same(store_url: str) -> None:
    """JSON holds recorded text unchanged, with no byte in it that a terminal would obey."""
    run_id = record("h", tags={"t": HOSTILE})
    out = invoke("show", run_id, "--format", "json").stdout
    assert not set(out) & {"\x1b", "\x9b", "\u202e"}
    assert json.loads(out)["tags"]["t"] == HOSTILE


def test_page_keeps_to_the_terminals_width(store_url: str) -> None:
    """At 80 columns and at 60 no line of the page is longer, but for ids and paths."""
    record(
        "w", [0.51234, 0.21234], params={"a_rather_long_parameter_key." * 2: "value " * 40, "b": list(range(99))},
        tags={"note": "words " * 50},
    )  # fmt: skip
    for columns in (80, 60):
        lines = plain(in_terminal("show", "w", columns=columns)).splitlines()
        assert max(len(line) for line in lines if not line.startswith(("Artifacts", "01"))) <= columns


def test_output_that_cannot_be_encoded_is_replaced(store_url: str) -> None:
    """A terminal without Unicode gets the page with question marks, not a traceback."""
    record("näme", [0.5])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from tracker.cli.main import main; main()"]
    page = subprocess.run([*command, "show", "näme"], env=environment, capture_output=True, timeout=60)
    assert (page.returncode, page.stderr) == (0, b"")
    assert page.stdout.startswith(b"n?me\n")
    data = subprocess.run(
        [*command, "show", "näme", "--format", "json"], env=environment, capture_output=True, timeout=60
    )
    assert json.loads(data.stdout)["run"]["name"] == "näme"

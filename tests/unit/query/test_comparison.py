"""Comparison of runs, from facts alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from tracker.domain.goals import Goal
from tracker.domain.records import Extreme, Run, Series
from tracker.domain.vocabulary import Axis
from tracker.query.comparison import Comparison, RunFacts, compare_facts


def series(key: str, last: float, *, goal: Goal | None = "min", axis: Axis = "epoch") -> Series:
    point = Extreme(value=last, step=9, ms=0)
    return Series(
        key=key, axis=axis, goal=goal, count=1, last=point, min=point, max=point, best=point if goal else None
    )


def facts(
    run_id: str,
    *,
    name: str | None = None,
    at_best: Mapping[str, float] | None = None,
    params: Mapping[str, Any] | None = None,
    summaries: tuple[Series, ...] = (),
) -> RunFacts:
    """A run whose best epoch, 3, has the metrics `at_best`, each also with the last value 99; None: it has none."""
    run = Run(
        id=run_id, name=name or run_id, experiment="e", status="finished", started_ms=0, ended_ms=1, artifact_uri="",
        best_epoch=None if at_best is None else 3, best_metric=None if at_best is None else "loss",
    )  # fmt: skip
    known = {one.key: one for one in (*(series(key, 99.0) for key in at_best or {}), *summaries)}
    return RunFacts(run=run, params=params or {}, series=known, at_best=at_best or {})


def differing(*params: Mapping[str, Any]) -> list[str]:
    return list(compare_facts([facts(str(i), params=one) for i, one in enumerate(params)]).params_diff)


def test_settings_of_what_some_runs_lack_make_one_row() -> None:
    """What the same runs lack of a family is one row that counts it; where the others differ, it is named."""
    board = {"callbacks.Board.dir": "logs", "callbacks.Board.freq": 1}
    save = {"callbacks.Save.mode": "auto", "callbacks.Save.path": "a", "callbacks.Save.verbose": 0}
    sides = [{**board, **save, "epochs": 1}, {**save, "callbacks.Save.path": "b", "epochs": 2}, {"epochs": 1, "x.y": 1}]
    found = compare_facts([facts(str(i), params=one) for i, one in enumerate(sides)])
    rows = {row.label: list(row.cells) for row in found.sections()[-1].rows}
    assert rows == {
        "callbacks.Board.*": ["2 params", "–", "–"],
        "callbacks.Save.*": ["2 params", "2 params", "–"],
        "callbacks.Save.path": ["a", "b", "–"],
        "epochs": ["1", "2", "1"],
        "x.y": ["–", "–", "1"],
    }
    assert "callbacks.Board.freq" in found.params_diff


def test_values_are_those_of_the_best_epoch() -> None:
    """A metric's value is that of its run's best epoch, whatever it was last."""
    found = compare_facts([facts("a", at_best={"loss": 1.0}), facts("b", at_best={"loss": 2.0})])
    assert found.metrics == {"loss": {"a": 1.0, "b": 2.0}}
    assert found.last_values == {"loss": ()}
    assert found.best_epochs == {"a": 3, "b": 3}


def test_last_values_stand_in_and_are_named() -> None:
    """Without a best epoch, or a value there, the last value stands and the run is named as having it."""
    late = facts("b", at_best={"loss": 2.0}, summaries=(series("test", 0.5), series("batch/loss", 7.0, axis="step")))
    found = compare_facts([facts("a", summaries=(series("loss", 5.0),)), late])
    assert found.metrics == {"loss": {"a": 5.0, "b": 2.0}, "test": {"b": 0.5}, "batch/loss": {"b": 7.0}}
    assert found.last_values == {"loss": ("a",), "test": ("b",), "batch/loss": ("b",)}
    assert found.note


def test_system_metrics_are_left_out() -> None:
    """What runs over time says nothing at a best epoch."""
    assert compare_facts([facts("a", summaries=(series("system/cpu", 1.0, axis="time"),)), facts("b")]).metrics == {}


@pytest.mark.parametrize(("one", "other"), [
    (1, 2), (1, True), (0, False), (1, "1"), (None, False), ([1], [1, 2]), ({"a": 1}, {"a": True}), ([1], [True]), ("", None),
])  # fmt: skip
def test_values_that_differ_in_json_differ(one: Any, other: Any) -> None:
    """Parameters differ by value and by JSON type, also inside lists and mappings."""
    assert differing({"p": one}, {"p": other}) == ["p"]


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), ("a", "a"), ([1, 2], [1.0, 2]), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_equal_values_do_not_differ(one: Any, other: Any) -> None:
    """1 and 1.0 are one number, and mappings have no order."""
    assert differing({"p": one}, {"p": other}) == []


def test_a_missing_parameter_differs() -> None:
    """A parameter that some runs lack is listed with the values there are, `null` being one."""
    found = compare_facts([facts("a", params={"p": None}), facts("b"), facts("c", params={"p": None})])
    assert found.params_diff == {"p": {"a": None, "c": None}}


def test_one_run_differs_from_nothing() -> None:
    """A comparison of one run has its metrics and no differences."""
    found = compare_facts([facts("a", at_best={"loss": 1.0}, params={"p": 1})])
    assert (found.metrics, found.params_diff) == ({"loss": {"a": 1.0}}, {})


def test_a_run_given_twice_counts_once() -> None:
    """The order is that of the first mention."""
    assert [run.id for run in compare_facts([facts("b"), facts("a"), facts("b")]).runs] == ["b", "a"]


def best_cells(goal: Goal | None, *values: float) -> list[int]:
    sides = [facts(str(i), at_best={"m": value}) for i, value in enumerate(values)]
    known = [
        RunFacts(run=s.run, params={}, series={"m": series("m", 0.0, goal=goal)}, at_best=s.at_best) for s in sides
    ]
    row = next(row for section in compare_facts(known).sections() for row in section.rows if row.label == "m")
    return sorted(row.best)


@pytest.mark.parametrize(("goal", "values", "best"), [
    ("min", (2.0, 1.0, 3.0), [1]), ("max", (2.0, 1.0, 3.0), [2]), (None, (2.0, 1.0), []), ("min", (1.0, 1.0), []),
    ("min", (1.0, 1.0, 2.0), [0, 1]), ("max", (math.nan, 1.0, 2.0), [2]), ("min", (-math.inf, 1.0), [0]),
])  # fmt: skip
def test_the_best_values_are_marked_by_the_goal(goal: Goal | None, values: tuple[float, ...], best: list[int]) -> None:
    """The best of each metric is marked, all of several; none where the goal is unknown or all are equal."""
    assert best_cells(goal, *values) == best


def test_runs_that_disagree_on_the_goal_have_no_best() -> None:
    """A metric that is better small in one run and large in the other has no best value."""
    sides = [
        RunFacts(
            run=facts(i, at_best={"m": v}).run, params={}, series={"m": series("m", 0.0, goal=goal)}, at_best={"m": v}
        )
        for i, v, goal in (("a", 1.0, "min"), ("b", 2.0, "max"))  # type: ignore[arg-type]
    ]
    assert compare_facts(sides).goals == {"m": None}


def shared_names() -> Comparison:
    return compare_facts([facts("aaaaaaaaa1", name="x"), facts("aaaaaaaaa2", name="x"), facts("b", name="y")])


def test_labels_tell_runs_of_one_name_apart() -> None:
    """Runs that share their name are called by it and as much of their ids as differs."""
    assert shared_names().labels == ["x aaaaaaaaa1", "x aaaaaaaaa2", "y"]


def test_losses_come_first_beside_their_twins() -> None:
    """Metrics are in the order in which people read them."""
    keys = ["acc", "val_acc", "lr", "val_loss", "batch/loss", "loss"]
    found = compare_facts([facts("a", at_best=dict.fromkeys(keys, 1.0)), facts("b")])
    assert [row.label for row in found.sections()[1].rows] == ["loss", "val_loss", "acc", "val_acc", "lr", "batch/loss"]


def test_sections_without_lines_are_left_out() -> None:
    """Runs without metrics and differences are just listed."""
    assert [section.title for section in compare_facts([facts("a"), facts("b")]).sections()] == ["Runs"]


def test_underscores_inside_words_stay_readable_in_markdown() -> None:
    """`val_loss` needs no escape, `_emphasis_` does."""
    text = compare_facts([facts("a", at_best={"val_loss": 1.0, "_x_": 1.0})]).to_markdown()
    assert "| val_loss |" in text
    assert r"| \_x\_ |" in text

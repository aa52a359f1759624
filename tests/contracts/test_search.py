"""What a search promises, over every database that we support, held against a plain reading of the same runs."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from draws import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import POINTS, open_small
from sqlalchemy import event, insert, update
from templates import sqlite_store

from tracker.client.batch_builder import make_batch
from tracker.domain.errors import ExperimentNotFound, InvalidFilter, InvalidPageToken, InvalidValue
from tracker.domain.frames import EpochEnded, Frame, MetricDefined, Params, Points, RunEnded, RunStarted, Tags
from tracker.domain.records import Run, Series
from tracker.query.filter_parser import MAX_COMPARISONS, MAX_DEPTH, parse_filter, parse_order, quoted
from tracker.query.filter_tree import And, Compare, Field, In, IsNan, IsNull, Node, Not, Or
from tracker.store import schema
from tracker.store.engine import make_engine, reading, writing
from tracker.store.search.scope import MAX_EXPERIMENTS
from tracker.store.search.search import MAX_TERMS, search
from tracker.store.store import SqlRunStore
from tracker.store.tables import experiments, params, runs, series

LONG = "long " * 45  # 225 characters: longer than what an index holds of a text

OPTIMIZERS = [
    "adam",
    "Adam",
    "sgd",
    "ADAMW",
    LONG + "a",
    LONG + "b",
    "100%",
    "a_c",
    "abc",
    "a*c",
    "[x]",
    "ÉCOLE",
    "école",
]
TEAMS = [
    "vision",
    "Vision",
    "vis%on",
    "C:\\data",
    "c:\\DATA",
    "größe",
    "GRÖßE",
    "",
    "日本",
    LONG + "a",
    "x\ny",
    "it's",
    'the "q"',
]
NUMBERS = [0.5, 0.25, 1.0, -1.0, 0.0, 3.0, 1e300, math.inf, -math.inf, math.nan]


def _frames(number: int, dice: random.Random) -> list[Frame]:
    """A run of its own kind: some of everything, ties, NaN, infinities, and things that are not there."""
    started = 1000 + dice.randrange(12)
    experiment = dice.choice(["Default", "digits", "digits", "faces"])
    frames: list[Frame] = [RunStarted(started, experiment, f"run-{number % 7}", f"file:///runs/{number}", "host", 1)]
    if dice.random() < 0.8:
        frames += [
            Points(2000 + step, "step", step, 0, {"loss": dice.choice(NUMBERS)}) for step in range(dice.randint(1, 3))
        ]
    if dice.random() < 0.7:
        frames.append(Points(2000, "step", 0, 0, {"val/acc": dice.choice([0.5, 0.75, math.nan])}))
    if dice.random() < 0.3:
        frames.append(Points(2000, "step", 0, 0, {"thing": float(number)}))
    if dice.random() < 0.2:
        frames.append(MetricDefined(2000, "never_logged", "min", "declared"))
    if dice.random() < 0.4:
        frames += [EpochEnded(3000, epoch, 0, 0.1, {"val_loss": dice.choice([0.3, 0.2, 0.1])}) for epoch in range(3)]
    values: dict[str, Any] = {}
    if dice.random() < 0.8:
        values["lr"] = dice.choice([0.1, 0.01, 64, "0.1", "1e-2", "high", True, None])
    if dice.random() < 0.9:
        values["optimizer"] = dice.choice(OPTIMIZERS)
    frames.append(Params(2000, 0, values))
    if dice.random() < 0.8:
        frames.append(Tags(2000, {"team": dice.choice(TEAMS), "mlflow.user": dice.choice(["ann", "bob"])}))
    status: Any = dice.choice(["running", "finished", "finished", "failed", "interrupted", "preempted", "lost"])
    if status != "running":
        frames.append(RunEnded(started + dice.randrange(5), status))
    return frames


def add_run(store: SqlRunStore, run_id: str, frames: Sequence[Frame]) -> None:
    store.append(make_batch(run_id, "w", list(enumerate(frames, 1))))


@dataclass(frozen=True)
class Known:
    """A run as every other reader shows it; `number` counts runs as they came."""

    number: int
    run: Run
    metrics: dict[str, Series]
    params: dict[str, Any]
    tags: dict[str, str]


class Fleet:
    """A store and what is in it."""

    def __init__(self, store: SqlRunStore, ids: Sequence[str]) -> None:
        self.store = store
        self.known = [
            Known(i, store.get_run(id), dict(store.metrics(id)), dict(store.params(id)), dict(store.tags(id)))
            for i, id in enumerate(ids)
        ]

    def expected(self, filter: str = "", order_by: Sequence[str] = ()) -> list[str]:
        """The ids of the matching runs in order, found by looking at every run."""
        node = parse_filter(filter)
        return [known.run.id for known in self.ordered(order_by) if node is None or holds(node, known)]

    def ordered(self, order_by: Sequence[str]) -> list[Known]:
        found = sorted(self.known, key=lambda known: (known.run.started_ms, known.number), reverse=True)
        for term in reversed(parse_order(order_by)):
            ranked = {known.number: rank(term.field, known) for known in found}
            top = max(first for first, _ in ranked.values())
            levels = []
            for level in range(top + 1):
                those = [known for known in found if ranked[known.number][0] == level]
                levels += sorted(those, key=lambda known: ranked[known.number][1], reverse=term.descending)
            found = levels
        return found

    def found(self, filter: str = "", *, limit: int = 1000, **more: Any) -> list[str]:
        """The ids of all pages together."""
        ids: list[str] = []
        token = None
        while True:
            page = self.store.search_runs(filter, limit=limit, page_token=token, **more)
            assert len(page.runs) <= limit
            ids += [run.id for run in page.runs]
            assert len(ids) == len(set(ids))
            token = page.next_page_token
            if token is None:
                return ids
            assert len(page.runs) == limit


# -- the plain reading -------------------------------------------------------------------------------------------


def value(field: Field, known: Known) -> Any:
    """The field's value, None where there is none; a parameter's as (text, number)."""
    if field.kind == "metric":
        found = known.metrics.get(field.key)
        extreme = getattr(found, field.stat) if found else None
        return None if extreme is None else extreme.value
    if field.kind == "param":
        if field.key not in known.params:
            return None
        there = known.params[field.key]
        return there if isinstance(there, str) else json.dumps(there), as_number(there)
    if field.kind == "tag":
        return known.tags.get(field.key)
    if field.kind == "dataset":
        return None
    return getattr(known.run, {"run_id": "id"}.get(field.key, field.key))


def as_number(there: Any) -> float | None:
    if isinstance(there, bool) or there is None:
        return None
    try:
        return float(there)
    except ValueError:
        return None


def holds(node: Node, known: Known) -> bool:
    match node:
        case And(parts):
            return all(holds(part, known) for part in parts)
        case Or(parts):
            return any(holds(part, known) for part in parts)
        case Not(part):
            return not holds(part, known)
    there = value(node.field, known)
    if isinstance(node, IsNull):
        return (there is None) != node.negated
    if there is None:
        return False
    match node:
        case IsNan(negated=negated):
            return math.isnan(there) != negated
        case In(values=values, negated=negated):
            return any(compare(there, "=", wanted) for wanted in values) != negated
        case Compare(op=op, value=wanted):
            negated = op.startswith("NOT ") or op == "!="
            return compare(there, op.removeprefix("NOT ").replace("!=", "="), wanted) != negated
    raise AssertionError(node)


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "LIKE": lambda a, b: bool(re.fullmatch(like(b), a, re.DOTALL)),
    "ILIKE": lambda a, b: bool(re.fullmatch(like(b), a, re.DOTALL | re.IGNORECASE)),
}


def like(pattern: str) -> str:
    return "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)


def compare(there: Any, op: str, wanted: Any) -> bool:
    if isinstance(there, tuple):
        there = there[0] if isinstance(wanted, str) else there[1]
        if there is None:
            return False
    return COMPARE[op](there, wanted)


def rank(field: Field, known: Known) -> tuple[int, Any]:
    """The run's place in the field's order: numbers, then NaN or texts, then missing values."""
    there = value(field, known)
    if there is None:
        return 2, 0
    if field.kind == "param":
        text, number = there
        return (1, text[:200]) if number is None else (0, number)
    if field.kind == "metric":
        return (1, 0) if math.isnan(there) else (0, there)
    return (0, there[:200]) if isinstance(there, str) else (0, there)


# -- the fleet ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Sixty runs of all kinds, and two that no search shows; nobody changes them."""
    if request.param == "sqlite":
        url = sqlite_store(tmp_path_factory.mktemp("search"))
    else:
        url = request.getfixturevalue("postgres_module_url")
    engine = make_engine(url)
    with SqlRunStore(engine, clock=lambda: 0, block_points=POINTS) as store:  # a clock that stands: no lease runs out
        dice = random.Random(7)
        ids = [f"r{i:02d}" for i in range(60)]
        for i, run_id in enumerate(ids):
            add_run(store, run_id, _frames(i, dice))
        add_run(store, "deleted", [RunStarted(1005, "digits", "deleted", "file:///", "host", 1)])
        store.delete_run("deleted")
        add_run(store, "hidden", [RunStarted(1005, "gone", "hidden", "file:///", "host", 1)])
        with writing(engine) as connection:
            connection.execute(update(experiments).where(experiments.c.name == "gone").values(deleted_ms=1))
            connection.commit()
        yield Fleet(store, ids)


FILTERS = [
    "", "metrics.loss > 0.25", "metrics.loss >= 0.25", "metrics.loss < 0.5", "metrics.loss <= 0.5",
    "metrics.loss = 0.5", "metrics.loss != 0.5", "metrics.loss = inf", "metrics.loss > -inf", "metrics.loss = nan",
    "metrics.loss != nan", "metrics.loss IN (0.5, 1, nan)", "metrics.loss NOT IN (0.5, 1)", "metrics.loss IS NULL",
    "metrics.loss IS NOT NULL", "metrics.loss IS NAN", "metrics.loss IS NOT NAN", "NOT metrics.loss > 0.25",
    "metrics.loss.best < 0.5", "metrics.loss.min <= 0.25", "metrics.loss.max > 1", "metrics.loss.best IS NULL",
    "metrics.loss.max IS NAN", "metrics.val/acc.best = 0.75", "metrics.`val/acc` IS NAN", "metrics.thing > 20",
    "metrics.thing.best IS NOT NULL", "metrics.thing.min > 20", "metrics.thing > 20 AND metrics.thing < 30",
    "metrics.never_logged IS NULL", "metrics.never_logged != 1", "metrics.nothing > 1", "metrics.nothing != 1",
    "params.lr = 0.1", "params.lr = '0.1'", "params.lr != 0.1", "params.lr < 0.1", "params.lr > 0.05",
    "params.lr < 'a'", "params.lr >= 'high'", "params.lr IN (0.1, 'high')", "params.lr NOT IN (0.1, 'high')",
    "params.lr IS NULL", "params.lr = 'true'", "params.lr = 'null'", "params.lr LIKE '0%'",
    "params.lr NOT LIKE '0%'", "params.optimizer = 'adam'", "params.optimizer != 'adam'",
    "params.optimizer LIKE 'a%'", "params.optimizer LIKE 'A%'", "params.optimizer ILIKE 'a%'",
    "params.optimizer NOT ILIKE 'adam%'", "params.optimizer LIKE '%m'", "params.optimizer LIKE '100%'",
    "params.optimizer LIKE 'a_c'", "params.optimizer LIKE 'a*c'", "params.optimizer LIKE '[x]'",
    "params.optimizer ILIKE 'école'", "params.optimizer ILIKE 'ÉCOLE'", "params.optimizer LIKE '_____'",
    "params.optimizer IN ('adam', 'sgd')", "params.optimizer > 'b'", "params.optimizer <= 'adam'",
    f"params.optimizer = '{LONG}a'", f"params.optimizer != '{LONG}a'", f"params.optimizer LIKE '{LONG}%'",
    f"params.optimizer LIKE '{LONG}b'", f"params.optimizer IN ('{LONG}a', 'sgd')",
    f"params.optimizer = '{LONG[:200]}'", "tags.team = 'vision'", "tags.team LIKE 'vis_on'",
    "tags.team ILIKE 'VISION'", "tags.team LIKE 'C:\\%'", "tags.team ILIKE 'c:\\data'", "tags.team ILIKE 'gr_ßE'",
    "tags.team = ''", "tags.team LIKE ''", "tags.team LIKE '%'", "tags.team > 'w'", "tags.team LIKE '日%'",
    "tags.team LIKE 'x_y'", "tags.team = \"it's\"", "tags.team IS NULL", r"tags.team = E'the \"q\"'",
    f"tags.team = '{LONG}a'", "tags.team NOT IN ('vision', '')", "tags.nothing != 'x'", "user_id = 'ann'",
    "status = 'FINISHED'", "status = 'KILLED'", "status != 'lost'", "status IN ('running', 'lost')",
    "status = 'SCHEDULED'", "status LIKE 'f%'", "name = 'run-3'", "name != 'run-3'", "name LIKE 'run-%'",
    "name ILIKE 'RUN-2'", "name IN ('run-1', 'run-2')", "name > 'run-4'", "run_id = 'r07'",
    "run_id IN ('r07', 'r08', 'x')", "run_id LIKE 'r1%'", "run_id NOT IN ('r07')", "start_time > 1005",
    "start_time > 1005.5", "start_time < 1005.5", "start_time <= 1005.5", "start_time >= 1005.5", "start_time = 1005.5", "start_time != 1005.5", "start_time <= 1005",
    "start_time >= 1004.2", "start_time IN (1004, 1005.5, 1006)", "start_time NOT IN (1004)",
    "start_time < 99999999999999999999999", "start_time > 99999999999999999999999", "start_time > -inf",
    "start_time < nan", "start_time != nan", "start_time != -99999999999999999999999",
    "start_time >= 9223372036854775807", "start_time > 1004 AND start_time < 1008", "end_time > 1006",
    "end_time IS NULL", "end_time IS NOT NULL", "NOT end_time > 1006", "end_time != 1006",
    "end_time < 99999999999999999999999", "NOT end_time IN (1006, 1007)", "best_epoch >= 1", "best_epoch IS NULL",
    "NOT best_epoch >= 1", "best_value < 0.2", "best_value != 0.1", "best_value IN (0.1, 0.2)",
    "best_metric = 'val_loss'", "best_metric IS NULL", "NOT best_metric = 'val_loss'", "best_metric LIKE 'val%'",
    "artifact_uri LIKE '%/1'", "experiment = 'digits'", "experiment != 'digits'",
    "experiment IN ('digits', 'faces')", "experiment LIKE 'd%'", "experiment ILIKE 'd%'", "experiment IS NULL",
    "dataset.name = 'x'", "dataset.name != 'x'", "NOT dataset.digest IN ('x')", "dataset.name IS NULL",
    "metrics.loss > 0 AND params.optimizer = 'adam'",
    "metrics.loss > 0 OR params.optimizer = 'adam' OR run_id = 'r03'", "run_id = 'r03' OR run_id = 'r04'",
    "(run_id = 'r03' AND name = 'run-4') OR tags.team = 'vision'",
    "NOT (metrics.loss > 0 AND params.optimizer = 'adam')", "NOT (metrics.loss IS NULL OR tags.team = 'vision')",
    "metrics.loss > 0 AND NOT (status = 'failed' OR (name = 'run-1' AND metrics.`val/acc` > 0.5))",
]  # fmt: skip

ORDERS = [
    [], ["start_time DESC"], ["start_time ASC"], ["metrics.loss"], ["metrics.loss DESC"], ["metrics.loss.best"],
    ["metrics.loss.best DESC"], ["metrics.loss.min"], ["metrics.loss.max DESC"], ["metrics.val/acc"],
    ["metrics.val/acc DESC"], ["metrics.thing"], ["metrics.thing DESC"], ["metrics.thing.best"],
    ["metrics.never_logged DESC"], ["metrics.nothing"], ["params.lr"], ["params.lr DESC"], ["params.optimizer"],
    ["params.optimizer DESC"], ["params.nothing DESC"], ["tags.team"], ["tags.team DESC"], ["tags.nothing"],
    ["name"], ["name DESC"], ["run_id"], ["run_id DESC"], ["status"], ["experiment DESC"], ["end_time"],
    ["end_time DESC"], ["best_epoch DESC"], ["best_value"], ["best_metric DESC"], ["artifact_uri"],
    ["metrics.loss DESC", "start_time DESC"], ["metrics.loss", "metrics.val/acc DESC"],
    ["status", "params.lr DESC", "metrics.loss"], ["params.optimizer", "tags.team DESC"], ["start_time", "name"],
    ["experiment", "best_epoch", "run_id DESC"],
]  # fmt: skip


def _id(value: Any) -> str:
    return ascii(value if isinstance(value, str) else ", ".join(value) or "none").replace(LONG, "…")[:90]


class TestSearch:
    """The contract of search."""

    @pytest.mark.parametrize("filter", FILTERS, ids=_id)
    def test_filter(self, fleet: Fleet, filter: str) -> None:
        """A search finds just the runs for which the filter holds, newest first."""
        assert fleet.found(filter) == fleet.expected(filter)

    def test_filters_tell_runs_apart(self, fleet: Fleet) -> None:
        """The table of filters is worth something: most hold for some runs and not for all."""
        sizes = [len(fleet.expected(filter)) for filter in FILTERS]
        assert sum(0 < size < 60 for size in sizes) > 0.8 * len(sizes)

    @pytest.mark.parametrize("order_by", ORDERS, ids=_id)
    def test_order(self, fleet: Fleet, order_by: list[str]) -> None:
        """Numbers, then NaN or texts, then runs without the value, in both directions; ties newest first."""
        assert fleet.found(order_by=order_by) == fleet.expected(order_by=order_by)

    @pytest.mark.parametrize("limit", [5, 59, 60])
    @pytest.mark.parametrize("order_by", ORDERS, ids=_id)
    def test_pages(self, fleet: Fleet, order_by: list[str], limit: int) -> None:
        """All pages together are every run once, in order, however the order is tied and whatever is missing."""
        filters = ("", "metrics.loss > -inf", "NOT name = 'run-3'", "params.optimizer LIKE 'a%'")
        for filter in random.Random(f"{order_by} {limit}").sample(filters, 2):
            assert fleet.found(filter, order_by=order_by, limit=limit) == fleet.expected(filter, order_by)

    @settings(max_examples=examples(120), deadline=None)
    @given(data=st.data())
    def test_any_filter_in_any_order(self, fleet: Fleet, data: st.DataObject) -> None:
        """Conditions may be put together in any way, ordered and paged in any way."""
        filter = data.draw(filters)
        order_by = data.draw(st.sampled_from(ORDERS))
        limit = data.draw(st.sampled_from([4, 11, 100]))
        assert fleet.found(filter, order_by=order_by, limit=limit) == fleet.expected(filter, order_by)

    def test_rows(self, fleet: Fleet) -> None:
        """A search shows a run as `get_run` does."""
        assert list(fleet.store.search_runs().runs) == [known.run for known in fleet.ordered([])]

    @pytest.mark.parametrize("order_by", [[], ["metrics.loss"], ["status"]], ids=_id)
    @pytest.mark.parametrize("names", [["digits"], ["digits", "faces"], ["faces", "faces"], []], ids=_id)
    def test_experiments(self, fleet: Fleet, names: list[str], order_by: list[str]) -> None:
        """Only runs of the named experiments are found."""
        ids = {known.run.id for known in fleet.known if known.run.experiment in names}
        for filter in ("", "metrics.loss > 0", "name = 'run-3'"):
            expected = [run_id for run_id in fleet.expected(filter, order_by) if run_id in ids]
            assert fleet.found(filter, experiments=names, order_by=order_by) == expected
            assert fleet.found(filter, experiments=names, order_by=order_by, limit=3) == expected

    def test_one_experiment_may_be_a_name(self, fleet: Fleet) -> None:
        """A single name is not taken for a list of letters, nor is a single order term."""
        assert fleet.found(experiments="digits", order_by="name") == fleet.found(
            experiments=["digits"], order_by=["name"]
        )

    @pytest.mark.parametrize("name", ["nobody", "gone"])
    def test_unknown_experiment(self, fleet: Fleet, name: str) -> None:
        """An experiment that is not there, or deleted, is an error that names it."""
        with pytest.raises(ExperimentNotFound, match=name):
            fleet.store.search_runs(experiments=["digits", name])

    def test_impossible_experiment(self, fleet: Fleet) -> None:
        """A name that no experiment can have is refused before a database sees it."""
        with pytest.raises(InvalidValue, match="control character"):
            fleet.store.search_runs(experiments=["a\x00"])

    @pytest.mark.parametrize("limit", [0, -1, 50_001, 1.5, "10", None, True])
    def test_limit_out_of_bounds(self, fleet: Fleet, limit: Any) -> None:
        """The limit is a whole number from 1 to 50 000."""
        with pytest.raises(InvalidValue, match="limit"):
            fleet.store.search_runs(limit=limit)

    def test_too_much_at_once(self, fleet: Fleet) -> None:
        """Order terms and experiments are bounded; the bounds themselves are fine."""
        terms = [f"metrics.m{i}" for i in range(MAX_TERMS)]
        assert fleet.found(order_by=terms, limit=7) == fleet.expected()
        with pytest.raises(InvalidValue, match="21 fields"):
            fleet.store.search_runs(order_by=[*terms, "name"])
        names = [f"e{i}" for i in range(MAX_EXPERIMENTS + 1)]
        with pytest.raises(ExperimentNotFound, match="'e0'"):
            fleet.store.search_runs(experiments=names[:-1])
        with pytest.raises(InvalidValue, match="10001 names"):
            fleet.store.search_runs(experiments=names)

    def test_last_page_has_no_token(self, fleet: Fleet) -> None:
        """A full last page is known to be the last."""
        assert fleet.store.search_runs(limit=50_000).next_page_token is None
        assert fleet.store.search_runs(limit=60).next_page_token is None
        assert fleet.store.search_runs(limit=59).next_page_token is not None

    @pytest.mark.parametrize("order_by", [[], ["metrics.loss"], ["params.lr DESC"], ["status", "name"]], ids=_id)
    def test_token_changed(self, fleet: Fleet, order_by: list[str]) -> None:
        """A token with any character changed, left out or added is refused."""
        token = fleet.store.search_runs("metrics.loss > -inf", order_by=order_by, limit=5).next_page_token
        assert token is not None
        changed = [token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :] for i in range(len(token))]
        for bad in [*changed, token[:-1], token + "A", token + "=", f" {token}", "", "x", "é", "AAAA" * 10, "\x00"]:
            with pytest.raises(InvalidPageToken):
                fleet.store.search_runs("metrics.loss > -inf", order_by=order_by, limit=5, page_token=bad)

    def test_token_of_another_query(self, fleet: Fleet) -> None:
        """A token belongs to its filter, experiments and order; the limit may change from page to page."""
        asked: dict[str, Any] = {
            "filter": "metrics.loss > -inf",
            "experiments": ["digits"],
            "order_by": ["metrics.loss"],
        }
        token = fleet.store.search_runs(**asked, limit=3).next_page_token
        rest = fleet.store.search_runs(**asked, limit=100, page_token=token)
        assert [run.id for run in rest.runs] == fleet.found(**asked)[3:]
        others: list[dict[str, Any]] = [
            {"filter": "metrics.loss > 0"},
            {"experiments": None},
            {"order_by": ["metrics.loss DESC"]},
            {"order_by": []},
        ]
        for other in others:
            with pytest.raises(InvalidPageToken, match="not a token of this search"):
                fleet.store.search_runs(**{**asked, **other}, page_token=token)

    def test_token_does_not_grow_with_the_values(self, fleet: Fleet) -> None:
        """Tokens go into URLs, whatever the length of the text that they hold the place in."""
        page = fleet.store.search_runs(f"params.optimizer LIKE '{LONG}%'", order_by=["params.optimizer"], limit=1)
        assert len(page.next_page_token or "") < 400

    def test_wrong_filter_or_order(self, fleet: Fleet) -> None:
        """What does not parse is InvalidFilter with its position, in the order too."""
        with pytest.raises(InvalidFilter, match="position 8"):
            fleet.store.search_runs("metrics.")
        with pytest.raises(InvalidFilter, match="unknown attribute 'colour'"):
            fleet.store.search_runs(order_by=["colour"])

    def test_largest_filters(self, fleet: Fleet) -> None:
        """What the language allows, the databases take: depth, number of comparisons, length of texts and lists."""
        deep = deeper = "metrics.loss > 0"
        for i in range(MAX_DEPTH):
            deep = f"run_id = 'r01' {'AND' if i % 2 else 'OR'} ({deep})"
        for _ in range(MAX_DEPTH // 4):
            deeper = f"NOT (params.lr = 'x' OR status = 'failed' AND tags.team != 'y' AND ({deeper} OR name = 'z'))"
        either = " OR ".join([*[f"tags.t{i} = ''" for i in range(MAX_COMPARISONS - 1)], "id = 'r05'"])
        listed = ", ".join(f"'r{i}'" for i in range(1200))
        for filter in (deep, deeper, either, f"run_id IN ({listed})", f"tags.team LIKE '{'*' * 9000}'",
                       f"tags.team != '{'é' * 9000}'", f"tags.team ILIKE '{'É' * 9000}'"):  # fmt: skip
            assert fleet.found(filter, order_by=["metrics.loss"]) == fleet.expected(filter, ["metrics.loss"])
        every = " AND ".join(["tags.x IS NULL"] * MAX_COMPARISONS)
        assert len(fleet.found(every)) == 60

    def test_filter_text_is_never_sql(self, fleet: Fleet) -> None:
        """Keys and values reach the database as values."""
        for text in ("'; DROP TABLE runs; --", "%(x)s", ":x", "?", "{}", "\\", "%", "$1"):
            assert (
                fleet.found(f"params.{quoted(text)} = {quoted(text)} OR tags.{quoted(text)} LIKE {quoted(text)}") == []
            )
        assert len(fleet.found()) == 60


# Conditions on what the fleet has, so that most hold for some runs.
_numbers = st.sampled_from(["0.5", "1", "0", "-1", "inf", "nan", "0.75", "20"])
_texts = st.sampled_from([*OPTIMIZERS, *TEAMS, "high", "0.1", "true", "a%", "%A%", "_is%", "é%"]).map(quoted)
_orders = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_likes = st.sampled_from(["=", "!=", "<", ">=", "LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"])
_metrics = st.sampled_from(["loss", "loss.best", "loss.min", "loss.max", "`val/acc`", "thing", "never_logged"])
_text_fields = st.sampled_from(["params.optimizer", "params.lr", "tags.team", "name", "best_metric", "experiment"])
_null = st.sampled_from(["IS NULL", "IS NOT NULL"])


def _join(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)).map(" ".join)


_leaves = st.one_of(
    _join(_metrics.map("metrics.{}".format), _orders, _numbers),
    _join(_metrics.map("metrics.{}".format), st.sampled_from(["IS NAN", "IS NOT NAN", "IS NULL", "IS NOT NULL"])),
    _join(_metrics.map("metrics.{}".format), st.sampled_from(["IN", "NOT IN"]), "(", _numbers, ",", _numbers, ")"),
    _join("params.lr", _orders, _numbers),
    _join(_text_fields, _likes, _texts),
    _join(_text_fields, st.sampled_from(["IN", "NOT IN"]), "(", _texts, ",", _texts, ")"),
    _join(_text_fields | st.sampled_from(["end_time", "best_epoch", "best_value"]), _null),
    _join("start_time", _orders, st.sampled_from(["1004", "1006.5", "1008", "1e30"])),
    _join(st.sampled_from(["end_time", "best_epoch"]), _orders, st.sampled_from(["1", "1006", "1e30"])),
    _join("status", st.sampled_from(["=", "!="]), st.sampled_from(["'KILLED'", "'finished'", "'SCHEDULED'"])),
    _join("run_id", st.sampled_from(["=", ">", "IN"]), "(", "'r05'", ")").map(
        lambda text: text if "IN" in text else text.replace("( ", "").replace(" )", "")
    ),
)

filters = st.recursive(
    _leaves,
    lambda inner: _join("(", inner, st.sampled_from(["AND", "OR"]), inner, ")") | _join("NOT (", inner, ")"),
    max_leaves=6,
)


def test_runs_that_come_and_go_between_pages(any_url: str) -> None:
    """Pages go on after the last run shown: new runs are not shown twice, and hide nothing."""
    with open_small(any_url) as store:
        for i in range(10):
            add_run(
                store,
                f"r{i}",
                [RunStarted(100 + i, "Default", "n", "", "h", 1), Points(1, "step", 0, 0, {"m": i // 4})],
            )
        for order_by, first, second in (
            ([], ["r9", "r8", "r7"], ["r5", "r4", "r3"]),
            (["metrics.m"], ["r3", "r2", "r1"], ["r0", "r7", "r5"]),
        ):
            page = store.search_runs(order_by=order_by, limit=3)
            assert [run.id for run in page.runs] == first
            add_run(store, f"new{len(order_by)}", [RunStarted(500, "Default", "n", "", "h", 1)])
            store.delete_run("r6")
            page = store.search_runs(order_by=order_by, limit=3, page_token=page.next_page_token)
            assert [run.id for run in page.runs] == second


# -- how much a page costs ---------------------------------------------------------------------------------------

FEW, MANY = 1_000, 8_000

QUERIES: list[dict[str, Any]] = [
    {},
    {"experiments": ["many"]},
    {"filter": "status = 'finished'"},
    {"order_by": ["metrics.a DESC"]},
    {"order_by": ["metrics.a.best"], "experiments": ["many"]},
    {"filter": "metrics.b > 0.5", "order_by": ["metrics.a"]},
    {"filter": "metrics.a > 0.9", "order_by": ["metrics.a"]},
    {"filter": "metrics.b > 0.5 AND params.p = 'x1'", "order_by": ["metrics.a.best DESC"]},
    {"filter": "params.p = 'x1'"},
    {"filter": "params.n < 0.5", "order_by": ["params.n"]},
    {"filter": "params.u = 'u77'", "order_by": ["metrics.a"]},
    {"filter": "metrics.rare > 0", "order_by": ["metrics.a"]},
    {"order_by": ["metrics.rare"]},
    {"order_by": ["metrics.tied"]},
    {"order_by": ["params.p DESC"]},
    {"order_by": ["metrics.a"], "experiments": ["few"]},
    {"order_by": ["metrics.a DESC", "metrics.b"]},
    {"order_by": ["params.n", "metrics.tied"], "filter": "metrics.b > 0.5"},
    {"order_by": ["name", "metrics.a"]},
    {"order_by": ["run_id DESC"]},
    {"order_by": ["status"]},
    {"order_by": ["end_time DESC"]},
    {"filter": "status = 'running'"},
    {"filter": "status IN ('failed', 'lost') AND name LIKE 'n%'", "experiments": ["many"]},
]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Stores of a few runs and of many, alike otherwise."""
    return {count: _filled(tmp_path_factory.mktemp("sizes") / f"{count}.db", count) for count in (FEW, MANY)}


def _filled(path: Path, count: int) -> str:
    url = f"sqlite:///{path}"
    engine = make_engine(url)
    schema.ensure(engine)
    dice = random.Random(1)
    run_rows, series_rows, param_rows = [], [], []
    for i in range(1, count + 1):
        run_rows.append(
            {"id": i, "uid": f"r{i}", "experiment_id": 2 if i * 10 <= FEW else 1, "name": f"n{i}", "status": "finished",
             "started_ms": i * 10, "alive_ms": i, "writer": "w", "artifact_uri": ""}
        )  # fmt: skip
        numbers = {"a": dice.random(), "b": dice.random(), "tied": 1.0} | ({"rare": 1.0} if i * 20 <= FEW else {})
        series_rows += [
            {"run_id": i, "key": key, "axis": "step", "top_step": 0, "take": 0,
             "count": 1, "last_value": number, "last_step": 0, "best_value": number}
            for key, number in numbers.items()
        ]  # fmt: skip
        texts: list[tuple[str, str, float | None]] = [
            ("p", f"x{i % 3}", None),
            ("u", f"u{i}", None),
            ("n", "?", dice.random()),
        ]
        param_rows += [{"run_id": i, "key": key, "type": "str", "text": text, "number": n} for key, text, n in texts]
    with writing(engine) as connection:
        for name, number in (("many", 1), ("few", 2)):
            connection.execute(insert(experiments).values(id=number, name=name, created_ms=0))
        connection.execute(insert(runs), run_rows)
        connection.execute(insert(series), series_rows)
        connection.execute(insert(params), param_rows)
        connection.commit()
    engine.dispose()
    return url


def _steps(url: str, query: dict[str, Any]) -> list[int]:
    """Thousands of steps of SQLite's machine that the first two pages of 50 take, each."""
    engine = make_engine(url)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    event.listen(engine, "connect", lambda connection, _: connection.set_progress_handler(step, 100))
    costs = []
    token = None
    with reading(engine) as connection:
        for _ in range(2):
            before = steps
            _, token = search(connection, limit=50, page_token=token, **query)
            costs.append(steps - before)
    engine.dispose()
    return costs


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_page_costs_the_same_among_many_runs(sizes: dict[int, str], query: dict[str, Any]) -> None:
    """A page of eight times as many runs takes less than twice the work: none of the rest is read."""
    for few, many in zip(_steps(sizes[FEW], query), _steps(sizes[MANY], query), strict=True):
        assert many < 2 * few + 50

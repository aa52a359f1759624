"""The filter language: what every form means, MLflow's strings among them, and what is said about the others."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.errors import InvalidFilter
from tracker.query.filter_parser import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_PARENTHESES,
    parse_filter,
    parse_order,
    quoted,
)
from tracker.query.filter_tree import (
    NUMBER_ATTRIBUTES,
    TEXT_ATTRIBUTES,
    And,
    Compare,
    Field,
    In,
    IsNan,
    IsNull,
    Node,
    Not,
    Operator,
    Or,
    OrderTerm,
    Stat,
)


def metric(key: str, stat: Stat = "last") -> Field:
    return Field("metric", key, stat)


def param(key: str) -> Field:
    return Field("param", key)


def tag(key: str) -> Field:
    return Field("tag", key)


def attribute(key: str) -> Field:
    return Field("attribute", key)


def statuses(*words: str) -> In:
    return In(attribute("status"), words)


# MLflow's own strings, with what MLflow 3.17.2 takes them to mean: the two must never part.
MLFLOW: list[tuple[str, Node]] = [
    ("metrics.a > 1", Compare(metric("a"), ">", 1)),
    ("metric.a.b.c > 1.5", Compare(metric("a.b.c"), ">", 1.5)),
    ("metrics.a>=-1", Compare(metric("a"), ">=", -1)),
    ("metrics.a < .5", Compare(metric("a"), "<", 0.5)),
    ("metrics.a <= 5.", Compare(metric("a"), "<=", 5)),
    ("metrics.a = 1e-3", Compare(metric("a"), "=", 0.001)),
    ("metrics.a != -1E5", Compare(metric("a"), "!=", -1e5)),
    ("metrics.a > 1e400", Compare(metric("a"), ">", float("inf"))),
    ('metrics."a b" > 1', Compare(metric("a b"), ">", 1)),
    ("metrics.`a b` > 1", Compare(metric("a b"), ">", 1)),
    ("`metrics`.`a b` > 1", Compare(metric("a b"), ">", 1)),
    ("metrics.'a b' > 1", Compare(metric("a b"), ">", 1)),
    ("metrics.1a > 1", Compare(metric("1a"), ">", 1)),
    ("metrics.é > 1", Compare(metric("é"), ">", 1)),
    ("metrics.a[0] > 1", Compare(metric("a[0]"), ">", 1)),
    ("metrics.order > 1", Compare(metric("order"), ">", 1)),
    ("metrics.max > 1", Compare(metric("max"), ">", 1)),
    ("  metrics.a\n>\t1  ", Compare(metric("a"), ">", 1)),
    ("params.a = 'x'", Compare(param("a"), "=", "x")),
    ('param.a != "x"', Compare(param("a"), "!=", "x")),
    ("parameters.a='x'", Compare(param("a"), "=", "x")),
    ("parameter.a LIKE 'x%'", Compare(param("a"), "LIKE", "x%")),
    ("params.a like'x_'", Compare(param("a"), "LIKE", "x_")),
    ('params.a ILIKE "%X"', Compare(param("a"), "ILIKE", "%X")),
    ("params.lr = '0.1'", Compare(param("lr"), "=", "0.1")),
    ("params.`a` IS NULL", IsNull(param("a"))),
    ("tags.a is not null", IsNull(tag("a"), negated=True)),
    ("params.a = ''", Compare(param("a"), "=", "")),
    ('params.a = "it\'s"', Compare(param("a"), "=", "it's")),
    ("params.a = 'it''s'", Compare(param("a"), "=", "it''s")),
    (r"params.a = 'it\'s'", Compare(param("a"), "=", r"it\'s")),
    ("params.a = 'C:\\'", Compare(param("a"), "=", "C:\\")),
    (r"params.a = 'x\ny'", Compare(param("a"), "=", r"x\ny")),
    ('params.a = "a ""q"" b"', Compare(param("a"), "=", 'a ""q"" b')),
    (r'params.a = "it\"s"', Compare(param("a"), "=", r'it\"s')),
    ('params.a = "C:\\"', Compare(param("a"), "=", "C:\\")),
    ('params."a b" = "x" AND tags."c" = "y"', And((Compare(param("a b"), "=", "x"), Compare(tag("c"), "=", "y")))),
    ("params.'a b' = 'x' AND tags.'c' = 'y'", And((Compare(param("a b"), "=", "x"), Compare(tag("c"), "=", "y")))),
    ("params.`a b` = '' AND tags.`c` = ''", And((Compare(param("a b"), "=", ""), Compare(tag("c"), "=", "")))),
    ("params.`a``b` = 'x'", Compare(param("a``b"), "=", "x")),
    (
        "params.a = 'AND' and params.and = 'x'",
        And((Compare(param("a"), "=", "AND"), Compare(param("and"), "=", "x"))),
    ),
    ("tag.mlflow.source.name = 'x'", Compare(tag("mlflow.source.name"), "=", "x")),
    ('tags."mlflow.note/content" = \'x\'', Compare(tag("mlflow.note/content"), "=", "x")),
    ("status = 'RUNNING'", statuses("running")),
    ("attributes.status = 'FINISHED'", statuses("finished")),
    ('attr.status = "FAILED"', statuses("failed")),
    ("attribute.`status` = 'KILLED'", statuses("interrupted", "preempted", "lost")),
    ("run.status != 'KILLED'", statuses("running", "finished", "failed")),
    ("status = 'SCHEDULED'", statuses()),
    ("status LIKE 'FIN%'", statuses("finished")),
    ("status ILIKE 'f%'", statuses("finished", "failed")),
    ("run_name = 'a'", Compare(attribute("name"), "=", "a")),
    ("attributes.`run name` = 'a'", Compare(attribute("name"), "=", "a")),
    ("attributes.\"Run name\" LIKE 'a%'", Compare(attribute("name"), "LIKE", "a%")),
    ("`Run name` = 'a'", Compare(attribute("name"), "=", "a")),
    ("\"Run Name\" = 'a'", Compare(attribute("name"), "=", "a")),
    ("tags.mlflow.runName = 'a'", Compare(attribute("name"), "=", "a")),
    ("tags.`mlflow.runName` = 'a'", Compare(attribute("name"), "=", "a")),
    ("start_time > 1", Compare(attribute("started_ms"), ">", 1)),
    ("created > 1", Compare(attribute("started_ms"), ">", 1)),
    ("attributes.Created >= 1", Compare(attribute("started_ms"), ">=", 1)),
    ("end_time < 1.5", Compare(attribute("ended_ms"), "<", 1.5)),
    ("attributes.end_time > 99999999999999999999999", Compare(attribute("ended_ms"), ">", 99999999999999999999999)),
    ("artifact_uri LIKE '%x'", Compare(attribute("artifact_uri"), "LIKE", "%x")),
    ("user_id = 'me'", Compare(tag("mlflow.user"), "=", "me")),
    ("run_id = 'a'", Compare(attribute("run_id"), "=", "a")),
    ("run_id IN ('a', \"b\")", In(attribute("run_id"), ("a", "b"))),
    ("attributes.run_id in ('a',)", In(attribute("run_id"), ("a",))),
    ("run_id NOT IN ( 'a' )", In(attribute("run_id"), ("a",), negated=True)),
    ("dataset.name = 'x'", Compare(Field("dataset", "name"), "=", "x")),
    ("datasets.digest IN ('x')", In(Field("dataset", "digest"), ("x",))),
    (
        "metrics.a > 1 AND params.b = 'x' and tags.c != \"y\"",
        And((Compare(metric("a"), ">", 1), Compare(param("b"), "=", "x"), Compare(tag("c"), "!=", "y"))),
    ),
]  # fmt: skip

A, B, C = (Compare(metric(key), ">", 1.0) for key in "abc")

OURS: list[tuple[str, Node | None]] = [
    ("", None),
    (" \n", None),
    ("metrics.a.best < 1", Compare(metric("a", "best"), "<", 1)),
    ("metrics.batch/loss.min < 1", Compare(metric("batch/loss", "min"), "<", 1)),
    ("metrics.a.last < 1", Compare(metric("a", "last"), "<", 1)),
    ("metrics.a.best.max < 1", Compare(metric("a.best", "max"), "<", 1)),
    ("metrics.best < 1", Compare(metric("best"), "<", 1)),
    ("metrics.`a.best` < 1", Compare(metric("a.best"), "<", 1)),
    ('metrics."a b".best < 1', Compare(metric("a b", "best"), "<", 1)),
    ("metrics.a.bestest < 1", Compare(metric("a.bestest"), "<", 1)),
    ("params.a.best = 'x'", Compare(param("a.best"), "=", "x")),
    ("metrics.batch/loss>1", Compare(metric("batch/loss"), ">", 1)),
    ("metrics.a-b+c@k:1 > 1", Compare(metric("a-b+c@k:1"), ">", 1)),
    ("METRICS.A > +1", Compare(metric("A"), ">", 1)),
    ("metrics.a == 1", Compare(metric("a"), "=", 1)),
    ("metrics.a <> 1", Compare(metric("a"), "!=", 1)),
    ("metrics.a < Infinity", Compare(metric("a"), "<", float("inf"))),
    ("metrics.a > -inf", Compare(metric("a"), ">", float("-inf"))),
    ("metrics.a IN (1, 2.5)", In(metric("a"), (1.0, 2.5))),
    ("metrics.a IS NULL", IsNull(metric("a"))),
    ("metrics.a IS NAN", IsNan(metric("a"))),
    ("metrics.a is not nan", IsNan(metric("a"), negated=True)),
    ("params.a < 0.01", Compare(param("a"), "<", 0.01)),
    ("params.a >= 'b'", Compare(param("a"), ">=", "b")),
    ("params.a NOT IN ('x', 1)", In(param("a"), ("x", 1.0), negated=True)),
    ("tags.a not like 'x%'", Compare(tag("a"), "NOT LIKE", "x%")),
    ("tags.a NOT  ILIKE 'x%'", Compare(tag("a"), "NOT ILIKE", "x%")),
    (r"tags.a = E'it\'s \"\\'", Compare(tag("a"), "=", "it's \"\\")),
    (r"tags.e'a\'`b' = 'x'", Compare(tag("a'`b"), "=", "x")),
    ("status = 'preempted'", statuses("preempted")),
    ("status IN ('Lost', 'finished')", statuses("finished", "lost")),
    ("status NOT IN ('killed', 'running')", statuses("finished", "failed")),
    ("status NOT LIKE '%ed'", statuses("running", "lost")),
    ("tags.tracker.status = 'lost'", statuses("lost")),
    ("tags.`tracker.best_metric` LIKE 'val%'", Compare(attribute("best_metric"), "LIKE", "val%")),
    ("tags.tracker.best_epoch = '3'", Compare(attribute("best_epoch"), "=", 3)),
    ("tags.tracker.best_value IN ('0.5', '1')", In(attribute("best_value"), (0.5, 1))),
    ("metrics.`tracker.best_epoch` >= 3", Compare(attribute("best_epoch"), ">=", 3)),
    ("metrics.tracker.best_value != 0.5", Compare(attribute("best_value"), "!=", 0.5)),
    ("metrics.tracker.best_value.best < 1", Compare(metric("tracker.best_value", "best"), "<", 1)),
    ("name = 'a'", Compare(attribute("name"), "=", "a")),
    ("id = 'a'", Compare(attribute("run_id"), "=", "a")),
    ("experiment = 'a'", Compare(attribute("experiment"), "=", "a")),
    ("best_epoch > 3", Compare(attribute("best_epoch"), ">", 3)),
    ("attributes.best_value < 0.5", Compare(attribute("best_value"), "<", 0.5)),
    ("best_metric = 'val_loss'", Compare(attribute("best_metric"), "=", "val_loss")),
    (
        "started_ms > 1 OR ended_ms IS NULL",
        Or((Compare(attribute("started_ms"), ">", 1), IsNull(attribute("ended_ms")))),
    ),
    ("metrics.a > 1 OR metrics.b > 1 AND metrics.c > 1", Or((A, And((B, C))))),
    ("(metrics.a > 1 OR metrics.b > 1) AND metrics.c > 1", And((Or((A, B)), C))),
    ("metrics.a > 1 AND (metrics.b > 1 AND metrics.c > 1)", And((A, B, C))),
    ("((metrics.a > 1))", A),
    ("NOT metrics.a > 1 AND metrics.b > 1", And((Not(A), B))),
    ("not(metrics.a > 1 and metrics.b > 1)", Not(And((A, B)))),
    ("NOT NOT metrics.a > 1", A),
]  # fmt: skip


@pytest.mark.parametrize(("text", "tree"), MLFLOW, ids=[text for text, _ in MLFLOW])
def test_mlflow_string(text: str, tree: Node) -> None:
    """A string of MLflow's means what MLflow takes it to mean."""
    assert parse_filter(text) == tree


@pytest.mark.parametrize(("text", "tree"), OURS, ids=[text for text, _ in OURS])
def test_own_string(text: str, tree: Node | None) -> None:
    """What the language has beyond MLflow's."""
    assert parse_filter(text) == tree


CONDITION = "a condition like"
COMPARISON = "a comparison: ="
VALUE = "a value: a number, or a text in quotes"

WRONG = [
    ("metrics.a", 9, COMPARISON),
    ("metrics.a  ", 9, "found the end"),
    ("metrics.a >", 11, VALUE),
    ("metrics.a ? 1", 10, "found '?'"),
    ("metrics.a > 1 AND", 17, CONDITION),
    ("metrics.a > 1 AND AND metrics.b > 1", 18, CONDITION),
    ("AND metrics.a > 1", 0, CONDITION),
    ("metrics.a > 1 metrics.b > 1", 14, "AND, OR or the end"),
    ("metrics.a > 1; metrics.b > 1", 13, "AND, OR or the end"),
    ("metrics.a > 1)", 13, "AND, OR or the end, found ')'"),
    ("(metrics.a > 1", 14, "AND, OR or ')', found the end"),
    ("1 < metrics.a", 0, CONDITION),
    ("metrics.a > 1x", 12, "found '1x'"),
    ("metrics.a > 0x10", 12, VALUE),
    ("metrics.a > '1'", 12, "expected a number"),
    ("metrics.a IN (1, 'x')", 17, "expected a number"),
    ("metrics.a LIKE '1'", 10, "LIKE compares text"),
    ("start_time = '2026'", 13, "start_time is a number"),
    ("params.a LIKE 1", 14, "a text in quotes"),
    ("tags.a = 1", 9, "a text in quotes"),
    ("name = 1", 7, "a text in quotes"),
    ("status > 'running'", 7, "no order"),
    ("dataset.name < 'x'", 13, "no order"),
    ("params.a = adam", 11, VALUE),
    ("params.a = `x`", 11, VALUE),
    ("params.a = 'adam", 11, "the quote ' is never closed"),
    ("params.`a = 1", 7, "the quote ` is never closed"),
    ("params.a = 'x' 'y'", 15, "found \"'y'\""),
    ("metrics. > 1", 7, "found '.'"),
    ("metrics.=1", 8, "a key"),
    ("metrics > 1", 7, "a key right after 'metrics.'"),
    ("metrics.a b > 1", 10, COMPARISON),
    ("metrics.a IN 1", 13, "a list in parentheses"),
    ("metrics.a IN ()", 14, VALUE),
    ("metrics.a IN (1 2)", 16, "',' or ')'"),
    ("metrics.a IN (1", 15, "',' or ')'"),
    ("metrics.a NOT 1", 14, "LIKE, ILIKE or IN"),
    ("metrics.a IS 1", 13, "NULL or NOT NULL"),
    ("metrics.a IS NOT", 16, "NULL"),
    ("params.a IS NAN", 12, "only metrics"),
    ("tags.`a`.best = 'x'", 8, "only metrics"),
    ("dataset.size = 'x'", 8, "name, digest and context"),
    ("colour = 'x'", 0, "unknown attribute 'colour'"),
    ("status = 'failed' AND attributes.colour = 'x'", 33, "unknown attribute 'colour'"),
    ("epochs.a > 1", 0, "metrics.x, params.x, tags.x or one of artifact_uri, best_epoch"),
    ("tags.a = 'x\x00'", 11, "'\\x00'"),
    ("tags.a = 'x\ud800'", 11, "'\\ud800'"),
    ("/* x */ metrics.a > 1", 0, CONDITION),
]  # fmt: skip


@pytest.mark.parametrize(("text", "position", "words"), WRONG, ids=[ascii(text) for text, _, _ in WRONG])
def test_error_names_place_and_expectation(text: str, position: int, words: str) -> None:
    """What is wrong is InvalidFilter, with the position, and says in plain words what was expected."""
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(text)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert caught.value.text == text


BEYOND = {
    "length": ("metrics.a > 1".ljust(MAX_LENGTH + 1), f"longer than {MAX_LENGTH}"),
    "parentheses": ("(" * 4000 + "metrics.a > 1" + ")" * 4000, f"more than {MAX_PARENTHESES} parentheses"),
    "open parentheses": ("(" * MAX_LENGTH, CONDITION),
    "depth": (
        "NOT (id = 'x' AND " * (MAX_DEPTH // 2 + 1) + "id = 'y'" + ")" * (MAX_DEPTH // 2 + 1),
        f"more than {MAX_DEPTH} deep",
    ),
    "comparisons": (" OR ".join(["id=''"] * (MAX_COMPARISONS + 1)), f"more than {MAX_COMPARISONS} comparisons"),
    "quotes": ("'" * MAX_LENGTH, CONDITION),
}


@pytest.mark.parametrize("name", BEYOND)
def test_bounds(name: str) -> None:
    """A filter too long or too deep is refused, never a crash."""
    text, words = BEYOND[name]
    with pytest.raises(InvalidFilter, match=words):
        parse_filter(text)


def test_within_bounds() -> None:
    """The bounds themselves are allowed."""
    assert parse_filter("(" * MAX_PARENTHESES + "metrics.a > 1" + ")" * MAX_PARENTHESES) == A
    assert parse_filter("NOT " * 2000 + "metrics.a > 1") == A
    deepest = "NOT (id = 'x' AND " * (MAX_DEPTH // 2) + "id = 'y'" + ")" * (MAX_DEPTH // 2)
    assert parse_filter(deepest) is not None
    chain = "metrics.a > 1"
    for _ in range(MAX_PARENTHESES):
        chain = f"({chain} AND metrics.b > 1)"
    assert parse_filter(chain) == And((A, *[B] * MAX_PARENTHESES))
    tree = parse_filter(" OR ".join(["id=''"] * MAX_COMPARISONS))
    assert isinstance(tree, Or)
    assert len(tree.parts) == MAX_COMPARISONS
    assert parse_filter("metrics.a > " + "9" * 9000) == Compare(metric("a"), ">", float("inf"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("metrics.a", OrderTerm(metric("a"))),
        ("metrics.a DESC", OrderTerm(metric("a"), descending=True)),
        ("metrics.`a b`.best asc", OrderTerm(metric("a b", "best"))),
        ("params.x desc", OrderTerm(param("x"), descending=True)),
        ("tags.mlflow.runName", OrderTerm(attribute("name"))),
        ("metrics.`tracker.best_value` DESC", OrderTerm(attribute("best_value"), descending=True)),
        ("tags.`tracker.best_epoch`", OrderTerm(attribute("best_epoch"))),
        ("attributes.start_time DESC", OrderTerm(attribute("started_ms"), descending=True)),
        ("Created", OrderTerm(attribute("started_ms"))),
        ("status", OrderTerm(attribute("status"))),
        ("metrics.desc DESC", OrderTerm(metric("desc"), descending=True)),
    ],
)
def test_order_term(text: str, term: OrderTerm) -> None:
    """An order term is a field and perhaps a direction."""
    assert parse_order([text]) == (term,)
    assert parse_order(text) == (term,)


def test_order_keeps_the_first_of_a_field() -> None:
    """A field that comes again could not order anything more."""
    terms = parse_order(["metrics.a", "start_time DESC", "metrics.a DESC"])
    assert terms == (OrderTerm(metric("a")), OrderTerm(attribute("started_ms"), descending=True))


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "found the end"),
        ("metrics.a, metrics.b", 9, "ASC, DESC or the end"),
        ("metrics.a DSC", 10, "ASC, DESC or the end"),
        ("metrics.a > 1", 10, "ASC, DESC or the end"),
        ("loss", 0, "unknown attribute 'loss'"),
        ("dataset.name", 0, "datasets"),
    ],
)
def test_wrong_order_term(text: str, position: int, words: str) -> None:
    """What is no order term is InvalidFilter, as in a filter."""
    with pytest.raises(InvalidFilter) as caught:
        parse_order([text])
    assert caught.value.position == position
    assert words in str(caught.value)


def test_import_costs_nothing() -> None:
    """The parser library is loaded when the first filter is read, not before."""
    code = "import tracker.query.filter_parser, sys; print('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# -- any tree, written out, reads back as itself -----------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
keys = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
numbers = st.floats(allow_nan=False)

text_fields = st.one_of(
    st.builds(tag, keys.filter(lambda key: key not in ("mlflow.runName", "tracker.status"))),
    st.builds(attribute, st.sampled_from(sorted(TEXT_ATTRIBUTES - {"status"}))),
)
metrics = st.builds(metric, keys, st.sampled_from(["last", "best", "min", "max"]))
number_fields = st.one_of(metrics, st.builds(attribute, st.sampled_from(sorted(NUMBER_ATTRIBUTES))))
params = st.builds(param, keys)
ORDERS: list[Operator] = ["=", "!=", "<", "<=", ">", ">="]
LIKES: list[Operator] = ["LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE"]

leaves = st.one_of(
    st.builds(Compare, text_fields | params, st.sampled_from(ORDERS + LIKES), texts),
    st.builds(Compare, number_fields | params, st.sampled_from(ORDERS), numbers),
    st.builds(In, text_fields | params, st.lists(texts, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(In, number_fields | params, st.lists(numbers, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(IsNull, text_fields | number_fields | params, st.booleans()),
    st.builds(IsNan, metrics, st.booleans()),
)


def _extend(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    def several(kind: type[And] | type[Or]) -> st.SearchStrategy[Node]:
        parts = inner.filter(lambda node: not isinstance(node, kind))
        return st.lists(parts, min_size=2, max_size=4).map(lambda nodes: kind(tuple(nodes)))

    return several(And) | several(Or) | inner.filter(lambda node: not isinstance(node, Not)).map(Not)


trees: st.SearchStrategy[Node] = st.recursive(leaves, _extend, max_leaves=12)


def written(node: Node) -> str:
    """A text of the tree."""
    match node:
        case And(parts):
            return " AND ".join(f"({written(p)})" if isinstance(p, Or) else written(p) for p in parts)
        case Or(parts):
            return " or ".join(written(p) for p in parts)
        case Not(part):
            return f"not ({written(part)})"
        case Compare(field, op, value):
            return f"{_field(field)} {op} {_value(value)}"
        case In(field, values, negated):
            return f"{_field(field)} {'NOT ' * negated}IN ({', '.join(map(_value, values))})"
        case IsNull(field, negated):
            return f"{_field(field)} IS {'NOT ' * negated}NULL"
        case IsNan(field, negated):
            return f"{_field(field)} IS {'NOT ' * negated}NAN"


def _field(field: Field) -> str:
    if field.kind == "attribute":
        return field.key
    return f"{field.kind}s.{quoted(field.key)}" + (f".{field.stat}" if field.kind == "metric" else "")


def _value(value: object) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)


@given(trees)
def test_any_tree_reads_back(tree: Node) -> None:
    """Whatever the tree holds, it can be written in the language, and means the same again."""
    assert parse_filter(written(tree)) == tree


@given(texts)
def test_any_text_can_be_quoted(text: str) -> None:
    """`quoted` writes a literal of any text, wherever it stands."""
    other = Compare(tag("b"), "=", "x")
    for literal in (quoted(text), quoted(text) + " AND tags.b = 'x'"):
        tree = parse_filter(f"tags.a = {literal}")
        assert tree in (Compare(tag("a"), "=", text), And((Compare(tag("a"), "=", text), other)))


@given(st.text(max_size=60))
def test_any_text_parses_or_is_explained(text: str) -> None:
    """Whatever comes in, the answer is a tree or InvalidFilter with a position inside."""
    for start in ("", "metrics.a > 1 AND ", "params.x = ", "tags.", "status IN ("):
        assert 0 <= _position(start + text) <= len(start + text)


def _position(text: str) -> int:
    """Where the error is, 0 if there is none."""
    try:
        parse_filter(text)
    except InvalidFilter as error:
        return error.position
    return 0


@pytest.mark.parametrize(("word", "quote"), list(itertools.product(["metrics", "params", "tags"], ["`", '"', "'"])))
def test_keys_in_each_quote(word: str, quote: str) -> None:
    """Any of the three quotes goes around any key."""
    tree = parse_filter(f"{word}.{quote}a (b) = c{quote} IS NULL")
    assert isinstance(tree, IsNull)
    assert tree.field.key == "a (b) = c"

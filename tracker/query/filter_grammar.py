"""The grammar of filters and order terms for Lark: rules, literals, and readable messages for its errors.

MLflow's filters of experiments and logged models (`tracker.mlflow_bridge.in_memory_filters`) are read by it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracker.domain.errors import InvalidFilter

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedInput

GRAMMAR = r"""
filter: any
?any: all (_OR all)*
?all: one (_AND one)*
?one: NOT one                                                       -> negation
    | LPAR any _RPAR                                                -> group
    | field OP value                                                -> comparison
    | field NOT? LIKE value                                         -> comparison
    | field NOT? _IN LPAR value (_COMMA value)* _COMMA? _RPAR       -> membership
    | field _IS NOT? (NULL | NAN)                                   -> presence
order: field DIRECTION?
field: ENTITY KEY
     | ENTITY (BACKTICKED | DOUBLE | SINGLE | ESCAPED) STAT?
     | NAME
     | BACKTICKED
     | DOUBLE
value: SINGLE | DOUBLE | ESCAPED | NUMBER

ENTITY.3: /(?:metrics?|params?|parameters?|tags?|attributes?|attr|run|datasets?)\.(?!\s)/i
        | /`(?:metrics?|params?|parameters?|tags?|attributes?|attr|run|datasets?)`\.(?!\s)/i
NOT.2: /not\b/i
LIKE: /i?like\b/i
NULL: /null\b/i
NAN: /nan\b/i
DIRECTION: /(?:asc|desc)\b/i
OP: /<=|>=|<>|!=|==|=|<|>/
LPAR: "("
_AND: /and\b/i
_OR: /or\b/i
_IN: /in\b/i
_IS: /is\b/i
_RPAR: ")"
_COMMA: ","
NAME: /(?!(?:and|or|in|is|like|ilike|null)\b)[A-Za-z_][\w\-\/]*(?:\.[\w\-\/]+)*/i
KEY: /[^\s'"`()<>=!,;]+/
STAT: /\.(?:best|min|max|last)\b/
BACKTICKED: /`(?:``|[^`])*`/
DOUBLE: /"(?:""|[\\]["]|[^"])*"/
SINGLE: /'(?:''|[\\][']|[^'])*'/
ESCAPED.3: /e'(?:\\.|[^'\\])*'/is
NUMBER: /[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|inf(?:inity)?|nan)(?![\w.])/i
%ignore /\s+/
"""
"""The rules `filter` and `order`, for LALR with a contextual lexer; quotes end where MLflow's lexer ends them."""

# What was expected: the first of these that the parser would accept, the most informative ones first.
_EXPECTED = (
    ("ENTITY", "a condition like metrics.loss < 0.5, params.optimizer = 'adam' or status = 'finished'"),
    ("KEY", "a key, in quotes if it has spaces, quotes, parentheses or comparison signs"),
    ("OP", "a comparison: =, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT LIKE, NOT IN, IS NULL or IS NOT NULL"),
    ("LIKE", "LIKE, ILIKE or IN"),
    ("NOT", "NULL or NOT NULL"),
    ("NULL", "NULL"),
    ("NUMBER", "a value: a number, or a text in quotes"),
    ("_COMMA", "',' or ')'"),
    ("DIRECTION", "ASC, DESC or the end"),
    ("LPAR", "a list in parentheses"),
)


_SAME = {"==": "=", "<>": "!="}


def make_parser(builder: Any) -> Lark:
    """A parser that calls the method of `builder` named by each rule, bottom up, with the rule's parts.

    Parts are tokens, or what the methods of inner rules returned.
    """
    from lark import Lark

    return Lark(GRAMMAR, start=["filter", "order"], parser="lalr", transformer=builder)


def operator(tokens: Sequence[Token]) -> str:
    """The operator that is written as one or two tokens, in capitals: `NOT ILIKE`; `==` is `=`, `<>` is `!=`."""
    word = " ".join(tokens).upper()
    return _SAME.get(word, word)


def literal(token: Token) -> str | int | float:
    """The value of a text in quotes or of a number."""
    if token.type != "NUMBER":
        return unquoted(token)
    try:
        return int(token) if len(token) < 30 else float(token)
    except ValueError:
        return float(token)


def unquoted(token: Token) -> str:
    """The text of a name, or between quotes as it is there; in `E'…'` a backslash keeps the next character."""
    if token.type == "ESCAPED":
        return re.sub(r"\\(.)", r"\1", token[2:-1], flags=re.DOTALL)
    return str(token[1:-1] if token.type in ("SINGLE", "DOUBLE", "BACKTICKED") else token)


def explained(parser: Lark, start: str, text: str, error: UnexpectedInput) -> InvalidFilter:
    """The parser's error with a message that a person understands."""
    token = getattr(error, "token", None)  # none where the lexer found no token at all
    position = len(text.rstrip()) if token is not None and token.type == "$END" else error.pos_in_stream or 0
    if token is None and text[position] in "'\"`":
        return InvalidFilter(text, position, f"the quote {text[position]} is never closed; expected another")
    # The parser says what it would accept before it sees the bad token, since that would make it end open rules.
    before = parser.parse_interactive(text[:position], start=start)
    before.exhaust_lexer()
    found = "the end" if position == len(text.rstrip()) else repr(str(token or text[position])[:40])
    return InvalidFilter(text, position, f"expected {_expected_there(before.accepts())}, found {found}")  # type: ignore[no-untyped-call]


def _expected_there(accepted: set[str]) -> str:
    for name, words in _EXPECTED:
        if name in accepted:
            return words
    last = "')'" if "_RPAR" in accepted else "the end"
    return f"AND, OR or {last}" if "_AND" in accepted else last

"""What Tokens promises, over every database."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from small_blocks import open_small
from sqlalchemy import text

from tracker.domain.access import Identity, Token, TokenExists, TokenNotFound, digest_of
from tracker.domain.errors import InvalidValue
from tracker.store.engine import make_engine
from tracker.store.tokens import SqlTokens


@pytest.fixture
def tokens(any_url: str) -> Iterator[SqlTokens]:
    with open_small(any_url) as store:
        store._clock = iter(range(1000, 2000)).__next__
        yield store.tokens


def test_token_is_random_and_only_its_digest_is_kept(tokens: SqlTokens, any_url: str) -> None:
    """A token has 256 random bits and is nowhere in the database; its digest leads to name and role."""
    first, second = tokens.create("ci", "writer"), tokens.create("me", "admin")
    assert first != second
    assert re.fullmatch(r"trk_[A-Za-z0-9_-]{43}", first)
    assert tokens.keys().by_digest == {
        digest_of(first): Identity(name="ci", role="writer"),
        digest_of(second): Identity(name="me", role="admin"),
    }
    engine = make_engine(any_url)
    with engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM tokens")).all())
    engine.dispose()
    assert first[4:] not in kept
    assert digest_of(first) in kept


def test_list(tokens: SqlTokens) -> None:
    """All tokens are listed by name, with when they were made and revoked."""
    assert tokens.list() == []
    tokens.create("b", "viewer")
    tokens.create("a", "writer")
    tokens.revoke("b")
    tokens.revoke("b")
    assert tokens.list() == [
        Token(name="a", role="writer", created_ms=1001),
        Token(name="b", role="viewer", created_ms=1000, revoked_ms=1002),
    ]


def test_revoked_is_out_of_force_but_not_forgotten(tokens: SqlTokens) -> None:
    """A revoked token opens nothing, yet the store still is one with tokens, until the last is forgotten."""
    assert (tokens.keys().any, tokens.keys().by_digest) == (False, {})
    tokens.create("a", "admin")
    tokens.revoke("a")
    assert (tokens.keys().any, tokens.keys().by_digest) == (True, {})
    tokens.revoke("a", forget=True)
    assert (tokens.keys().any, tokens.list()) == (False, [])


def test_names(tokens: SqlTokens) -> None:
    """A name has one token in force; after its revocation it is free. What cannot be a name is refused."""
    old = tokens.create("a", "admin")
    with pytest.raises(TokenExists, match="'a'"):
        tokens.create("a", "viewer")
    tokens.revoke("a")
    new = tokens.create("a", "viewer")
    assert tokens.keys().by_digest == {digest_of(new): Identity(name="a", role="viewer")}
    assert old != new
    for name in ("", "a b", "x" * 65, "-x", "a\n", "ä"):
        with pytest.raises(InvalidValue, match="cannot name a token"):
            tokens.create(name, "viewer")
    with pytest.raises(TokenNotFound, match="'nobody'"):
        tokens.revoke("nobody")
    with pytest.raises(TokenNotFound, match="'nobody'"):
        tokens.revoke("nobody", forget=True)

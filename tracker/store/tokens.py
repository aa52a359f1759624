"""Access tokens in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tracker.domain.access import (
    Identity,
    Keys,
    Role,
    Token,
    TokenExists,
    TokenNotFound,
    check_token_name,
    digest_of,
    new_token,
)
from tracker.domain.identity import now_ms
from tracker.store.catalogue_tables import tokens
from tracker.store.engine import reading, writing


class SqlTokens:
    """Tokens (see `tracker.domain.access`) over an engine; safe for threads, each call has its own connection."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = now_ms) -> None:
        self._engine = engine
        self._clock = clock

    def create(self, name: str, role: Role) -> str:
        check_token_name(name)
        token = new_token()
        row = {"role": role, "digest": digest_of(token), "created_ms": self._clock(), "revoked_ms": None}
        revoked = (tokens.c.name == name) & tokens.c.revoked_ms.is_not(None)
        try:
            with writing(self._engine) as connection:
                if connection.execute(update(tokens).where(revoked).values(row)).rowcount == 0:
                    connection.execute(insert(tokens), {"name": name, **row})
        except IntegrityError:
            raise TokenExists(name) from None
        return token

    def list(self) -> Sequence[Token]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.name)).all()
        return [
            Token(name=row.name, role=row.role, created_ms=row.created_ms, revoked_ms=row.revoked_ms) for row in rows
        ]

    def revoke(self, name: str, *, forget: bool = False) -> None:
        mine = tokens.c.name == name
        with writing(self._engine) as connection:
            if forget:
                found = connection.execute(delete(tokens).where(mine)).rowcount
            else:
                when = func.coalesce(tokens.c.revoked_ms, self._clock())
                found = connection.execute(update(tokens).where(mine).values(revoked_ms=when)).rowcount
        if not found:
            raise TokenNotFound(name)

    def keys(self) -> Keys:
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(tokens.c.digest, tokens.c.name, tokens.c.role, tokens.c.revoked_ms.is_(None).label("lives"))
            ).all()
        living = {row.digest: Identity(name=row.name, role=cast(Role, row.role)) for row in rows if row.lives}
        return Keys(by_digest=living, any=bool(rows))
